"""JSONPath (RFC 9535): names, indexes, slices, `*` and `..`, which k6/lib/json_path.js follows."""

import json
import re
from typing import Any

_INDEX = r"-?(?:0|[1-9]\d{0,8})"
# What follows the `$`: `.name`, `.*`, or a bracket with an index, a slice, `*` or a quoted name.
_SEGMENT = re.compile(
    rf"""
    (?P<deep>\.\.(?=[\w*\[]))?
    (?: (?:(?(deep)|\.)) (?:(?P<name>[^\W\d][\w-]*)|(?P<any>\*))
      | \[\s*(?:
          (?P<index>{_INDEX})
        | (?P<slice>(?:{_INDEX})?\s*:\s*(?:{_INDEX})?)
        | (?P<all>\*)
        | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
        )\s*\]
    )
    """,
    re.VERBOSE,
)
KNOWN = ".name, ['name'], [0], [-1], [0:3], [*] and .."


def parse_json_path(text: str) -> list[dict[str, Any]]:
    """Return the segments of a path; raise ValueError of one line.

    A segment has one of `name`, `index`, `slice` (its two ends, or None) and `all`; with `deep` it
    applies at every depth.
    """
    if not text.startswith("$"):
        raise ValueError(f"{text!r} is not a JSONPath: it begins with $, as in $.items[0].id")
    segments = []
    place = 1
    while place < len(text):
        match = _SEGMENT.match(text, place)
        if match is None:
            unknown = text[place : place + 20]
            raise ValueError(f"{text!r} is not a JSONPath of {KNOWN}: it has {unknown!r}")
        segments.append(_build_segment(match))
        place = match.end()
    return segments


def _build_segment(match: re.Match[str]) -> dict[str, Any]:
    deep = {"deep": True} if match["deep"] else {}
    if match["name"] or match["quoted"]:
        return {"name": match["name"] or _unquote(match["quoted"])} | deep
    if match["index"]:
        return {"index": int(match["index"])} | deep
    if match["slice"]:
        ends = (part.strip() for part in match["slice"].split(":"))
        return {"slice": [int(end) if end else None for end in ends]} | deep
    return {"all": True} | deep


def _unquote(text: str) -> str:
    """Return a quoted name; in single quotes, `"` needs no escape and `'` does."""
    inner = text[1:-1]
    if text[0] == "'":
        inner = inner.replace("\\'", "'").replace('"', '\\"')
    try:
        return str(json.loads(f'"{inner}"'))
    except ValueError:
        raise ValueError(f"{text} is not a name") from None
