"""What a server announces about its rate limit, in headers of the IETF draft or of vendors."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.common.parsing import tidy_text

# draft-ietf-httpapi-ratelimit-headers: RateLimit-Policy and RateLimit since version 7 (with limit=,
# remaining= and reset=, later with r and t), one header per figure before. X-RateLimit-* and
# X-Rate-Limit-* are those of vendors.
_NAME = re.compile(r"(?:x-)?rate-?limit(?:-(policy|limit|remaining|reset))?", re.IGNORECASE)
_MEMBER = re.compile(r"\b(limit|remaining|reset|r|t)\s*=\s*(\d{1,12})")
_FIGURES = {"r": "remaining", "t": "reset"}
_USUAL_WINDOWS_SECONDS = (1, 10, 60)
_LEAST_EPOCH_SECONDS = 10**9
_LEAST_EPOCH_MS = 10**12
_MOST_CHARS = 200


@dataclass(frozen=True)
class RateLimits:
    """The announced limit; None where the headers have no such figure.

    `policy` has the form of a RateLimit-Policy header. A limit without a window counts for the
    shortest of 1, 10 and 60 s in which it can be reset.
    """

    policy: str | None
    limit: int | None
    remaining: int | None
    reset_seconds: float | None

    def describe(self) -> str:
        """Return the figures as text."""
        limit = f"the limit {self.policy}" if self.policy else "a limit"
        parts = [limit if self.limit is None else f"a limit of {self.limit:,} calls"]
        if self.remaining is not None:
            parts.append(f"{self.remaining:,} left")
        if self.reset_seconds is not None:
            parts.append(f"reset in {self.reset_seconds:,.0f} s")
        return ", ".join(parts)

    def find_excess(self, calls_per_second: float, seconds: float) -> bool:
        """Return whether calls at this rate exceed what is left until the reset."""
        if self.remaining is None or self.reset_seconds is None:
            return False
        return calls_per_second * min(seconds, self.reset_seconds) > self.remaining


def read_rate_limits(headers: Mapping[str, str], now: float | None = None) -> RateLimits | None:
    """Return what the headers of an answer announce, None without such headers.

    `now` is the time in seconds since the epoch, from which a time of reset is counted.
    """
    found: dict[str, int] = {}
    policy = None
    for name, value in headers.items():
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        figure = (match[1] or "").lower()
        if figure == "policy" or (figure == "limit" and ";" in value):
            policy = tidy_text(value, _MOST_CHARS)
        for key, number in _MEMBER.findall(value) if not figure else ():
            found[_FIGURES.get(key, key)] = int(number)
        if figure and (first := re.match(r"\s*(\d{1,15})(?:\.\d+)?\b", value)):
            found[figure] = int(first[1])
    if policy is None and not found.keys() & {"limit", "remaining"}:
        return None
    reset = _count_seconds(found.get("reset"), time.time() if now is None else now)
    limit = found.get("limit")
    if policy is None and limit and reset is not None:
        windows = (seconds for seconds in _USUAL_WINDOWS_SECONDS if reset <= seconds)
        policy = next((f"{limit};w={seconds}" for seconds in windows), None)
    return RateLimits(policy, limit, found.get("remaining"), reset)


def _count_seconds(reset: int | None, now: float) -> float | None:
    """Return the seconds until a reset, which is given in seconds or as a time."""
    if reset is None or reset < _LEAST_EPOCH_SECONDS:
        return reset
    return max(0.0, (reset / 1000 if reset >= _LEAST_EPOCH_MS else reset) - now)
