"""Which Chromium signs in: Playwright's pinned build, else the system's own; found and launched."""

import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from loadtest.errors import BrowserError
from loadtest.files import read_json, write_json

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

RECORD_VERSION = 1
SYSTEM_NAMES = ("google-chrome-stable", "google-chrome", "chromium", "chromium-browser")
# Without these a browser that cannot reach its vendor's hosts keeps trying at every start.
QUIET_FLAGS = ("--disable-quic", "--disable-sync", "--no-first-run")
DRIVER = [sys.executable, "-m", "playwright", "--version"]
REMEDY = (
    "type `python -m playwright install --with-deps chromium`, or install Chrome or Chromium "
    "(Debian: apt-get install chromium)"
)


@dataclass(frozen=True)
class BrowserChoice:
    """A browser that was seen to start; `executable` is None for Playwright's own build."""

    source: Literal["playwright", "system"]
    playwright_version: str
    browser_version: str
    executable: str | None = None

    def describe(self) -> str:
        """Return one line that names which browser runs, and why."""
        if self.executable is None:
            return f"{self.browser_version}, pinned by Playwright {self.playwright_version}"
        return (
            f"{self.browser_version} from the system ({self.executable}): "
            f"Playwright {self.playwright_version}'s own build could not be installed"
        )


def read_choice(record: Path) -> BrowserChoice | None:
    """Return the recorded browser while it still fits the installed Playwright and is there."""
    if not record.exists():
        return None
    body = read_json(record, RECORD_VERSION, BrowserError)
    body.pop("version")
    try:
        choice = TypeAdapter(BrowserChoice).validate_python(body)
    except ValidationError:
        return None
    if choice.playwright_version != version("playwright"):
        return None
    if choice.executable is not None and not Path(choice.executable).exists():
        return None
    return choice


def find_choice(record: Path) -> BrowserChoice:
    """Return a browser without installing anything; raise BrowserError with what to type."""
    choice = read_choice(record)
    if choice is None and _runs(DRIVER):
        choice = _try_playwright() or _try_system()
    if choice is None:
        raise BrowserError(f"no browser found: {REMEDY}")
    return choice


def ensure_choice(record: Path) -> BrowserChoice:
    """Return a browser that starts, installing one where this machine lets us.

    Order: the recorded one; Playwright's pinned build (downloaded, with its system libraries);
    the system's Chrome or Chromium; Debian's `chromium` through apt-get as root or by sudo.
    """
    choice = read_choice(record)
    if choice is not None:
        return choice
    # A minimal Debian lacks the one library that Playwright's driver links to beside the C library.
    if not _runs(DRIVER) and not (_install_packages("libatomic1") and _runs(DRIVER)):
        raise BrowserError("Playwright's driver does not start: type `apt-get install libatomic1`")
    choice = _try_playwright() or _download_playwright() or _try_system() or _install_system()
    if choice is None:
        raise BrowserError(f"no browser could be installed: {REMEDY}")
    write_json(record, RECORD_VERSION, asdict(choice))
    return choice


async def launch(
    playwright: "Playwright", choice: BrowserChoice, *, headed: bool = False, slow_ms: float = 0
) -> "Browser":
    """Start the chosen browser; signals stay with us, so that cleaning up stays with us too."""
    from playwright.async_api import Error

    try:
        return await playwright.chromium.launch(
            **_launch_options(choice), headless=not headed, slow_mo=slow_ms
        )
    except Error as failure:
        first = str(failure).strip().splitlines()[0]
        raise BrowserError(f"{choice.browser_version} does not start ({first}): {REMEDY}") from None


def _launch_options(choice: BrowserChoice) -> dict[str, Any]:
    where: dict[str, Any] = (
        {"executable_path": choice.executable} if choice.executable else {"channel": "chromium"}
    )
    signals = {"handle_sigint": False, "handle_sigterm": False, "handle_sighup": False}
    return where | signals | {"args": list(QUIET_FLAGS), "timeout": 60_000}


def _try_start(
    source: Literal["playwright", "system"], executable: str | None
) -> BrowserChoice | None:
    """Start and stop the browser once: the only proof that it and its libraries are there."""
    from playwright.sync_api import Error, sync_playwright

    choice = BrowserChoice(source, version("playwright"), "Chromium", executable)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(**_launch_options(choice))
            found = browser.version
            browser.close()
    except Error:
        return None
    return BrowserChoice(source, choice.playwright_version, f"Chromium {found}", executable)


def _try_playwright() -> BrowserChoice | None:
    return _try_start("playwright", None)


def _try_system() -> BrowserChoice | None:
    for name in SYSTEM_NAMES:
        executable = shutil.which(name)
        choice = _try_start("system", executable) if executable else None
        if choice is not None:
            return choice
    return None


def _download_playwright() -> BrowserChoice | None:
    """Download the pinned build; add its system libraries only if it does not start without."""
    base = [sys.executable, "-m", "playwright"]
    if not _runs([*base, "install", "--no-shell", "chromium"]):
        return None
    choice = _try_playwright()
    if choice is None and _may_install() is not None:
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
    """Return the prefix for commands that need root, or None where we may not."""
    if os.name != "posix":
        return None
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if shutil.which("sudo") and _runs(["sudo", "-n", "true"]) else None


def _runs(command: list[str]) -> bool:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(  # noqa: S603 (fixed argument lists)
            command,
            env=environment,
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
    """Make a browser ready and name it: `python -m loadtest.browser RECORD`."""
    try:
        print(f"browser: {ensure_choice(Path(sys.argv[1])).describe()}")
    except BrowserError as failure:
        print(f"loadtest: {failure}", file=sys.stderr)
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
