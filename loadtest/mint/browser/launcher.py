"""Find and launch the Chromium that signs in: Playwright's pinned build, else the system's."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import TypeAdapter

from loadtest.common.files import read_valid, write_json
from loadtest.common.processes import build_child_environment
from loadtest.errors import BrowserError
from loadtest.mint.browser.driver import PASSED_ON, open_driver, run

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

T = TypeVar("T")
RECORD_VERSION = 1
SYSTEM_NAMES = ("google-chrome-stable", "google-chrome", "chromium", "chromium-browser")
# At its start Chromium contacts its vendor's update and account services, even with Playwright's
# switches. Only their addresses can be replaced, here by one where nothing listens.
NOWHERE = "http://127.0.0.1:9/"
QUIET_FLAGS = (
    *("--disable-quic", "--disable-sync", "--no-first-run"),
    *(f"--component-updater=url-source={NOWHERE}", f"--gaia-url={NOWHERE}"),
    # Only we reload a page that did not load: a rate limit counts each request.
    "--disable-auto-reload",
)
# In the messages of Chromium and Playwright when the system does not allow a sandbox.
NO_SANDBOX = re.compile("sandbox|namespace", re.IGNORECASE)
START_SECONDS = 60.0
ANSWER_SECONDS = 15.0
CLOSE_SECONDS = 10.0
DRIVER = [sys.executable, "-m", "playwright", "--version"]
REMEDY = (
    "type `python -m playwright install --with-deps chromium`, or install Chrome or Chromium "
    "(Debian: apt-get install chromium)"
)


@dataclass(frozen=True)
class BrowserChoice:
    """A browser that started once; `executable` is None for Playwright's own build."""

    source: Literal["playwright", "system"]
    playwright_version: str
    browser_version: str
    executable: str | None = None

    def describe(self) -> str:
        """Return one line: which browser runs, and why."""
        if self.executable is None:
            return f"{self.browser_version}, pinned by Playwright {self.playwright_version}"
        return (
            f"{self.browser_version} from the system ({self.executable}): "
            f"Playwright {self.playwright_version}'s own build could not be installed"
        )


def read_choice(record: Path) -> BrowserChoice | None:
    """Return the recorded browser if it still exists and fits the installed Playwright."""
    if not record.exists():
        return None
    choice = read_valid(record, RECORD_VERSION, TypeAdapter(BrowserChoice), BrowserError)
    if choice.playwright_version != version("playwright"):
        return None
    if choice.executable is not None and not Path(choice.executable).exists():
        return None
    return choice


def find_choice(record: Path) -> BrowserChoice:
    """Return a browser without installing one; raise BrowserError with the command to type."""
    choice = read_choice(record)
    if choice is None and _runs(DRIVER):
        choice = _try_playwright() or _try_system()
    if choice is None:
        raise BrowserError(f"no browser found: {REMEDY}")
    return choice


def obtain_choice(record: Path, tell: Callable[[str], None]) -> BrowserChoice:
    """Return a browser; download Playwright's pinned build if there is none.

    Raises BrowserError with the command to type if that is not possible, or not enough: a task
    installs no system packages.
    """
    try:
        return find_choice(record)
    except BrowserError:
        tell("no browser is here: downloading the Chromium that Playwright pins")
        choice = _download_playwright(packages=False)
        if choice is None:
            raise
    write_json(record, RECORD_VERSION, asdict(choice))
    return choice


def ensure_choice(record: Path) -> BrowserChoice:
    """Return a browser that starts; install one if this machine allows it.

    Order: the recorded one; Playwright's pinned build (downloaded, with its system libraries);
    the system's Chrome or Chromium; Debian's `chromium` through apt-get as root or by sudo.
    """
    choice = read_choice(record)
    if choice is not None:
        return choice
    # A minimal Debian lacks libatomic, which Playwright's driver needs besides libc.
    if not _runs(DRIVER) and not (_install_packages("libatomic1") and _runs(DRIVER)):
        raise BrowserError("Playwright's driver does not start: type `apt-get install libatomic1`")
    pinned = _try_playwright() or _download_playwright(packages=True)
    choice = pinned or _try_system() or _install_system()
    if choice is None:
        raise BrowserError(f"no browser could be installed: {REMEDY}")
    write_json(record, RECORD_VERSION, asdict(choice))
    return choice


@asynccontextmanager
async def open_browser(
    choice: BrowserChoice,
    tell: Callable[[str], None] = lambda _: None,
    *,
    headed: bool = False,
    slow_ms: float = 0,
) -> "AsyncIterator[Browser]":
    """Start the chosen browser and its driver for the duration of the block, inside `driver.run`.

    Raises BrowserError if it does not start; starting and closing have deadlines.
    """
    async with open_driver() as playwright:
        starting = launch(playwright, choice, tell, headed=headed, slow_ms=slow_ms)
        browser = await answered(starting, START_SECONDS)
        try:
            yield browser
        finally:
            with suppress(BrowserError):
                await answered(browser.close(), CLOSE_SECONDS)


async def answered(asked: Awaitable[T], seconds: float = ANSWER_SECONDS) -> T:
    """Return what the browser answers; raise BrowserError if it has ended or does not answer."""
    from playwright.async_api import Error

    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError:
        raise BrowserError(f"the browser has not answered for {seconds:.0f} s") from None
    except Error:
        raise BrowserError("the browser has ended") from None


async def launch(
    playwright: "Playwright",
    choice: BrowserChoice,
    tell: Callable[[str], None] = lambda _: None,
    *,
    headed: bool = False,
    slow_ms: float = 0,
) -> "Browser":
    """Start the chosen browser; it ignores signals, because we do the cleaning up.

    Chromium runs in its sandbox, except as root or if the system does not allow one.
    """
    from playwright.async_api import Error

    options: dict[str, Any] = (
        {"executable_path": choice.executable} if choice.executable else {"channel": "chromium"}
    )
    options |= {"handle_sigint": False, "handle_sigterm": False, "handle_sighup": False}
    options |= {"args": list(QUIET_FLAGS), "headless": not headed, "slow_mo": slow_ms}
    has_sandbox = os.name != "posix" or os.geteuid() != 0
    while True:
        try:
            return await playwright.chromium.launch(**options, chromium_sandbox=has_sandbox)
        except Error as failure:
            message = str(failure).strip()
        if not has_sandbox or not NO_SANDBOX.search(message):
            line = message.splitlines()[0]
            raise BrowserError(f"{choice.browser_version} does not start ({line}): {REMEDY}")
        has_sandbox = False
        tell("this system does not allow Chromium's sandbox (user namespaces): it runs without one")


def _try_start(
    source: Literal["playwright", "system"], executable: str | None
) -> BrowserChoice | None:
    """Start and stop the browser once: only this proves that it and its libraries are installed."""
    choice = BrowserChoice(source, version("playwright"), "Chromium", executable)

    async def start() -> str:
        async with open_browser(choice) as browser:
            return browser.version

    try:
        return replace(choice, browser_version=f"Chromium {run(start())}")
    except BrowserError:
        return None


def _try_playwright() -> BrowserChoice | None:
    return _try_start("playwright", None)


def _try_system() -> BrowserChoice | None:
    for name in SYSTEM_NAMES:
        executable = shutil.which(name)
        choice = _try_start("system", executable) if executable else None
        if choice is not None:
            return choice
    return None


def _download_playwright(*, packages: bool) -> BrowserChoice | None:
    """Download the pinned build; with `packages`, install system libraries that it lacks."""
    base = [sys.executable, "-m", "playwright"]
    if not _runs([*base, "install", "--no-shell", "chromium"]):
        return None
    choice = _try_playwright()
    if choice is None and packages and _may_install() is not None:
        _runs([*base, "install-deps", "chromium"])
        choice = _try_playwright()
    return choice


def _install_system() -> BrowserChoice | None:
    return _try_system() if _install_packages("chromium") else None


def _install_packages(*names: str) -> bool:
    prefix = _may_install()
    if prefix is None or shutil.which("apt-get") is None:
        return False
    install = [*prefix, "apt-get", "install", "-y", "--no-install-recommends", *names]
    return _runs(install) or (_runs([*prefix, "apt-get", "update"]) and _runs(install))


def _may_install() -> list[str] | None:
    """Return the prefix for commands that need root, or None if we may not run them."""
    if os.name != "posix":
        return None
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if shutil.which("sudo") and _runs(["sudo", "-n", "true"]) else None


def _runs(command: list[str]) -> bool:
    environment = build_child_environment(os.environ, PASSED_ON)
    try:
        done = subprocess.run(  # noqa: S603 (fixed argument lists)
            command,
            env=environment | {"DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=900,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> int:
    """Install a browser if needed: `python -m loadtest.mint.browser.launcher RECORD`."""
    try:
        print(f"browser: {ensure_choice(Path(sys.argv[1])).describe()}")
    except BrowserError as failure:
        print(f"loadtest: {failure}", file=sys.stderr)
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
