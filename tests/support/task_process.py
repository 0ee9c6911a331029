"""One process that runs typed tasks, each in its checkout: to start one for each takes a second."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.checkout import ROOT


class TaskProcess:
    """A running `tests.canary.driver`, and the file in which the output of its tasks lies."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    def run(self, root: Path, *arguments: str, **variables: str) -> tuple[int, str]:
        """Run a task in a checkout; return its exit code and all that it printed."""
        before = self._log.stat().st_size
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"arguments": arguments, "variables": variables, "root": str(root)}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        code = json.loads(self._process.stdout.readline())["code"]
        return code, self._log.read_bytes()[before:].decode()


@contextmanager
def open_task_process(folder: Path) -> Iterator[TaskProcess]:
    """Start the process for the duration of the block; its files lie in a folder."""
    log = folder / "said.log"
    with log.open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.canary.driver", str(folder / "tracebacks.log")],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "COLUMNS": "100"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
        )
        with process:
            yield TaskProcess(process, log)
            process.kill()
