"""Wait after a 429, then try again; every HTTP request of this package does it in this way."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

# Many servers count per minute, and some send no Retry-After or a useless one.
RATE_WAITS_SECONDS = (5.0, 15.0, 20.0, 30.0)
LONGEST_WAIT_SECONDS = 90


def parse_retry_after(text: str | None) -> float | None:
    """Return a plausible Retry-After in seconds (RFC 9110, section 10.2.3), else None."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 4:
        return None
    return float(text) if 1 <= int(text) <= LONGEST_WAIT_SECONDS else None


class HttpAnswer(Protocol):
    """The part of an HTTP answer that is needed here."""

    @property
    def status_code(self) -> int:
        """Return the status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers; their names ignore case."""


_Answer = TypeVar("_Answer", bound=HttpAnswer)


class RateLimit:
    """Decides how long to wait before one request is repeated after a 429."""

    def __init__(self, what: str, say: Callable[[str], None]) -> None:
        self._what = what
        self._say = say
        self._waits = iter(RATE_WAITS_SECONDS)

    def find_wait(self, answer: HttpAnswer) -> float | None:
        """Return how many seconds to wait before the next try; None if this answer is final."""
        usual = next(self._waits, None) if answer.status_code == 429 else None
        if usual is None:
            return None
        seconds = parse_retry_after(answer.headers.get("retry-after")) or usual
        self._say(f"{self._what} is rate limited: waiting {seconds:.0f} s")
        return seconds


def wait_out(
    ask: Callable[[], _Answer],
    what: str,
    say: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
) -> _Answer:
    """Call `ask` until the answer is not a 429 or the waits are used up; return the answer."""
    limit = RateLimit(what, say)
    answer = ask()
    while (seconds := limit.find_wait(answer)) is not None:
        pause(seconds)
        answer = ask()
    return answer
