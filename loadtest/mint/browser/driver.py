"""Playwright's driver: without our secrets, with deadlines, and with nothing left behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any, TypeVar

from loadtest.common.interruption import run_coroutine
from loadtest.common.processes import build_child_environment
from loadtest.errors import BrowserError

if TYPE_CHECKING:
    from playwright.async_api import Playwright

T = TypeVar("T")

# What driver and browser need besides what every program needs: display, fonts, browser paths.
PASSED_ON = (
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "FONTCONFIG_FILE", "FONTCONFIG_PATH"),
    *("LOCALAPPDATA", "APPDATA", "PROGRAMFILES", "PROGRAMFILES(X86)", "NODE_EXTRA_CA_CERTS"),
    *("PLAYWRIGHT_BROWSERS_PATH", "PLAYWRIGHT_DOWNLOAD_HOST", "PLAYWRIGHT_CHROMIUM_DOWNLOAD_HOST"),
    *("PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT", "PLAYWRIGHT_HOST_PLATFORM_OVERRIDE"),
    *("PLAYWRIGHT_NODEJS_PATH", "PW_LANG_NAME", "PW_LANG_NAME_VERSION", "PW_CLI_DISPLAY_VERSION"),
    *("CHROME_DEVEL_SANDBOX", "PYTHONPATH"),
)
# If these are in our environment, Playwright prints what is typed.
DEBUG_SWITCHES = ("DEBUG", "DEBUGP")
# Playwright leaves these in futures that nobody reads; it raises the same errors as well.
LEFT_BEHIND = (
    "Connection closed while reading from the driver",
    "Cannot launch Node.js",
    "Target page, context or browser has been closed",
)
# Chromium does not start if the path of its socket, 45 bytes longer than ours, exceeds 103 bytes.
MAX_FOLDER_BYTES = 36
START_SECONDS = 60.0
STOP_SECONDS = 10.0
# A browser ends on its own when its driver is gone.
ENDING_SECONDS = 5.0
LOOK_SECONDS = 0.02

if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop


class DriverLoop(_Loop):
    """An event loop whose child processes get a filtered environment and can be killed.

    Playwright starts its driver with the whole environment of its process, and the driver starts
    the browser with its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._children: list[asyncio.SubprocessTransport] = []
        self._folder: str | None = None
        self.set_exception_handler(_note_exception)

    async def subprocess_exec(self, *arguments: Any, **options: Any) -> Any:
        """Start a program as asyncio does, with a filtered environment."""
        given = options.pop("env", None) or os.environ
        folder = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self._folder) if self._folder else {}
        environment = build_child_environment(given, PASSED_ON) | folder
        # The driver verifies servers itself where it presents a client certificate.
        if "SSL_CERT_FILE" in environment:
            environment["NODE_EXTRA_CA_CERTS"] = environment["SSL_CERT_FILE"]
        transport, protocol = await super().subprocess_exec(*arguments, env=environment, **options)
        self._children.append(transport)
        return transport, protocol

    @asynccontextmanager
    async def private_folder(self) -> AsyncIterator[None]:
        """Give the child processes one temporary folder; after the block, end them and remove it.

        A killed browser leaves its profile there, with the cookies of the sign-in.
        """
        is_long = os.name == "posix" and len(os.fsencode(gettempdir())) > MAX_FOLDER_BYTES
        place = "/tmp" if is_long else None  # noqa: S108 (only we can read the folder below it)
        with TemporaryDirectory(
            prefix="mcp-loadtest-", dir=place, ignore_cleanup_errors=True
        ) as folder:
            self._folder = folder
            try:
                yield
            finally:
                self._folder = None
                await self._end_children()
                await _end_users(folder)

    async def _end_children(self) -> None:
        for child in self._children:
            with suppress(ProcessLookupError):
                child.kill()
            with suppress(TimeoutError):
                async with asyncio.timeout(ENDING_SECONDS):
                    while child.get_returncode() is None:
                        await asyncio.sleep(LOOK_SECONDS)
            child.close()
        self._children.clear()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that may call `open_driver`."""
    return run_coroutine(main, DriverLoop)


@asynccontextmanager
async def open_driver() -> AsyncIterator["Playwright"]:
    """Start Playwright's driver for the duration of the block, inside `run`.

    Raises BrowserError if it does not start. The driver and its browsers leave no process and
    no file after the block, even if they were killed.
    """
    from playwright.async_api import async_playwright

    loop = asyncio.get_running_loop()
    assert isinstance(loop, DriverLoop), "open_driver works inside loadtest.mint.browser.driver.run"
    for switch in DEBUG_SWITCHES:
        os.environ.pop(switch, None)
    async with loop.private_folder():
        manager = async_playwright()
        try:
            async with asyncio.timeout(START_SECONDS):
                playwright = await manager.start()
        except Exception as failure:  # noqa: BLE001 (Playwright raises it where its driver dies)
            line = (str(failure) or type(failure).__name__).splitlines()[0]
            raise BrowserError(f"Playwright's driver does not start ({line})") from None
        try:
            yield playwright
        finally:
            with suppress(Exception):
                async with asyncio.timeout(STOP_SECONDS):
                    await playwright.stop()


async def _end_users(folder: str) -> None:
    """Wait until no process uses this temporary folder; kill those that still do."""
    with suppress(TimeoutError):
        async with asyncio.timeout(ENDING_SECONDS):
            while _find_users(folder):
                await asyncio.sleep(LOOK_SECONDS)
    for process_id in _find_users(folder):
        with suppress(OSError):
            os.kill(process_id, signal.SIGKILL)


def _find_users(folder: str) -> list[int]:
    """Return the processes that use this temporary folder; only Linux lists them."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"TMPDIR={folder}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def _note_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report unawaited errors, except those that Playwright leaves behind."""
    if not str(context.get("exception")).startswith(LEFT_BEHIND):
        loop.default_exception_handler(context)
