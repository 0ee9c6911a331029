"""What is suspicious in a run is measured again at once: by the same k6, with the same bearers."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from loadtest.compare.baselines import find_fault
from loadtest.compare.knee import MIN_SAMPLES, is_rate_limited
from loadtest.config.pace import Pace
from loadtest.errors import K6Error, LoadtestError
from loadtest.k6.command import list_phases
from loadtest.k6.plan import RunPlan
from loadtest.k6.progress import Watcher
from loadtest.k6.quota_demand import CALLING, WINDOW_SECONDS
from loadtest.k6.scenario import RunScenario, ScenarioRun
from loadtest.results.history import Entry, is_aggregate
from loadtest.results.run import (
    ASIDE,
    Repeat,
    Row,
    Run,
    ScenarioResult,
    begin_scenario,
    plan_scenarios,
)
from loadtest.results.run_folder import RunFolder, write_repeat, write_run

MOST_ROUNDS = 3
# Of the length of a run, unless `remeasure_minutes` is set.
BUDGET_SHARE = 0.25
# A slice takes the largest of these shares of its length with which three rounds fit the budget.
SHARES = (1.0, 0.75, 0.5, 0.25)
# A shorter slice would measure its own beginning.
LEAST_SECONDS = 5.0
LEAST_PACES = 2

# What can be measured again: a scenario, or with a name one stage of the ladder.
Part = tuple[str, int | None]
# Compares a run and its repeats with the history, and returns what is suspicious: stages of the
# ladder by scenario, none for a whole scenario. LoadtestError if the history cannot be read.
Judge = Callable[[RunFolder], Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Budget:
    """How long all repeats together may take, and the setting that says so.

    With `pauses`, the quota needs a minute without calls before a scenario that calls tools.
    """

    seconds: float
    source: str
    pauses: bool = False


def find_budget(plan: RunPlan, run: Run, life_seconds: float, *, pauses: bool) -> Budget:
    """Return what bounds the repeats of a run: the profile, the environment, or a bearer's life."""
    length = sum(map(_count_seconds, run.scenarios))
    minutes = plan.profile.remeasure_minutes
    bounds = {
        "remeasure_minutes": length * BUDGET_SHARE if minutes is None else minutes * 60,
        "max_duration_seconds": plan.limits.max_duration_seconds - length,
        "the lifetime of the bearer": life_seconds,
    }
    source = min(bounds, key=lambda name: bounds[name])
    return Budget(bounds[source], source, pauses)


def measure_again(
    plan: RunPlan,
    folder: RunFolder,
    *,
    run: RunScenario,
    judge: Judge,
    budget: Budget,
    tell: Callable[[str], None],
    watcher: Watcher | None = None,
    renewal_url: str | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> RunFolder:
    """Measure what is suspicious again, at most three times; return the folder with the repeats.

    The run itself stays as it is: a repeat that fails, or is interrupted, changes only the repeats.
    A run that did not reach its end is not measured again. KeyboardInterrupt and SystemExit are
    raised when the repeat is written.
    """
    if not all(result.is_whole() for result in folder.run.scenarios):
        return folder
    rounds = _Rounds(plan, folder, run, budget, tell, watcher, renewal_url, pause)
    try:
        for number in range(1, MOST_ROUNDS + 1):
            parts = _list_parts(plan, judge(rounds.folder))
            if not parts or not rounds.measure(number, parts):
                break
    except LoadtestError as failure:
        tell(f"nothing is measured again: {failure}")
    return rounds.keep_notes()


@dataclass
class _Rounds:
    """The repeats of a run; `notes` tell why something suspicious was not measured again."""

    plan: RunPlan
    folder: RunFolder
    run: RunScenario
    budget: Budget
    tell: Callable[[str], None]
    watcher: Watcher | None
    renewal_url: str | None
    pause: Callable[[float], None]
    notes: list[str] = field(default_factory=list)
    noted: set[Part] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)
    # When the last scenario that calls tools ended.
    called: float = field(default_factory=time.monotonic)

    def measure(self, number: int, parts: Sequence[Part]) -> bool:
        """Measure parts again; return whether another round may follow."""
        limited = [name for name in self.plan.scenarios if is_rate_limited(self.folder.rows, name)]
        if limited:
            self._note(parts, f"the quota refused calls of {', '.join(limited)}")
            return False
        count = self.plan.runners.count
        few = [part for part in parts if part[1] is not None and part[1] < count]
        self._note(few, f"fewer sessions than the {count} runners")
        parts = [part for part in parts if part not in few]
        left = max(0.0, self.began + self.budget.seconds - time.monotonic())
        kept, share = self._fit(parts, left, MOST_ROUNDS + 1 - number)
        omitted = [part for part in parts if part not in kept]
        if omitted:
            seconds = self._estimate(narrow(self.plan, omitted, self._list_shares(omitted)[-1]))
            once_more = " once more" if number > 1 else ""
            why = f"{self.budget.source} leaves {left:.0f} s, {seconds:.0f} s are needed{once_more}"
            self._note(omitted, why)
        if not kept:
            return False
        narrowed = narrow(self.plan, kept, share)
        self.tell(
            f"suspicious: {_describe(kept)}; measured again, round {number} of at most "
            f"{MOST_ROUNDS}, about {self._estimate(narrowed):.0f} s"
        )
        stages = tuple(str(stage) for _, stage in kept if stage is not None)
        remeasured = {name: stages if name == "sessions" else () for name in narrowed.scenarios}
        planned = plan_scenarios(narrowed.scenarios)
        return self._measure(narrowed, Repeat(number, remeasured, planned, share))

    def keep_notes(self) -> RunFolder:
        """Write the notes, if there are any, and return the folder."""
        if self.notes:
            run = replace(self.folder.run, repeats_note="; ".join(self.notes))
            self.folder = replace(self.folder, run=run)
            write_run(self.folder)
        return self.folder

    def _note(self, parts: Sequence[Part], why: str) -> None:
        """Print and keep why parts are not measured again, once for each part."""
        fresh = [part for part in parts if part not in self.noted]
        if fresh:
            self.noted.update(fresh)
            self.notes.append(f"{_describe(fresh)}: {why}")
            self.tell(f"suspicious, but not measured again: {self.notes[-1]}")

    def _fit(self, parts: Sequence[Part], left: float, rounds: int) -> tuple[list[Part], float]:
        """Return the parts that fit the seconds left, and with which share of their length."""
        kept: list[Part] = []
        for part in parts:
            more = [*kept, part]
            if self._estimate(narrow(self.plan, more, self._list_shares(more)[-1])) <= left:
                kept = more
        shares = self._list_shares(kept)
        fitting = (
            share
            for share in shares
            if self._estimate(narrow(self.plan, kept, share)) <= left / rounds
        )
        return kept, next(fitting, shares[-1])

    def _list_shares(self, parts: Sequence[Part]) -> list[float]:
        """Return how much of its length each slice may take, so that its figures can be compared.

        Each row keeps enough calls for its p50, and each total for its p95.
        """
        least = 0.0
        for row in self.folder.rows:
            stage = int(row.name) if row.scenario == "sessions" and row.kind == "stage" else None
            if (row.scenario, stage) in parts and row.kind not in ASIDE:
                is_total = row.kind in {"frame", "stage"} or is_aggregate(row)
                needs = [MIN_SAMPLES["p50"], *([MIN_SAMPLES["p95"]] if is_total else [])]
                least = max([least, *(need / row.ok for need in needs if row.ok >= need)])
        return [share for share in SHARES if share >= least]

    def _estimate(self, narrowed: RunPlan) -> float:
        """Return how many seconds a plan takes, from how long the run took."""
        results = {result.name: result for result in self.folder.run.scenarios}
        total = 0.0
        for name in narrowed.scenarios:
            seconds = _count_seconds(results[name])
            if name in CALLING:
                beside = seconds - _find_scheduled(self.plan, name)
                total += max(0.0, beside) + _find_scheduled(narrowed, name)
                total += WINDOW_SECONDS if self.budget.pauses else 0
            else:
                starts = narrowed.profile.cold_start.iterations
                total += seconds * starts / self.plan.profile.cold_start.iterations
        return total

    def _measure(self, narrowed: RunPlan, repeat: Repeat) -> bool:
        """Run the scenarios of a round; return whether all of them can be used."""
        rows: tuple[Row, ...] = ()
        self._keep(repeat)
        for name in narrowed.scenarios:
            if self.budget.pauses and name in CALLING:
                self.pause(max(0.0, self.called + WINDOW_SECONDS - time.monotonic()))
            repeat = self._keep(repeat.note(begin_scenario(name)))
            finished = self._run(narrowed, name, self.folder.repeat_dir(repeat.number, name))
            if name in CALLING:
                self.called = time.monotonic()
            if finished.rows:
                write_repeat(self.folder, repeat.number, name, finished.rows)
            repeat = self._keep(repeat.note(finished.result))
            if finished.interruption is not None:
                raise finished.interruption
            if not finished.result.is_whole():
                self._note(((name, None),), f"round {repeat.number}: {finished.result.reason}")
                break
            rows += finished.rows
        if rows:
            self.folder = replace(self.folder, repeats=(*self.folder.repeats, rows))
        return all(result.is_whole() for result in repeat.scenarios)

    def _run(self, narrowed: RunPlan, name: str, out_dir: Path) -> ScenarioRun:
        """Run one scenario; if its figures cannot be compared, it has failed."""
        try:
            finished = self.run(
                narrowed,
                name,
                out_dir=out_dir,
                watcher=self.watcher,
                renewal_url=self.renewal_url,
            )
        except K6Error as failure:
            return ScenarioRun(ScenarioResult(name, "failed", reason=str(failure)))
        result = finished.result
        fault = find_fault(
            Entry(replace(self.folder.run, scenarios=(result,)), finished.rows), name
        )
        if result.is_whole() and fault is not None:
            result = replace(result, outcome="failed", reason=f"it {fault}")
        return replace(finished, result=result)

    def _keep(self, repeat: Repeat) -> Repeat:
        """Write a round into `run.json`, so that it is true whenever this process is killed."""
        others = (each for each in self.folder.run.repeats if each.number != repeat.number)
        run = replace(self.folder.run, repeats=(*others, repeat))
        self.folder = replace(self.folder, run=run)
        write_run(self.folder)
        return repeat


def narrow(plan: RunPlan, parts: Sequence[Part], share: float) -> RunPlan:
    """Return the plan of these parts alone, with slices of this share of their length.

    What it measures goes to no other output of k6.
    """
    profile = plan.profile
    starts, ladder, mix = profile.cold_start, profile.sessions, profile.tools
    named = {stage for _, stage in parts}
    stages = tuple(stage for stage in ladder.stages if stage in named)
    iterations = _shorten(starts.iterations, share, starts.vus)
    stage_seconds = _shorten(ladder.stage_seconds, share, _find_least(ladder.pace))
    duration_seconds = _shorten(mix.duration_seconds, share, _find_least(mix.pace))
    changed = {
        "cold_start": starts.model_copy(update={"iterations": iterations}),
        "sessions": ladder.model_copy(
            update={"stages": stages or ladder.stages, "stage_seconds": stage_seconds}
        ),
        "tools": mix.model_copy(update={"duration_seconds": duration_seconds}),
    }
    if (streams := profile.streams) is not None:
        seconds = _shorten(streams.stage_seconds, share, _find_least(ladder.pace))
        changed["streams"] = streams.model_copy(update={"stage_seconds": seconds})
    chosen = {scenario for scenario, _ in parts}
    return replace(
        plan,
        scenarios=tuple(name for name in plan.scenarios if name in chosen),
        profile=profile.model_copy(update=changed),
        outputs=(),
    )


def _shorten(length: int, share: float, least: float) -> int:
    return min(length, math.ceil(max(length * share, least)))


def _find_least(pace: Pace | None) -> float:
    """Return the fewest seconds of a slice whose sessions keep this pace."""
    return max(LEAST_SECONDS, LEAST_PACES * pace.mean_seconds if pace else 0.0)


def _list_parts(plan: RunPlan, suspicious: Mapping[str, Sequence[str]]) -> list[Part]:
    """Return what can be measured again: stages last, as they may be many, the largest first.

    A soak takes too long.
    """
    parts: list[Part] = [
        (name, None)
        for name in plan.scenarios
        if name in suspicious and name not in {"sessions", "soak"}
    ]
    if "sessions" in suspicious and "sessions" in plan.scenarios:
        stages = sorted(plan.profile.sessions.stages, reverse=True)
        named = suspicious["sessions"] or tuple(map(str, stages))
        parts += [("sessions", stage) for stage in stages if str(stage) in named]
    return parts


def _describe(parts: Sequence[Part]) -> str:
    names = [name for name, stage in parts if stage is None]
    stages = [str(stage) for _, stage in parts if stage is not None]
    return ", ".join([*names, *([f"sessions {' and '.join(stages)}"] if stages else [])])


def _find_scheduled(plan: RunPlan, scenario: str) -> float:
    return sum(phase.seconds or 0.0 for phase in list_phases(plan, scenario))


def _count_seconds(result: ScenarioResult) -> float:
    """Return how many seconds a scenario took."""
    if result.started is None or result.ended is None:
        return 0.0
    ended, started = map(datetime.fromisoformat, (result.ended, result.started))
    return (ended - started).total_seconds()
