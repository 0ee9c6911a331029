"""What the cycles show: one sentence for each leak."""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import combinations

from loadtest.compare.slopes import Slope, fit_slope
from loadtest.leaks.cycles import Cycle, Life, Observation

# With fewer, no trend is clear.
LEAST_CYCLES = 8
# In standard deviations: 1 of 1,000 is above it by chance.
CLEAR = 3.09
# A rise below this over all cycles is no leak, however clear it is.
LEAST_RISE = 0.5
LEAST_RISE_MS = 1.0


def find_leaks(seen: Observation) -> tuple[str, ...]:
    """Return a sentence for each leak; none if everything came back."""
    return tuple(_find_leaks(seen))


def _find_leaks(seen: Observation) -> Iterator[str]:
    cycles = seen.cycles
    if seen.is_down:
        yield f"After cycle {len(cycles) + 1} the server no longer lets a client in."
    if seen.undeletable is not None:
        yield (
            f"Sessions cannot be deleted (HTTP {seen.undeletable}): each client that leaves keeps "
            "its place until the server ends its session."
        )
    known, asked = sum(each.still_known for each in cycles), sum(each.asked for each in cycles)
    if known:
        yield f"{known} of {asked} sessions still answer after their DELETE."
    streams, deletes = (
        sum(each.streams_left for each in cycles),
        sum(each.deletes for each in cycles),
    )
    if streams:
        yield f"{streams} streams stay open after the DELETE of their session ({deletes} sessions)."
    room = [(each.opened + each.abandoned, each.refusal) for each in cycles]
    if lost := _find_lost_room("sessions", room):
        yield lost
    if lost := _find_lost_room("streams", [(each.streams, each.stream_refusal) for each in cycles]):
        yield lost
    for what, pick in (
        ("first dispatch of a new client", lambda each: each.first_dispatch_ms),
        ("latency of a call", lambda each: each.latency_ms),
    ):
        if rise := _find_rise(what, cycles, pick):
            yield rise


def _find_lost_room(what: str, room: Sequence[tuple[int, str | None]]) -> str | None:
    """Return that the room shrinks, by more than what was abandoned on purpose explains.

    `room` has, by cycle, how many were open and how the next one was refused. Where none was, there
    was room for more, as in the best cycle.
    """
    most = max((count for count, _ in room), default=0)
    counts = [float(most if refusal is None else count) for count, refusal in room]
    slope = _fit(counts)
    if slope is None or not _falls(counts):
        return None
    return (
        f"Room for {what} shrinks by {_state(slope, -1)} a cycle: {counts[0]:.0f} at first, "
        f"{counts[-1]:.0f} in cycle {len(counts)}."
    )


def _falls(values: Sequence[float]) -> bool:
    """Return whether values fall, steadily or less and less, in fewer than 1 of 1,000 by chance.

    The test of Mann (1945) and Kendall: how many pairs fall, minus how many rise.
    """
    falls = sum((later < earlier) - (later > earlier) for earlier, later in combinations(values, 2))
    count = len(values)
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return falls - 1 > CLEAR * deviation


def _find_rise(what: str, cycles: Sequence[Cycle], pick: Callable[[Cycle], float]) -> str | None:
    values = [pick(each) for each in cycles]
    slope = _fit(values)
    if slope is None or not _falls([-value for value in values]):
        return None
    if slope.change < max(LEAST_RISE_MS, LEAST_RISE * slope.start):
        return None
    return (
        f"The {what} rises by {_state(slope)} ms a cycle: from {slope.start:.1f} to "
        f"{slope.start + slope.change:.1f} ms."
    )


def _fit(values: Sequence[float]) -> Slope | None:
    return fit_slope([(float(place), value) for place, value in enumerate(values)])


def _state(slope: Slope, sign: int = 1) -> str:
    return f"{sign * slope.per_unit:.2g} ± {slope.error:.1g}"


def describe(seen: Observation) -> Iterator[str]:
    """Yield what else was seen: what the server does not have, how long abandoned sessions live."""
    if not seen.has_sessions:
        yield "the server has no sessions: only streams, first dispatch and latency were checked"
    if not seen.has_streams:
        yield "the server has no streams"
    elif seen.cycles and (refusal := seen.cycles[0].stream_refusal):
        yield f"it refuses stream {seen.cycles[0].streams + 1}: {refusal}"
    if seen.cycles and (refusal := seen.cycles[0].refusal):
        yield f"it refuses session {seen.cycles[0].opened + 1}: {refusal}"
    elif seen.cycles and seen.has_sessions:
        yield f"it has room for at least {seen.cycles[0].opened} sessions"
    if any(cycle.abandoned for cycle in seen.cycles):
        yield "each abandoned session keeps its place until the server ends it"
    if seen.lives:
        yield _describe_lives(seen.lives)
    if seen.left:
        yield f"{seen.left} sessions could not be deleted; {_find_expiry(seen)}"
    if seen.ended:
        yield f"there are no more cycles: {seen.ended}"


def _find_expiry(seen: Observation) -> str:
    """Return when the sessions that are left end, as far as the abandoned ones show it."""
    gone = [life.age_seconds for life in seen.lives if not life.is_alive]
    if not gone:
        return "when the server ends them is not known"
    end = datetime.fromtimestamp(seen.last_use + max(gone), UTC)
    return f"the server ends the last of them by {end:%H:%M:%S} UTC"


def _describe_lives(lives: Sequence[Life]) -> str:
    alive = max((each.age_seconds for each in lives if each.is_alive), default=None)
    gone = min((each.age_seconds for each in lives if not each.is_alive), default=None)
    if gone is None:
        return (
            f"abandoned sessions live longer than {alive:.0f} s; --wait-minutes follows them longer"
        )
    if alive is None:
        return f"abandoned sessions are gone after {gone:.0f} s, or earlier"
    if alive > gone:
        return f"some abandoned sessions were gone after {gone:.0f} s, others lived {alive:.0f} s"
    return f"abandoned sessions live {alive:.0f} to {gone:.0f} s"
