"""An MCP client that can leave in every way: with DELETE, without it, with an open stream."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx2

from loadtest.common.access import build_authorization
from loadtest.common.http import explain, open_async_client
from loadtest.common.parsing import tidy_text
from loadtest.common.redaction import learn
from loadtest.config.models import STATELESS
from loadtest.mint.oauth.exchange import parse_object
from loadtest.mint.oauth.request import CLIENT_NAME, SESSION_HEADER
from loadtest.state.bearers import Bearer

CALL_SECONDS = 30.0
MOST_REASON_CHARS = 120
_META = "io.modelcontextprotocol/"


class RefusedError(Exception):
    """The server refused a request; the message says how, in a few words."""


class Pacer:
    """Lets requests pass one by one, at most this many a second."""

    def __init__(self, rate: float) -> None:
        self._every_seconds = 1 / rate
        self._next = 0.0

    async def wait(self) -> None:
        """Wait for the turn of the next request."""
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next)
        self._next = turn + self._every_seconds
        await asyncio.sleep(turn - now)


class LeavingClient:
    """One client with connections of its own; nothing but `delete` tells the server that it leaves.

    `number` is that of its bearer. `session_id` is None until it is open, and on a server without
    sessions.
    """

    def __init__(self, caller: Bearer, number: int, protocol: str, pacer: Pacer) -> None:
        self.mcp_url = caller.mcp_url
        self.number = number
        self.protocol = protocol
        self.session_id: str | None = None
        self._pacer = pacer
        self._id = 0
        self._stream: asyncio.Task[str | None] | None = None
        self._http = open_async_client(
            CALL_SECONDS,
            headers={
                **build_authorization(caller.access_token),
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": protocol,
            },
        )

    @property
    def _is_stateless(self) -> bool:
        return self.protocol == STATELESS

    async def open(self, note: Callable[["LeavingClient"], None]) -> None:
        """Open a session; `note` gets this client as soon as the server has opened one.

        In the stateless era this is server/discover, which leaves nothing on the server.
        """
        if self._is_stateless:
            await self._request("server/discover")
            return
        client = {"name": CLIENT_NAME, "version": "1"}
        params = {"protocolVersion": self.protocol, "capabilities": {}, "clientInfo": client}
        answer = await self._request("initialize", **params)
        session_id = answer.headers.get(SESSION_HEADER)
        if session_id is not None:
            self.resume(session_id)
            note(self)
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def resume(self, session_id: str) -> None:
        """Use this session from now on."""
        learn(session_id)
        self.session_id = session_id
        self._http.headers[SESSION_HEADER] = session_id

    async def list_tools(self) -> None:
        """Ask for the first page of tools."""
        await self._request("tools/list")

    async def call_cheaply(self) -> None:
        """Send the cheapest request of the era: `ping`, which the stateless era does not have."""
        await self._request("tools/list" if self._is_stateless else "ping")

    async def is_known(self) -> bool:
        """Return whether the server still answers in this session."""
        try:
            await self._request("ping")
        except RefusedError:
            return False
        return True

    def begin_stream(self) -> None:
        """Hold a stream from now on (MCP 2025-11-25, Listening for Messages from the Server).

        Its headers may wait for the first event, so it counts as held until it ends.
        """
        self._stream = asyncio.create_task(self._hold())

    @property
    def holds_stream(self) -> bool:
        """Return whether the stream is open."""
        return self._stream is not None and not self._stream.done()

    def find_stream_refusal(self) -> str | None:
        """Return how the server refused the stream; None if it did not."""
        return self._stream.result() if self._stream is not None and self._stream.done() else None

    async def await_stream_end(self, seconds: float) -> bool:
        """Return whether the server ends the stream within this time."""
        if self._stream is not None:
            await asyncio.wait({self._stream}, timeout=seconds)
        return not self.holds_stream

    async def delete(self) -> int | None:
        """DELETE the session and return the HTTP status; None without a session or an answer."""
        if self.session_id is None:
            return None
        await self._pacer.wait()
        try:
            return (await self._http.delete(self.mcp_url)).status_code
        except httpx2.HTTPError:
            return None

    async def leave(self) -> None:
        """Close all connections, as the system does for a client that crashed."""
        if self._stream is not None:
            self._stream.cancel()
            with suppress(asyncio.CancelledError):
                await self._stream
        await self._http.aclose()

    async def _hold(self) -> str | None:
        """Read the stream until it ends; return how it was refused, or None."""
        request = self._build_listening()
        try:
            async with self._http.stream(**request, timeout=None) as answer:
                if not answer.is_success:
                    return f"HTTP {answer.status_code}"
                is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
                if not is_stream:
                    return "an answer that is no stream"
                async for _ in answer.aiter_bytes():
                    pass
        except httpx2.HTTPError:
            return None  # the connection ended, as it does after DELETE
        return None

    def _build_listening(self) -> dict[str, Any]:
        if not self._is_stateless:
            return {
                "method": "GET",
                "url": self.mcp_url,
                "headers": {"Accept": "text/event-stream"},
            }
        body = self._build("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        headers = {"Mcp-Method": "subscriptions/listen"}
        return {"method": "POST", "url": self.mcp_url, "json": body, "headers": headers}

    def _build(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._id += 1
        if self._is_stateless:
            params["_meta"] = {
                f"{_META}protocolVersion": self.protocol,
                f"{_META}clientInfo": {"name": CLIENT_NAME, "version": "1"},
                f"{_META}clientCapabilities": {},
            }
        return {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}

    async def _request(self, method: str, **params: Any) -> httpx2.Response:
        """Send a request; raise RefusedError unless its answer has a result."""
        answer = await self._post(self._build(method, params), method)
        if "result" not in _read_message(answer):
            raise _build_refusal(answer)
        return answer

    async def _post(self, body: dict[str, Any], method: str = "") -> httpx2.Response:
        await self._pacer.wait()
        headers = {"Mcp-Method": method} if self._is_stateless else {}
        try:
            answer = await self._http.post(self.mcp_url, json=body, headers=headers)
        except httpx2.HTTPError as failure:
            raise RefusedError(explain(failure)) from None
        if not answer.is_success:
            raise _build_refusal(answer)
        return answer


def _build_refusal(answer: httpx2.Response) -> RefusedError:
    error = _read_message(answer).get("error")
    words = error.get("message") if isinstance(error, dict) else error
    said = tidy_text(str(words), MOST_REASON_CHARS) if words else ""
    return RefusedError(f"HTTP {answer.status_code}" + (f": {said}" if said else ""))


def _read_message(answer: httpx2.Response) -> dict[str, Any]:
    """Return the JSON-RPC answer of a body, which is JSON or an event stream; {} without one."""
    content = answer.content
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        lines = [line for line in answer.text.splitlines() if line.startswith("data:")]
        content = lines[-1].removeprefix("data:").encode() if lines else b""
    return parse_object(content)
