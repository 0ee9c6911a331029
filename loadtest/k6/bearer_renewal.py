"""Fresh bearers for a running k6, which cannot reopen a file: a loopback endpoint serves them.

The path of the endpoint is a secret of the run. Only k6 gets it, in its environment.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from loadtest.errors import LoadtestError
from loadtest.state.bearers import Bearer

# A bearer is renewed when half of its lifetime is over, at the latest this long before its expiry.
LEAD_SECONDS = 120.0
LEAD_SHARE = 0.5
RETRY_SECONDS = 5.0
# A bearer that the target refuses is renewed at once, but only once in this time.
FORCED_EVERY_SECONDS = 10.0

Renew = Callable[[float | None], Sequence[Bearer]]


class Renewal:
    """Keeps the bearers fresh while the block lasts, and serves them, one per client.

    `renew` returns bearers that are valid for longer than the given seconds; with None it mints all
    again. `GET <url>/<client>/<serial>` returns `{"serial", "access_token", "expires_at"}` as JSON;
    with `/refused` at the end, the target refuses the bearer of that serial. If a renewal fails,
    `tell` gets a line, and the old bearers stay.
    """

    def __init__(
        self, bearers: Sequence[Bearer], renew: Renew, tell: Callable[[str], None]
    ) -> None:
        self._renew = renew
        self._tell = tell
        self._serial = 0
        self._bearers = tuple(bearers)
        self._lead_seconds = self._find_lead()
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._forced_at = 0.0
        self._failed = ""
        path = f"/{secrets.token_urlsafe(32)}"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _build_handler(self, path))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{path}"
        self._threads = (
            threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True),
            threading.Thread(target=self._keep_fresh, daemon=True),
        )

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def find(self, client: int, serial: int, *, refused: bool) -> dict[str, object]:
        """Return a client's bearer as the endpoint serves it; renew it first if it was refused."""
        if refused and serial == self._serial:
            self._force(serial)
        bearer = self._bearers[client % len(self._bearers)]
        return {
            "serial": self._serial,
            "access_token": bearer.access_token.get_secret_value(),
            "expires_at": bearer.expires_at,
        }

    def _find_lead(self) -> float:
        soonest = min(bearer.seconds_left() for bearer in self._bearers)
        return min(LEAD_SECONDS, soonest * LEAD_SHARE)

    def _keep_fresh(self) -> None:
        while True:
            left = min(bearer.seconds_left() for bearer in self._bearers) - self._lead_seconds
            wait = RETRY_SECONDS if self._failed else max(0.0, left)
            if self._ended.wait(wait):
                return
            if min(bearer.seconds_left() for bearer in self._bearers) <= self._lead_seconds:
                with self._renewing:
                    self._replace(self._lead_seconds)

    def _force(self, serial: int) -> None:
        with self._renewing:
            recent = time.monotonic() - self._forced_at < FORCED_EVERY_SECONDS
            if serial != self._serial or (self._forced_at and recent):
                return
            self._forced_at = time.monotonic()
            self._replace(None)

    def _replace(self, needed_seconds: float | None) -> None:
        try:
            self._bearers = tuple(self._renew(needed_seconds))
        except LoadtestError as failure:
            if str(failure) != self._failed:
                self._tell(f"the bearer cannot be renewed: {failure}")
            self._failed = str(failure)
            return
        self._failed = ""
        self._serial += 1
        self._lead_seconds = self._find_lead()


def _build_handler(renewal: Renewal, path: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            secret, _, rest = self.path.removeprefix("/").partition("/")
            client, _, rest = rest.partition("/")
            serial, _, word = rest.partition("/")
            known = secrets.compare_digest(secret.encode(), path.removeprefix("/").encode())
            if not known or not client.isdecimal() or not serial.isdecimal():
                self.send_error(404)
                return
            found = renewal.find(int(client), int(serial), refused=word == "refused")
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: the path is a secret."""

    return Handler
