"""What a tool asks of its client before it answers: elicitation, sampling or roots."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from loadtest.reference.knobs import Knobs

ASKING_TOOL = "runMetric"
_KEY = "question"
_STATE = "asked"
QUESTIONS: dict[str, dict[str, Any]] = {
    "elicitation": {
        "method": "elicitation/create",
        "params": {
            "message": "Which currency?",
            "requestedSchema": {
                "type": "object",
                "properties": {"currency": {"type": "string"}},
                "required": ["currency"],
            },
        },
    },
    "sampling": {
        "method": "sampling/createMessage",
        "params": {
            "messages": [{"role": "user", "content": {"type": "text", "text": "Say yes."}}],
            "maxTokens": 10,
        },
    },
    "roots": {"method": "roots/list"},
}
_ANSWER_SECONDS = 60
_STREAM_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")],
}

_Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


def must_ask(knobs: Knobs, params: types.CallToolRequestParams) -> bool:
    """Return whether a call of the stateless era lacks the answer that its tool needs."""
    answers = params.input_responses or {}
    has_answer = params.request_state == _STATE and _KEY in answers
    return knobs.asks != "nothing" and params.name == ASKING_TOOL and not has_answer


def build_question(question: str) -> dict[str, Any]:
    """Return the result that asks (MCP 2026-07-28, Multi Round-Trip Requests)."""
    return {
        "resultType": "input_required",
        "inputRequests": {_KEY: QUESTIONS[question]},
        "requestState": _STATE,
    }


@dataclass
class _Question:
    """A call that waits for an answer: its request, and whether the client has answered."""

    scope: Scope
    body: bytes
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Asking:
    """Asks in the stream of a reply, as servers of the handshake era do."""

    def __init__(self, question: str, *, closes: bool, run: _Handler) -> None:
        self._question = QUESTIONS[question]
        self._closes = closes
        self._run = run
        self._open: dict[str, _Question] = {}
        self._count = 0

    async def answer(self, scope: Scope, message: dict[str, Any], send: Send) -> bool:
        """Ask, take an answer or resume a stream; return False for any other request."""
        resumed = self._open.get(Headers(scope=scope).get("last-event-id", ""))
        if scope["method"] == "GET" and resumed is not None:
            await self._finish(resumed, send)
            return True
        if message.get("method") == "tools/call" and _names_asking_tool(message):
            await self._ask(_Question(scope, json.dumps(message).encode()), send)
            return True
        question = self._open.get(str(message.get("id")))
        if question is None or "method" in message:
            return False
        question.answered.set()
        start = {"type": "http.response.start", "status": 202, "headers": []}
        await send(start)
        await _send_part(send, b"", more=False)
        return True

    async def _ask(self, question: _Question, send: Send) -> None:
        self._count += 1
        number = f"q{self._count}"
        self._open[number] = question
        request = {"jsonrpc": "2.0", "id": number, **self._question}
        event = f"id: {number}\nevent: message\ndata: {json.dumps(request)}\n\n".encode()
        await send(_STREAM_START)
        await _send_part(send, event, more=not self._closes)
        if not self._closes:
            await self._finish(question, send, has_started=True)

    async def _finish(self, question: _Question, send: Send, *, has_started: bool = False) -> None:
        """Send the answer of the call, once the client has answered."""
        await asyncio.wait_for(question.answered.wait(), _ANSWER_SECONDS)
        parts: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": question.body, "more_body": False}

        async def keep(message: Message) -> None:
            parts.append(message.get("body", b""))

        await self._run(question.scope, receive, keep)
        if not has_started:
            await send(_STREAM_START)
        await _send_part(send, b"event: message\ndata: " + b"".join(parts) + b"\n\n", more=False)


def _names_asking_tool(message: dict[str, Any]) -> bool:
    params = message.get("params")
    return isinstance(params, dict) and params.get("name") == ASKING_TOOL


async def _send_part(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
