"""Simulated histories: runs whose figures are noisy in the ways that those of real runs are."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from loadtest.config.models import USUAL_SCENARIOS
from loadtest.results.history import Entry
from loadtest.results.run import Percentiles, Row, Run, ScenarioResult, Target

LADDER_SECONDS = 60
MIX_SECONDS = 120
# Scenario, kind, name, calls, p50 in ms: profile standard against a target of middling speed.
ROWS = (
    ("cold-start", "frame", "connect", 200, 22.0),
    ("cold-start", "frame", "initialize", 200, 61.0),
    ("cold-start", "frame", "tools/list", 200, 35.0),
    ("cold-start", "frame", "first dispatch", 200, 130.0),
    ("sessions", "stage", "1", 60, 40.0),
    ("sessions", "stage", "10", 600, 42.0),
    ("sessions", "stage", "50", 3000, 48.0),
    ("sessions", "stage", "100", 6000, 65.0),
    ("tools", "tool", "executeSQL", 36000, 110.0),
    ("tools", "tool", "listEntities", 12000, 38.0),
    ("tools", "tool", "describeEntity", 6000, 40.0),
    ("tools", "tool", "runMetric", 6000, 150.0),
    ("tools", "tool", "all", 60000, 90.0),
)
# p95 and p99 over p50, and how much noisier they are.
TAIL = {"p50": 1.0, "p95": 1.9, "p99": 3.1}
TAIL_NOISE = {"p50": 1.0, "p95": 1.4, "p99": 2.0}
FAILURE_SHARE, BURST_SHARE, BURST_FAILURES = 0.0005, 0.02, 0.02

# The control: a static document, asked for in every scenario.
CONTROL_MS, CONTROL_CALLS, CONTROL_NOISE = 12.0, 240, 0.02
# Repeats share this part of the variance of rows and scenarios with their run: the hour.
HOUR_SHARE = 0.5
# A run of profile standard takes this long, and each of its scenarios this share of it.
SHARES = {"cold-start": 0.14, "sessions": 0.57, "tools": 0.29}
STAGE_SHARE = SHARES["sessions"] / 4

# How many times slower a row is than it was, after a change.
Effect = Callable[[str, str], float]
# A scenario, or a row of it.
Place = str | tuple[str, str]


@dataclass(frozen=True)
class Noise:
    """How a history is noisy: standard deviations of the logarithm, and shares of runs.

    `run`, shared by all cells and like that of the run before by `memory`; `scenario`, `row` and
    `figure`, with heavy tails (Student's t, 4 degrees of freedom). On a bad day everything is
    slower, by `bad_day` on average; a stall raises the tail of one row, for less than a scenario.
    The load generator is on a slow host in half of the runs, `slow_host` slower, and stays there
    with the probability `host_stays`. All of the route is slower by `week` on every seventh run,
    and by about `level` after a `level_change`, for good. What slows the host or the route slows
    the control as well, if there is a `control`.
    """

    name: str
    run: float
    memory: float
    scenario: float
    row: float
    figure: float
    bad_days: float
    bad_day: float
    stalls: float
    slow_host: float = 0.0
    host_stays: float = 0.0
    week: float = 0.0
    level_changes: float = 0.0
    level: float = 0.0
    control: bool = True


QUIET = Noise("quiet", 0.015, 0.3, 0.01, 0.015, 0.015, 0.01, 0.15, 0.005)
USUAL = Noise("usual", 0.03, 0.3, 0.02, 0.025, 0.02, 0.03, 0.25, 0.01)
NOISY = Noise("noisy", 0.06, 0.4, 0.04, 0.05, 0.04, 0.05, 0.3, 0.02)
NOISES = (
    QUIET,
    USUAL,
    NOISY,
    replace(USUAL, name="AR(1)", run=0.06, memory=0.85),
    replace(USUAL, name="common shifts", level_changes=0.08, level=0.25),
    replace(USUAL, name="stalls", stalls=0.04),
    replace(USUAL, name="sticky hosts", slow_host=0.35, host_stays=0.85),
    replace(USUAL, name="weekly", week=0.12),
    replace(USUAL, name="no control", control=False),
    replace(USUAL, name="sticky, no control", slow_host=0.35, host_stays=0.85, control=False),
)


class Simulation:
    """One history of one target, seeded: some of its rows are noisier than others, by chance."""

    def __init__(self, noise: Noise, seed: int) -> None:
        self.noise = noise
        self.rng = random.Random(f"{noise.name}/{seed}")  # noqa: S311
        self.number = 0
        self._run = self.rng.gauss(0, noise.run)
        self._level = 0.0
        self._is_slow = self.rng.random() < 0.5
        self._restless = {row[:3]: self.rng.lognormvariate(0, 0.3) for row in ROWS}
        self._hour: dict[Place, float] = {}
        self._shared = 0.0

    def draw(self, effect: Effect | None = None) -> Entry:
        """Return the next run."""
        noise, rng = self.noise, self.rng
        fresh = math.sqrt(1 - noise.memory**2)
        self._run = noise.memory * self._run + fresh * rng.gauss(0, noise.run)
        if rng.random() < noise.level_changes:
            self._level = rng.gauss(0, noise.level)
        if rng.random() > noise.host_stays:
            self._is_slow = rng.random() < 0.5
        self._shared = self._run + self._level
        self._shared += noise.slow_host * self._is_slow + noise.week * (self.number % 7 == 0)
        if rng.random() < noise.bad_days:
            self._shared += rng.expovariate(1 / noise.bad_day)
        places: list[Place] = [
            *USUAL_SCENARIOS,
            *((scenario, name) for scenario, _, name, *_ in ROWS),
        ]
        self._hour = {place: math.sqrt(HOUR_SHARE) * self._draw_tailed() for place in places}
        rows = self._measure(effect or _change_nothing, USUAL_SCENARIOS)
        self.number += 1
        return build_entry(self.number, rows)

    def repeat(
        self, remeasure: Mapping[str, Sequence[str]], effect: Effect | None = None
    ) -> tuple[Row, ...]:
        """Return what measuring a part of the last run again gives: the same host and hour."""
        rows = self._measure(effect or _change_nothing, tuple(remeasure))
        return tuple(row for row in rows if row.name in (remeasure[row.scenario] or (row.name,)))

    def _measure(self, effect: Effect, names: Sequence[str]) -> tuple[Row, ...]:
        noise = self.noise
        rows = []
        for scenario in names:
            burst = BURST_FAILURES if self.rng.random() < BURST_SHARE else 0.0
            slower = self._shared + noise.scenario * self._draw_within(scenario)
            rows += [
                self._draw_row(row, slower, effect, FAILURE_SHARE + burst)
                for row in ROWS
                if row[0] == scenario
            ]
            if noise.control:
                control = CONTROL_MS * math.exp(slower + CONTROL_NOISE * self.rng.gauss(0, 1))
                rows.append(build_control(scenario, control))
        return tuple(rows)

    def _draw_within(self, place: Place) -> float:
        """Return a draw that shares a part with the other measurements of this hour."""
        return self._hour[place] + math.sqrt(1 - HOUR_SHARE) * self._draw_tailed()

    def _draw_row(
        self,
        row: tuple[str, str, str, int, float],
        shared: float,
        effect: Effect,
        failure_share: float,
    ) -> Row:
        noise, rng = self.noise, self.rng
        scenario, kind, name, calls, p50 = row
        restless = self._restless[scenario, kind, name]
        slower = shared + restless * noise.row * self._draw_within((scenario, name))
        slower += math.log(effect(scenario, name))
        values = {}
        for figure, factor in TAIL.items():
            own = restless * noise.figure * TAIL_NOISE[figure] * self._draw_tailed()
            values[figure] = p50 * factor * math.exp(slower + own)
        if rng.random() < noise.stalls:
            values["p95"] *= rng.uniform(1.0, 1.8)
            values["p99"] *= rng.uniform(1.5, 4.0)
        values["p95"] = max(values["p50"], values["p95"])
        values["p99"] = max(values["p95"], values["p99"])
        if scenario == "tools":
            calls = round(calls * math.exp(-slower))
        ok = calls - sum(rng.random() < failure_share for _ in range(min(calls, 1000)))
        seconds = MIX_SECONDS if scenario == "tools" else LADDER_SECONDS
        percentiles = Percentiles(p90=values["p95"], max=values["p99"], **values)
        failures = {"timeout": calls - ok} if calls != ok else {}
        rate = calls / seconds
        return Row(scenario, kind, name, calls, ok, failures, seconds, None, rate, percentiles)  # type: ignore[arg-type]

    def _draw_tailed(self) -> float:
        """Return a draw of Student's t with 4 degrees of freedom, of standard deviation 1."""
        return self.rng.gauss(0, 1) / math.sqrt(self.rng.gammavariate(2, 2) / 4) / math.sqrt(2)


def _change_nothing(_scenario: str, _name: str) -> float:
    return 1.0


def build_control(scenario: str, ms: float) -> Row:
    """Return the row of the control in a scenario."""
    percentiles = Percentiles(ms, 2 * ms, 2 * ms, 3 * ms, 3 * ms)
    count, rate = CONTROL_CALLS, CONTROL_CALLS / MIX_SECONDS
    return Row(
        scenario, "control", "document", count, count, {}, MIX_SECONDS, None, rate, percentiles
    )


def find_repeat_share(remeasure: Mapping[str, Sequence[str]]) -> float:
    """Return which share of a run's time it takes to measure this again."""
    return sum(
        len(stages) * STAGE_SHARE if stages else SHARES[scenario]
        for scenario, stages in remeasure.items()
    )


def build_entry(number: int, rows: tuple[Row, ...]) -> Entry:
    """Return a run that went well, the given one in its history."""
    run = Run(
        run_id=f"run-{number:04}",
        loadtest_version="0.1.0",
        started=f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        environment="prod",
        profile="standard",
        knobs={},
        target=Target("api.example.com", "atlas", "1", "2025-11-25", "handshake"),
        k6_version="1.1.0",
        machine={},
        scenarios=tuple(ScenarioResult(name, "ok", 0) for name in USUAL_SCENARIOS),
    )
    return Entry(run, rows)
