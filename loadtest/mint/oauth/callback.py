"""The loopback redirect URI of a native client (RFC 8252, section 7.3): it takes one response."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h11

from loadtest.common.redaction import learn

CALLBACK_PATH = "/callback"
SERVE_SECONDS = 10.0
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font:16px system-ui;margin:4rem auto;max-width:32rem"><h1>{title}</h1>
<p>{text}</p></body></html>"""


@dataclass(frozen=True)
class AuthorizationResponse:
    """The parameters of the redirect URI (RFC 6749, section 4.1.2; RFC 9207)."""

    state: str
    code: str | None = field(default=None, repr=False)
    iss: str | None = None
    error: str | None = None
    error_description: str | None = None


class Callback:
    """Waits for the request with the `state` of this flow; refuses all others."""

    def __init__(self, port: int) -> None:
        self.redirect_uri = f"http://127.0.0.1:{port}{CALLBACK_PATH}"
        self._state: str | None = None
        self.answer: asyncio.Future[AuthorizationResponse] = (
            asyncio.get_running_loop().create_future()
        )

    def expect(self, authorization_url: str) -> None:
        """Read the expected `state` from the URL that the browser will open."""
        self._state = _first(parse_qs(urlsplit(authorization_url).query), "state")

    def take(self, method: bytes, target: bytes) -> tuple[int, str]:
        """Check one request; return the status and page text of the response."""
        parts = urlsplit(target.decode("latin-1"))
        query = parse_qs(parts.query)
        state = _first(query, "state")
        if parts.path != CALLBACK_PATH:
            return 404, "Nothing is served here."
        if method != b"GET":
            return 405, "Only the authorization server's redirect is accepted."
        if state is None or state != self._state:
            return 400, "This redirect does not belong to the current sign-in."
        if self.answer.done():
            return 410, "This sign-in is complete."
        code = _first(query, "code")
        learn(code)
        self.answer.set_result(
            AuthorizationResponse(
                state=state,
                code=code,
                iss=_first(query, "iss"),
                error=_first(query, "error"),
                error_description=_first(query, "error_description"),
            )
        )
        return 200, "The load test has its answer. You may close this window."


@asynccontextmanager
async def listen(port: int | None = None) -> AsyncIterator[Callback]:
    """Serve the redirect URI during the block: on this loopback port, else on a free one."""
    served: set[asyncio.Task[None]] = set()
    is_over = False

    async def accept() -> None:
        while not is_over:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            serving = asyncio.create_task(_serve(callback, connection))
            served.add(serving)
            serving.add_done_callback(partial(_end, served, connection))

    with _bind(port or 0) as listener:
        listener.setblocking(False)
        callback = Callback(listener.getsockname()[1])
        accepting = asyncio.create_task(accept())
        try:
            yield callback
        finally:
            # Our own connection ends `accept`: cancelling it could lose one that was just accepted.
            is_over = True
            with suppress(OSError), socket.create_connection(listener.getsockname(), timeout=1):
                await accepting
            # A browser opens spare connections and sends nothing on them.
            for task in (accepting, *served):
                task.cancel()
            await asyncio.gather(accepting, *served, return_exceptions=True)


def _bind(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _end(served: set[asyncio.Task[None]], connection: socket.socket, serving: Any) -> None:
    served.discard(serving)
    connection.close()


async def _serve(callback: Callback, connection: socket.socket) -> None:
    # A port scan or a dropped connection: keep waiting for the real one.
    with suppress(TimeoutError, OSError, h11.RemoteProtocolError):
        async with asyncio.timeout(SERVE_SECONDS):
            await _serve_one(callback, connection)


async def _serve_one(callback: Callback, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    http = h11.Connection(h11.SERVER)
    while not isinstance(event := http.next_event(), h11.Request):
        if event is not h11.NEED_DATA:
            return
        http.receive_data(await loop.sock_recv(connection, 8192))
    status, text = callback.take(event.method, event.target)
    title = "Signed in" if status == 200 else "Not accepted"
    body = _PAGE.format(title=title, text=text).encode()
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("Connection", "close"),
    ]
    for part in (
        h11.Response(status_code=status, headers=headers),
        h11.Data(data=body),
        h11.EndOfMessage(),
    ):
        await loop.sock_sendall(connection, http.send(part) or b"")


def _first(query: dict[str, list[str]], name: str) -> str | None:
    return query[name][0] if query.get(name) else None
