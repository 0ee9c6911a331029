"""A run's entry as hidden text in its comment, because the issue is the database."""

import re
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote

from pydantic import TypeAdapter, ValidationError

from loadtest.common.redaction import redact_json
from loadtest.errors import ReportError
from loadtest.results.history import Cell, Entry
from loadtest.results.run import Row, Run

PAYLOAD_VERSION = 1
# The most that GitHub takes as a body, and far more than any run unpacks to.
MOST_PACKED = 65_536
MOST_UNPACKED = 2_000_000

_MARKER = "<!-- mcp-loadtest run="
_HEAD = re.compile(
    re.escape(_MARKER) + r"(?P<run_id>\S+) version=(?P<version>\d{1,9}) sha256=(?P<sum>[0-9a-f]+)\s"
)
_REST = re.compile(r"\s*(?P<packed>[A-Za-z0-9+/]+={0,2})\s+-->")


class PayloadError(ReportError):
    """A comment's payload is damaged, or of a newer version."""


@dataclass(frozen=True)
class _Content:
    run: Run
    rows: tuple[Row, ...]
    confirmed: tuple[Cell, ...] = ()
    accepted: bool = False
    suspected: tuple[Cell, ...] = ()


_CONTENT = TypeAdapter(_Content)


def encode_entry(entry: Entry) -> str:
    """Return an entry as an HTML comment: packed, versioned, with a checksum."""
    confirmed, suspected = (tuple(sorted(cells)) for cells in (entry.confirmed, entry.suspected))
    content = _Content(entry.run, entry.rows, confirmed, entry.accepted, suspected)
    content = _CONTENT.validate_python(redact_json(_CONTENT.dump_python(content, mode="json")))
    packed = zlib.compress(_CONTENT.dump_json(content), 9)
    run_id = quote(entry.run.run_id, safe="").replace("--", "-%2D")
    head = f"{_MARKER}{run_id} version={PAYLOAD_VERSION} sha256={_sum(packed)}"
    return f"{head}\n{b64encode(packed).decode()}\n-->"


def holds_payload(body: str) -> bool:
    """Return whether a comment contains a payload, valid or not."""
    return _MARKER in body


def find_run_id(body: str) -> str | None:
    """Return the run id in a comment's payload, even if the rest cannot be read."""
    head = _HEAD.match(body, max(body.rfind(_MARKER), 0))
    return unquote(head["run_id"]) if head else None


def decode_entry(body: str, url: str | None = None) -> Entry | None:
    """Return the entry in a comment, None if it has none; raise PayloadError with the reason.

    Only the last payload counts, because the text above it may quote another one.
    """
    start = body.rfind(_MARKER)
    if start < 0:
        return None
    head = _HEAD.match(body, start)
    if head is None:
        raise PayloadError("its payload is damaged")
    if int(head["version"]) > PAYLOAD_VERSION:
        raise PayloadError(
            f"its payload has version {head['version']}, newer than {PAYLOAD_VERSION}: update "
            "mcp-loadtest"
        )
    rest = _REST.match(body, head.end())
    content = _unpack(rest["packed"], head["sum"]) if rest else None
    if content is None or content.run.run_id != unquote(head["run_id"]):
        raise PayloadError("its payload is damaged")
    confirmed, suspected = frozenset(content.confirmed), frozenset(content.suspected)
    return Entry(content.run, content.rows, confirmed, content.accepted, url, suspected)


@lru_cache(maxsize=1024)  # a comment is decoded more than once
def _unpack(text: str, checksum: str) -> _Content | None:
    if len(text) > MOST_PACKED:
        return None
    try:
        packed = b64decode(text, validate=True)
        if _sum(packed) != checksum:
            return None
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(packed, MOST_UNPACKED)
        return _CONTENT.validate_json(data) if unpacking.eof else None
    except (ValueError, zlib.error, ValidationError):
        return None


def _sum(packed: bytes) -> str:
    return sha256(packed).hexdigest()[:16]
