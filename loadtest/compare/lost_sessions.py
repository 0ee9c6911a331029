"""Sessions that the server lost, and the likely cause: replicas, a deployment, an expiry."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.results.history import is_aggregate
from loadtest.results.run import LostSessions, Row

# `moment`: all at one moment, which is also one age, so it is a deployment or an expiry.
Cause = Literal["replicas", "deployment", "expiry", "moment", "unclear"]

REASON = "session_lost"
# With replicas that share no sessions, half of the sessions live for fewer calls than this.
FEW_CALLS = 3
# A loss is seen at the next call of the session. Clocks and schedules are not exact.
LEEWAY_SECONDS = 2.0
LEEWAY_SHARE = 0.1


@dataclass(frozen=True)
class Losses:
    """The sessions that a run lost, and the most likely cause.

    `calls` is the median of the calls that they had answered; the others are the shortest and the
    longest age, and the first and the last loss in its slice. These are None if all sessions were
    lost while they opened. `places` are the slices with losses.
    """

    cause: Cause
    count: int
    opened: int
    calls: float | None
    ages_seconds: tuple[float, float] | None
    moments_seconds: tuple[float, float] | None
    places: tuple[Row, ...]


@dataclass(frozen=True)
class _LossySlice:
    """A stage or a mix: its openings, what it lost, and how often one of its sessions calls."""

    opening: Row
    lost: LostSessions
    interval_seconds: float

    @property
    def sessions(self) -> int:
        return max(1, self.opening.ok - self.lost.count)

    @property
    def leeway_seconds(self) -> float:
        return LEEWAY_SECONDS + 1.5 * self.interval_seconds


def find_losses(rows: Iterable[Row]) -> Losses | None:
    """Return the sessions that a run lost, None if it lost none."""
    rows = tuple(rows)
    openings = [row for row in rows if row.kind == "opening"]
    starts = [row for row in rows if (row.kind, row.name) == ("frame", "first dispatch")]
    while_opening = sum(row.failures.get(REASON, 0) for row in (*openings, *starts))
    slices = [_build_slice(row, row.lost, rows) for row in openings if row.lost is not None]
    if not slices and not while_opening:
        return None
    lost = [each.lost for each in slices]
    return Losses(
        cause=_find_cause(slices, openings, while_opening),
        count=while_opening + sum(each.count for each in lost),
        opened=while_opening + sum(row.ok for row in (*openings, *starts)),
        calls=_find_median(lost),
        ages_seconds=_span(each.ages_seconds for each in lost),
        moments_seconds=_span(each.moments_seconds for each in lost),
        places=tuple(each.opening for each in slices),
    )


def _build_slice(opening: Row, lost: LostSessions, rows: Sequence[Row]) -> _LossySlice:
    calls = sum(
        row.count
        for row in rows
        if (row.scenario, row.name) == (opening.scenario, opening.name)
        and (row.kind == "stage" or is_aggregate(row))
    )
    sessions = max(1, opening.ok - lost.count)
    return _LossySlice(opening, lost, sessions * opening.seconds / calls if calls else 0.0)


def _find_cause(
    slices: Sequence[_LossySlice], openings: Sequence[Row], while_opening: int
) -> Cause:
    at_one_moment = _are_at_one_moment(slices)
    few = [each.lost.least_calls < 1 and each.lost.calls < FEW_CALLS for each in slices]
    if while_opening or (all(few) and not at_one_moment):
        return "replicas"
    at_one_age = _are_at_one_age(slices)
    if not at_one_moment:
        return "expiry" if at_one_age else "unclear"
    return "moment" if at_one_age and not _would_repeat(slices[0], openings) else "deployment"


def _are_at_one_moment(slices: Sequence[_LossySlice]) -> bool:
    """Return whether sessions of one slice were lost together, each once."""
    if len(slices) != 1:
        return False
    (only,) = slices
    first, last = only.lost.moments_seconds
    several = only.lost.count > 1 or only.sessions == 1
    return several and only.lost.count <= only.sessions and last - first <= only.leeway_seconds


def _are_at_one_age(slices: Sequence[_LossySlice]) -> bool:
    """Return whether the sessions ended at the same age; an expiry spares none that gets so old."""
    shortest = min(each.lost.ages_seconds[0] for each in slices)
    longest = max(each.lost.ages_seconds[1] for each in slices)
    leeway = max(each.leeway_seconds for each in slices)
    has_lived = all(each.lost.least_calls >= 1 for each in slices)
    spares_none = all(2 * each.lost.count >= each.sessions for each in slices)
    return has_lived and spares_none and longest - shortest <= leeway + LEEWAY_SHARE * longest


def _would_repeat(only: _LossySlice, openings: Sequence[Row]) -> bool:
    """Return whether an expiry at that age would have ended more sessions than it did."""
    age = only.lost.ages_seconds[1] + only.leeway_seconds
    later = only.opening.seconds - only.lost.moments_seconds[1]
    others = (row.seconds for row in openings if row is not only.opening and row.ok)
    return later > age or any(seconds > age for seconds in others)


def _find_median(lost: Sequence[LostSessions]) -> float | None:
    """Return the median of the slice that lost most."""
    return max(lost, key=lambda each: each.count).calls if lost else None


def _span(pairs: Iterable[tuple[float, float]]) -> tuple[float, float] | None:
    found = tuple(pairs)
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None
