"""A loopback server for a story: the answer of each path, and what was typed there."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,">'
# Next.js has such an alert on every page.
ALERT = '<div role="alert" aria-live="assertive" id="__next-route-announcer__"></div>'


@dataclass(frozen=True)
class Reply:
    """One answer: a page, a redirect, or an error."""

    body: str = ""
    status: int = 200
    location: str | None = None
    content_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Visit:
    """One request: its number on this path, its form, and where the flow ends."""

    number: int
    form: Mapping[str, str]
    callback: str

    @property
    def done(self) -> Reply:
        """The redirect that ends the flow."""
        return to(self.callback)


Page = str | Reply | Callable[[Visit], str | Reply]


def to(location: str) -> Reply:
    """Redirect."""
    return Reply(status=303, location=location)


def finish(visit: Visit) -> Reply:
    """Redirect to the callback with a code."""
    return visit.done


def page(body: str, title: str = "Page") -> str:
    """Wrap a body as a page that has an empty alert, as many frameworks' pages do."""
    return f"{HEAD}<title>{title}</title><body>{ALERT}{body}</body></html>"


class PageServer:
    """Serves a story on a free loopback port; a request without a page is never answered."""

    def __init__(self, story: Mapping[str, Page], host: str = "127.0.0.1") -> None:
        self.story = dict(story)
        self.sent: list[tuple[str, dict[str, str]]] = []
        self.visits: dict[str, int] = {}
        self._callback = ""
        self._over = Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())
        self._server.daemon_threads = True
        self.origin = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def build_authorization_url(self, redirect_uri: str, state: str) -> str:
        """Return the URL that starts the story."""
        query = {"redirect_uri": redirect_uri, "state": state, "client_id": "a client"}
        return f"{self.origin}/authorize?{urlencode(query)}"

    def typed(self, path: str) -> list[dict[str, str]]:
        """Return the forms posted to a path."""
        return [form for at, form in self.sent if at == path]

    def answer(self, target: str, form: dict[str, str] | None) -> Reply | None:
        """Return the answer to one request; None leaves it open."""
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        if "redirect_uri" in query:
            back = urlencode({"code": "canary-code", "state": query["state"][0]})
            self._callback = f"{query['redirect_uri'][0]}?{back}"
        if form is not None:
            self.sent.append((parts.path, form))
        self.visits[parts.path] = self.visits.get(parts.path, 0) + 1
        told = self.story.get(parts.path, Reply("nothing here", 404))
        if callable(told):
            told = told(Visit(self.visits[parts.path], form or {}, self._callback))
        if isinstance(told, Reply):
            return None if told.status == 0 else told
        return Reply(told)

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                # A killed browser closes its connections at any time.
                with suppress(ConnectionError):
                    super().handle()

            def do_GET(self) -> None:
                self._reply(None)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                text = self.rfile.read(length).decode()
                self._reply(dict(parse_qsl(text, keep_blank_values=True)))

            def _reply(self, form: dict[str, str] | None) -> None:
                reply = server.answer(self.path, form)
                if reply is None:
                    server._over.wait(60)
                    self.close_connection = True
                    return
                body = reply.body.encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.location is not None:
                    self.send_header("Location", reply.location)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        return Handler
