"""Find secrets in what a program leaves behind, in every form that they could have."""

import base64
import contextlib
import gzip
import html
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

# Shorter values would be found by chance.
SHORTEST = 8
# Enough of a token to know it again, where it was cut or wrapped.
PIECE = 16
_BASE64_GZIP = re.compile(rb"H4sI[\w+/=-]{40,}")


class Finder:
    """Knows secrets by name, and looks for them in bytes."""

    def __init__(self) -> None:
        self.values: dict[str, set[str]] = {}
        self._forms: dict[bytes, str] = {}

    def add(self, name: str, value: str) -> None:
        """Look for a value from now on."""
        if len(value) >= SHORTEST and value not in self.values.setdefault(name, set()):
            self.values[name].add(value)
            self._forms = dict.fromkeys(build_forms(value), name) | self._forms

    def find(self, content: bytes) -> set[str]:
        """Return the names of all secrets in the content, however wrapped or packed."""
        return {
            name for text in unpack(content) for form, name in self._forms.items() if form in text
        }


def build_forms(value: str) -> set[bytes]:
    """Return a value unchanged, and as programs write it: quoted, escaped, encoded, in pieces."""
    raw = value.encode()
    halves = _halve(value)
    forms = {
        *(half.encode() for half in halves),
        *(form for half in halves for form in _encode_base64(half.encode())),
        raw,
        value.encode("utf-16-le"),
        raw.hex().encode(),
        *(form.encode() for form in _write(value)),
        *_encode_base64(raw),
    }
    # Line breaks are removed from the searched text.
    forms |= {b"".join(form.split()) for form in forms}
    return forms | set(_cut(value))


def unpack(content: bytes) -> Iterator[bytes]:
    """Return the content, without white space where it is text, and what is packed into it."""
    yield content
    if b"\0" not in content:
        yield b"".join(content.split())
    for packed in (content, *_BASE64_GZIP.findall(content)):
        with contextlib.suppress(ValueError, OSError, EOFError, zlib.error):
            yield gzip.decompress(packed if packed is content else _decode_base64(packed))


def _decode_base64(packed: bytes) -> bytes:
    return base64.b64decode(packed + b"=" * (-len(packed) % 4), altchars=None)


def _write(value: str) -> Iterator[str]:
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield quoted
        yield re.sub(r"%\w\w", lambda match: match[0].lower(), quoted)
        yield quote(quoted, safe="")
    yield html.escape(value)
    yield html.escape(value, quote=False)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]


def _encode_base64(raw: bytes) -> Iterator[bytes]:
    """Return the base64 characters that do not depend on the text around, at each alignment."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        first = 0 if shift == 0 else 4
        last = len(encoded) if (shift + len(raw)) % 3 == 0 else len(encoded) - 4
        kept = encoded[first:last]
        if len(kept) >= SHORTEST:
            yield kept
            yield kept.translate(bytes.maketrans(b"+/", b"-_"))


def _halve(value: str) -> tuple[str, ...]:
    """Return both halves of a value that is long enough; of a JWT, of what no other begins with."""
    parts = value.split(".")
    whole = ".".join(parts[1:]) if len(parts) == 3 else value
    middle = len(whole) // 2
    return (whole[:middle], whole[middle:]) if middle >= SHORTEST else ()


def _cut(value: str) -> Iterable[bytes]:
    """Return pieces that reveal a token: of a JWT, any part but the header, which all share."""
    parts = value.split(".")
    for part in parts[1:] if len(parts) == 3 else parts:
        if len(part) >= 2 * PIECE:
            pieces = (part[:PIECE], part[PIECE : 2 * PIECE], part[-PIECE:])
            yield from (piece.encode() for piece in pieces)
