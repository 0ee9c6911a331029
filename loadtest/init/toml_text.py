"""Write TOML of one line from values that a server chose."""

import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def write_key(name: str) -> str:
    """Return a key, quoted if it must be."""
    return name if _BARE.fullmatch(name) else write_text_value(name)


def write_value(value: Any) -> str:
    """Return a value of JSON as TOML; raise ValueError for null, which TOML does not have."""
    if value is None:
        raise ValueError("TOML has no null")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return write_text_value(value)
    if isinstance(value, Mapping):
        pairs = (f"{write_key(name)} = {write_value(each)}" for name, each in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_value, value))}]"
    return repr(value)


def write_text_value(text: str) -> str:
    """Return a basic string: quotes, backslashes and what is not printable are escaped."""
    return f'"{"".join(map(_escape, text))}"'


def _escape(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\u{ord(char):04X}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08X}"
