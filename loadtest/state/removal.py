"""The names of the files in `.loadtest/<env>`, and their removal; no other file is removed."""

import os
from collections.abc import Iterator
from pathlib import Path

from loadtest.errors import ConfigError
from loadtest.state.bearers import BEARER_FILE
from loadtest.state.clients import CLIENTS_FILE
from loadtest.state.quotas import QUOTA_FILE

LOCK_FILE = "provision.lock"
# Relative to the environment's folder; `*` and `?` are those of a shell, within one folder.
STATE_FILES = (
    *(BEARER_FILE, CLIENTS_FILE, "credentials.env", "credentials-????????.env"),
    *("provision.json", "data.json", "handed.json", "owned.json", QUOTA_FILE),
    *("sessions.json", "k6.log", "k6-*.log", "tools-draft.json", "history.html"),
    *("holder.json", "run.lock", "mint.lock", LOCK_FILE),
    *("failures/*.txt", "failures/*.png"),
)
TARGET_FILES = (
    *("target/accounts.sqlite*", "target/novamart-*.duckdb*", "target/ports.json"),
    *("target/target.log", "target/lock"),
)
# A process that is killed while it writes leaves its temporary file (loadtest.common.files).
TEMPORARY = ".{name}.????????"


def check_own(state_dir: Path) -> None:
    """Raise ConfigError if `.loadtest/<env>` is a link, or is below one, to another folder."""
    root = state_dir.parent.parent
    if state_dir.resolve() != root.resolve() / state_dir.parent.name / state_dir.name:
        raise ConfigError(
            f"{state_dir} is a link to {state_dir.resolve()}: nothing was removed there; remove it "
            "by hand"
        )


def remove_known(
    state_dir: Path, patterns: tuple[str, ...], kept: tuple[str, ...] = ()
) -> tuple[Path, ...]:
    """Remove the files that match the patterns, except names in `kept`; return the removed ones.

    Of a link, only the link is removed, not its target.
    """
    check_own(state_dir)
    removed = []
    for pattern in patterns:
        for path in (path for path in _find(state_dir, pattern) if path.name not in kept):
            path.unlink()
            removed.append(path)
    return tuple(removed)


def remove_empty(state_dir: Path) -> tuple[Path, ...]:
    """Remove the environment's folders if they are empty; return the unknown files that stay."""
    check_own(state_dir)
    for folder in (state_dir / "failures", state_dir / "target"):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()
    left = tuple(sorted(state_dir.iterdir()))
    if not left:
        state_dir.rmdir()
    return left


def _find(state_dir: Path, pattern: str) -> Iterator[Path]:
    """Yield the files and links that match a pattern; never follow a folder that is a link."""
    folder = (state_dir / pattern).parent
    if folder.is_symlink() or not folder.is_dir():
        return
    name = os.path.basename(pattern)  # noqa: PTH119 (a pattern)
    found = {*folder.glob(name), *folder.glob(TEMPORARY.format(name=name))}
    yield from (path for path in sorted(found) if path.is_symlink() or not path.is_dir())
