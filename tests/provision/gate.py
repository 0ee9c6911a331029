"""A gate in front of the reference target, where a test stops requests or answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Literal

import httpx

Side = Literal["before", "after"]
# Headers of one hop (RFC 9110, section 7.6.1), and those that the gate sets itself.
HOP_HEADERS = {"connection", "content-length", "transfer-encoding", "date", "server", "host"}


class Gate:
    """Forward requests to a target; at a path, do something else once.

    `headers` are added to every answer.
    """

    def __init__(self, target_url: str) -> None:
        self.passed: list[str] = []
        self.headers: dict[str, str] = {}
        self._target_url = target_url
        self._acts: dict[tuple[str, Side], Callable[[], bool | None]] = {}
        self._answers: dict[str, tuple[int, Callable[[], None]]] = {}
        self._http = httpx.Client(base_url=target_url, timeout=30)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def at(self, path: str, side: Side, act: Callable[[], bool | None]) -> None:
        """Act before a request is forwarded or after it was answered; only True lets it pass."""
        self._acts[path, side] = act

    def answer(self, path: str, status: int, act: Callable[[], None] = lambda: None) -> None:
        """Answer every request to a path with an empty object; do not forward it."""
        self._answers[path] = (status, act)

    def serve(self) -> None:
        """Answer until `close`."""
        self._server.serve_forever(poll_interval=0.02)

    def close(self) -> None:
        """Stop answering and release the port."""
        self._server.shutdown()
        self._server.server_close()
        self._http.close()

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    self.pass_on()
                self.close_connection = True

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.path in gate._answers:
                    status, act = gate._answers[self.path]
                    act()
                    self.reply(status, {"content-type": "application/json"}, b"{}")
                    return
                if not gate._go_on(self.path, "before"):
                    return
                gate.passed.append(self.path)
                headers = {n: v for n, v in self.headers.items() if n.lower() not in HOP_HEADERS}
                try:
                    answer = gate._http.request(
                        self.command, self.path, content=body, headers=headers
                    )
                except httpx.HTTPError:
                    return
                gate._http.cookies.clear()
                if gate._go_on(self.path, "after"):
                    headers = dict(answer.headers) | gate.headers
                    self.reply(answer.status_code, headers, answer.content)

            def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in HOP_HEADERS | {"content-encoding"}:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                with suppress(OSError):  # the client may be gone: some tests kill it
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _go_on(self, path: str, side: Side) -> bool:
        act = self._acts.pop((path, side), None)
        return act is None or bool(act())


@contextmanager
def open_gate(target_url: str) -> Iterator[Gate]:
    """Serve while the block runs."""
    gate = Gate(target_url)
    thread = Thread(target=gate.serve, daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        gate.close()
        thread.join(10)
