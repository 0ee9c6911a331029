"""Known ceilings: found by the search with the real k6, and by simulated searches with noise."""

from dataclasses import dataclass

from rich.table import Table

from loadtest.capacity.search import SearchRange, estimate_most, find_next
from loadtest.capacity.steps import (
    Criteria,
    MeasuredStep,
    choose_criteria,
    choose_seconds,
    judge_steps,
)
from loadtest.results.run import CapacityStep, CapacityUnit
from tests.bench.k6_runs import Place, serve_target
from tests.capacity.simulated import (
    CEILINGS,
    climb,
    find_higher,
    find_last_borne,
    find_truth,
    search,
)
from tests.k6.running import build_settings

NOISE = 0.1
SEARCHES = 100
START = 10
MOST, LEAST_SECONDS, TOLERANCE = 160, 10, 0.1


@dataclass(frozen=True)
class Ceiling:
    """A target with a known ceiling, and what is searched for."""

    name: str
    ceiling: int
    unit: CapacityUnit
    options: tuple[str, ...]


# Calls take 100 ms, so that the noise of this machine is small beside them. 5 workers of 0.2 s
# serve 25 calls/s; above 60 sessions, each adds 30 ms.
REAL = (
    Ceiling(
        "cap of 40 sessions",
        40,
        "sessions",
        ("--tool-latency", "constant:100", "--session-cap", "40"),
    ),
    Ceiling(
        "workers for 25 calls/s",
        25,
        "calls",
        ("--tool-workers", "5", "--tool-latency", "constant:200"),
    ),
    Ceiling(
        "latency from 60 sessions",
        60,
        "sessions",
        ("--tool-latency", "constant:100", "--crowd-latency", "60,30"),
    ),
)


def bench() -> Table:
    """Find each ceiling by our search and by the first step that violates; then 100 times."""
    table = Table(
        f"from {START}; first violator: 10 % more each step, until one violates a limit",
        *("truth", "ours", "steps", "at most", "first violator", "steps"),
        box=None,
    )
    for case in REAL:
        with serve_target(*case.options) as place:
            ours, taken = _search(place, case)
            usual, climbed = _climb(place, case)
        table.add_row(case.name, str(case.ceiling), ours, taken, "9", usual, climbed)
    table.add_section()
    table.add_row(
        f"within 10 % in 9 steps, of {SEARCHES} simulated searches with noise of {NOISE:.0%}"
    )
    for name, make in CEILINGS.items():
        truth = find_truth(make())
        found = {"ours": 0, "usual": 0}
        counts: dict[str, list[int]] = {"ours": [], "usual": []}
        for seed in range(SEARCHES):
            steps = search(make(NOISE, seed), START)
            counts["ours"].append(len(steps))
            found["ours"] += _is_near(estimate_most(steps), truth) and len(steps) <= 9
            steps = climb(make(NOISE, seed), START)
            counts["usual"].append(len(steps))
            found["usual"] += _is_near(find_last_borne(steps), truth)
        means = {key: f"{sum(each) / SEARCHES:.1f}" for key, each in counts.items()}
        table.add_row(
            *(name, str(truth), f"{found['ours']} of {SEARCHES}", means["ours"], "9"),
            *(f"{found['usual']} of {SEARCHES}", means["usual"]),
        )
    return table


def _is_near(found: int, truth: int) -> bool:
    return abs(found / truth - 1) <= 0.1


def _search(place: Place, case: Ceiling) -> tuple[str, str]:
    criteria, measured = _choose(case), list[MeasuredStep]()
    while True:
        steps = judge_steps(measured, criteria)
        load = find_next(steps, SearchRange(START, MOST, TOLERANCE))
        if load is None:
            return _describe(estimate_most(steps), case, steps), str(len(steps))
        measured.append(_measure(place, criteria, load))


def _climb(place: Place, case: Ceiling) -> tuple[str, str]:
    criteria, load = _choose(case), START
    measured = [_measure(place, criteria, load)]
    while (steps := judge_steps(measured, criteria))[-1].is_borne and load < MOST:
        load = find_higher(load)
        measured.append(_measure(place, criteria, load))
    return _describe(find_last_borne(steps), case, steps), str(len(steps))


def _describe(found: int, case: Ceiling, steps: tuple[CapacityStep, ...]) -> str:
    loads = " ".join(f"{step.load}{'' if step.is_borne else '!'}" for step in steps)
    return f"{found} ({found / case.ceiling - 1:+.0%}): {loads}"


def _choose(case: Ceiling) -> Criteria:
    settings = build_settings(TOOL="listEntities")
    return choose_criteria(settings, settings.profile, case.unit)


def _measure(place: Place, criteria: Criteria, load: int) -> MeasuredStep:
    settings = build_settings(TOOL="listEntities")
    seconds = str(choose_seconds(criteria, settings.profile, load, LEAST_SECONDS, TOLERANCE))
    if criteria.unit == "sessions":
        done = place.run("sessions", STAGES=str(load), STAGE_SECONDS=seconds, TOOL="listEntities")
    else:
        done = place.run("tools", VUS=str(load), DURATION=seconds, TARGET_RPS=str(load))
    return MeasuredStep(load, done.rows)
