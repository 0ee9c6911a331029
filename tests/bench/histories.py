"""Simulated histories: runs whose figures are noisy in the ways that those of real runs are."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.results.history import Entry
from loadtest.results.run import SCENARIOS, Percentiles, Row, Run, ScenarioResult, Target

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

# How many times slower a row is than it was, after a change.
Effect = Callable[[str, str], float]


@dataclass(frozen=True)
class Noise:
    """How a history is noisy: standard deviations of the logarithm, and shares of runs.

    `run`, shared by all cells and like that of the run before by `memory`; `scenario`, `row` and
    `figure`, with heavy tails (Student's t, 4 degrees of freedom). On a bad day everything is
    slower, by `bad_day` on average; a stall raises the tail of one row.
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


NOISES = (
    Noise("quiet", 0.015, 0.3, 0.01, 0.015, 0.015, 0.01, 0.15, 0.005),
    Noise("usual", 0.03, 0.3, 0.02, 0.025, 0.02, 0.03, 0.25, 0.01),
    Noise("noisy", 0.06, 0.4, 0.04, 0.05, 0.04, 0.05, 0.3, 0.02),
)


class Simulation:
    """One history of one target, seeded: some of its rows are noisier than others, by chance."""

    def __init__(self, noise: Noise, seed: int) -> None:
        self.noise = noise
        self.rng = random.Random(f"{noise.name}/{seed}")  # noqa: S311
        self.number = 0
        self._run = self.rng.gauss(0, noise.run)
        self._restless = {row[:3]: self.rng.lognormvariate(0, 0.3) for row in ROWS}

    def draw(self, effect: Effect = lambda _scenario, _name: 1.0) -> Entry:
        """Return the next run."""
        noise, rng = self.noise, self.rng
        fresh = math.sqrt(1 - noise.memory**2)
        self._run = noise.memory * self._run + fresh * rng.gauss(0, noise.run)
        run = self._run
        if rng.random() < noise.bad_days:
            run += rng.expovariate(1 / noise.bad_day)
        scenarios = {name: run + noise.scenario * self._draw_tailed() for name in SCENARIOS}
        burst = BURST_FAILURES if rng.random() < BURST_SHARE else 0.0
        rows = tuple(self._draw_row(row, scenarios, effect, FAILURE_SHARE + burst) for row in ROWS)
        self.number += 1
        return build_entry(self.number, rows)

    def _draw_row(
        self,
        row: tuple[str, str, str, int, float],
        scenarios: dict[str, float],
        effect: Effect,
        failure_share: float,
    ) -> Row:
        noise, rng = self.noise, self.rng
        scenario, kind, name, calls, p50 = row
        restless = self._restless[scenario, kind, name]
        slower = scenarios[scenario] + restless * noise.row * self._draw_tailed()
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
        scenarios=tuple(ScenarioResult(name, "ok", 0) for name in SCENARIOS),
    )
    return Entry(run, rows)
