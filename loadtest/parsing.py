"""Outside text becomes values here: addresses, numbers, JSON. Whatever is wrong is a ValueError."""

import json
import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
# More digits than any count, port or time has; Python itself refuses 4,301.
MOST_DIGITS = 18


def parse_url(text: str) -> SplitResult:
    """Split an http(s) address; ValueError where its host or port is not one."""
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"} or not text.isascii() or not text.isprintable():
        raise ValueError("not an http(s) address in ASCII")
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or len(host) > 253 or parts.port == 0:
        raise ValueError("no host that can be reached")
    return parts


def parse_count(text: str) -> int:
    """Return a whole number above 0; ValueError for anything else."""
    if not re.fullmatch(rf"0*[1-9][0-9]{{0,{MOST_DIGITS - 1}}}", text):
        raise ValueError("not a whole number above 0")
    return int(text)


def tidy_words(text: str, most_chars: int) -> str:
    """Return a server's words as one printable line, cut to this length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most_chars else f"{line[: most_chars - 1]}…"


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text holds; ValueError also where it is nested too deeply.

    A lone surrogate (`"\\ud800"`) is replaced: no file and no console can take it.
    """
    try:
        return _replace_surrogates(json.loads(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _replace_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_replace_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_replace_surrogates(key): _replace_surrogates(each) for key, each in value.items()}
    return value
