"""One scenario run by a fleet: watched as a whole, and read back as if one k6 had run it."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from loadtest.common.clock import utc_now
from loadtest.common.files import write_json, write_text
from loadtest.common.redaction import redact_folder
from loadtest.errors import K6Error, ResultsError
from loadtest.k6.command import bound_seconds, build_script_env, list_phases
from loadtest.k6.distributed.histogram import Histogram, Tally
from loadtest.k6.distributed.merge import merge
from loadtest.k6.distributed.protocol import Fleet, Launch, Order, RunnerState
from loadtest.k6.distributed.runner_log import RunnerLog, fill_gaps, find_faults, is_told
from loadtest.k6.health import AbortRule
from loadtest.k6.open_sessions import OpenSession, log_file, open_log, settle_log
from loadtest.k6.plan import RunPlan
from loadtest.k6.process import find_error
from loadtest.k6.progress import Live, NoWatcher, Phase, Watcher
from loadtest.k6.scenario import (
    EXIT_ABORTED,
    ScenarioRun,
    close_opened,
    conclude,
    name_outcome,
    read_figures,
)
from loadtest.k6.summary import Summary
from loadtest.results.run import Generator, Outcome, RunnerFault, ScenarioResult

TALLIES_VERSION = 1
LOOK_SECONDS = 0.25
READ_SECONDS = 1.0
# Runners tell by their logs, and sum up into them.
TELL = {"TALLY": "true", "SUMMARY_FILE": "stdout"}


def run_fleet(
    plan: RunPlan,
    scenario: str,
    *,
    out_dir: Path,
    watcher: Watcher | None = None,
    renewal_url: str | None = None,
    launch: Launch,
) -> ScenarioRun:
    """Run one scenario by a fleet; what it measured is a result, that it cannot start an error.

    KeyboardInterrupt and SystemExit stop the fleet and come back as `interruption`.
    """
    watcher = watcher or NoWatcher()
    phases = list_phases(plan, scenario)
    order = replace(
        build_order(plan, scenario, renewal_url),
        logs=tuple(_open_logs(plan.state_dir, plan.mcp_url, plan.runners.count)),
    )
    started = utc_now()
    logs = [RunnerLog(path) for path in order.logs]
    watch = _Watch(order, logs, watcher, phases)
    try:
        watch.run(launch)
    finally:
        sessions = _settle(plan.state_dir, out_dir, order.parallelism)
    left, caught_late = close_opened(plan.state_dir, plan.bearer_file, sessions)
    finished = _read_back(order, watch.states, logs, out_dir, plan.profile.max_failure_share)
    interruption = caught_late or watch.interruption
    finished = conclude(finished, started, left, interruption, watch.broken_off, watch.failure)
    result = finished.result
    if watch.slow is not None:
        result = replace(result, reason="; ".join(filter(None, (result.reason, watch.slow))))
    watcher.end(result)
    return replace(finished, result=result)


def build_order(plan: RunPlan, scenario: str, renewal_url: str | None = None) -> Order:
    """Return what an engine is asked to run, but for the logs."""
    return Order(
        scenario=scenario,
        parallelism=plan.runners.count,
        variables=build_script_env(plan, scenario) | TELL,
        tools=plan.tools.render(),
        mcp_url=plan.mcp_url,
        bearer_file=plan.bearer_file,
        seconds=bound_seconds(list_phases(plan, scenario)),
        outputs=plan.outputs,
        output_variables=plan.output_variables,
        renewal_url=renewal_url,
    )


class _Watch:
    """Runs a fleet to its end; `states` are the last that were seen.

    `broken_off` says why it was stopped before, `failure` what went wrong with the engine once the
    load had begun, `slow` what is still being removed, and `interruption` who stopped us.
    """

    def __init__(
        self,
        order: Order,
        logs: Sequence[RunnerLog],
        watcher: Watcher,
        phases: tuple[Phase, ...],
    ) -> None:
        self.states = tuple(RunnerState(n, "pending") for n in range(1, order.parallelism + 1))
        self.broken_off: str | None = None
        self.failure: str | None = None
        self.slow: str | None = None
        self.interruption: BaseException | None = None
        self._order = order
        self._logs = logs
        self._watcher = watcher
        self._phases = phases
        self._rule = AbortRule()

    def run(self, launch: Launch) -> None:
        """Launch, wait, stop what still runs, and remove what was made.

        Raises K6Error for a fleet that cannot start; what it measured is kept of any other.
        """
        try:
            fleet = launch(self._order)
        except (KeyboardInterrupt, SystemExit) as caught:
            self.interruption = caught
            return
        try:
            self._attend(fleet)
        except K6Error as refusal:
            self._close(fleet)
            words = (str(refusal), self.failure, self.slow)
            raise K6Error("; ".join(filter(None, words))) from None
        finally:
            self._close(fleet)
            for log in self._logs:
                log.read_on()

    def _attend(self, fleet: Fleet) -> None:
        """Wait for the end, or bring it about; K6Error where there was no beginning."""
        try:
            self.broken_off = self._wait(fleet)
        except (KeyboardInterrupt, SystemExit) as caught:
            self.interruption = caught
        except K6Error as failure:
            if {state.phase for state in self.states} == {"pending"}:
                raise
            self.failure = str(failure)
        if {state.phase for state in self.states} <= {"ended", "lost"}:
            return
        try:
            fleet.stop()
            self.states = fleet.look()
        except (KeyboardInterrupt, SystemExit) as caught:  # asked twice: do not wait for it
            self.interruption = caught
        except K6Error as failure:
            self.failure = self.failure or str(failure)

    def _close(self, fleet: Fleet) -> None:
        try:
            self.slow = fleet.close() or self.slow
        except K6Error as failure:
            self.failure = "; ".join(filter(None, (self.failure, str(failure))))

    def _wait(self, fleet: Fleet) -> str | None:
        """Wait for every runner to end; return why the fleet must be stopped before."""
        self._await_start(fleet)
        self._watcher.begin(self._order.scenario, self._phases)
        deadline = time.monotonic() + self._order.seconds
        read_at = 0.0
        while True:
            now = time.monotonic()
            self.states = fleet.look()
            if {state.phase for state in self.states} <= {"ended", "lost"}:
                return None
            if EXIT_ABORTED in {state.exit_code for state in self.states}:
                return "a runner gave up"
            if now > deadline:
                return "k6 ran past its schedule"
            live = None
            if now >= read_at:
                read_at = now + READ_SECONDS
                live = self._read()
                fault = self._rule.judge(live, now)
                if fault is not None:
                    return fault
            self._watcher.tick(live)
            time.sleep(LOOK_SECONDS)

    def _await_start(self, fleet: Fleet) -> None:
        """Wait until no runner is pending; the engine bounds it."""
        self.states = fleet.look()
        if not self._is_pending():
            return
        count = f"{self._order.parallelism} runners start"
        self._watcher.begin(self._order.scenario, (Phase(count, None),))
        while self._is_pending():
            self._watcher.tick(None)
            time.sleep(LOOK_SECONDS)
            self.states = fleet.look()

    def _is_pending(self) -> bool:
        return "pending" in {state.phase for state in self.states}

    def _read(self) -> Live:
        calls, latency = 0, Histogram()
        reasons: Counter[str] = Counter()
        for log in self._logs:
            log.read_on()
            for series, histogram in log.tally.trends.items():
                if series.startswith(("mcp_duration", "mcp_opening")):
                    calls += histogram.count()
                if series.startswith("mcp_duration"):
                    latency.add(histogram.most, histogram.buckets.items())
            for series, count in log.tally.counts.items():
                reasons[series.rpartition("reason:")[2].removesuffix("}")] += count
        p95 = latency.percentiles([0.95])[0] if latency.buckets else None
        return Live(calls + reasons.total(), reasons.total(), p95, reasons)


def _open_logs(state_dir: Path, mcp_url: str, parallelism: int) -> Iterator[Path]:
    """Make a private log for each runner, which the engine appends to."""
    for number in range(1, parallelism + 1):
        open_log(state_dir, mcp_url, number).close()
        yield log_file(state_dir, number)


def _settle(state_dir: Path, out_dir: Path, parallelism: int) -> list[OpenSession]:
    """Put the private logs away, without what is kept elsewhere; return the sessions left open."""
    left: list[OpenSession] = []
    for number in range(1, parallelism + 1):
        rest = _folder(out_dir, number) / "k6.log"
        rest.parent.mkdir(parents=True, exist_ok=True)
        left += settle_log(state_dir, rest, number, is_told)
    redact_folder(out_dir / "runners")
    return left


def _folder(out_dir: Path, number: int) -> Path:
    return out_dir / "runners" / str(number)


def _read_back(
    order: Order,
    states: Sequence[RunnerState],
    logs: Sequence[RunnerLog],
    out_dir: Path,
    max_failure_share: float,
) -> ScenarioRun:
    """Read what the runners told, name those that are not whole, and sum up."""
    write_text(out_dir / "tools.json", order.tools)
    whole = Tally()
    summaries: list[Summary | None] = []
    for state, log in zip(states, logs, strict=True):
        folder = _folder(out_dir, state.number)
        try:
            summary = log.parse_summary(folder / "summary.json", order.scenario)
            fill_gaps(log.tally, summary)
        except ResultsError:
            summary = None
        summaries.append(summary)
        _write_tally(folder / "tally.json", log.tally)
        whole.add(log.tally)
    faults = find_faults(states, [log.tally for log in logs], summaries)
    texts = [
        (_folder(out_dir, state.number) / "k6.log").read_text(encoding="utf-8", errors="replace")
        for state in states
    ]
    outcome, reason = _judge(states, texts, faults)
    regions = tuple(sorted({state.region for state in states if state.region}))
    result = ScenarioResult(order.scenario, outcome, reason=reason, faults=faults)
    told = [summary for summary in summaries if summary is not None]
    if not told:
        return ScenarioRun(result, regions=regions)
    merged = merge(told, whole, max_failure_share)
    write_text(out_dir / "summary.json", merged.model_dump_json(indent=1))
    return replace(read_figures(result, merged, _measure(states)), regions=regions)


def _judge(
    states: Sequence[RunnerState], texts: Sequence[str], faults: Sequence[RunnerFault]
) -> tuple[Outcome, str | None]:
    """Return how the fleet did: as badly as its worst runner, but for thresholds of a share."""
    lost = [fault.describe() for fault in faults if fault.state == "lost"]
    found = [name_outcome(state.exit_code, text) for state, text in zip(states, texts, strict=True)]
    worst: Outcome
    for worst in ("aborted", "failed", "interrupted"):
        if worst in found:
            place = found.index(worst)
            state = states[place]
            words = find_error(texts[place]) or f"k6 ended with {state.exit_code}"
            return worst, "; ".join([f"runner {state.number}: {words}", *lost])
    return ("failed", "; ".join(lost)) if lost else ("ok", None)


def _measure(states: Sequence[RunnerState]) -> Generator:
    """Return what the runners took in all, as far as that is known."""
    shares = [state.cpu_share for state in states if state.cpu_share is not None]
    memory = [state.peak_memory_mb for state in states if state.peak_memory_mb is not None]
    return Generator(
        cpu_share=round(sum(shares), 3) if shares else None,
        peak_memory_mb=round(sum(memory), 1) if memory else None,
    )


def _write_tally(path: Path, tally: Tally) -> None:
    """Keep what a runner told, so that it can be added up once more."""
    trends = {
        series: {"most": histogram.most, "buckets": sorted(histogram.buckets.items())}
        for series, histogram in sorted(tally.trends.items())
    }
    write_json(
        path, TALLIES_VERSION, {"trends": trends, "counts": dict(sorted(tally.counts.items()))}
    )
