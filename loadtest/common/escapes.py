"""Undo the escapes of URLs, JSON and HTML, and map spans back to the escaped text."""

import html
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache

from loadtest.common.secret_index import Span

_ESCAPE = re.compile(
    r"(?:%[0-9a-f]{2})+|&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8});"
    r"|(?:\\u[0-9a-f]{4})+|\\x[0-9a-f]{2}|\\[\"'/\\bfnrt]",
    re.IGNORECASE,
)
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def has_escape(text: str) -> bool:
    """Return whether a text contains an escape."""
    return any(mark in text for mark in "%&\\") and _ESCAPE.search(text) is not None


def unescape(text: str) -> str:
    """Return the text with one level of escapes undone."""
    return _ESCAPE.sub(lambda match: _unescape(match[0]), text)


def locate(text: str, spans: Iterable[Span]) -> list[Span]:
    """Return spans of unescaped text as spans of the text."""
    # From each offset in `plain` on, both texts advance equally.
    plain, source, done = [0], [0], 0
    for match in _ESCAPE.finditer(text):
        at, length = match.start(), plain[-1] + match.start() - done
        for char, width in _read_escape(match[0]):
            plain.append(length)
            source.append(at)
            length, at = length + len(char), at + width
        plain.append(length)
        source.append(match.end())
        done = match.end()

    def find(at: int) -> int:
        index = bisect_right(plain, at) - 1
        return source[index] + at - plain[index]

    return [(find(begin), find(end)) for begin, end in spans]


@lru_cache(maxsize=4096)
def _unescape(escape: str) -> str:
    return "".join(char for char, _ in _read_escape(escape))


def _read_escape(escape: str) -> Iterator[tuple[str, int]]:
    """Yield the characters of an escape, each with the length of its part of the escape."""
    kind = escape[:2].lower()
    if kind[0] == "%":
        octets = bytes.fromhex(escape.replace("%", ""))
        try:
            yield from ((char, 3 * len(char.encode())) for char in octets.decode())
        except UnicodeDecodeError:
            yield from ((char, 3) for char in octets.decode("latin-1"))
    elif kind == "\\u":
        for at in range(0, len(escape), 6):
            yield chr(int(escape[at + 2 : at + 6], 16)), 6
    elif kind == "\\x":
        yield chr(int(escape[2:], 16)), 4
    elif kind[0] == "\\":
        yield _CONTROLS.get(kind[1], kind[1]), 2
    else:
        char = html.unescape(escape)
        yield char if len(char) == 1 else "?", len(escape)
