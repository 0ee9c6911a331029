"""One scenario by several runners: watched together, and read as if one k6 had run it."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from loadtest.common.clock import utc_now
from loadtest.common.files import write_json, write_text
from loadtest.common.redaction import redact_folder
from loadtest.errors import K6Error, ResultsError
from loadtest.k6.command import (
    bound_seconds,
    build_script_env,
    find_abort_seconds,
    list_phases,
)
from loadtest.k6.distributed.merge import merge
from loadtest.k6.distributed.protocol import Fleet, Launch, RunnerState, ScenarioRequest
from loadtest.k6.distributed.runner_log import RunnerLog, fill_gaps, find_faults, is_kept_elsewhere
from loadtest.k6.health import AbortRule
from loadtest.k6.open_sessions import OpenSession, log_file, open_log, settle_log
from loadtest.k6.plan import RunPlan
from loadtest.k6.process import find_error
from loadtest.k6.progress import COUNTERS, Live, NoWatcher, Phase, Watcher
from loadtest.k6.scenario import (
    EXIT_ABORTED,
    ScenarioRun,
    close_opened,
    conclude,
    name_outcome,
    read_figures,
)
from loadtest.k6.slow_calls import read_slowest
from loadtest.k6.summary import Summary
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.intervals import Intervals, write_intervals
from loadtest.results.run import Generator, Outcome, RunnerFault, ScenarioResult

HISTOGRAMS_VERSION = 1
STATE_SECONDS = 0.25
READ_SECONDS = 1.0
# Runners print their histograms and their summary into their logs.
RUNNER_ENV = {"HISTOGRAMS": "true", "SUMMARY_FILE": "stdout"}


def run_fleet(
    plan: RunPlan,
    scenario: str,
    *,
    out_dir: Path,
    watcher: Watcher | None = None,
    renewal_url: str | None = None,
    launch: Launch,
) -> ScenarioRun:
    """Run one scenario by several runners; raise K6Error only if they cannot start.

    KeyboardInterrupt and SystemExit stop the runners and are returned as `interruption`.
    """
    watcher = watcher or NoWatcher()
    phases = list_phases(plan, scenario)
    request = replace(
        build_request(plan, scenario, renewal_url),
        logs=tuple(_open_logs(plan.state_dir, plan.mcp_url, plan.runners.count)),
    )
    started = utc_now()
    logs = [RunnerLog(path) for path in request.logs]
    watch = _Watch(request, logs, watcher, phases)
    try:
        watch.run(launch)
    finally:
        sessions = _settle(plan.state_dir, out_dir, request.parallelism)
    left, caught_late = close_opened(plan.state_dir, plan.bearer_file, sessions)
    finished = _read_back(request, watch.states, logs, out_dir, plan.profile.max_failure_share)
    interruption = caught_late or watch.interruption
    finished = conclude(finished, started, left, interruption, watch.broken_off, watch.failure)
    result = finished.result
    if watch.slow is not None:
        result = replace(result, reason="; ".join(filter(None, (result.reason, watch.slow))))
    watcher.end(result)
    places = [_folder(out_dir, number) / "k6.log" for number in range(1, request.parallelism + 1)]
    return replace(finished, result=result, slowest=read_slowest(places, scenario, plan.tools))


def build_request(plan: RunPlan, scenario: str, renewal_url: str | None = None) -> ScenarioRequest:
    """Return what an engine is requested to run, without the logs."""
    return ScenarioRequest(
        scenario=scenario,
        parallelism=plan.runners.count,
        variables=build_script_env(plan, scenario) | RUNNER_ENV,
        tools=plan.tools.render(),
        mcp_url=plan.mcp_url,
        bearer_file=plan.bearer_file,
        seconds=bound_seconds(list_phases(plan, scenario), plan.profile),
        abort_seconds=find_abort_seconds(plan, scenario),
        outputs=plan.outputs,
        private_variables=plan.private_variables,
        renewal_url=renewal_url,
    )


class _Watch:
    """Runs a fleet to its end; `states` are the last states that were read.

    `broken_off` is why it was stopped early, `failure` an error of the engine after the load had
    begun, `slow` what is still being removed, `interruption` the exception that stopped the run.
    """

    def __init__(
        self,
        request: ScenarioRequest,
        logs: Sequence[RunnerLog],
        watcher: Watcher,
        phases: tuple[Phase, ...],
    ) -> None:
        self.states = tuple(RunnerState(n, "pending") for n in range(1, request.parallelism + 1))
        self.broken_off: str | None = None
        self.failure: str | None = None
        self.slow: str | None = None
        self.interruption: BaseException | None = None
        self._request = request
        self._logs = logs
        self._watcher = watcher
        self._phases = phases
        self._rule = AbortRule(request.abort_seconds)

    def run(self, launch: Launch) -> None:
        """Launch, wait, stop the runners that still run, and remove what was created.

        Raises K6Error if the fleet cannot start; in every other case its figures are kept.
        """
        try:
            fleet = launch(self._request)
        except (KeyboardInterrupt, SystemExit) as caught:
            self.interruption = caught
            return
        try:
            self._attend(fleet)
        except K6Error as refusal:
            self._close(fleet)
            parts = (str(refusal), self.failure, self.slow)
            raise K6Error("; ".join(filter(None, parts))) from None
        finally:
            self._close(fleet)
            for log in self._logs:
                log.read_on()

    def _attend(self, fleet: Fleet) -> None:
        """Wait for the end, or stop the fleet; K6Error if it never started."""
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
        except (KeyboardInterrupt, SystemExit) as caught:  # the second signal: do not wait
            self.interruption = caught
        except K6Error as failure:
            self.failure = self.failure or str(failure)

    def _close(self, fleet: Fleet) -> None:
        try:
            self.slow = fleet.close() or self.slow
        except K6Error as failure:
            self.failure = "; ".join(filter(None, (self.failure, str(failure))))

    def _wait(self, fleet: Fleet) -> str | None:
        """Wait for every runner to end; return why the fleet must be stopped early."""
        self._await_start(fleet)
        self._watcher.begin(self._request.scenario, self._phases)
        deadline = time.monotonic() + self._request.seconds
        read_at = 0.0
        while True:
            now = time.monotonic()
            self.states = fleet.look()
            if {state.phase for state in self.states} <= {"ended", "lost"}:
                return None
            if EXIT_ABORTED in {state.exit_code for state in self.states}:
                return "a runner aborted"
            if now > deadline:
                return "k6 ran past its schedule"
            live = None
            if now >= read_at:
                read_at = now + READ_SECONDS
                live = self._read()
                fault = self._rule.find_reason(live, now)
                if fault is not None:
                    return fault
            self._watcher.tick(live)
            time.sleep(STATE_SECONDS)

    def _await_start(self, fleet: Fleet) -> None:
        """Wait until no runner is pending; the engine limits how long."""
        self.states = fleet.look()
        if not self._is_pending():
            return
        count = f"{self._request.parallelism} runners start"
        self._watcher.begin(self._request.scenario, (Phase(count, None),))
        while self._is_pending():
            self._watcher.tick(None)
            time.sleep(STATE_SECONDS)
            self.states = fleet.look()

    def _is_pending(self) -> bool:
        return "pending" in {state.phase for state in self.states}

    def _read(self) -> Live:
        calls, latency = 0, Histogram()
        reasons: Counter[str] = Counter()
        for log in self._logs:
            log.read_on()
            for series, histogram in log.histograms.trends.items():
                if series.startswith(("mcp_duration", "mcp_opening")):
                    calls += histogram.count()
                if series.startswith("mcp_duration"):
                    latency.add(histogram.most, histogram.buckets.items())
            for series, count in log.histograms.counts.items():
                if series.startswith(COUNTERS):  # the failed step of a flow is counted already
                    reasons[series.rpartition("reason:")[2].removesuffix("}")] += count
        p95 = latency.percentiles([0.95])[0] if latency.buckets else None
        return Live(calls + reasons.total(), reasons.total(), p95, reasons)


def _open_logs(state_dir: Path, mcp_url: str, parallelism: int) -> Iterator[Path]:
    """Create a private log for each runner, to which the engine appends."""
    for number in range(1, parallelism + 1):
        open_log(state_dir, mcp_url, number).close()
        yield log_file(state_dir, number)


def _settle(state_dir: Path, out_dir: Path, parallelism: int) -> list[OpenSession]:
    """Move the private logs into the run folder; return the sessions that are still open."""
    left: list[OpenSession] = []
    for number in range(1, parallelism + 1):
        rest = _folder(out_dir, number) / "k6.log"
        rest.parent.mkdir(parents=True, exist_ok=True)
        left += settle_log(state_dir, rest, number, is_kept_elsewhere)
    redact_folder(out_dir / "runners")
    return left


def _folder(out_dir: Path, number: int) -> Path:
    return out_dir / "runners" / str(number)


def _read_back(
    request: ScenarioRequest,
    states: Sequence[RunnerState],
    logs: Sequence[RunnerLog],
    out_dir: Path,
    max_failure_share: float,
) -> ScenarioRun:
    """Merge the figures of the runners; name each fault of a runner."""
    write_text(out_dir / "tools.json", request.tools)
    total = Histograms()
    intervals = Intervals(float(request.variables["INTERVAL_SECONDS"]), {})
    summaries: list[Summary | None] = []
    for state, log in zip(states, logs, strict=True):
        folder = _folder(out_dir, state.number)
        try:
            summary = log.parse_summary(folder / "summary.json", request.scenario)
            fill_gaps(log.histograms, summary)
        except ResultsError:
            summary = None
        summaries.append(summary)
        _write_histograms(folder / "histograms.json", log.histograms)
        total.add(log.histograms)
        for number, part in log.snapshots.intervals.items():
            intervals.parts.setdefault(number, Histograms()).add(part)
    write_intervals(out_dir, intervals)
    faults = find_faults(states, [log.histograms for log in logs], summaries)
    texts = [
        (_folder(out_dir, state.number) / "k6.log").read_text(encoding="utf-8", errors="replace")
        for state in states
    ]
    outcome, reason = _find_outcome(states, texts, faults)
    regions = tuple(sorted({state.region for state in states if state.region}))
    result = ScenarioResult(request.scenario, outcome, reason=reason, faults=faults)
    found = [summary for summary in summaries if summary is not None]
    if not found:
        return ScenarioRun(result, regions=regions)
    merged = merge(found, total, max_failure_share)
    write_text(out_dir / "summary.json", merged.model_dump_json(indent=1))
    return replace(read_figures(result, merged, _measure(states)), regions=regions)


def _find_outcome(
    states: Sequence[RunnerState], texts: Sequence[str], faults: Sequence[RunnerFault]
) -> tuple[Outcome, str | None]:
    """Return the outcome of the worst runner; thresholds count only for all runners together."""
    lost = [fault.describe() for fault in faults if fault.state == "lost"]
    found = [name_outcome(state.exit_code, text) for state, text in zip(states, texts, strict=True)]
    worst: Outcome
    for worst in ("aborted", "failed", "interrupted"):
        if worst in found:
            place = found.index(worst)
            state = states[place]
            error = find_error(texts[place]) or f"k6 ended with {state.exit_code}"
            return worst, "; ".join([f"runner {state.number}: {error}", *lost])
    return ("failed", "; ".join(lost)) if lost else ("ok", None)


def _measure(states: Sequence[RunnerState]) -> Generator:
    """Return the CPU and memory of all runners together, as far as known."""
    shares = [state.cpu_share for state in states if state.cpu_share is not None]
    memory = [state.peak_memory_mb for state in states if state.peak_memory_mb is not None]
    return Generator(
        cpu_share=round(sum(shares), 3) if shares else None,
        peak_memory_mb=round(sum(memory), 1) if memory else None,
    )


def _write_histograms(path: Path, histograms: Histograms) -> None:
    """Write the histograms of a runner, so that runs can be merged later."""
    trends = {
        series: {"most": histogram.most, "buckets": sorted(histogram.buckets.items())}
        for series, histogram in sorted(histograms.trends.items())
    }
    write_json(
        path,
        HISTOGRAMS_VERSION,
        {"trends": trends, "counts": dict(sorted(histograms.counts.items()))},
    )
