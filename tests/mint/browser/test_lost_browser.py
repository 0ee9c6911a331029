"""Chromium or its driver is killed, as by the kernel without memory: mint continues or ends.

Real processes, really killed, at each step of a sign-in.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from loadtest.common.files import write_json
from loadtest.common.redaction import SecretStr
from loadtest.errors import BrowserError, LoadtestError
from loadtest.mint.browser.driver import run
from loadtest.mint.browser.launcher import BrowserChoice
from loadtest.mint.browser.session import SignInBrowser, SignInRequest
from loadtest.mint.oauth.callback import listen
from loadtest.mint.oauth.request import Timings
from tests.mint.browser.page_server import Page, PageServer, Reply, Visit, finish, page, to
from tests.mint.minting import build_environment
from tests.support.waiting import HANG_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_shared_browser")]

# Parts of the command line of each.
VICTIMS = {"browser": "--remote-debugging-pipe", "page": "--type=renderer", "driver": "run-driver"}
STORY: Mapping[str, Page] = {
    "/authorize": to("/login"),
    "/login": page(
        """<form method="post" action="/session"><label>Email <input name="email"></label>
        <label>Password <input name="password" type="password"></label>
        <button>Sign in</button></form>"""
    ),
    "/session": to("/consent"),
    "/consent": page('<form method="post" action="/decision"><button>Approve</button></form>'),
    "/decision": finish,
}
BY_STEP = {"sign-in": "/login", "typed": "/session", "consent": "/consent", "callback": "/decision"}


@dataclass
class Outcome:
    """The result of a sign-in, and the messages."""

    code: str | None = None
    failure: LoadtestError | None = None
    told: list[str] = field(default_factory=list)


def find(victim: str) -> list[int]:
    """Return the processes of a kind below this one, the topmost first."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if VICTIMS[victim] in process.cmdline():
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def send(victim: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to the driver, to the browser's main process, or to all that draw pages."""
    found = find(victim)
    assert found
    for process_id in found if victim == "page" else found[:1]:
        os.kill(process_id, number)


def sign_in(
    browser: BrowserChoice,
    folder: Path,
    story: Mapping[str, Page] = STORY,
    before_closing: Callable[[], None] = lambda: None,
) -> Outcome:
    """Sign in through a story; check that no process and no file of a browser is left."""
    outcome = Outcome()
    request = SignInRequest(
        mcp_url="http://127.0.0.1/mcp",
        environment=build_environment(),
        workspace_id=None,
        tell=outcome.told.append,
        state_dir=folder,
        email="who@signs.example",
        password=SecretStr("a canary"),
        browser=browser,
    )

    async def drive(server: PageServer) -> None:
        async with SignInBrowser(request, Timings(), 1) as signing, listen() as callback:
            url = server.build_authorization_url(callback.redirect_uri, "a state")
            callback.expect(url)
            await signing.sign_in(url, callback, frozenset({server.origin}))
            outcome.code = callback.answer.result().code
            before_closing()

    with PageServer(story) as server:
        try:
            run(drive(server))
        except LoadtestError as failure:
            outcome.failure = failure
    assert [pid for victim in VICTIMS for pid in find(victim)] == []
    assert list((folder / "tmp").iterdir()) == []
    return outcome


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with a short name; its `tmp` is for temporary files."""
    with TemporaryDirectory() as name:
        (Path(name) / "tmp").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(Path(name) / "tmp"))
        yield Path(name)


def kill_at(path: str, victim: str, times: int) -> dict[str, Page]:
    """Return a story in which a victim dies at the first few requests of a path."""

    def answer(visit: Visit) -> str | Reply:
        if visit.number <= times:
            send(victim)
        told = STORY[path]
        return told(visit) if callable(told) else told

    return {**STORY, path: answer}


def kill_at_start(browser: BrowserChoice, folder: Path, command: str, times: int) -> BrowserChoice:
    """Return the browser behind a script that runs a command instead at the first few starts."""
    executable = browser.executable
    if executable is None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            executable = playwright.chromium.executable_path
    script = folder / "chromium"
    script.write_text(
        f"""#!/bin/sh
        echo started >> "{folder}/starts"
        [ "$(wc -l < "{folder}/starts")" -gt {times} ] || {command}
        exec "{executable}" "$@"
        """
    )
    script.chmod(0o755)
    return replace(browser, source="system", executable=str(script))


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("step", BY_STEP)
def test_a_browser_that_ends_during_the_sign_in_is_replaced_once(
    browser_choice: BrowserChoice,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    step: str,
    victim: str,
) -> None:
    outcome = sign_in(browser_choice, folder, kill_at(BY_STEP[step], victim, 1))
    assert outcome.failure is None
    assert outcome.code == "canary-code"
    retried = [line for line in outcome.told if "trying once more with a new browser" in line]
    # A browser may follow the last redirect after its driver has died.
    assert len(retried) == 1 or step == "callback"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_browser_that_ends_twice_is_an_error_of_one_line(
    browser_choice: BrowserChoice, folder: Path, capfd: pytest.CaptureFixture[str], victim: str
) -> None:
    outcome = sign_in(browser_choice, folder, kill_at("/session", victim, 2))
    assert str(outcome.failure) == "mint failed at sign-in: the browser or its page has ended"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("command", ["kill -9 $$", "kill -9 $PPID"], ids=["browser", "driver"])
def test_a_browser_or_driver_that_dies_at_its_start_is_started_once_more(
    browser_choice: BrowserChoice, folder: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    outcome = sign_in(kill_at_start(browser_choice, folder, command, 1), folder)
    assert outcome.code == "canary-code"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("command", ["kill -9 $$", "kill -9 $PPID"], ids=["browser", "driver"])
def test_a_browser_that_dies_at_each_start_is_an_error_of_one_line(
    browser_choice: BrowserChoice, folder: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    outcome = sign_in(kill_at_start(browser_choice, folder, command, 2), folder)
    assert "does not start" in str(outcome.failure)
    assert "\n" not in str(outcome.failure)
    assert capfd.readouterr().err == ""


def test_a_driver_that_does_not_start_is_an_error_of_one_line(
    browser_choice: BrowserChoice,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "node").write_text("#!/bin/sh\nkill -9 $$\n")
    (folder / "node").chmod(0o755)
    for name in ("node", "absent"):
        monkeypatch.setenv("PLAYWRIGHT_NODEJS_PATH", str(folder / name))
        outcome = sign_in(browser_choice, folder)
        assert str(outcome.failure).startswith("Playwright's driver does not start (")
        assert "\n" not in str(outcome.failure)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_browser_that_ends_or_hangs_while_closing_leaves_nothing_behind(
    browser_choice: BrowserChoice,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
    number: signal.Signals,
) -> None:
    monkeypatch.setattr("loadtest.mint.browser.launcher.CLOSE_SECONDS", 0.5)
    for name in ("STOP_SECONDS", "ENDING_SECONDS"):
        monkeypatch.setattr(f"loadtest.mint.browser.driver.{name}", 1.0)
    outcome = sign_in(browser_choice, folder, before_closing=lambda: send(victim, number))
    assert outcome.code == "canary-code"


def test_inv_mint_ends_in_one_line_and_keeps_no_lock(
    browser_choice: BrowserChoice, checkout: Path, folder: Path
) -> None:
    choice = kill_at_start(browser_choice, folder, "kill -9 $PPID", 2)
    (checkout / ".loadtest").mkdir(exist_ok=True)
    write_json(checkout / ".loadtest" / "browser.json", 1, asdict(choice))

    def mint() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "invoke", "mint"],
            cwd=checkout,
            env={"PATH": os.environ["PATH"], "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )

    lost = mint()
    assert lost.returncode == BrowserError.exit_code
    assert "Traceback" not in lost.stderr
    assert "trying once more with a new browser" in lost.stdout
    signed_in = mint()
    assert signed_in.returncode == 0, signed_in.stderr
    assert "trying once more" not in signed_in.stdout
