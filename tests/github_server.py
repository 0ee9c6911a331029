"""A loopback GitHub that has Actions secrets, and opens what it is sent."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from nacl.public import PrivateKey, SealedBox

REPOSITORY = "octo/loadtest"
TOKEN = "a github token canary"

Refusal = tuple[int, dict[str, str]]


class GithubServer:
    """Where it listens, what it holds, and how it is told to refuse."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self._key = PrivateKey.generate()
        self._refusals: dict[str, list[Refusal]] = {}
        self._hooks: dict[str, Callable[[], None]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())
        self.api_url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def variables(self) -> dict[str, str]:
        """What a workflow would have in its environment."""
        return {
            "GITHUB_API_URL": self.api_url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_TOKEN": TOKEN,
        }

    def refuse(self, what: str, status: int, times: int = 99, **headers: str) -> None:
        """Answer `METHOD name` (name: `secrets`, `public-key` or a secret's) with `status`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._refusals[what] = [(status, named)] * times

    def forget_all(self) -> None:
        """Be as new."""
        self.secrets.clear()
        self.accept_all()
        self._hooks.clear()

    def accept_all(self) -> None:
        """Refuse nothing any more."""
        self._refusals.clear()

    def before(self, what: str, act: Callable[[], None]) -> None:
        """Do something at the next such request, and answer nothing."""
        self._hooks[what] = act

    def serve(self) -> None:
        """Answer until `close`."""
        self._server.serve_forever(poll_interval=0.02)

    def close(self) -> None:
        """Stop answering and give the port back."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any, Any]:
        """Return status, headers and body of an answer."""
        base = f"/repos/{REPOSITORY}/actions/secrets"
        name = path.removeprefix(base).lstrip("/") or "secrets"
        refusals = self._refusals.get(f"{method} {name}")
        if token != f"Bearer {TOKEN}":
            return 401, {}, {"message": "Bad credentials"}
        if not path.startswith(base):
            return 404, {}, {"message": "Not Found"}
        if refusals:
            status, headers = refusals.pop()
            return status, headers, {"message": "Resource not accessible by personal access token"}
        match method, name:
            case "GET", "secrets":
                listed = [{"name": each} for each in sorted(self.secrets)]
                return 200, {}, {"total_count": len(listed), "secrets": listed}
            case "GET", "public-key":
                key = b64encode(bytes(self._key.public_key)).decode()
                return 200, {}, {"key_id": "7", "key": key}
            case "PUT", _:
                given = json.loads(body)
                assert given["key_id"] == "7"
                sealed = b64decode(given["encrypted_value"])
                known = name in self.secrets
                self.secrets[name] = SealedBox(self._key).decrypt(sealed).decode()
                return (204, {}, None) if known else (201, {}, {})
            case "DELETE", _:
                if self.secrets.pop(name, None) is not None:
                    return 204, {}, None
        return 404, {}, {"message": "Not Found"}

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                path = self.path.partition("?")[0]
                hook = server._hooks.pop(f"{self.command} {path.rpartition('/')[2]}", None)
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if hook is not None:
                    hook()
                    self.close_connection = True
                    return
                token = self.headers.get("authorization", "")
                status, headers, answer = server.answer(self.command, path, token, body)
                content = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if content:
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


@contextmanager
def serve_github() -> Iterator[GithubServer]:
    """Serve for the length of the block."""
    server = GithubServer()
    thread = Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(10)
