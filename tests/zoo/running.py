"""Start a server of the catalog, and find the port that it chose."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.waiting import HANG_SECONDS

POLL_SECONDS = 0.05
STOP_SECONDS = 10.0


@contextmanager
def run_server(command: list[str], variables: Mapping[str, str], log: Path) -> Iterator[int]:
    """Run a server inside the block; give the port on which it listens."""
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent), **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _await_port(process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """Return the port on which a process listens; fail with its output if it ends before."""
    watched = psutil.Process(process.pid)
    deadline = time.monotonic() + HANG_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for connection in watched.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"the server does not listen: {log.read_text(encoding='utf-8')}")
