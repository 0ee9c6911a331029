"""A server that sends too much, too slowly, or without an end."""

import json
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
EVENTS = b"Content-Type: text/event-stream\r\n"
TRICKLE_SECONDS = 0.05
MIB = 2**20
PROTOCOL = "2025-11-25"


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The JSON-RPC message in it, empty for none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


Answer = Callable[[Request], Iterator[bytes]]


@dataclass
class HostileServer:
    """Send one answer to every request while a block runs; `seen` records the requests.

    An answer is a sequence of byte strings; an empty one is a short pause. With `tls`, the server
    uses https.
    """

    answer: Answer
    tls: ssl.SSLContext | None = None
    seen: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for connection in (self._listener, *self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), self._secure(connection) as secured:
            self._answer(secured)

    def _secure(self, connection: socket.socket) -> socket.socket:
        return self.tls.wrap_socket(connection, server_side=True) if self.tls else connection

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as source:
            request = _read_request(source)
            if request is None:
                return
            self.seen.append(request)
            for piece in self.answer(request):
                if piece:
                    connection.sendall(piece)
                elif self._ended.wait(TRICKLE_SECONDS):
                    return


def _read_request(source: Any) -> Request | None:
    first = source.readline().split()
    if len(first) < 2:
        return None
    headers = {}
    while line := source.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = source.read(int(headers.get("content-length", 0)))
    return Request(first[0].decode(), first[1].decode(), headers, body)


def send_json(value: Any, *, head: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Return a whole and honest answer."""
    body = json.dumps(value).encode()
    return b"".join(
        (
            *(b"HTTP/1.1 ", status, b"\r\n", JSON, head),
            *(b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body), body),
        )
    )


def gzip_bomb(mebibytes: int, prefix: bytes = b"") -> Answer:
    """Answer with this many MiB of spaces, compressed to a thousandth."""

    def answer(_: Request) -> Iterator[bytes]:
        packer = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
        yield OK + JSON + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n"
        yield packer.compress(prefix) + packer.flush(zlib.Z_SYNC_FLUSH)
        for _number in range(mebibytes):
            yield packer.compress(b" " * MIB) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield packer.flush()

    return answer


def endless_body(_: Request) -> Iterator[bytes]:
    """Send spaces as fast as they are read."""
    yield OK + JSON + b"Connection: close\r\n\r\n"
    while True:
        yield b" " * MIB


def trickling_head(_: Request) -> Iterator[bytes]:
    """Send a header byte by byte."""
    yield OK + b"X-Slow: "
    while True:
        yield b"a"
        yield b""


def trickling_body(_: Request) -> Iterator[bytes]:
    """Send a body byte by byte."""
    yield OK + JSON + b"Connection: close\r\n\r\n"
    while True:
        yield b" "
        yield b""


def endless_keep_alives(_: Request) -> Iterator[bytes]:
    """Hold a stream open that never sends an event."""
    yield OK + EVENTS + b"Connection: close\r\n\r\n"
    while True:
        yield b": keep-alive\n\n"
        yield b""


def huge_header(_: Request) -> Iterator[bytes]:
    """Send a header of many MiB."""
    yield OK + b"X-Huge: "
    for _number in range(64):
        yield b"a" * MIB
    yield b"\r\nContent-Length: 0\r\n\r\n"


def redirect_loop(request: Request) -> Iterator[bytes]:
    """Send the client to where it is."""
    yield b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + request.path.encode() + b"\r\n"
    yield b"Connection: close\r\nContent-Length: 0\r\n\r\n"


def speak_mcp(list_tools: Answer) -> Answer:
    """Answer as an MCP server, but for `tools/list`."""

    def answer(request: Request) -> Iterator[bytes]:
        message = request.message
        if request.method != "POST":
            yield send_json({}, status=b"405 Method Not Allowed")
        elif message.get("method") == "initialize":
            server = {"name": "hostile", "version": "1"}
            result = {"protocolVersion": PROTOCOL, "capabilities": {"tools": {}}}
            yield send_json(answer_to(message, result | {"serverInfo": server}))
        elif message.get("method") == "tools/list":
            yield from list_tools(request)
        elif "id" not in message:
            yield b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        else:
            yield send_json(answer_to(message, {"content": [{"type": "text", "text": "fine"}]}))

    return answer


def answer_to(message: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON-RPC answer to a request."""
    return {"jsonrpc": "2.0", "id": message.get("id"), "result": result}


def endless_pages(request: Request) -> Iterator[bytes]:
    """List one tool a page, and always name one more page."""
    cursor = int(request.message.get("params", {}).get("cursor", 0))
    tools = [{"name": f"tool{cursor}", "inputSchema": {"type": "object"}}]
    yield send_json(answer_to(request.message, {"tools": tools, "nextCursor": str(cursor + 1)}))


def many_tools(count: int) -> Answer:
    """List this many tools in one answer."""

    def answer(request: Request) -> Iterator[bytes]:
        yield OK + JSON + b"Connection: close\r\n\r\n"
        yield b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[' % request.message["id"]
        for start in range(0, count, 1000):
            names = range(start, min(start + 1000, count))
            tools = (b'{"name":"tool%d","inputSchema":{"type":"object"}}' % name for name in names)
            yield (b"," if start else b"") + b",".join(tools)
        yield b"]}}"

    return answer
