"""One k6 process: started, watched, stopped."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Any

from loadtest.common.interruption import hold_signals
from loadtest.common.parsing import tidy_text
from loadtest.common.processes import has_ended, kill
from loadtest.errors import K6Error
from loadtest.k6.command import K6_STOP_SECONDS
from loadtest.k6.health import AbortRule, Vitals
from loadtest.k6.progress import Watcher, find_feed

TICK_SECONDS = 0.25
MAX_ERROR_CHARS = 500  # of an error in k6's log


def stop(*processes: subprocess.Popen[bytes]) -> None:
    """Ask k6 once to stop gracefully; kill it if it does not end in time."""
    running = [process for process in processes if not has_ended(process)]
    for process in running:
        with contextlib.suppress(ProcessLookupError), hold_signals():
            if os.name == "posix":
                process.send_signal(signal.SIGINT)
            else:
                process.send_signal(signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined,unused-ignore]
    deadline = time.monotonic() + K6_STOP_SECONDS
    for process in running:
        if not has_ended(process, deadline - time.monotonic()):
            kill(process)


def start(
    command: list[str], environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start k6 in its own process group: Ctrl-C reaches only this process, which passes it on."""
    group: dict[str, Any] = (
        {"process_group": 0}
        if os.name == "posix"
        else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    )
    try:
        with hold_signals():
            return subprocess.Popen(  # noqa: S603
                [*_build_guard(), *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **group,
            )
    except OSError as failure:
        raise K6Error(f"{command[0]} cannot be started: {failure.strerror}") from None


def _build_guard() -> list[str]:
    """Return a prefix that makes Linux stop k6 if this process is killed (kill -9).

    The kernel watches the thread that started k6, so it must be the main thread. On other systems
    k6 ends by its own schedule.
    """
    guard = shutil.which("setpriv") if sys.platform == "linux" else None
    if guard is None or threading.current_thread() is not threading.main_thread():
        return []
    return [guard, "--pdeathsig", "INT", "--"]


def watch(
    process: subprocess.Popen[bytes],
    bound_seconds: float,
    watcher: Watcher,
    vitals: Vitals,
    rule: AbortRule,
) -> str | None:
    """Wait for k6 to end while the watcher shows it; return why it must be stopped early."""
    deadline = time.monotonic() + bound_seconds
    feed = find_feed(process.pid)
    while (now := time.monotonic()) < deadline:
        vitals.look()
        live = feed.read()
        fault = rule.find_reason(live, now) if live is not None else None
        if fault is not None:
            return fault
        watcher.tick(live)
        if has_ended(process, TICK_SECONDS):
            return None
    return "k6 ran past its schedule"


def find_error(log: str) -> str | None:
    """Return the first line of the last error in a k6 log."""
    for line in reversed(log.splitlines()):
        match = re.search(r'level=error msg=(?:"((?:[^"\\]|\\.)*)"|(\S+))', line)
        if match is not None:
            text = (match[1] or match[2]).replace('\\"', '"')
            line = re.split(r"\\n", text)[0].removeprefix("GoError: ").removeprefix("Error: ")
            return tidy_text(line, MAX_ERROR_CHARS)
    return None
