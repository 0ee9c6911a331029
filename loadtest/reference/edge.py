"""The MCP edge: check the bearer, find the session, and frame the replies."""

import asyncio
import importlib
import json
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from loadtest.reference.asking import Asking
from loadtest.reference.deployment import MCP_SCOPE, Deployment
from loadtest.reference.discovery import build_challenge
from loadtest.reference.knobs import split_header
from loadtest.reference.refusals import (
    build_cap_refusal,
    build_quota_refusal,
    build_rate_limit_headers,
    build_stream_refusal,
    build_unknown_session,
)
from loadtest.reference.responses import Refusal, new_id, rest_error
from loadtest.reference.streams import KEEP_ALIVE, LISTEN, OpenStreams
from loadtest.reference.tokens import WORKSPACE_CLAIM
from loadtest.reference.tools import Principal, Toolbox

SESSION_HEADER = "mcp-session-id"
STEP_UP_SCOPE = "mcp:write"
_CACHED_BEARERS = 4096
# The methods that need a bearer, by the knob `first_challenge`.
_CHALLENGED = {
    "tools/list": frozenset({"tools/list", "tools/call"}),
    "tools/call": frozenset({"tools/call"}),
    "never": frozenset[str](),
}
_REFUSALS = {
    "misdirected_request": (421, "this workspace is served from another region"),
    "auth_unavailable": (503, "bearers cannot be verified now"),
    "region_unavailable": (503, "the workspace's region is unavailable"),
}


@dataclass
class _McpSession:
    """An open session: its workspace, its running requests, and since when it is idle.

    `replica` is where it was opened. `is_extra`: it is above the cap.
    """

    workspace_id: str
    in_flight: int
    idle_since: float
    opened_at: float
    replica: int = 0
    is_extra: bool = False


class McpEdge:
    """The ASGI application under `/mcp/`.

    Checks bearer, scope, workspace and session in this order, then calls the SDK. A session
    belongs to a workspace, not to a bearer, so a renewed bearer can use it too.
    """

    def __init__(self, deployment: Deployment, toolbox: Toolbox) -> None:
        self._deployment = deployment
        self._toolbox = toolbox
        self._sessions: dict[str, _McpSession] = {}
        toolbox.sessions = self._sessions
        self._bearers: dict[str, Principal] = {}
        self._generation = (deployment.keys.generation, deployment.verdicts)
        self._manager: Any = None
        self._protocol: Any = None
        self._loaded = asyncio.Event()
        self._first_request_at: float | None = None
        self._restarted = False
        self._connections: dict[tuple[str, int], int] = {}
        knobs = deployment.knobs
        self._streams = OpenStreams(knobs, lambda: self._draw(knobs.leaked_stream_share))
        self._leaked: list[bytes] = []
        # Only these answers contain the id of the request.
        inside = {knobs.cap_refusal, knobs.quota_refusal} & {"inside-200", "tool-error"}
        self._needs_id = bool(inside) or knobs.lost_session == "200"
        self._asking: Asking | None = None
        self._limit_headers = build_rate_limit_headers(knobs.rate_limit_headers, knobs.quota_units)

    @property
    def open_sessions(self) -> int:
        """Return how many sessions are open."""
        return len(self._sessions)

    @property
    def open_streams(self) -> int:
        """Return how many streams from the server to a client are open."""
        return self._streams.open

    async def serve(self, stopped: asyncio.Event) -> None:
        """Run the SDK's session manager until `stopped`.

        Importing the SDK takes a second, during which the accounts already answer.
        """
        load = importlib.import_module
        self._protocol = await asyncio.to_thread(load, "loadtest.reference.protocol")
        self._manager = self._protocol.build_manager(self._deployment, self._toolbox)
        if self.knobs.asks != "nothing":
            closes = self.knobs.asking_streams == "closed"
            run = self._manager.handle_request
            self._asking = Asking(self.knobs.asks, closes=closes, run=run)
        async with self._manager.run():
            self._loaded.set()
            sweep = asyncio.create_task(self._end_idle_sessions())
            await stopped.wait()
            sweep.cancel()
            with suppress(asyncio.CancelledError):
                await sweep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request below `/mcp/`."""
        if self.knobs.trace_headers:
            send = _with_trace_headers(send)
        await self._loaded.wait()
        await self._stall()
        await self._restart()
        for left_behind in self._leaked:
            zlib.crc32(left_behind)
        if self._limit_headers:
            send = _with_headers(send, self._limit_headers)
        try:
            await self._answer(scope, receive, send)
        except Refusal as refusal:
            await refusal.response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        workspace_id, _, rest = scope["path"].removeprefix("/mcp/").partition("/")
        if not workspace_id or rest not in ("", "sse"):
            raise Refusal(rest_error(404, "not_found", "no such route"))
        method = scope["method"]
        if method not in ("POST", "GET", "DELETE"):
            raise Refusal(rest_error(405, "method_not_allowed", f"{method} is not served here"))
        offered = {"POST": True, "GET": self.knobs.streams, "DELETE": self.knobs.deletes}
        if not offered[method]:
            allowed = ", ".join(name for name, is_offered in offered.items() if is_offered)
            raise Refusal(Response(status_code=405, headers={"Allow": allowed}))
        self._check_refusal_knob()
        principal, receive = await self._find_principal(headers, workspace_id, receive)
        if MCP_SCOPE not in principal.scopes:
            message = f"the bearer lacks {MCP_SCOPE}"
            raise Refusal(rest_error(403, "insufficient_scope", message, scope=MCP_SCOPE))
        self._check_step_up(principal, workspace_id)
        if principal.workspace_id != workspace_id:
            message = "the bearer is for another workspace"
            raise Refusal(rest_error(403, "cross_workspace_denied", message))
        scope[self._protocol.PRINCIPAL_KEY] = principal
        if self.knobs.reply_pauses:
            called, receive = await _peek(receive)
            if called.get("method") == "tools/call":
                send = self._pause_between_pieces(send)
        if self._check_era(method, headers) == "stateless":
            if headers.get("mcp-method") == LISTEN and self.knobs.streams:
                await self._open_stream(scope, receive, send)
                return
            await self._manager.handle_request(scope, receive, send)
            return
        request: dict[str, Any] = {}
        if method == "POST" and self._needs_id:
            request, receive = await _peek(receive)
        replica = self._find_replica(scope)
        session = await self._find_session(headers, workspace_id, replica, request.get("id"))
        if method == "POST":
            _check_media_types(headers)
        if session is not None and session.is_extra and request.get("method") == "tools/call":
            raise Refusal(build_cap_refusal(self.knobs.cap_refusal, request["id"]))
        if session is not None and self._asking is not None:
            sent: dict[str, Any] = {}
            if method == "POST":
                sent, receive = await _peek(receive)
            if await self._asking.answer(scope, sent, send):
                return
        if (
            method == "DELETE"
            and session is not None
            and self._draw(self.knobs.leaked_session_share)
        ):
            await Response(status_code=200)(scope, receive, send)
            return
        if method == "POST" and session is not None and self._draw(self.knobs.drop_share):
            await _drop(send)
            return
        relay = _Relay(self, scope, receive, send, workspace_id, replica, request.get("id"))
        if session is not None:
            session.in_flight += 1
        try:
            if method == "GET" and session is not None:
                await self._open_stream(scope, receive, send)
            else:
                await self._manager.handle_request(scope, receive, relay)
        finally:
            relay.close()
            if session is not None:
                session.in_flight -= 1
                session.idle_since = asyncio.get_running_loop().time()

    async def _open_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a stream, unless knobs refuse it."""
        if self._streams.is_full:
            request: dict[str, Any] = {}
            if scope["method"] == "POST":
                request, receive = await _peek(receive)
            raise Refusal(build_stream_refusal(self.knobs.stream_refusal, request.get("id")))
        await self._streams.serve(self._manager.handle_request, scope, receive, send)

    async def _find_session(
        self, headers: Headers, workspace_id: str, replica: int, request_id: Any
    ) -> _McpSession | None:
        """Return the session of a request, None if it names none; refuse one that is not known."""
        session_id = headers.get(SESSION_HEADER)
        if not session_id:
            return None
        session = self._sessions.get(session_id)
        most_age = self.knobs.session_age_seconds
        age = asyncio.get_running_loop().time() - session.opened_at if session else 0.0
        if most_age and age > most_age:
            await self._end_session(session_id)
            session = None
        known = session is not None and session.workspace_id == workspace_id
        if session is None or not known or session.replica != replica:
            raise Refusal(build_unknown_session(self.knobs.lost_session, request_id))
        return session

    def _find_replica(self, scope: Scope) -> int:
        """Return the replica that answers a request; sessions are not shared between them."""
        count = self.knobs.replicas
        if count == 1:
            return 0
        if self.knobs.balancing == "request":
            return int(self._deployment.rng.randrange(count))
        connection = tuple(scope["client"] or ("", 0))
        return self._connections.setdefault(connection, len(self._connections)) % int(count)

    async def _restart(self) -> None:
        """Forget all sessions once, at the time of the knob."""
        if not self.knobs.restart_at_seconds or self._restarted:
            return
        now = asyncio.get_running_loop().time()
        if self._first_request_at is None:
            self._first_request_at = now
        if now - self._first_request_at >= self.knobs.restart_at_seconds:
            self._restarted = True
            for session_id in list(self._sessions):
                await self._end_session(session_id)

    @property
    def knobs(self) -> Any:
        """Return how the target deviates."""
        return self._deployment.knobs

    def _draw(self, share: float) -> bool:
        return share > 0 and self._deployment.rng.random() < share

    def _check_refusal_knob(self) -> None:
        code = self.knobs.edge_refusal
        if code == "none":
            return
        status, message = _REFUSALS[code]
        extra = {"correctApiUrl": self._deployment.api_url} if status == 421 else {}
        raise Refusal(rest_error(status, code, message, **extra))

    async def _find_principal(
        self, headers: Headers, workspace_id: str, receive: Receive
    ) -> tuple[Principal, Receive]:
        """Return the caller and a `receive` for the body; a knob allows some requests to anyone."""
        if self.knobs.api_key:
            name, value = split_header(self.knobs.api_key)
            if headers.get(name) != value:
                raise Refusal(rest_error(401, "invalid_key", "a valid API key is required"))
            return _build_anyone(workspace_id), receive
        challenged = _CHALLENGED.get(self.knobs.first_challenge)
        if challenged is None or (not challenged and "authorization" in headers):
            return self._check_bearer(headers, workspace_id), receive
        request, receive = await _peek(receive)
        if request.get("method") in challenged:
            return self._check_bearer(headers, workspace_id), receive
        return _build_anyone(workspace_id), receive

    def _check_bearer(self, headers: Headers, workspace_id: str) -> Principal:
        """Return the verified caller; cache it until the bearer expires or the keys change."""
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not bearer:
            raise Refusal(self._challenge("missing_bearer", "a bearer is required", workspace_id))
        generation = (self._deployment.keys.generation, self._deployment.verdicts)
        if self._generation != generation:
            self._generation = generation
            self._bearers.clear()
        principal = self._bearers.get(bearer)
        if principal is None:
            principal = self._verify(bearer)
            if principal is not None:
                if len(self._bearers) >= _CACHED_BEARERS:
                    self._bearers.clear()
                self._bearers[bearer] = principal
        if principal is None or self._deployment.clock() >= principal.expires_at:
            message = "the bearer is not valid here or has expired"
            raise Refusal(self._challenge("invalid_bearer", message, workspace_id))
        return principal

    def _verify(self, bearer: str) -> Principal | None:
        deployment = self._deployment
        claims = deployment.keys.verify(bearer, deployment.claimed_issuer, deployment.resource)
        if claims is None or deployment.is_revoked(bearer):
            return None
        return Principal(
            workspace_id=claims.get(WORKSPACE_CLAIM),
            client_id=claims["azp"],
            scopes=frozenset(claims["scope"].split()),
            expires_at=claims["exp"],
        )

    def _challenge(self, code: str, message: str, workspace_id: str) -> Response:
        """Return a 401 with the URL of the resource's metadata, unless a knob hides it."""
        response = rest_error(401, code, message)
        scope = {"scope": MCP_SCOPE} if self.knobs.challenge == "scope" else {}
        challenge = build_challenge(self._deployment, workspace_id, **scope)
        response.headers["WWW-Authenticate"] = challenge
        return response

    def _check_step_up(self, principal: Principal, workspace_id: str) -> None:
        """Refuse a scope that is too narrow; name the required scope (RFC 6750, section 3.1)."""
        knob = self.knobs.step_up
        if knob == "never" or (knob == "once" and STEP_UP_SCOPE in principal.scopes):
            return
        scope = f"{MCP_SCOPE} {STEP_UP_SCOPE}"
        response = rest_error(403, "insufficient_scope", "more scope is needed", scope=scope)
        members = {"error": "insufficient_scope", "scope": scope}
        challenge = build_challenge(self._deployment, workspace_id, **members)
        response.headers["WWW-Authenticate"] = challenge
        raise Refusal(response)

    def _check_era(self, method: str, headers: Headers) -> str:
        """Return the era of a request by its version header; refuse an unsupported one."""
        version = headers.get("mcp-protocol-version")
        handshake = version is None or version in self._protocol.HANDSHAKE_VERSIONS
        era = "handshake" if handshake else "stateless"
        if self.knobs.eras in (era, "both"):
            return era
        if era == "handshake":
            raise Refusal(_refuse_handshake(method, version, self._protocol.STATELESS_VERSIONS))
        message = f"Bad Request: Unsupported protocol version: {(version or 'none')[:40]}"
        raise Refusal(transport_error(400, message))

    async def _stall(self) -> None:
        """Delay the request during a stall; the time of stalls counts from the first request."""
        knobs = self.knobs
        if not knobs.stall_seconds:
            return
        now = asyncio.get_running_loop().time()
        if self._first_request_at is None:
            self._first_request_at = now
        since = now - self._first_request_at - knobs.stall_at_seconds
        if since >= 0 and knobs.stall_every_seconds:
            since %= knobs.stall_every_seconds
        if 0 <= since < knobs.stall_seconds:
            await asyncio.sleep(knobs.stall_seconds - since)

    def _pause_between_pieces(self, send: Send) -> Send:
        """Return a `send` that divides the first part of a body into pieces, with pauses."""
        knobs = self.knobs
        divided = False

        async def send_slowly(message: Message) -> None:
            nonlocal divided
            body = message.get("body", b"")
            if not divided and body:
                divided = True
                size = max(1, len(body) // (knobs.reply_pauses + 1))
                for _ in range(knobs.reply_pauses):
                    piece, body = body[:size], body[size:]
                    await send({**message, "body": piece, "more_body": True})
                    await asyncio.sleep(knobs.reply_pause_seconds)
                message = {**message, "body": body}
            await send(message)

        return send_slowly

    def note_reply(
        self, method: str, session_id: str | None, workspace_id: str, replica: int
    ) -> None:
        """Update the list of sessions after a successful reply."""
        if session_id is None:
            return
        if method == "DELETE":
            self._sessions.pop(session_id, None)
            if self.knobs.leaked_kib:
                self._leaked.append(bytes(self.knobs.leaked_kib * 1024))
        elif method == "POST" and session_id not in self._sessions:
            now = asyncio.get_running_loop().time()
            is_extra = len(self._sessions) >= self.knobs.session_cap
            self._sessions[session_id] = _McpSession(workspace_id, 0, now, now, replica, is_extra)

    async def _end_idle_sessions(self) -> None:
        """End sessions that were idle for too long; run until cancelled."""
        limit_seconds = self.knobs.session_idle_seconds
        while limit_seconds:
            await asyncio.sleep(min(limit_seconds / 4, 1))
            before = asyncio.get_running_loop().time() - limit_seconds
            for session_id, session in list(self._sessions.items()):
                if not session.in_flight and session.idle_since <= before:
                    await self._end_session(session_id)

    async def _end_session(self, session_id: str) -> None:
        """End a session as a client does."""
        self._sessions.pop(session_id, None)
        scope: Scope = {
            "type": "http",
            "method": "DELETE",
            "path": "/",
            "query_string": b"",
            "headers": [(SESSION_HEADER.encode(), session_id.encode())],
        }

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def ignore(_message: Message) -> None:
            return

        await self._manager.handle_request(scope, receive, ignore)

    @property
    def keep_alive_seconds(self) -> float:
        """Return the silence after which a pending reply sends a comment."""
        seconds: float = self.knobs.keep_alive_seconds
        return seconds


class _Relay:
    """Send one answer of the SDK in the edge's own framing.

    A JSON reply becomes one SSE event; the SDK's 404 and 503 get the edge's error format.
    """

    def __init__(
        self,
        edge: McpEdge,
        scope: Scope,
        receive: Receive,
        send: Send,
        workspace_id: str,
        replica: int,
        request_id: Any,
    ) -> None:
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send = send
        self._workspace_id = workspace_id
        self._replica = replica
        self._request_id = request_id
        self._held: Message | None = None
        self._framed = False
        self._replaced = False
        self._started = False
        self._comments: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if scope["method"] == "POST":
            self._arm_comment()

    async def __call__(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            await self._start(message)
        else:
            await self._body(message)

    async def _start(self, message: Message) -> None:
        method, status = self._scope["method"], message["status"]
        if self._started and status != 200:
            self._replaced = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        headers = Headers(raw=message["headers"])
        if status in {404, 503}:
            knobs, request_id = self._edge.knobs, self._request_id
            await self._replace(
                build_unknown_session(knobs.lost_session, request_id)
                if status == 404
                else build_cap_refusal(knobs.cap_refusal, request_id)
            )
            return
        if status < 400:
            session_id = headers.get(SESSION_HEADER)
            self._edge.note_reply(method, session_id, self._workspace_id, self._replica)
        if method == "POST" and status == 200:
            self._framed = True
            self._held = _event_stream_start(headers.get(SESSION_HEADER))
        else:
            self._started = True
            await self._send(message)

    async def _body(self, message: Message) -> None:
        body = message.get("body", b"")
        if self._framed:
            self.close()
            style = self._edge.knobs.quota_refusal
            if style != "atlas" and not self._started and _is_over_quota(body):
                await self._replace(build_quota_refusal(style, self._request_id))
                return
            message = {**message, "body": b"event: message\ndata: " + body + b"\n\n"}
        await self._release()
        await self._send(message)

    async def _replace(self, response: Response) -> None:
        """Send another answer than the SDK's."""
        self._replaced = True
        await response(self._scope, self._receive, self._send)

    async def _release(self) -> None:
        if self._held is not None and not self._started:
            self._started = True
            await self._send(self._held)

    def _arm_comment(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._edge.keep_alive_seconds, self._begin_comment)

    def _begin_comment(self) -> None:
        self._comments = asyncio.get_running_loop().create_task(self._comment())

    async def _comment(self) -> None:
        """Start the event stream and send a comment, so that no proxy times out."""
        self._held = _event_stream_start(self._session_id())
        await self._release()
        await self._send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
        self._arm_comment()

    def _session_id(self) -> str | None:
        return Headers(scope=self._scope).get(SESSION_HEADER)

    def close(self) -> None:
        """Stop sending comments."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._comments is not None:
            self._comments.cancel()
            self._comments = None


async def _peek(receive: Receive) -> tuple[dict[str, Any], Receive]:
    """Return the JSON-RPC message of a request, and a `receive` that returns its body again."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    body = b"".join(message.get("body", b"") for message in messages)

    async def replay() -> Message:
        return messages.pop(0) if messages else await receive()

    try:
        message = json.loads(body)
    except ValueError:
        message = None
    return message if isinstance(message, dict) else {}, replay


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Return a `send` that adds headers to the answer."""
    more = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return send_with_headers


def _with_trace_headers(send: Send) -> Send:
    """Return a `send` that adds the time since now, and an id of the request."""
    began = time.perf_counter()

    async def send_with_trace_headers(message: Message) -> None:
        spent_ms = (time.perf_counter() - began) * 1000
        more = {"Server-Timing": f"total;dur={spent_ms:.3f}", "x-request-id": new_id()}
        await _with_headers(send, more)(message)

    return send_with_trace_headers


def _is_over_quota(body: bytes) -> bool:
    """Return whether a reply is the tool error of the quota."""
    return b'"isError":true' in body and b"rate_limited" in body


def _build_anyone(workspace_id: str) -> Principal:
    """Return the caller of a request that needs no bearer."""
    return Principal(workspace_id, "anyone", frozenset({MCP_SCOPE, STEP_UP_SCOPE}), sys.maxsize)


def transport_error(status: int, message: str, code: int = -32000, **more: Any) -> JSONResponse:
    """Return an error of the MCP transport: JSON-RPC with `id: null`."""
    error = {"code": code, "message": message, **more}
    return JSONResponse({"jsonrpc": "2.0", "error": error, "id": None}, status)


def _refuse_handshake(method: str, version: str | None, spoken: Sequence[str]) -> Response:
    """Return how a server of only the stateless era refuses an older client; it lists its versions.

    MCP 2026-07-28, Streamable HTTP, Server Validation and Earlier Streamable HTTP Revisions.
    """
    if method != "POST":
        return Response(status_code=405, headers={"Allow": "POST"})
    if version is None:
        message = f"MCP-Protocol-Version is required: {', '.join(spoken)}"
        return transport_error(400, message, -32020)
    data = {"supported": list(spoken), "requested": version}
    return transport_error(400, "Unsupported protocol version", -32022, data=data)


def _check_media_types(headers: Headers) -> None:
    """Require both reply types in Accept, and JSON as body (MCP transports, Sending Messages)."""
    accepted = headers.get("accept", "")
    if "application/json" not in accepted or "text/event-stream" not in accepted:
        message = "Not Acceptable: Client must accept both application/json and text/event-stream"
        raise Refusal(transport_error(406, message))
    if "application/json" not in headers.get("content-type", ""):
        message = "Unsupported Media Type: Content-Type must be application/json"
        raise Refusal(transport_error(415, message))


def _event_stream_start(session_id: str | None) -> Message:
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    if session_id:
        headers.append((SESSION_HEADER.encode(), session_id.encode()))
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _drop(send: Send) -> None:
    """Start an answer and do not finish it, so that the server closes the connection."""
    headers = [(b"content-type", b"text/event-stream"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"event: message", "more_body": True})
