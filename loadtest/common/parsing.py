"""Outside text becomes values here: addresses, numbers, JSON. Whatever is wrong is a ValueError."""

import json
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
# A float ends at 309 digits.
MOST_INT_DIGITS = 300


def parse_url(text: str) -> SplitResult:
    """Split an http(s) address; ValueError for a wrong host or port, or a user name."""
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"} or not text.isascii() or not text.isprintable():
        raise ValueError("not an http(s) address in ASCII")
    if parts.username is not None:
        raise ValueError("a user name in the address")
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or len(host) > 253 or parts.port == 0:
        raise ValueError("no host that can be reached")
    return parts


def parse_count(text: str, least: int = 1) -> int:
    """Return a whole number of 9 digits at most; ValueError for anything else."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise ValueError(f"not a whole number, {least} at least")
    return int(text)


def tidy_words(text: str, most_chars: int) -> str:
    """Return a server's words as one printable line, cut to this length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most_chars else f"{line[: most_chars - 1]}…"


def check_text(value: object) -> None:
    """Refuse, anywhere in it, what no path, header or file can hold: NUL, and what is not UTF-8."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError("it holds a NUL character, or bytes that are not text in this locale")
    elif isinstance(value, dict):
        check_text([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for each in value:
            check_text(each)


def parse_json(
    text: str | bytes, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """Return what JSON text holds; ValueError also for what no other part could take.

    That is: nesting without end, NaN, and numbers beyond a float. A lone surrogate (`"\\ud800"`) is
    replaced: no file and no console can take it.
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
