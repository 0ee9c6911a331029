"""Judging rows: which percentiles rest on enough calls, and which stage of a ladder still holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from loadtest.history import pick_latency
from loadtest.results import Percentiles, Row

Percentile = Literal["p50", "p95", "p99"]

MIN_SAMPLES: Mapping[Percentile, int] = {"p50": 30, "p95": 300, "p99": 1000}
HOLD_MIN_RATE_SHARE = 0.9
HOLD_MAX_SLOWDOWN = 2.0
# With fewer calls in a stage its p95 is one or two of them, and doubles by chance.
SLOWDOWN_MIN_SAMPLES = 30
MAX_RATE_LIMITED_SHARE = 0.01


@dataclass(frozen=True)
class Break:
    """A stage that does not hold, and by how much.

    `rate_share` is achieved ÷ offered, `slowdown` its p95 ÷ the smallest stage's; both are None
    where the stage keeps that rule. `rejected` counts the refusals at the session cap among
    `attempts`: openings of sessions, or calls where all opened. `no_data`: no call was ok.
    """

    stage: Row
    rate_share: float | None = None
    slowdown: float | None = None
    rejected: int = 0
    attempts: int = 0
    no_data: bool = False


@dataclass(frozen=True)
class Knee:
    """The highest stage that holds, None when none does, and those that do not, smallest first.

    `unjudged` are the stages whose latency could not be compared: too few calls in them or in the
    smallest one.
    """

    holds: Row | None
    breaks: tuple[Break, ...] = ()
    unjudged: tuple[Row, ...] = ()


def is_thin(row: Row, percentile: Percentile) -> bool:
    """Return whether too few calls were answered ok for this percentile to be steady."""
    return row.ok < MIN_SAMPLES[percentile]


def measure_rate_limited(rows: Iterable[Row], scenario: str) -> float:
    """Return the share of a scenario's calls that met a quota and so say nothing of latency."""
    calls = [row for row in rows if row.scenario == scenario and row.kind != "opening"]
    count = sum(row.count for row in calls)
    limited = sum(row.failures.get("rate_limited", 0) for row in calls)
    return limited / count if count else 0.0


def pick_stages(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the ladder's stages, fewest sessions first."""
    stages = [row for row in rows if row.kind == "stage" and row.name.isdecimal()]
    return tuple(sorted(stages, key=lambda row: int(row.name)))


def find_knee(rows: Iterable[Row]) -> Knee | None:
    """Return the knee of the ladder among `rows`, None where they hold no stage.

    A stage holds when its rate is at least 90 % of the offered one, its p95 is below twice the
    smallest stage's, and nothing was rejected at the session cap, neither a call nor the opening
    of a session (design, section 6). p95 is of the response time from the schedule, and compared
    only where both stages have 30 ok calls. Without data of the smallest stage nothing can be
    judged, and none holds.
    """
    rows = tuple(rows)
    stages = pick_stages(rows)
    if not stages:
        return None
    openings = {
        row.name: row for row in rows if row.kind == "opening" and row.scenario == "sessions"
    }
    base = pick_latency(stages[0])
    if base is None:
        return Knee(None, (Break(stages[0], no_data=True),))
    holds = None
    breaks = []
    unjudged = []
    for stage in stages:
        judged = stage is not stages[0] and min(stages[0].ok, stage.ok) >= SLOWDOWN_MIN_SAMPLES
        if stage is not stages[0] and stage.ok and not judged:
            unjudged.append(stage)
        fault = _find_break(stage, openings.get(stage.name), base if judged else None)
        if fault is None:
            holds = stage
        else:
            breaks.append(fault)
    return Knee(holds, tuple(breaks), tuple(unjudged))


def _find_break(stage: Row, opening: Row | None, base: Percentiles | None) -> Break | None:
    latency = pick_latency(stage)
    share = stage.achieved_rate / stage.offered_rate if stage.offered_rate else 1.0
    slowdown = latency.p95 / base.p95 if latency and base and base.p95 > 0 else 1.0
    refused = opening if opening and opening.failures.get("capacity") else stage
    rejected = refused.failures.get("capacity", 0)
    slow = slowdown >= HOLD_MAX_SLOWDOWN
    if latency and share >= HOLD_MIN_RATE_SHARE and not slow and not rejected:
        return None
    return Break(
        stage,
        rate_share=share if share < HOLD_MIN_RATE_SHARE and stage.count else None,
        slowdown=slowdown if slow else None,
        rejected=rejected,
        attempts=refused.count,
        no_data=latency is None,
    )
