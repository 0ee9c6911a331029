"""Python code in a process of its own, that gets a Ctrl-C at a line that it prints."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.waiting import HANG_SECONDS


def interrupt_at(
    after: str, line_has: str, code: str, folder: Path, variables: Mapping[str, str]
) -> tuple[int, str]:
    """Run code, and interrupt it at the first line with a text after another text.

    Returns the exit code and all that was printed.
    """
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if after in said and line_has in line:
                process.send_signal(signal.SIGINT)
                break
        rest, _ = process.communicate(timeout=HANG_SECONDS)
    return process.returncode, said + rest
