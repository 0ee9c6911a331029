"""Run the scenarios one after the other, each into its own folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from loadtest.common.clock import utc_now
from loadtest.common.files import write_text
from loadtest.common.processes import kill
from loadtest.common.redaction import redact_folder
from loadtest.compare.rises import find_rises
from loadtest.errors import K6Error, LoadtestError, ResultsError
from loadtest.k6.binary import K6Binary
from loadtest.k6.command import (
    bound_seconds,
    build_command,
    build_environment,
    build_script_env,
    find_abort_seconds,
    find_period,
    list_phases,
)
from loadtest.k6.health import AbortRule, MemoryGuard, Vitals
from loadtest.k6.open_sessions import OpenSession, close_sessions, note_writer, open_log, settle_log
from loadtest.k6.plan import RunPlan
from loadtest.k6.process import find_error, start, stop, watch
from loadtest.k6.progress import NoWatcher, Watcher
from loadtest.k6.slow_calls import read_slowest
from loadtest.k6.snapshots import Snapshots
from loadtest.k6.summary import Server, Summary, build_rows, find_crossed, parse_summary
from loadtest.results.intervals import Intervals, read_intervals, write_intervals
from loadtest.results.run import (
    Generator,
    Outcome,
    Row,
    Run,
    ScenarioResult,
    SlowCall,
    begin_scenario,
)
from loadtest.results.run_folder import RunFolder, write_rows, write_run, write_slowest
from loadtest.state.bearers import read_callers

EXIT_OK = 0
EXIT_THRESHOLDS = 99
EXIT_INTERRUPTED = 105
EXIT_ABORTED = 108  # by the script: the target refuses the bearer


@dataclass(frozen=True)
class ScenarioRun:
    """The result of one scenario; `server` is the target as the probe found it.

    `interruption` is the KeyboardInterrupt or SystemExit that ended it, for the caller to raise;
    `regions` are those of the runners, as far as known; `slowest` are the slowest calls of each
    tool.
    """

    result: ScenarioResult
    rows: tuple[Row, ...] = ()
    server: "Server | None" = None
    interruption: BaseException | None = None
    regions: tuple[str, ...] = ()
    slowest: tuple[SlowCall, ...] = ()


class RunScenario(Protocol):
    """Runs one scenario; a failure is a result, not an exception."""

    def __call__(
        self,
        plan: RunPlan,
        scenario: str,
        *,
        out_dir: Path,
        watcher: Watcher | None,
        renewal_url: str | None,
    ) -> ScenarioRun:
        """Return its result; its files are in `out_dir`."""


def run_scenarios(
    plan: RunPlan,
    folder: RunFolder,
    *,
    run: RunScenario,
    watcher: Watcher | None = None,
    renewal_url: str | None = None,
) -> RunFolder:
    """Run the scenarios one after the other and return the folder with their rows.

    `run` runs one scenario: `run_scenario` or `run_fleet`. `run.json` is written before and after
    each scenario, so that it is true whenever this process is killed. After a failed scenario the
    others still run; after an aborted one they do not, because the target is down. A scenario that
    cannot start is written as failed, and K6Error is raised. On KeyboardInterrupt or SystemExit the
    partial rows are written and marked, then the exception is raised again.
    """
    for scenario in plan.scenarios:
        folder = _note(folder, begin_scenario(scenario))
        try:
            finished = run(
                plan,
                scenario,
                out_dir=folder.scenario_dir(scenario),
                watcher=watcher,
                renewal_url=renewal_url,
            )
        except K6Error as failure:
            _keep(folder, ScenarioRun(ScenarioResult(scenario, "failed", reason=str(failure))))
            raise
        folder = _keep(folder, finished)
        if finished.interruption is not None:
            raise finished.interruption
        if finished.result.outcome == "aborted":
            break
    return folder


def run_scenario(
    plan: RunPlan,
    scenario: str,
    *,
    out_dir: Path,
    binary: K6Binary,
    variables: Mapping[str, str],
    watcher: Watcher | None = None,
    renewal_url: str | None = None,
    memory_bytes: int | None = None,
) -> ScenarioRun:
    """Run one scenario by one k6 and read its figures; a failure is a result, not an exception.

    `renewal_url` is where k6 gets fresh bearers (`bearer_renewal`); `memory_bytes` is the memory of
    the machine, or a smaller number for a test. KeyboardInterrupt and SystemExit stop k6 and are
    returned as `interruption`.
    """
    watcher = watcher or NoWatcher()
    phases = list_phases(plan, scenario)
    environment = build_environment(
        variables,
        build_script_env(plan, scenario),
        mcp_url=plan.mcp_url,
        bearer_file=plan.bearer_file,
        out_dir=out_dir,
        private_variables=plan.private_variables,
    )
    environment["K6_WEB_DASHBOARD_PERIOD"] = f"{find_period(phases)}s"
    if renewal_url is not None:
        environment["RENEWAL_URL"] = renewal_url
    write_text(out_dir / "tools.json", plan.tools.render())
    started = utc_now()
    interruption: BaseException | None = None
    broken_off: str | None = None
    with open_log(plan.state_dir, plan.mcp_url) as log, MemoryGuard(memory_bytes) as guard:
        command = build_command(binary, scenario, plan.outputs)
        process = start(command, environment, log)
        note_writer(log, process.pid)
        vitals = Vitals(process.pid)
        guard.watch(process.pid)
        try:
            watcher.begin(scenario, phases)
            rule = AbortRule(find_abort_seconds(plan, scenario))
            broken_off = watch(process, bound_seconds(phases, plan.profile), watcher, vitals, rule)
        except (KeyboardInterrupt, SystemExit) as caught:
            interruption = caught
        finally:
            try:
                stop(process)
            except (KeyboardInterrupt, SystemExit) as caught:  # the second signal: do not wait
                interruption = caught
                kill(process)
    snapshots = Snapshots()
    sessions = settle_log(plan.state_dir, out_dir / "k6.log", is_known=snapshots.read_line)
    left, caught_late = close_opened(plan.state_dir, plan.bearer_file, sessions)
    redact_folder(out_dir)
    seconds = float(environment["INTERVAL_SECONDS"])
    write_intervals(out_dir, Intervals(seconds, snapshots.intervals))
    finished = _read_back(scenario, out_dir, process.returncode, vitals)
    slowest = read_slowest((out_dir / "k6.log",), scenario, plan.tools)
    finished = replace(finished, slowest=slowest)
    interruption = caught_late or interruption
    finished = conclude(finished, started, left, interruption, guard.reason or broken_off)
    watcher.end(finished.result)
    return finished


def close_opened(
    state_dir: Path, bearer_file: Path | None, sessions: Sequence[OpenSession]
) -> tuple[int, BaseException | None]:
    """Close sessions; return how many stay open, and the exception that interrupted it."""
    try:
        if not sessions:
            return 0, None
        callers = read_callers(bearer_file, sessions[0].mcp_url)
        return len(close_sessions(state_dir, sessions, callers).left), None
    except LoadtestError:  # of a damaged file: the next run reports it
        return len(sessions), None
    except (KeyboardInterrupt, SystemExit) as caught:
        return len(sessions), caught


def _read_back(scenario: str, out_dir: Path, exit_code: int, vitals: Vitals) -> ScenarioRun:
    log = (out_dir / "k6.log").read_text(encoding="utf-8", errors="replace")
    result = ScenarioResult(scenario, name_outcome(exit_code, log), exit_code)
    if result.outcome in {"failed", "aborted"}:
        result = replace(result, reason=find_error(log) or f"k6 ended with {exit_code}")
    try:
        summary = parse_summary(out_dir / "summary.json", scenario)
        return read_figures(result, summary, vitals.describe())
    except ResultsError as failure:
        reason = f"{result.reason}; {failure}" if result.outcome == "failed" else str(failure)
        return ScenarioRun(replace(result, outcome="failed", reason=reason))


def name_outcome(exit_code: int | None, log: str) -> Outcome:
    """Return how a k6 ended; a lost runner has no exit code, and is reported as a fault."""
    outcomes: dict[int | None, Outcome] = {
        None: "ok",
        EXIT_OK: "ok",
        EXIT_THRESHOLDS: "thresholds crossed",
        EXIT_INTERRUPTED: "interrupted",
        EXIT_ABORTED: "aborted",
    }
    outcome = outcomes.get(exit_code, "failed")
    return "failed" if outcome != "aborted" and "source=stacktrace" in log else outcome


def read_figures(result: ScenarioResult, summary: Summary, usage: Generator) -> ScenarioRun:
    """Return a scenario with its rows, its crossed thresholds and the lateness of its calls."""
    crossed = find_crossed(summary)
    lateness = summary.metrics.get("mcp_generator_lateness", {})
    if lateness.get("count"):
        usage = replace(usage, lateness_p95_ms=lateness["p(95)"])
    if crossed and result.outcome == "ok":
        result = replace(result, outcome="thresholds crossed")
    result = replace(result, crossed=crossed, generator=usage)
    return ScenarioRun(result, build_rows(summary), summary.loadtest.server)


def conclude(
    finished: ScenarioRun,
    started: str,
    sessions_left: int,
    interruption: BaseException | None,
    broken_off: str | None,
    failure: str | None = None,
) -> ScenarioRun:
    """Return a scenario that has ended: why it was stopped is more important than how k6 ended.

    `failure` is an error of the engine after the load had begun.
    """
    result = replace(finished.result, started=started, ended=utc_now(), sessions_left=sessions_left)
    if interruption is not None:
        result = replace(result, outcome="interrupted", reason="stopped by a signal")
    elif failure is not None:
        result = replace(result, outcome="failed", reason=failure)
    elif broken_off is not None and result.outcome != "aborted":
        result = replace(result, outcome="aborted", reason=broken_off)
    return replace(finished, result=result, interruption=interruption)


def _keep(folder: RunFolder, finished: ScenarioRun) -> RunFolder:
    """Write the rows and the result of one scenario, and what it has shown about the target."""
    if finished.result.name == "soak":
        intervals = read_intervals(folder.scenario_dir("soak"))
        rises = find_rises(intervals) if intervals is not None else ()
        finished = replace(finished, result=replace(finished.result, rises=rises))
    if finished.rows:
        folder = write_rows(folder, finished.result.name, finished.rows)
    if finished.slowest:
        folder = write_slowest(folder, finished.result.name, finished.slowest)
    return _note(replace(folder, run=learn(folder.run, finished)), finished.result)


def learn(run: Run, finished: ScenarioRun) -> Run:
    """Return a run with what a scenario has shown: the server, the regions, held streams."""
    target = run.target
    if finished.server is not None:
        target = replace(
            target,
            server_name=finished.server.name,
            server_version=finished.server.version,
            protocol_version=finished.server.protocol,
            era=finished.server.era,
        )
    regions = tuple(sorted({*run.regions, *finished.regions}))
    run = replace(run, target=target, regions=regions, ended=utc_now())
    beside = (row for row in finished.rows if row.scenario != "streams")
    if any(row.kind == "stream" and row.ok for row in beside):
        run = replace(run, streams=True)
    return run


def _note(folder: RunFolder, result: ScenarioResult) -> RunFolder:
    """Write a scenario's result into `run.json`; it replaces the earlier one."""
    folder = replace(folder, run=folder.run.note(result))
    write_run(folder)
    return folder
