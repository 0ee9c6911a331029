"""Parse text from outside: addresses, numbers, JSON; raise ValueError for anything wrong."""

import json
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
# A float has at most 309 digits.
MOST_INT_DIGITS = 300


def parse_url(text: str) -> SplitResult:
    """Split an http(s) address; raise ValueError for a wrong host or port, or a user name."""
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"} or not text.isascii() or not text.isprintable():
        raise ValueError("not an http(s) address in ASCII")
    if parts.username is not None:
        raise ValueError("the address contains a user name")
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or len(host) > 253 or parts.port == 0:
        raise ValueError("the address has no valid host or port")
    return parts


def parse_count(text: str, least: int = 1) -> int:
    """Return a whole number of at most 9 digits; raise ValueError for anything else."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise ValueError(f"not a whole number of at least {least}")
    return int(text)


def tidy_text(text: str, most_chars: int) -> str:
    """Return text from a server as one printable line of at most this length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most_chars else f"{line[: most_chars - 1]}…"


def check_text(value: object) -> None:
    """Raise ValueError for what no path, header or file can hold: NUL and invalid UTF-8."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError(
                "it contains a NUL character, or bytes that are not text in this locale"
            )
    elif isinstance(value, dict):
        check_text([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for each in value:
            check_text(each)


def parse_json(
    text: str | bytes, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """Parse JSON; raise ValueError also for values that other code cannot handle.

    These are nesting that is too deep, NaN, and numbers beyond a float. Replace a lone surrogate
    (`"\\ud800"`), which no file and no console can hold.
    """
    try:
        body = json.loads(
            text,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
            object_pairs_hook=object_pairs_hook,
        )
        return _replace_surrogates(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _parse_int(text: str) -> int:
    if len(text) > MOST_INT_DIGITS:
        raise ValueError("a number in it is too large")
    return int(text)


def _parse_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number in it is too large")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def _replace_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_replace_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_replace_surrogates(key): _replace_surrogates(each) for key, each in value.items()}
    return value
