"""Our HTTP clients: limited in bytes and seconds, and without a proxy to reach this machine.

The timeout of a request covers the whole request, also a body that arrives slowly.
"""

import asyncio
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar

import httpcore2
import httpx2

from loadtest.common.access import find_access
from loadtest.common.network import find_proxy
from loadtest.common.tls import find_tls

# Limit for metadata, tokens and pages; callers that need more pass their own limit.
MOST_BYTES = 4 * 2**20
# zlib detects whether the header is gzip's or its own.
_EITHER_HEADER = 32 + zlib.MAX_WBITS
_PACKINGS = frozenset({"gzip", "x-gzip", "deflate"})

_Sender = TypeVar("_Sender")


class BodyError(httpx2.DecodingError):
    """The body of an answer is larger than its limit, or its compression cannot be read."""


def open_client(
    timeout_seconds: float, *, most_bytes: int = MOST_BYTES, base_url: str = ""
) -> httpx2.Client:
    """Open a client; a request raises ConfigError if its proxy cannot be used."""
    return httpx2.Client(
        transport=Transport(most_bytes), timeout=timeout_seconds, base_url=base_url
    )


def open_async_client(
    timeout_seconds: float,
    *,
    transport: httpx2.AsyncBaseTransport | None = None,
    headers: dict[str, str] | None = None,
    event_hooks: dict[str, list[Callable[..., Any]]] | None = None,
) -> httpx2.AsyncClient:
    """Open the same client for `async` code."""
    return httpx2.AsyncClient(
        transport=transport or AsyncTransport(),
        timeout=timeout_seconds,
        headers=headers,
        event_hooks=event_hooks,
    )


def explain(failure: Exception) -> str:
    """Return in a few words why there is no answer, without text from the server."""
    if isinstance(failure, BodyError):
        return str(failure)
    if isinstance(failure, httpx2.ReadTimeout):
        return "no complete answer in time"
    return type(failure).__name__


class _Routes(Generic[_Sender]):
    """One sender per TLS context and proxy, opened when it is first used."""

    def __init__(self, make: Callable[[ssl.SSLContext, str | None], _Sender]) -> None:
        self._make = make
        self._senders: dict[tuple[ssl.SSLContext, str | None], _Sender] = {}

    def find(self, url: httpx2.URL) -> _Sender:
        route = (find_tls(str(url)), find_proxy(str(url)))
        if route not in self._senders:
            self._senders[route] = self._make(*route)
        return self._senders[route]

    def __iter__(self) -> Iterator[_Sender]:
        return iter(self._senders.values())


class Transport(httpx2.BaseTransport):
    """Send requests and limit their answers; `tls` replaces the shared TLS context."""

    def __init__(self, most_bytes: int = MOST_BYTES, tls: ssl.SSLContext | None = None) -> None:
        def make(usual: ssl.SSLContext, proxy: str | None) -> httpx2.HTTPTransport:
            sender = httpx2.HTTPTransport(verify=tls or usual, proxy=proxy)
            # httpx2 has no parameter for this, unlike its pool.
            sender._pool._network_backend = _Network()
            return sender

        self._most_bytes = most_bytes
        self._routes: _Routes[httpx2.HTTPTransport] = _Routes(make)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; its timeouts become one deadline, which `_Network` enforces."""
        request.headers["Accept-Encoding"] = "identity"
        given = request.extensions
        limits = given.get("timeout", {})
        if limits.get("read") is not None:
            deadline = time.monotonic() + limits["read"]
            kept = dict.fromkeys(("connect", "read", "write"), deadline)
            request.extensions = {**given, "timeout": limits | kept}
        else:
            request.extensions = {**given, "timeout": {}}
        try:
            with _add_headers(request):
                answer = self._routes.find(request.url).handle_request(request)
        finally:
            request.extensions = given
        assert isinstance(answer.stream, httpx2.SyncByteStream)
        answer.stream = _Stream(answer.stream, _Meter(self._most_bytes, answer))
        return answer

    def close(self) -> None:
        """Close all connections."""
        for sender in self._routes:
            sender.close()


class AsyncTransport(httpx2.AsyncBaseTransport):
    """The same for `async` code; `retries` apply only to connecting, before anything is sent."""

    def __init__(self, most_bytes: int = MOST_BYTES, retries: int = 0) -> None:
        def make(tls: ssl.SSLContext, proxy: str | None) -> httpx2.AsyncHTTPTransport:
            return httpx2.AsyncHTTPTransport(verify=tls, proxy=proxy, retries=retries)

        self._most_bytes = most_bytes
        self._routes: _Routes[httpx2.AsyncHTTPTransport] = _Routes(make)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; its timeouts become one deadline."""
        request.headers["Accept-Encoding"] = "identity"
        seconds = request.extensions.get("timeout", {}).get("read")
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        async with _within(deadline):
            with _add_headers(request):
                answer = await self._routes.find(request.url).handle_async_request(request)
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        meter = _Meter(self._most_bytes, answer)
        answer.stream = _AsyncStream(answer.stream, meter, deadline)
        return answer

    async def aclose(self) -> None:
        """Close all connections."""
        for sender in self._routes:
            await sender.aclose()


@contextmanager
def _add_headers(request: httpx2.Request) -> Iterator[None]:
    """Add what the origin demands while the request is sent; no redirect may inherit it."""
    given, more = request.headers, find_access(str(request.url)).headers
    request.headers = httpx2.Headers([*given.multi_items(), *more.items()])
    try:
        yield
    finally:
        request.headers = given


@asynccontextmanager
async def _within(deadline: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise httpx2.ReadTimeout("the deadline of the request has passed") from None


class _Meter:
    """Limit the bytes of a body, counted after decompression.

    It decompresses instead of httpx2, which has no limit. Some servers send compressed documents
    even if the request does not accept them.
    """

    def __init__(self, most_bytes: int, answer: httpx2.Response) -> None:
        self._most_bytes = most_bytes
        self._left = most_bytes
        self._packing = answer.headers.pop("content-encoding", "").strip().lower() or "identity"
        self._unpacker = zlib.decompressobj(_EITHER_HEADER) if self._packing in _PACKINGS else None

    def take(self, chunk: bytes) -> bytes:
        """Return the decompressed chunk."""
        taken = chunk
        if self._unpacker is not None:
            try:
                taken = self._unpacker.decompress(chunk, self._left + 1)
            except zlib.error:
                raise BodyError("its gzip is damaged") from None
        elif self._packing != "identity":
            raise BodyError("it has a compression that was not requested")
        self._left -= max(len(chunk), len(taken))
        if self._left < 0:
            raise BodyError(f"it sends more than {self._most_bytes / 2**20:g} MiB")
        return taken


class _Stream(httpx2.SyncByteStream):
    """A body that a meter limits."""

    def __init__(self, body: httpx2.SyncByteStream, meter: _Meter) -> None:
        self._body = body
        self._meter = meter

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            yield self._meter.take(chunk)

    def close(self) -> None:
        self._body.close()


class _AsyncStream(httpx2.AsyncByteStream):
    """The same for `async` code; it also enforces the deadline."""

    def __init__(self, body: httpx2.AsyncByteStream, meter: _Meter, deadline: float | None) -> None:
        self._body = body
        self._meter = meter
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._body)
        while True:
            async with _within(self._deadline):
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
            yield self._meter.take(chunk)

    async def aclose(self) -> None:
        await self._body.aclose()


class _Network(httpcore2.SyncBackend):
    """Connections for which a timeout is a time of the monotonic clock.

    httpcore2 passes the same timeout unchanged to each read and write of a request.
    """

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect before the deadline."""
        left = _find_left(timeout)
        return _Connection(super().connect_tcp(host, port, left, local_address, socket_options))


class _Connection(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _find_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _find_left(timeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = _find_left(timeout)
        return _Connection(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _find_left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the deadline of the request has passed")
    return left
