"""The pace of a session (a fixed interval, think time or bursts), and the time limit of a call."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

Kind = Literal["interval", "exponential", "log-normal", "uniform", "burst"]

DEFAULT_PACE = "1"
DEFAULT_TIMEOUT_SECONDS = 30
# How each kind is written: `exponential:20` has one number.
_NUMBERS: Mapping[Kind, int] = {
    "interval": 1,
    "exponential": 1,
    "log-normal": 2,
    "uniform": 2,
    "burst": 2,
}
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?")
MOST_BURST = 100
MOST_SIGMA = 3
FORMS = (
    "seconds such as 20, exponential:MEAN, log-normal:MEDIAN,SIGMA, uniform:LEAST,MOST or "
    "burst:CALLS,PAUSE"
)


@dataclass(frozen=True)
class Pace:
    """How often a session calls, as `text` says.

    `interval`: calls on a fixed schedule, this many seconds apart. The other kinds wait for the
    answer first, then for a think time; a `burst` makes `calls` calls in parallel.
    """

    text: str
    kind: Kind
    numbers: tuple[float, ...]

    @property
    def calls(self) -> int:
        """Return how many calls a session makes at a time."""
        return int(self.numbers[0]) if self.kind == "burst" else 1

    @property
    def mean_seconds(self) -> float:
        """Return the interval, or the mean of the think time or pause."""
        match self.kind, self.numbers:
            case "log-normal", (median, sigma):
                return median * math.exp(sigma**2 / 2)
            case "uniform", (least, most):
                return (least + most) / 2
            case "burst", (_, pause):
                return pause
        return self.numbers[0]

    def find_rate(self, answer_seconds: float = 0.0) -> float:
        """Return the calls/s of one session, if an answer takes this long."""
        waits = 0.0 if self.kind == "interval" else answer_seconds
        return self.calls / (self.mean_seconds + waits)

    def describe(self, unit: str) -> str:
        """Return it as text: `a call every 20 s per session`."""
        numbers = [f"{number:g}" for number in self.numbers]
        match self.kind, numbers:
            case "interval", ["1"]:
                return f"1 call/s per {unit}"
            case "interval", [seconds]:
                return f"a call every {seconds} s per {unit}"
            case "burst", [calls, pause]:
                return f"bursts of {calls} calls and {pause} s of pause per {unit}"
        return f"{self.mean_seconds:.3g} s of think time per {unit} ({self.text})"


def parse_pace(text: str) -> Pace:
    """Return the pace that a text means; raise ValueError if it means none."""
    name, colon, rest = text.partition(":")
    kind = next((kind for kind in _NUMBERS if kind == name), None) if colon else "interval"
    parts = [part.strip() for part in (rest if colon else name).split(",")]
    if kind is None or (colon and kind == "interval") or len(parts) != _NUMBERS[kind]:
        raise ValueError(f"a pace is {FORMS}")
    if not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"a pace is {FORMS}")
    pace = Pace(text, kind, tuple(float(part) for part in parts))
    if not 0.01 <= pace.mean_seconds <= 86_400:
        raise ValueError("a pace must be between 0.01 s and a day")
    if kind == "uniform" and pace.numbers[0] > pace.numbers[1]:
        raise ValueError("uniform:LEAST,MOST has the smaller number first")
    if kind == "log-normal" and pace.numbers[1] > MOST_SIGMA:
        raise ValueError(f"SIGMA of a log-normal pace is at most {MOST_SIGMA}")
    if kind == "burst" and pace.numbers[0] not in range(2, MOST_BURST + 1):
        raise ValueError(f"a burst has a whole number of calls from 2 to {MOST_BURST}")
    return pace


def _write(value: object) -> object:
    """Return a number of a file as the text that an option has."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.9g}" if is_number else value


def _check(text: str) -> str:
    parse_pace(text)
    return text


# A pace as text, such as `20` or `exponential:20`; files may have a number, too.
PaceText = Annotated[str, BeforeValidator(_write), AfterValidator(_check)]
# The time limit of a request.
Timeout = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
