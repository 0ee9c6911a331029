"""The browser gives the target's origin what it demands, and no other origin."""

import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from loadtest.common.access import Access, ClientCertificate, set_access
from loadtest.common.redaction import SecretStr
from loadtest.mint.browser.driver import run
from loadtest.mint.browser.launcher import BrowserChoice, open_browser
from loadtest.mint.browser.session import open_context, open_page
from tests.support.certificates import build_server_tls, write_client
from tests.support.loopback import serve_loopback

Seen = list[tuple[str, str | None]]
PAGE = b'<img src="/picture"><script>fetch("/fetched")</script><img src="%s/elsewhere">'


def build_handler(seen: Seen, *elsewhere: str) -> type[BaseHTTPRequestHandler]:
    """Return a handler that notes paths with the header; `/go` redirects to another origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("X-Bypass")))
            redirects = self.path == "/go"
            self.send_response(302 if redirects else 200)
            if redirects:
                self.send_header("Location", f"{elsewhere[0]}/landed")
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE % elsewhere[0].encode() if self.path == "/page" else b"fine")

    return Handler


async def visit(choice: BrowserChoice, origin: str, *paths: str) -> list[str]:
    """Open pages one after the other until their network is quiet; return their texts."""
    async with open_browser(choice) as browser:
        context = await open_context(browser, f"{origin}/mcp")
        page = await open_page(context, f"{origin}/mcp")
        texts = []
        for path in paths:
            await page.goto(origin + path, wait_until="networkidle")
            texts.append(await page.inner_text("body"))
        return texts


def test_headers_go_with_all_that_a_page_loads_but_not_across_origins(
    browser_choice: BrowserChoice,
) -> None:
    seen: Seen = []
    strange: Seen = []
    with (
        serve_loopback(build_handler(strange)) as other,
        serve_loopback(build_handler(seen, other)) as origin,
    ):
        set_access(origin, Access({"X-Bypass": "yes"}))
        run(visit(browser_choice, origin, "/page", "/go"))
    assert {path for path, _ in seen} >= {"/page", "/picture", "/fetched", "/go"}
    assert {value for _, value in seen} == {"yes"}
    assert {path for path, _ in strange} >= {"/elsewhere", "/landed"}
    assert {value for _, value in strange} == {None}


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve https to those who present a client certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    tls = build_server_tls(tmp_path, "127.0.0.1")
    write_client(tmp_path)
    tls.load_verify_locations(tmp_path / "clients.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    with serve_loopback(build_handler([]), tls) as origin:
        yield origin


def test_a_client_certificate_lets_the_browser_in(
    browser_choice: BrowserChoice, guarded: str, tmp_path: Path
) -> None:
    chain, key = (tmp_path / name for name in ("client.pem", "client.key"))
    certificate = ClientCertificate(chain.read_text(), SecretStr(key.read_text()))
    set_access(guarded, Access(certificate=certificate))
    assert run(visit(browser_choice, guarded, "/fine")) == ["fine"]
