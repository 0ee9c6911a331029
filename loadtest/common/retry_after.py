"""How a 429 is waited out, by everything of ours that asks a server over HTTP."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

# Windows are a minute long on many servers, and Retry-After is missing or nonsense on some.
RATE_WAITS_SECONDS = (5.0, 15.0, 20.0, 30.0)
LONGEST_WAIT_SECONDS = 90


def parse_retry_after(text: str | None) -> float | None:
    """Return a believable Retry-After in seconds (RFC 9110, section 10.2.3), else None."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 4:
        return None
    return float(text) if 1 <= int(text) <= LONGEST_WAIT_SECONDS else None


class Answer(Protocol):
    """What of an HTTP answer matters here."""

    @property
    def status_code(self) -> int:
        """Return the status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers, whose names are found in any case."""


_Answer = TypeVar("_Answer", bound=Answer)


class RateLimit:
    """What to do about the answers to one request while some of them are a 429."""

    def __init__(self, what: str, tell: Callable[[str], None]) -> None:
        self._what = what
        self._tell = tell
        self._waits = iter(RATE_WAITS_SECONDS)

    def find_wait(self, answer: Answer) -> float | None:
        """Return how many seconds to wait before asking again; None where this answer counts."""
        usual = next(self._waits, None) if answer.status_code == 429 else None
        if usual is None:
            return None
        seconds = parse_retry_after(answer.headers.get("retry-after")) or usual
        self._tell(f"{self._what} is rate limited: waiting {seconds:.0f} s")
        return seconds


def wait_out(
    ask: Callable[[], _Answer],
    what: str,
    tell: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
) -> _Answer:
    """Ask, and again while the answer is a 429 that may be waited out; return the last answer."""
    limit = RateLimit(what, tell)
    answer = ask()
    while (seconds := limit.find_wait(answer)) is not None:
        pause(seconds)
        answer = ask()
    return answer
