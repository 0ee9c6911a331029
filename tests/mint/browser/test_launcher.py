"""Which browser is chosen: the pinned build by download, the system's, or one clear error."""

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from loadtest.common.files import write_json
from loadtest.errors import BrowserError
from loadtest.mint.browser.launcher import BrowserChoice, obtain_choice, read_choice
from tests.support.checkout import ROOT
from tests.support.loopback import serve_loopback
from tests.support.waiting import HANG_SECONDS

NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once


@pytest.fixture(scope="session")
def launcher(browser_choice: BrowserChoice) -> str:
    """Return a script that starts the real browser of this machine."""
    executable = browser_choice.executable
    if executable is None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            executable = playwright.chromium.executable_path
    return f'#!/bin/sh\nexec "{executable}" "$@"\n'


@contextmanager
def serve_builds(launcher: str) -> Iterator[str]:
    """Serve archives as Playwright's download host does, with our browser inside."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        for name in ("chrome-linux64/chrome", "chrome-linux/chrome", "ffmpeg-linux"):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            package.writestr(entry, launcher)

    class Builds(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(archive.getvalue())))
            self.end_headers()
            self.wfile.write(archive.getvalue())

    with serve_loopback(Builds) as origin:
        yield origin


def ensure(
    tmp_path: Path, download_host: str, commands: str | None
) -> "subprocess.CompletedProcess[str]":
    """Choose a browser with an empty download folder and a PATH with only `commands`."""
    return subprocess.run(
        [sys.executable, "-m", "loadtest.mint.browser.launcher", str(tmp_path / "browser.json")],
        env={
            "HOME": str(tmp_path),
            "PATH": commands or "",
            "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "builds"),
            "PLAYWRIGHT_DOWNLOAD_HOST": download_host,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


@pytest.mark.slow
def test_the_pinned_build_is_downloaded_if_possible(tmp_path: Path, launcher: str) -> None:
    with serve_builds(launcher) as host:
        done = ensure(tmp_path, host, os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    assert "pinned by Playwright" in done.stdout
    choice = read_choice(tmp_path / "browser.json")
    assert choice is not None
    assert (choice.source, choice.executable) == ("playwright", None)


@pytest.mark.slow
def test_the_browser_of_the_system_is_used_with_a_note(tmp_path: Path, launcher: str) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "google-chrome").write_text(launcher)
    (commands / "google-chrome").chmod(0o755)
    done = ensure(tmp_path, NOWHERE, str(commands))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert f"from the system ({commands / 'google-chrome'})" in done.stdout
    assert "own build could not be installed" in done.stdout


@pytest.mark.slow
def test_a_task_downloads_the_pinned_build_where_no_browser_is(
    tmp_path: Path, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, said = tmp_path / "browser.json", list[str]()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "builds"))
    monkeypatch.setenv("PLAYWRIGHT_DOWNLOAD_HOST", NOWHERE)
    with pytest.raises(BrowserError, match="playwright install"):
        obtain_choice(record, said.append)
    assert not record.exists()
    with serve_builds(launcher) as host:
        monkeypatch.setenv("PLAYWRIGHT_DOWNLOAD_HOST", host)
        choice = obtain_choice(record, said.append)
    assert (choice.source, choice.executable) == ("playwright", None)
    assert obtain_choice(record, said.append) == choice
    assert len(said) == 2


@pytest.mark.slow
def test_without_any_browser_one_line_shows_the_command_to_type(tmp_path: Path) -> None:
    done = ensure(tmp_path, NOWHERE, None)
    assert done.returncode == BrowserError.exit_code
    assert len(done.stderr.splitlines()) == 1
    assert "playwright install --with-deps chromium" in done.stderr
    assert not (tmp_path / "browser.json").exists()


def test_a_record_counts_only_for_its_playwright_and_while_the_browser_exists(
    tmp_path: Path, browser_choice: BrowserChoice
) -> None:
    record = tmp_path / "browser.json"

    def keep(choice: BrowserChoice) -> BrowserChoice | None:
        write_json(record, 1, vars(choice))
        return read_choice(record)

    assert keep(browser_choice) == browser_choice
    assert keep(replace(browser_choice, playwright_version="1.0.0")) is None
    assert keep(replace(browser_choice, executable=str(tmp_path / "gone"))) is None
