"""The options of `inv mint`."""

from dataclasses import dataclass
from typing import get_args

from loadtest.common.parsing import parse_count
from loadtest.config.models import Via
from loadtest.errors import UsageError

MINT_GRANT_TYPES: tuple[Via, ...] = get_args(Via)


@dataclass(frozen=True)
class MintOptions:
    """Without `via`, the environment's own grant type is used.

    `ttl_seconds` is the lifetime requested from the target's self-mint; `min_ttl_seconds` is the
    lifetime that a bearer must have left, instead of what the profile needs. `again` uses neither
    a bearer nor a refresh token that is on disk.
    """

    via: Via | None = None
    ttl_seconds: int | None = None
    min_ttl_seconds: float | None = None
    headed: bool = False
    slow_ms: float = 0.0
    again: bool = False


def parse_options(
    via: str | None = None,
    ttl: str | None = None,
    min_ttl: str | None = None,
    *,
    headed: bool = False,
    slow: str | None = None,
) -> MintOptions:
    """Parse the typed options; raise UsageError that names the wrong one."""
    if via is not None and via not in MINT_GRANT_TYPES:
        raise UsageError(f"--via {via}: use one of {', '.join(MINT_GRANT_TYPES)}")
    return MintOptions(
        via=next((name for name in MINT_GRANT_TYPES if name == via), None),
        ttl_seconds=_parse_seconds("--ttl", ttl),
        min_ttl_seconds=_parse_seconds("--min-ttl", min_ttl),
        headed=headed,
        slow_ms=_parse_seconds("--slow", slow) or 0,
    )


def _parse_seconds(flag: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_count(text, least=0)
    except ValueError:
        raise UsageError(f"{flag} must be a whole number") from None
