"""What no file, variable, option or table should hold, and some process may put there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

DIGITS = "9" * 5000
DEEP = "[" * 100_000
ODD_TEXTS = (
    *("", " ", "0", "-1", "1.5", "1e999", DIGITS, "nan", "inf", "\u0661\u0662", "0x10", "1,,2"),
    *("\u00e4", "\u65e5\u672c", "\U0001f600", "\u202e", "'", '"', "[", "[x]", "{}", "<x>", "[/b]"),
    *("a\nb", "a\rb", "a\tb", "\x1b[31m", "\x7f", "%s", "$(x)", "{workspace_id}", "x" * 10_000),
    *("..", ".", "/", "~", "../x", "/dev/full", "/nowhere/x", "a/b", "runs", "last", "previous"),
    *(
        "http://[::1",
        "https://.",
        "https://a]b",
        "http://x:99999",
        "http://127.0.0.1:9",
        "https://",
    ),
    *("#12", "o/r", "=,", "csv={scenario}", "csv={", "2025-11-25", "none", "true", "-", "--"),
)
# Bytes that are not UTF-8, as the operating system hands them on in arguments and variables.
NOT_TEXT = "\udcff"
odd_texts = st.sampled_from((*ODD_TEXTS, NOT_TEXT)) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)
# As JSON has them, also where Python's own writer would not.
odd_values = st.sampled_from(
    (
        *("null", "true", "0", "-1", "1.5", "[]", "{}", "[[]]", '[{"a": 1}]', '""', '"x"', '"0"'),
        *("1" + "0" * 400, DIGITS, "1e999", "-1e999", "NaN", "Infinity", DEEP, f'"{DIGITS}"'),
        *(r'"\ud800"', r'"\u0000"', r'"\u001b[31m"', '"a\\nb"', '"\u65e5\u672c"', r'{"\ud800": 1}'),
        *('"http://[::1"', '"https://."', '"1970-01-01T00:00:00"', '"2026-01-01T06:00:00Z"'),
        *('"../../x"', '"sessions"', '"interrupted"', '"|"', f'"{"x" * 10_000}"'),
    )
)
odd_bytes = st.sampled_from(
    (b"", b"\0", b"\xff", b"{", b"[]", b"null", DEEP.encode(), b"\xef\xbb\xbf{}", b'{"version": 9}')
)


def list_places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value of a document, but to the version in front."""
    pairs: Any = ()
    if isinstance(body, dict):
        pairs = body.items()
    elif isinstance(body, list):
        pairs = enumerate(body)
    for key, inner in pairs:
        if (*path, key) != ("version",):
            yield (*path, key)
            yield from list_places(inner, (*path, key))


@st.composite
def damaged_documents(draw: st.DrawFn, text: str) -> bytes:
    """Draw a document with one value replaced or missing, or something else in its place."""
    if draw(st.integers(0, 9)) == 0:
        return draw(odd_bytes)
    body = json.loads(text)
    *way, last = draw(st.sampled_from(list(list_places(body))))
    place = body
    for key in way:
        place = place[key]
    if draw(st.integers(0, 3)) == 0:
        del place[last]
        return json.dumps(body).encode()
    place[last] = "@@"
    return json.dumps(body).replace('"@@"', draw(odd_values)).encode()


ODD_TOML = (
    *(DIGITS, "1" + "0" * 400, "-1", "0", "inf", "nan", "1e999", "true", "1979-05-27", '""', "[]"),
    *("{}", '["a", "a"]', "[1, 1]", "[" * 5000, r'"\u0000"', r'"\u001b[31m"', '"\u65e5"', '"["'),
    *('"http://[::1"', '"https://."', '"../x"', '"{workspace_id}"', '"css="', '[""]', "'''", '"a'),
)


@st.composite
def damaged_tables(draw: st.DrawFn, text: str) -> str:
    """Draw settings of which one value, or one name of a table, is another."""
    places = [
        match.span(1) for match in re.finditer(r"(?m)(?<== )([^=\n]+?)(?=$|, \w+ = | \})", text)
    ]
    places += [match.span(1) for match in re.finditer(r"(?m)^\[(?:\w+\.)([^\]\n]+)\]$", text)]
    start, end = draw(st.sampled_from(places))
    return text[:start] + draw(st.sampled_from(ODD_TOML)) + text[end:]


def put_in_the_way(path: Path, kind: str) -> None:
    """Put a folder, a link to nowhere or one to itself where a file should be."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        (path / "inside").mkdir(parents=True)
    else:
        path.symlink_to(path if kind == "loop" else path.parent / "nowhere" / "at all")
