"""The trials of a search: made by k6, kept in the run folder after each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from loadtest.capacity.options import CapacityOptions
from loadtest.capacity.search import (
    SearchRange,
    estimate_most,
    find_edge,
    find_next,
    find_stretch,
)
from loadtest.capacity.steps import (
    Criteria,
    MeasuredStep,
    build_profile,
    build_rows,
    choose_seconds,
    find_harm,
    judge_steps,
)
from loadtest.common.clock import utc_now
from loadtest.errors import K6Error
from loadtest.k6.command import list_phases
from loadtest.k6.plan import RunPlan
from loadtest.k6.scenario import ScenarioRun, learn
from loadtest.k6.stage import OpenGenerator
from loadtest.results.run import Capacity, CapacityStep, Outcome, ScenarioResult
from loadtest.results.run_folder import RunFolder, replace_rows, write_run

STEPS_DIR = "steps"


@dataclass
class Trials:
    """A search while it runs; `folder` is what it has written, `bound` what limits its loads."""

    plan: RunPlan
    generator: OpenGenerator
    folder: RunFolder
    criteria: Criteria
    span: SearchRange
    bound: str
    options: CapacityOptions
    tell: Callable[[str], None]
    measured: list[MeasuredStep] = field(default_factory=list)
    spent_seconds: float = 0.0

    def run(self) -> RunFolder:
        """Make trials until the edge is known or something stops the search; return the folder.

        KeyboardInterrupt and SystemExit are raised when what is known is written.
        """
        stopped = None
        while stopped is None:
            load = find_next(self.steps, self.span)
            if load is None:
                break
            stopped = self._try(load)
        if stopped is None and find_edge(self.steps).high is None:
            stopped = f"{self.bound} allows {self.span.most:,}"
        if self.measured:
            self._keep("ok", stopped)
        return self.folder

    @property
    def steps(self) -> tuple[CapacityStep, ...]:
        """Return how the target bore each load, in the order of the trials."""
        return judge_steps(self.measured, self.criteria)

    def _try(self, load: int) -> str | None:
        """Make one trial; return why the search stops, if it does."""
        plan = self._narrow(load)
        length = sum(phase.seconds or 0.0 for phase in list_phases(plan, self.criteria.scenario))
        left = plan.limits.max_duration_seconds - self.spent_seconds
        if length > left:
            return f"max_duration_seconds leaves {left:.0f} s, {load:,} would take {length:.0f} s"
        self.spent_seconds += length
        number = len(self.measured) + 1
        try:
            finished = self.generator.run(
                plan,
                self.criteria.scenario,
                out_dir=self.folder.path / STEPS_DIR / str(number),
                watcher=self.generator.watcher,
                renewal_url=self.generator.renewal_url,
            )
        except K6Error as failure:
            result = replace(self.folder.run.scenarios[0], reason=str(failure))
            self._keep("failed", str(failure), result)
            raise
        self.folder = replace(self.folder, run=learn(self.folder.run, finished))
        if finished.interruption is not None:
            self._keep("interrupted", "it was interrupted", finished.result)
            raise finished.interruption
        if finished.result.outcome == "failed":
            self._keep("failed", finished.result.reason, finished.result)
            return f"a step of {load:,} failed: {finished.result.reason}"
        step = MeasuredStep(load, finished.rows)
        self.measured.append(step)
        # Until the next trial has ended: it stays if the process is killed.
        self._keep("interrupted", None, finished.result)
        self._tell_last(number)
        return self._find_stop(step, finished)

    def _narrow(self, load: int) -> RunPlan:
        """Return the plan of one trial."""
        profile, least = self.plan.profile, self.options.step_seconds
        seconds = choose_seconds(self.criteria, profile, load, least, self.span.tolerance)
        return replace(self.plan, profile=build_profile(profile, self.criteria.unit, load, seconds))

    def _find_stop(self, step: MeasuredStep, finished: ScenarioRun) -> str | None:
        """Return why no higher load may follow: the target is harmed, or k6 is at its own edge."""
        where = f"at {step.load:,}"
        if finished.result.outcome == "aborted":
            return f"{where}, {finished.result.reason}"
        if (harm := find_harm(step, self.criteria)) is not None:
            return f"{where}, {harm}"
        generator = finished.result.generator
        # If the target shares the machine with the load generator, this is expected.
        is_shared = self.folder.run.machine.get("shares_with_target")
        if generator is not None and generator.is_bottleneck() and not is_shared:
            return f"{where}, the load generator was the bottleneck"
        return None

    def _tell_last(self, number: int) -> None:
        step = self.steps[-1]
        how = "borne" if step.is_borne else f"too much: {step.reason}"
        self.tell(f"step {number}: {step.load:,} {self.options.unit}: {how}")

    def _keep(
        self, outcome: Outcome, stopped: str | None, last: ScenarioResult | None = None
    ) -> None:
        """Write what is known, so that the folder is true whenever this process is killed."""
        steps = self.steps
        found = self._describe(steps, stopped)
        result = self._add(outcome, last or self.folder.run.scenarios[0])
        run = replace(self.folder.run.note(result), capacity=found, ended=utc_now())
        self.folder = replace(self.folder, run=run)
        if rows := build_rows(self.measured, steps, self.criteria, found.most):
            self.folder = replace_rows(self.folder, self.criteria.scenario, rows)
        write_run(self.folder)

    def _add(self, outcome: Outcome, last: ScenarioResult) -> ScenarioResult:
        """Return the result of the scenario, of which `last` is the newest trial."""
        result = self.folder.run.scenarios[0]
        more = 0 if last is result else last.sessions_left
        return replace(
            last,
            outcome=outcome,
            reason=None if outcome == "ok" else last.reason,
            crossed=(),
            started=result.started or last.started,
            sessions_left=result.sessions_left + more,
        )

    def _describe(self, steps: Sequence[CapacityStep], stopped: str | None) -> Capacity:
        edge = find_edge(steps)
        low, high = find_stretch(steps)
        beyond = [step.reason for step in steps if step.load == edge.high and not step.is_borne]
        return Capacity(
            unit=self.options.unit,
            most=estimate_most(steps),
            low=low,
            high=high,
            beyond=beyond[-1] if beyond else None,
            stopped=stopped,
            limits=tuple(self.criteria.list_limits()),
            pace=self.plan.profile.sessions.pace.text,
            steps=tuple(steps),
        )
