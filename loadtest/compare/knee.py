"""Which percentiles have enough calls, and which stage of a ladder is sustained."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from loadtest.config.pace import DEFAULT_PACE, Pace, parse_pace
from loadtest.results.history import pick_latency
from loadtest.results.run import ASIDE, REFUSALS, Capacity, Outcome, Percentiles, Row, Run

Percentile = Literal["p50", "p95", "p99"]

MIN_SAMPLES: Mapping[Percentile, int] = {"p50": 30, "p95": 300, "p99": 1000}
SUSTAINED_MIN_RATE_SHARE = 0.9
SUSTAINED_MAX_SLOWDOWN = 2.0
# The default of a profile; runs of earlier versions may not have it among their knobs.
SUSTAINED_MAX_FAILURE_SHARE = 0.01
# With fewer calls, a p95 depends on one or two of them and can double by chance.
SLOWDOWN_MIN_SAMPLES = 30
MAX_RATE_LIMITED_SHARE = 0.01


@dataclass(frozen=True)
class Break:
    """A stage that is not sustained, and by how much.

    `pace` is how often its sessions call, if more than half of its calls took longer.
    `rate_share` is the rate of ok calls ÷ the offered rate, `slowdown` its p95 ÷ that of the
    smallest stage, `failed` the number of failed calls; each is None if the stage keeps that rule.
    Of `attempts` (openings of sessions, or calls if all sessions opened) `rejected` were refused by
    the session cap; `limited` calls or openings were rate limited. `unfinished` is how the run
    ended during the stage. `no_data`: no call was ok.
    """

    stage: Row
    rate_share: float | None = None
    slowdown: float | None = None
    rejected: int = 0
    attempts: int = 0
    limited: int = 0
    failed: int | None = None
    unfinished: Outcome | None = None
    no_data: bool = False
    pace: Pace | None = None


@dataclass(frozen=True)
class Knee:
    """The highest sustained stage (None: no stage is), and those that are not, smallest first.

    `uncompared` are the stages whose latency could not be compared: they or the smallest stage have
    too few calls.
    """

    sustained: Row | None
    breaks: tuple[Break, ...] = ()
    uncompared: tuple[Row, ...] = ()


def is_thin(row: Row, percentile: Percentile) -> bool:
    """Return whether too few calls succeeded for a steady value of this percentile."""
    return row.ok < MIN_SAMPLES[percentile]


def count_failed(row: Row) -> int:
    """Return how many calls of a row failed, without refusals."""
    return sum(count for reason, count in row.failures.items() if reason not in REFUSALS)


def count_refused(row: Row) -> int:
    """Return how many calls of a row were refused by a full server or a quota."""
    return sum(row.failures.get(reason, 0) for reason in REFUSALS)


def measure_rate_limited(rows: Iterable[Row], scenario: str) -> float:
    """Return the share of a scenario's calls that were refused by a quota."""
    calls = [row for row in rows if row.scenario == scenario and row.kind not in ASIDE]
    count = sum(row.count for row in calls)
    limited = sum(row.failures.get("rate_limited", 0) for row in calls)
    return limited / count if count else 0.0


def is_rate_limited(rows: Iterable[Row], scenario: str) -> bool:
    """Return whether a scenario's latency is invalid because too many calls were rate limited."""
    return measure_rate_limited(rows, scenario) > MAX_RATE_LIMITED_SHARE


def pick_stages(rows: Iterable[Row], scenario: str = "sessions") -> tuple[Row, ...]:
    """Return the stages of a ladder, the smallest first."""
    stages = [
        row
        for row in rows
        if row.scenario == scenario and row.kind == "stage" and row.name.isdecimal()
    ]
    return tuple(sorted(stages, key=lambda row: int(row.name)))


def find_knee(run: Run, rows: Iterable[Row]) -> Knee | None:
    """Return the knee of a run's ladder, None if `rows` contain no stage.

    A stage is sustained if the rate of its ok calls is at least 90 % of the offered rate, its share
    of failed calls is within the profile's limit, its p95 is below twice that of the smallest
    stage, no call and no opening of a session was refused by a cap or a quota, and the run did not
    end in it. With a fixed interval, half of the calls must also be answered within it: slower
    sessions fall behind. p95 is the response time from the schedule; it is compared only if both
    stages have 30 ok calls. Without data of the smallest stage, no stage is sustained. A search for
    the capacity has its own limits, and its result counts.
    """
    rows = tuple(rows)
    stages = pick_stages(rows)
    if not stages:
        return None
    if run.capacity is not None:
        return _read_search(run.capacity, stages)
    openings = {
        row.name: row for row in rows if row.kind == "opening" and row.scenario == "sessions"
    }
    base = pick_latency(stages[0])
    if base is None:
        return Knee(None, (Break(stages[0], no_data=True),))
    sustained = None
    breaks = []
    uncompared = []
    unfinished = _find_unfinished(run, stages)
    for stage in stages:
        compared = stage is not stages[0] and min(stages[0].ok, stage.ok) >= SLOWDOWN_MIN_SAMPLES
        if stage is not stages[0] and stage.ok and not compared:
            uncompared.append(stage)
        fault = _find_break(run, stage, openings.get(stage.name), base if compared else None)
        if unfinished is not None and stage is unfinished[0]:
            fault = replace(fault or Break(stage), unfinished=unfinished[1])
        if fault is None:
            sustained = stage
        else:
            breaks.append(fault)
    return Knee(sustained, tuple(breaks), tuple(uncompared))


def _read_search(capacity: Capacity, stages: Sequence[Row]) -> Knee:
    """Return the highest stage that a search found to be borne, and those that were too much."""
    borne = [stage for stage in stages if int(stage.name) <= capacity.most]
    beyond = (Break(stage) for stage in stages if int(stage.name) > capacity.most)
    return Knee(borne[-1] if borne else None, tuple(beyond))


def _find_break(
    run: Run, stage: Row, opening: Row | None, base: Percentiles | None
) -> Break | None:
    latency = pick_latency(stage)
    share = stage.ok_rate / stage.offered_rate if stage.offered_rate else 1.0
    slowdown = latency.p95 / base.p95 if latency and base and base.p95 > 0 else 1.0
    refused = opening if opening and opening.failures.get("capacity") else stage
    rejected = refused.failures.get("capacity", 0)
    failed = count_failed(stage)
    pace = find_pace(run)
    is_behind = (
        latency is not None and pace.kind == "interval" and latency.p50 > pace.mean_seconds * 1000
    )
    found = Break(
        stage,
        pace=pace if is_behind else None,
        rate_share=share if share < SUSTAINED_MIN_RATE_SHARE and stage.count else None,
        slowdown=slowdown if slowdown >= SUSTAINED_MAX_SLOWDOWN else None,
        rejected=rejected,
        attempts=refused.count if rejected else 0,
        limited=sum(row.failures.get("rate_limited", 0) for row in (stage, opening) if row),
        failed=failed if failed > find_failure_limit(run) * stage.count else None,
        no_data=latency is None,
    )
    return None if found == Break(stage) else found


def find_pace(run: Run) -> Pace:
    """Return how often the sessions of a run's ladder call."""
    knobs = run.knobs.get("sessions")
    text = knobs.get("pace_seconds") if isinstance(knobs, Mapping) else None
    try:
        return parse_pace(text or DEFAULT_PACE)
    except (TypeError, ValueError, AttributeError):  # of a damaged file or comment
        return parse_pace(DEFAULT_PACE)


def find_failure_limit(run: Run) -> float:
    """Return the share of failed calls that the run's profile allows."""
    limit = run.knobs.get("max_failure_share")
    return float(limit) if isinstance(limit, int | float) else SUSTAINED_MAX_FAILURE_SHARE


def _find_unfinished(run: Run, stages: Sequence[Row]) -> tuple[Row, Outcome] | None:
    """Return the stage in which a run ended too early, and how; None for a complete ladder.

    A run that was interrupted between two stages ended in neither.
    """
    result = next((each for each in run.scenarios if each.name == "sessions"), None)
    measured = [stage for stage in stages if stage.count]
    if result is None or result.outcome in {"ok", "thresholds crossed"} or not measured:
        return None
    knobs = run.knobs.get("sessions")
    knobs = knobs if isinstance(knobs, Mapping) else {}
    order = [str(stage) for stage in knobs.get("stages", ())]
    last = max(measured, key=lambda row: order.index(row.name) if row.name in order else len(order))
    planned = knobs.get("stage_seconds", math.inf)
    in_it = result.outcome == "aborted" or last.seconds < planned
    return (last, result.outcome) if in_it else None
