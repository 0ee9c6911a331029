"""One run at a time per environment: two at once would disturb each other's figures."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from loadtest.common.clock import utc_now
from loadtest.common.files import ensure_private_dir, read_json, write_json
from loadtest.errors import BusyError

HOLDER_VERSION = 1


@contextmanager
def lock_environment(state_dir: Path, name: str) -> Iterator[None]:
    """Hold an environment; raise BusyError that names the holder if another process holds it.

    The operating system releases the lock when its process ends, in any way.
    """
    ensure_private_dir(state_dir)
    holder = state_dir / "holder.json"
    lock = FileLock(state_dir / "run.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"environment {name} is in use by {_describe(holder)}: wait for it, or end it"
        ) from None
    try:
        write_json(holder, HOLDER_VERSION, {"pid": os.getpid(), "started": utc_now()})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        body = read_json(holder, HOLDER_VERSION, BusyError)
    except BusyError:  # just locked, and not written yet
        return "another process"
    return f"process {body.get('pid')}, since {body.get('started')}"
