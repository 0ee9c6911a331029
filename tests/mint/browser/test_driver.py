"""The environment and behaviour of Playwright's driver and Chromium, as real processes."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest
from playwright.async_api import Error

from loadtest.mint.browser.driver import run
from loadtest.mint.browser.launcher import BrowserChoice, open_browser
from tests.support.checkout import ROOT
from tests.support.loopback import serve_loopback
from tests.support.waiting import HANG_SECONDS

pytestmark = pytest.mark.slow

CANARY = "a canary of the environment"
SECRETS = ("LOADTEST_PASSWORD", "LOADTEST_BEARER", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "OTHER")
# Prints the messages, and for each renderer process whether it lacks a sandbox.
LOOK = """
import json, sys
import psutil
from loadtest.mint.browser.launcher import BrowserChoice, open_browser
from loadtest.mint.browser.driver import run

async def look():
    told = []
    async with open_browser(BrowserChoice(**json.loads(sys.argv[1])), told.append) as browser:
        await (await browser.new_page()).goto("data:text/html,shown")
        lines = [child.cmdline() for child in psutil.Process().children(recursive=True)]
        drawing = [line for line in lines if "--type=renderer" in line]
        print(json.dumps([told, ["--no-sandbox" in line for line in drawing]]))

run(look())
"""


def look_as_user(choice: BrowserChoice) -> tuple[list[str], list[bool]]:
    """Start the browser as a user who is not root; return messages and unsandboxed processes."""
    as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    done = subprocess.run(
        [
            *(() if os.geteuid() else as_user),
            sys.executable,
            "-c",
            LOOK,
            json.dumps(asdict(choice)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    told, drawing = json.loads(done.stdout)
    assert drawing
    return told, drawing


def find_executable(choice: BrowserChoice) -> str:
    if choice.executable is not None:
        return choice.executable
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


@contextmanager
def serve(asked: list[str]) -> Iterator[str]:
    """Serve a page at a loopback address, to browsers and as a proxy; record the requests."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(502)

    with serve_loopback(Pages) as origin:
        yield origin


@pytest.mark.usefixtures("no_shared_browser")
def test_driver_and_browser_inherit_no_secret(
    browser_choice: BrowserChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, CANARY)
    seen: list[dict[str, str]] = []
    lines: list[str] = []

    async def look() -> None:
        async with open_browser(browser_choice) as browser:
            await (await browser.new_page()).goto("data:text/html,shown")
            for child in psutil.Process().children(recursive=True):
                lines.append(" ".join(child.cmdline()))
                # Processes in the sandbox cannot be inspected.
                with suppress(psutil.AccessDenied):
                    seen.append(child.environ())

    run(look())
    assert any("run-driver" in line for line in lines)
    browser = next(line for line in lines if "--remote-debugging-pipe" in line)
    assert {"--disable-component-update", "--disable-background-networking"} <= set(browser.split())
    assert len([environment for environment in seen if environment.get("PATH")]) >= 2
    assert CANARY not in str(seen)


def test_programs_that_find_and_install_a_browser_inherit_no_secret(tmp_path: Path) -> None:
    script = tmp_path / "node"
    script.write_text(f'#!/bin/sh\nenv >> "{tmp_path}/seen"\n')
    script.chmod(0o755)
    variables = dict.fromkeys(SECRETS, CANARY) | {"PLAYWRIGHT_NODEJS_PATH": str(script)}
    subprocess.run(
        [sys.executable, "-m", "loadtest.mint.browser.launcher", str(tmp_path / "browser.json")],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | variables,
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    seen = (tmp_path / "seen").read_text()
    assert len([line for line in seen.splitlines() if line.startswith("PATH=")]) >= 3
    assert CANARY not in seen


def test_a_proxy_is_used_for_remote_addresses_only(
    browser_choice: BrowserChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home: list[str] = []
    by_proxy: list[str] = []

    async def visit(home: str) -> None:
        async with open_browser(browser_choice) as browser:
            page = await browser.new_page()
            for host in ("127.0.0.1", "localhost"):
                await page.goto(home.replace("127.0.0.1", host))
            await page.goto("http://elsewhere.example/")
            with suppress(Error):
                await page.goto("https://elsewhere.example/")

    with serve(at_home) as home, serve(by_proxy) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy)
        run(visit(home))
    assert [path for path in at_home if path != "/favicon.ico"] == ["/", "/"]
    assert {path for path in by_proxy if not path.endswith("/favicon.ico")} == {
        "http://elsewhere.example/",
        "elsewhere.example:443",
    }


def test_chromium_runs_in_its_sandbox_except_as_root_or_reports_that_it_has_none(
    browser_choice: BrowserChoice,
) -> None:
    told, lacking = look_as_user(browser_choice)
    assert len(told) == any(lacking) == all(lacking)


def test_a_system_without_sandboxes_is_reported_and_the_sign_in_works(
    browser_choice: BrowserChoice, tmp_path: Path
) -> None:
    script = tmp_path / "chromium"
    script.write_text(
        f"""#!/bin/sh
        case "$*" in
          *--no-sandbox*) exec "{find_executable(browser_choice)}" "$@" ;;
          *) echo "No usable sandbox!" >&2; exit 1 ;;
        esac
        """
    )
    script.chmod(0o755)
    choice = replace(browser_choice, source="system", executable=str(script))
    told, lacking = look_as_user(choice)
    assert told == [
        "this system does not allow Chromium's sandbox (user namespaces): it runs without one"
    ]
    assert all(lacking)


@pytest.mark.usefixtures("no_shared_browser")
def test_a_loop_that_ends_early_leaves_no_driver(
    browser_choice: BrowserChoice, capfd: pytest.CaptureFixture[str]
) -> None:
    async def leave() -> None:
        opening = open_browser(browser_choice)
        async with asyncio.timeout(0.05):
            await opening.__aenter__()

    with pytest.raises(TimeoutError):
        run(leave())
    assert psutil.Process().children(recursive=True) == []
    assert capfd.readouterr().err == ""
