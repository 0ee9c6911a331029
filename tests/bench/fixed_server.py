"""An MCP server that knows one answer: `python -m tests.bench.fixed_server sse|json RESULT_FILE`.

Much cheaper than the k6 that asks it: a request is taken apart by a few searches, and of its answer
only the id is new. Prints its URL; ends with its standard input.
"""

import asyncio
import re
import sys
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb'"id": *(\d+)')
_SESSION = b"Mcp-Session-Id: fixed\r\n"
_INITIALIZED = (
    b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
    b'"serverInfo":{"name":"fixed","version":"1"}}'
)


class Replies:
    """Whole HTTP responses around a request's id, in one framing."""

    def __init__(self, framing: str, result: bytes) -> None:
        self._frame = (b"event: message\ndata: ", b"\n\n") if framing == "sse" else (b"", b"")
        kind = b"text/event-stream" if framing == "sse" else b"application/json"
        self._head = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n"
        self._result = result

    def find(self, request: bytes) -> bytes:
        """Return what answers a request."""
        if b'"method":"tools/call"' in request:
            return self._wrap(request, b'"result":' + self._result)
        if b'"method":"initialize"' in request:
            return self._wrap(request, b'"result":' + _INITIALIZED, _SESSION)
        if b'"method":"notifications/' in request:
            return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        if request.startswith(b"DELETE"):
            return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        return self._wrap(request, b'"error":{"code":-32601,"message":"Method not found"}')

    def _wrap(self, request: bytes, member: bytes, more: bytes = b"") -> bytes:
        found = _ID.search(request)
        number = found[1] if found else b"null"
        before, after = self._frame
        body = before + b'{"jsonrpc":"2.0","id":' + number + b"," + member + b"}" + after
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (self._head, more, len(body), body)


class _Connection(asyncio.Protocol):
    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head = self._seen.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._seen, 0, head)
        if len(self._seen) >= head + 4 + (int(length[1]) if length else 0):
            self._transport.write(self._replies.find(self._seen))
            self._seen = b""


async def serve(replies: Replies) -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(replies), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(Replies(sys.argv[1], Path(sys.argv[2]).read_bytes())))
