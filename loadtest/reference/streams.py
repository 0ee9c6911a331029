"""Streams from the server to its clients: GET in a session, and `subscriptions/listen`."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send

from loadtest.reference.knobs import Knobs

_Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

LISTEN = "subscriptions/listen"
KEEP_ALIVE = b": keep-alive\n\n"


class OpenStreams:
    """Counts the open streams, and holds each as the knobs have it.

    `leaks` draws whether a stream that has ended keeps its place.
    """

    def __init__(self, knobs: Knobs, leaks: Callable[[], bool]) -> None:
        self.open = 0
        self._knobs = knobs
        self._leaks = leaks

    @property
    def is_full(self) -> bool:
        """Return whether the next stream is above the cap."""
        return 0 < self._knobs.stream_cap <= self.open

    async def serve(self, handle: _Handler, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream with the SDK's `handle`, until either side ends it.

        A stream that is dropped ends without the last chunk of its body.
        """
        knobs = self._knobs
        # The product sends the headers of a GET stream together with its first event.
        stream = _Stream(send, knobs, holds=scope["method"] == "GET")
        comments = asyncio.create_task(stream.comment())
        self.open += 1
        try:
            async with asyncio.timeout(knobs.stream_seconds or None):
                await handle(scope, receive, stream)
                if stream.stays:
                    while (await receive())["type"] != "http.disconnect":
                        pass
        except TimeoutError:
            await stream.release()
        finally:
            self.open -= not self._leaks()
            comments.cancel()
            with suppress(asyncio.CancelledError):
                await comments


class _Stream:
    """Sends what the SDK sends on a stream; keep-alive comments are the edge's own."""

    def __init__(self, send: Send, knobs: Knobs, *, holds: bool) -> None:
        self.stays = False
        self._send = send
        self._knobs = knobs
        self._holds = holds
        self._held: Message | None = None
        self._opened = asyncio.Event()
        self._heard = 0.0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            is_open = message["status"] == 200
            if is_open and self._holds:
                self._held = message
            else:
                await self._send(message)
            if is_open:
                self._opened.set()
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not more and self._knobs.streams_stay and self._opened.is_set():
            self.stays = True
        elif not more or (body and not body.startswith(b":")):
            await self._write(message)

    async def release(self) -> None:
        """Send the headers, unless they are sent."""
        held, self._held = self._held, None
        if held is not None:
            await self._send(held)

    async def comment(self) -> None:
        """Send a comment after each silence; run until cancelled."""
        await self._opened.wait()
        now = asyncio.get_running_loop().time
        self._heard = now()
        while True:
            left = self._heard + self._knobs.keep_alive_seconds - now()
            if left > 0:
                await asyncio.sleep(left)
                continue
            part = {"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True}
            await self._write(part)

    async def _write(self, message: Message) -> None:
        await self.release()
        self._heard = asyncio.get_running_loop().time()
        await self._send(message)
