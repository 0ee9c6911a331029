"""Atomic writes and versioned JSON: a reader sees the old file or the new one, never a part."""

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from loadtest.common.parsing import parse_json
from loadtest.common.redaction import redact_json
from loadtest.errors import LoadtestError

STATE_DIR = ".loadtest"
MOST_BYTES = 64 * 2**20

_T = TypeVar("_T")


def ensure_private_dir(path: Path) -> Path:
    """Make `path` a directory that only its owner may enter (0700)."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    hide_from_git(path)
    return path


def hide_from_git(path: Path) -> None:
    """Have git ignore the state folder that a path is in, whatever the user's own rules say."""
    for folder in (path, *path.parents):
        if folder.name == STATE_DIR and not (folder / ".gitignore").exists():
            write_text(folder / ".gitignore", "*\n")


def check_private(path: Path, error: type[LoadtestError], remedy: str) -> None:
    """Raise `error` if anybody but the owner may read or write the file."""
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise error(f"{path} can be read by others: {remedy}")


def read_whole(path: Path) -> bytes:
    """Read a file; raise OSError if it is too large, such as a device without an end."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Replace `path` atomically; `private` makes it 0600 before the first byte is written."""
    write_bytes(path, text.encode(), private=private)


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Do the same with bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
        Path(temporary).chmod(0o600 if private else 0o644)
        Path(temporary).replace(path)
    except OSError as failure:
        Path(temporary).unlink(missing_ok=True)
        # The error of a full disk does not name the file.
        raise OSError(failure.errno, failure.strerror, str(path)) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, version: int, body: dict[str, Any], *, private: bool = False) -> None:
    """Write `body` as JSON after its `version`; redact it unless the file is private."""
    body = body if private else redact_json(body)
    text = json.dumps({"version": version, **body}, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text, private=private)


def read_json(path: Path, version: int, error: type[LoadtestError]) -> dict[str, Any]:
    """Read what `write_json` wrote; raise `error` with the file's name for anything else."""
    try:
        body = parse_json(read_whole(path))
    except FileNotFoundError:
        raise error(f"{path} does not exist") from None
    except (OSError, ValueError) as failure:
        raise error(f"{path} cannot be read ({failure}); delete it or restore it") from None
    if not isinstance(body, dict) or not isinstance(body.get("version"), int):
        raise error(f"{path} was not written by loadtest (it has no version): delete it")
    if body["version"] > version:
        raise error(
            f"{path} has version {body['version']}, newer than {version}: update mcp-loadtest"
        )
    if body["version"] < version:
        raise error(f"{path} has version {body['version']}, older than {version}: delete it")
    return body


def read_valid(
    path: Path, version: int, shape: TypeAdapter[_T], error: type[LoadtestError], key: str = ""
) -> _T:
    """Read what `write_json` wrote, or its member `key`; raise `error` for another shape."""
    body = read_json(path, version, error)
    body.pop("version")
    try:
        return shape.validate_python(body.get(key) if key else body)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        place = (
            ".".join(str(part) for part in (*([key] if key else []), *first["loc"])) or "its top"
        )
        raise error(
            f"{path} is damaged at {place}: {first['msg']}; delete it or restore it"
        ) from None
