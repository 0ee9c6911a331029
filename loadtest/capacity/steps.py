"""One step of a search: how long it takes, what it sends, and how the target bore it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loadtest.compare.knee import (
    MIN_SAMPLES,
    SUSTAINED_MAX_SLOWDOWN,
    SUSTAINED_MIN_RATE_SHARE,
    count_failed,
)
from loadtest.compare.objectives import count_needed
from loadtest.config.models import Profile
from loadtest.config.objectives import Objective
from loadtest.config.settings import Settings
from loadtest.config.tool_table import ToolTable
from loadtest.k6.health import ABORT_SHARE
from loadtest.report.content.formatting import add_ms, format_ms, format_share
from loadtest.results.history import pick_latency
from loadtest.results.run import MOST_STRAIN, CapacityStep, CapacityUnit, Percentiles, Row

LEAST_PACES = 2
SAMPLES: Mapping[str, int] = {str(name): calls for name, calls in MIN_SAMPLES.items()}
# After which part of a step the call comes that has this percentile, if latency only grows.
PLACES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Criteria:
    """What a step is judged by.

    `objectives` are those of the environment that a step can show. Without one of a latency, the
    P95 is compared with that of the smallest step; without one of failures, `max_failure_share` is
    the most. In any case nothing is refused, and 90 % of the offered calls are answered. `rate` is
    the calls/s of one unit of load, `pace_seconds` the most that half of the calls may take.
    `shares` are the parts of the mix that each of its rows has.
    """

    unit: CapacityUnit
    tool: str
    objectives: tuple[Objective, ...]
    max_failure_share: float
    rate: float
    pace_seconds: float = math.inf
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def scenario(self) -> str:
        """Return the scenario that makes the load."""
        return "sessions" if self.unit == "sessions" else "tools"

    @property
    def has_latency(self) -> bool:
        """Return whether a latency has an objective."""
        return any(each.figure != "failed" for each in self.objectives)

    @property
    def has_failures(self) -> bool:
        """Return whether failures have an objective."""
        return any(each.figure == "failed" for each in self.objectives)

    def list_limits(self) -> Iterator[str]:
        """Yield what a step is judged by, in words."""
        for each in self.objectives:
            name = each.name if each.kind != "stage" and each.name != "all" else "all calls"
            if each.figure == "failed":
                yield f"{name}: failures at most {format_share(each.limit)}"
            else:
                yield f"{name}: {each.figure} at most {add_ms(format_ms(each.limit))}"
        if not self.has_latency:
            yield f"p95 at most {SUSTAINED_MAX_SLOWDOWN:g} times that of the smallest step"
        if not self.has_failures:
            yield f"failures at most {format_share(self.max_failure_share)}"
        yield f"{format_share(SUSTAINED_MIN_RATE_SHARE)} of the offered calls ok"
        yield "nothing refused"

    def count_calls(self) -> int:
        """Return how many calls a step needs, so that none of its figures is thin."""
        needs = [0.0 if self.has_latency else MIN_SAMPLES["p95"]]
        needs += [] if self.has_failures else [count_needed(self.max_failure_share)]
        for each in self.objectives:
            failed = each.figure == "failed"
            calls = count_needed(each.limit) if failed else SAMPLES[each.figure]
            needs.append(calls / self.shares.get(each.name, 1.0))
        return math.ceil(max(needs))


@dataclass(frozen=True)
class MeasuredStep:
    """A load, and the rows that were measured with it."""

    load: int
    rows: tuple[Row, ...]

    def find_row(self, kind: str, name: str) -> Row | None:
        """Return a row that has calls."""
        found = (row for row in self.rows if (row.kind, row.name) == (kind, name))
        return next((row for row in found if row.count), None)

    def pick_calls(self, unit: CapacityUnit) -> Row | None:
        """Return the row of all calls."""
        key = ("stage", str(self.load)) if unit == "sessions" else ("tool", "all")
        return self.find_row(*key)

    def pick_openings(self, unit: CapacityUnit) -> Row | None:
        """Return the row of the sessions that were opened."""
        return self.find_row("opening", str(self.load) if unit == "sessions" else "all")


def choose_criteria(settings: Settings, profile: Profile, unit: CapacityUnit) -> Criteria:
    """Return what the steps of a search are judged by."""
    ladder = profile.sessions
    tool = str(ladder.tool)
    scenario = "sessions" if unit == "sessions" else "tools"
    objectives = [
        each for each in settings.objectives if each.scenario == scenario and each.figure != "holds"
    ]
    if unit == "sessions":
        called = [each for each in settings.objectives if each.scenario == "tools"]
        objectives += [each for each in called if each.name == tool]
    is_fixed = unit == "sessions" and ladder.pace.kind == "interval"
    return Criteria(
        unit,
        tool,
        tuple(objectives),
        profile.max_failure_share,
        ladder.pace.find_rate() if unit == "sessions" else 1.0,
        ladder.pace.mean_seconds if is_fixed else math.inf,
        {} if unit == "sessions" else find_shares(settings.tools),
    )


def find_shares(tools: ToolTable) -> dict[str, float]:
    """Return the part of the calls of the mix that each row has."""
    weights = {name: weight for name, _, weight in tools.list_weights()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def choose_seconds(
    criteria: Criteria, profile: Profile, load: int, least: int, tolerance: float
) -> int:
    """Return how long a step must be for its figures.

    It has enough calls, and is long enough for a queue: of a load that is above what is served by
    the tolerance, a call after `t` seconds waits for about `tolerance * t`.
    """
    paces = LEAST_PACES * profile.sessions.pace.mean_seconds if criteria.unit == "sessions" else 0
    queues = [
        each.limit / 1000 / (tolerance * PLACES[each.figure])
        for each in criteria.objectives
        if each.figure in PLACES
    ]
    return math.ceil(max(least, paces, criteria.count_calls() / (load * criteria.rate), *queues))


def build_profile(profile: Profile, unit: CapacityUnit, load: int, seconds: int) -> Profile:
    """Return the profile of one step: a ladder of one stage, or the mix as an open loop."""
    if unit == "sessions":
        update = {"stages": (load,), "stage_seconds": seconds}
        return profile.model_copy(update={"sessions": profile.sessions.model_copy(update=update)})
    mix = {"target_rps": load, "duration_seconds": seconds, "pace_seconds": None}
    # A session for each call a second: they suffice for calls that take a second.
    mix |= {"vus": max(load, profile.tools.vus), "observe_seconds": None}
    return profile.model_copy(update={"tools": profile.tools.model_copy(update=mix)})


def judge_steps(steps: Sequence[MeasuredStep], criteria: Criteria) -> tuple[CapacityStep, ...]:
    """Return how the target bore each step, compared with the smallest one where needed."""
    smallest = min(steps, key=lambda step: step.load, default=None)
    calls = smallest.pick_calls(criteria.unit) if smallest else None
    base = pick_latency(calls) if calls else None
    return tuple(_judge(step, criteria, base) for step in steps)


def find_harm(step: MeasuredStep, criteria: Criteria) -> str | None:
    """Return what shows that the target is harmed: most calls fail, without being refused."""
    calls = step.pick_calls(criteria.unit)
    share = count_failed(calls) / calls.count if calls else 0.0
    return f"{format_share(share)} of the calls failed" if share > ABORT_SHARE else None


def _judge(step: MeasuredStep, criteria: Criteria, base: Percentiles | None) -> CapacityStep:
    calls, openings = step.pick_calls(criteria.unit), step.pick_openings(criteria.unit)
    refused = _judge_refusals(step, criteria, calls, openings)
    if refused is not None:
        return refused
    if calls is None:
        return CapacityStep(step.load, MOST_STRAIN, reason="no call was made")
    found = [*_list_strains(step, criteria, calls, base)]
    worst = max(found, key=lambda each: each.strain)
    return replace(worst, strain=min(MOST_STRAIN, round(worst.strain, 4)))


def _judge_refusals(
    step: MeasuredStep, criteria: Criteria, calls: Row | None, openings: Row | None
) -> CapacityStep | None:
    """Return a step in which something was refused; None if nothing was."""
    rows = [row for row in (openings, calls) if row is not None]
    if any(row.failures.get("rate_limited") for row in rows):
        return CapacityStep(step.load, MOST_STRAIN, reason="the quota refuses calls")
    if openings is not None and (full := openings.failures.get("capacity", 0)):
        reason = f"the session cap refuses ({full:,} of {openings.count:,} were refused)"
        bore = openings.ok if criteria.unit == "sessions" else None
        return CapacityStep(step.load, MOST_STRAIN, bore, reason)
    if calls is not None and (full := calls.failures.get("capacity", 0)):
        reason = f"a full server refuses {full:,} of {calls.count:,} calls"
        return CapacityStep(step.load, MOST_STRAIN, reason=reason)
    return None


def _list_strains(
    step: MeasuredStep, criteria: Criteria, calls: Row, base: Percentiles | None
) -> Iterator[CapacityStep]:
    """Yield each figure ÷ its limit, with what it would mean to be above."""
    share = calls.ok_rate / calls.offered_rate if calls.offered_rate else 1.0
    lost = max(0.0, 1 - share) / (1 - SUSTAINED_MIN_RATE_SHARE)
    served = f"{format_share(share)} of the offered calls succeed"
    bore = math.floor(calls.ok_rate / criteria.rate) if lost > 1 else None
    yield CapacityStep(step.load, lost, bore, served)
    latency = pick_latency(calls)
    if latency is not None:
        behind = latency.p50 / 1000 / criteria.pace_seconds
        reason = "half of the calls take longer than the pace of a session"
        yield CapacityStep(step.load, behind, bore, reason)
        if base is not None and not criteria.has_latency and base.p95 > 0:
            slow = latency.p95 / base.p95
            reason = f"p95 is {slow:.1f} times that of the smallest step"
            yield CapacityStep(step.load, slow / SUSTAINED_MAX_SLOWDOWN, bore, reason)
    if not criteria.has_failures:
        yield _judge_share(step.load, count_failed(calls), calls.count, criteria.max_failure_share)
    for each in criteria.objectives:
        row = calls if criteria.unit == "sessions" else step.find_row(each.kind, each.name)
        if row is None:
            continue
        if each.figure == "failed":
            yield _judge_share(step.load, row.count - row.ok, row.count, each.limit)
        elif (measured := pick_latency(row)) is not None:
            value: float = getattr(measured, each.figure)
            reason = f"{each.figure} is {add_ms(format_ms(value))}"
            yield CapacityStep(step.load, value / each.limit, bore, reason)


def _judge_share(load: int, failed: int, count: int, limit: float) -> CapacityStep:
    strain = failed / count / limit if limit else (MOST_STRAIN if failed else 0.0)
    return CapacityStep(load, strain, reason=f"{format_share(failed / count)} of the calls fail")


def build_rows(
    measured: Sequence[MeasuredStep],
    steps: Sequence[CapacityStep],
    criteria: Criteria,
    most: int,
) -> tuple[Row, ...]:
    """Return the rows of a search: one stage for each load, or the mix at the most that was borne.

    Of several trials of a load, the last one counts. Beside them is the rate that is borne.
    """
    trials = {step.load: step for step in measured}
    borne = [step.load for step in steps if step.is_borne and step.load <= most]
    rows: list[Row] = []
    if criteria.unit == "sessions":
        for load in sorted(trials):
            kinds = ("stage", "opening", "stream")
            rows += (row for row in trials[load].rows if row.kind in kinds)
    elif trials:
        rows += trials[max(borne, default=min(trials))].rows
    calls = trials[max(borne)].pick_calls(criteria.unit) if borne else None
    if calls is not None:
        rate = most * criteria.rate
        found = replace(calls, kind="capacity", name="capacity", failures={}, count=calls.ok)
        rows.append(replace(found, achieved_rate=rate, duration=None, response=None, replies=None))
    return tuple(rows)
