"""One mint at a time per environment: a refresh token sent twice would revoke the whole grant."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.common.files import ensure_private_dir
from loadtest.errors import MintError

LOCK_SECONDS = 300.0


@contextmanager
def lock_state(state_dir: Path) -> Iterator[None]:
    """Hold the environment's mint lock; raise MintError if another process does not release it."""
    from filelock import FileLock, Timeout  # not installed without the mint dependencies

    ensure_private_dir(state_dir)
    try:
        with FileLock(state_dir / "mint.lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise MintError(
            f"another process has been minting for {LOCK_SECONDS:.0f} s: end it, then try again"
        ) from None
