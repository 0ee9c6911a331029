"""A reverse proxy that gives each request to the next replica, and knows the open sessions."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler
from itertools import count

from tests.support.loopback import serve_loopback
from tests.support.waiting import HANG_SECONDS

SESSION_HEADER = "Mcp-Session-Id"
PIECE_BYTES = 65536
# They belong to one connection (RFC 9110, section 7.6.1); HTTPConnection sets the others itself.
HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding"})


@dataclass
class Proxy:
    """A running proxy; `ports` are those of the replicas, known once they have started."""

    origin: str = ""
    ports: tuple[int, ...] = ()
    opened: int = 0
    open: set[str] = field(default_factory=set)
    _turn: Iterator[int] = field(default_factory=count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pick_port(self) -> int:
        """Return the port of the next replica."""
        with self._lock:
            return self.ports[next(self._turn) % len(self.ports)]

    def record(self, method: str, sent: str | None, answer: HTTPResponse) -> None:
        """Note a session that a replica opened or closed."""
        named = answer.getheader(SESSION_HEADER)
        with self._lock:
            if method == "DELETE" and sent is not None and answer.status < 300:
                self.open.discard(sent)
            elif method == "POST" and sent is None and named is not None and answer.status < 300:
                self.opened += 1
                self.open.add(named)


@contextmanager
def serve_proxy() -> Iterator[Proxy]:
    """Serve a proxy inside the block."""
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            """Let a client close its connection at any time."""
            with suppress(ConnectionError):
                super().handle()

        def _forward(self) -> None:
            _forward(proxy, self)

        do_GET = do_POST = do_DELETE = do_OPTIONS = _forward  # noqa: N815

    with serve_loopback(Handler) as origin:
        proxy.origin = origin
        yield proxy


def _forward(proxy: Proxy, client: BaseHTTPRequestHandler) -> None:
    """Send a request to a replica, and pass on its answer while it arrives."""
    body = client.rfile.read(int(client.headers.get("Content-Length", 0)))
    upstream = HTTPConnection("127.0.0.1", proxy.pick_port(), timeout=HANG_SECONDS)
    with closing(upstream):
        upstream.putrequest(client.command, client.path, skip_host=True, skip_accept_encoding=True)
        for name, value in client.headers.items():
            if name.lower() not in HOP_HEADERS:
                upstream.putheader(name, value)
        upstream.endheaders(body)
        with upstream.getresponse() as answer:
            proxy.record(client.command, client.headers.get(SESSION_HEADER), answer)
            _pass_on(answer, client)


def _pass_on(answer: HTTPResponse, client: BaseHTTPRequestHandler) -> None:
    """Send an answer to the client while it arrives."""
    client.send_response_only(answer.status, answer.reason)
    for name, value in answer.getheaders():
        if name.lower() not in HOP_HEADERS:
            client.send_header(name, value)
    chunked = answer.getheader("Transfer-Encoding") is not None
    if chunked:
        client.send_header("Transfer-Encoding", "chunked")
    client.end_headers()
    while piece := answer.read1(PIECE_BYTES):
        client.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        client.wfile.write(b"0\r\n\r\n")
