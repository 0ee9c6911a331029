"""The programs that we start: their environment, without credentials, and their end."""

import subprocess
import time
from collections.abc import Iterable, Mapping
from typing import Any

from loadtest.common.interruption import hold_signals
from loadtest.common.network import build_no_proxy

# What a program needs to start, to reach the network, to trust servers and to store files.
PASSED_ON = (
    *("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "HOME", "USERPROFILE", "TEMP", "TMP", "TMPDIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ"),
)
LOOK_SECONDS = 0.02


def build_child_environment(
    variables: Mapping[str, str], more: Iterable[str] = ()
) -> dict[str, str]:
    """Return the environment of a program that we start: only the variables named here.

    The program uses no proxy to reach this machine, whatever the user set.
    """
    passed = {name: variables[name] for name in (*PASSED_ON, *more) if variables.get(name)}
    return passed | build_no_proxy(variables)


def has_ended(process: subprocess.Popen[Any], seconds: float = 0.0) -> bool:
    """Wait until a program has ended, for so long at most; return whether it has.

    `Popen.wait` would keep its lock if a signal interrupted it, and later wait for ever.
    """
    deadline = time.monotonic() + seconds
    while True:
        with hold_signals():
            code = process.poll()
        left = deadline - time.monotonic()
        if code is not None or left <= 0:
            return code is not None
        time.sleep(min(left, LOOK_SECONDS))


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill a program and wait for its end."""
    with hold_signals():
        process.kill()
        process.wait()
