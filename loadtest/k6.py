"""The k6 scenarios: find k6, run it with the bearer by file, read its numbers back as rows."""

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from loadtest.common.clock import utc_now
from loadtest.common.files import read_whole, write_json, write_text
from loadtest.common.parsing import parse_json, tidy_words
from loadtest.common.processes import build_child_environment
from loadtest.common.redaction import redact_folder
from loadtest.config.models import PROTOCOLS, Profile
from loadtest.config.settings import Settings
from loadtest.config.tool_table import NOVAMART
from loadtest.errors import K6Error, LoadtestError, ResultsError, UsageError
from loadtest.health import AbortRule, MemoryGuard, Vitals
from loadtest.journal import OpenSession, close_sessions, note_writer, open_log, settle_log
from loadtest.outputs import build_output_flags, select_variables
from loadtest.progress import NoWatcher, Phase, Watcher, find_feed
from loadtest.results.run import (
    SCENARIOS,
    Outcome,
    Percentiles,
    Row,
    ScenarioResult,
    ServerName,
    begin_scenario,
)
from loadtest.results.run_folder import RunFolder, write_rows, write_run
from loadtest.state.bearers import read_bearers

SCRIPTS = Path(__file__).resolve().parent.parent / "k6"
MINIMUM = (1, 0, 0)
SUMMARY_VERSION = 1
PERCENTILES = ("p(50)", "p(90)", "p(95)", "p(99)", "max")  # as k6 names them
# By era: which request opens a client.
OPENINGS = {"handshake": "initialize", "stateless": "server/discover"}

CALL_TIMEOUT_SECONDS = 30
HELD_SHARE = 0.01  # of the calls of a closed loop: from here on its rate is the limit's
OPENINGS_PER_SECOND = 300  # of a generator: at the head of a slice its sessions open, spread evenly
CLOSE_SECONDS = 1  # at its tail they are deleted
COLD_START_MAX_SECONDS = 600
STOP_SECONDS = 15  # k6 gets this long to write its summary before it is killed
DASHBOARD_POINTS = 30  # of a scenario, at most
SETUP_SECONDS = 90  # the probe and k6's own start, at most

MOST_QUOTED = 500  # of an error in k6's log

EXIT_OK = 0
EXIT_THRESHOLDS = 99
EXIT_INTERRUPTED = 105
EXIT_ABORTED = 108  # by the script itself: the target refuses the bearer

# What a run asks of k6, where that k6 has the flag: they come and go from version to version.
RUN_FLAGS = {
    **dict.fromkeys(("--quiet", "--no-color", "--no-usage-report", "--include-system-env-vars")),
    "--address": "127.0.0.1:0",
    "--new-machine-readable-summary": "false",
}

# What Go reads. None of the user's K6_* settings is passed on.
GO_VARIABLES = ("GOMAXPROCS", "GOGC", "GOMEMLIMIT")
# Scripts leave much behind; collected half as often as by Go's default it costs a tenth less.
GARBAGE_PER_CENT = "200"


@dataclass(frozen=True)
class K6Binary:
    """A k6 executable; `source` says where it was found, `flags` what its `run` understands."""

    path: Path
    version: str
    source: str
    flags: frozenset[str] = frozenset(RUN_FLAGS)

    def describe(self) -> str:
        """Return version, place and source in a few words."""
        return f"k6 {self.version}, {self.path} (from {self.source})"


@dataclass(frozen=True)
class ScenarioRun:
    """What one scenario left behind; `server` is what the probe found the target to be.

    `interruption` is the KeyboardInterrupt or SystemExit that ended it, for the caller to raise;
    `regions` are where the load came from, as far as that is known.
    """

    result: ScenarioResult
    rows: tuple[Row, ...] = ()
    server: "Server | None" = None
    interruption: BaseException | None = None
    regions: tuple[str, ...] = ()


class RunScenario(Protocol):
    """Runs one scenario; a failure is a result, not an exception."""

    def __call__(
        self,
        scenario: str,
        settings: Settings,
        mcp_url: str,
        bearer_file: Path,
        *,
        out_dir: Path,
        watcher: Watcher | None,
        renewal_url: str | None,
    ) -> ScenarioRun:
        """Return what it left behind; its files lie in `out_dir`."""


class Server(BaseModel):
    """The target in its own words, and the revision and era that were spoken with it."""

    model_config = ConfigDict(frozen=True)

    name: ServerName | None = None
    version: ServerName | None = None
    protocol: ServerName
    era: Literal["handshake", "stateless"]


class _Slice(BaseModel):
    name: str
    vus: int
    seconds: float
    rate: float | None
    begins: float


class _Own(BaseModel):
    version: int
    scenario: str
    slices: tuple[_Slice, ...]
    tools: tuple[str, ...]
    server: Server | None
    clients: int
    elapsed_ms: float | None
    began: float | None = None  # ms since the epoch
    most_rate: float | None = None  # calls/s that the environment bears
    scale: tuple[float, ...] = ()  # per cents, of which a fleet's trends have the percentiles


class Summary(BaseModel):
    """`summary.json`: metrics as `--summary-export` has them, and our own part beside them."""

    loadtest: _Own
    metrics: dict[str, dict[str, Any]]

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, values in metrics.items():
            figures = [value for key, value in values.items() if key not in {"thresholds", "scale"}]
            if not (
                all(isinstance(figure, int | float) for figure in figures)
                and isinstance(values.get("thresholds", {}), dict)
                and isinstance(values.get("scale", []), list)
            ):
                raise ValueError(f"the figures of {name} are not numbers")
        return metrics

    def count(self, name: str) -> int:
        """Return a counter's count; one that was never added to is 0."""
        return int(self.metrics.get(name, {}).get("count", 0))

    def failures(self, counter: str, selector: str) -> dict[str, int]:
        """Return a counter's counts by reason, in the series that `selector` picks."""
        start = f"{counter}{{{selector},reason:" if selector else f"{counter}{{reason:"
        found = {
            name.removeprefix(start).removesuffix("}"): self.count(name)
            for name in self.metrics
            if name.startswith(start)
        }
        return {reason: count for reason, count in found.items() if count}


def find_k6(variables: Mapping[str, str]) -> K6Binary:
    """Return `K6_BIN`, else the newer of k6 on PATH and k6 in the running environment."""
    if variables.get("K6_BIN"):
        return _inspect_binary(Path(variables["K6_BIN"]), "K6_BIN")
    own = Path(sysconfig.get_path("scripts"))
    elsewhere = os.pathsep.join(
        entry
        for entry in variables.get("PATH", os.defpath).split(os.pathsep)
        if entry and Path(entry).resolve() != own.resolve()
    )
    places = ((str(own), "this environment"), (elsewhere, "PATH"))
    paths = ((shutil.which("k6", path=path), source) for path, source in places)
    found: list[K6Binary] = []
    faults: list[K6Error] = []
    for path, source in paths:
        if path is not None:
            try:
                found.append(_inspect_binary(Path(path), source))
            except K6Error as fault:
                faults.append(fault)
    if found:
        return max(found, key=lambda binary: _parse_version(binary.version))
    if faults:
        raise faults[0]
    raise K6Error("k6 was not found: use `nox -s k6`, which brings it, or set K6_BIN to its path")


def build_knobs(scenario: str, profile: Profile, generators: int = 1) -> dict[str, str]:
    """Return the variables that tell one script how hard to test, with so many k6."""
    knobs = {"MAX_FAILURE_SHARE": str(profile.max_failure_share)}
    if scenario == "cold-start":
        knobs |= {
            "ITERATIONS": str(profile.cold_start.iterations),
            "VUS": str(profile.cold_start.vus),
            "MAX_SECONDS": str(COLD_START_MAX_SECONDS),
        }
        return knobs
    seconds = _slice_seconds(scenario, profile)
    knobs |= {
        "OPEN_SECONDS": str(find_open_seconds(scenario, profile, generators)),
        "DRAIN_SECONDS": str(_drain_seconds(seconds)),
        "CLOSE_SECONDS": str(CLOSE_SECONDS),
    }
    if scenario == "sessions":
        knobs |= {
            "STAGES": ",".join(str(stage) for stage in profile.sessions.stages),
            "STAGE_SECONDS": str(seconds),
            "TOOL": str(profile.sessions.tool),
        }
    else:
        knobs |= {"VUS": str(profile.tools.vus), "DURATION": str(seconds)}
        if profile.tools.target_rps is not None:
            knobs["TARGET_RPS"] = str(profile.tools.target_rps)
    return knobs


def find_open_seconds(scenario: str, profile: Profile, generators: int = 1) -> int:
    """Return how long the sessions of a slice take to open: 1 s, or as long as k6 needs."""
    most = max(profile.sessions.stages) if scenario == "sessions" else profile.tools.vus
    return max(1, math.ceil(most / (OPENINGS_PER_SECOND * generators)))


def build_phases(
    scenario: str, profile: Profile, unit: str = "session", generators: int = 1
) -> tuple[Phase, ...]:
    """Return what runs when; a cold start takes what it takes. `unit` is what the ladder counts."""
    if scenario == "cold-start":
        return (Phase(f"{profile.cold_start.iterations} cold starts", None),)
    seconds = _slice_seconds(scenario, profile)
    opening = find_open_seconds(scenario, profile, generators)
    slot = opening + seconds + _drain_seconds(seconds) + CLOSE_SECONDS
    if scenario == "tools":
        return (Phase(_count(profile.tools.vus, unit), slot),)
    return tuple(Phase(_count(stage, unit), slot) for stage in profile.sessions.stages)


def find_period(phases: Sequence[Phase]) -> int:
    """Return every how many seconds the dashboard draws, which sorts all samples so far."""
    seconds = sum(phase.seconds or 0 for phase in phases)
    return max(1, round(seconds / DASHBOARD_POINTS))


def build_command(
    binary: K6Binary,
    scenario: str,
    outputs: Sequence[str] = (),
    *,
    runner: int = 1,
    more: Sequence[str] = (),
) -> list[str]:
    """Return k6's argument list: no secret, no knob, the API on a free loopback port."""
    flags = (
        flag if value is None else f"{flag}={value}"
        for flag, value in RUN_FLAGS.items()
        if flag in binary.flags
    )
    outs = build_output_flags(outputs, scenario, runner)
    return [str(binary.path), "run", *flags, *outs, *more, str(SCRIPTS / f"{scenario}.js")]


def build_limits(settings: Settings, mcp_url: str) -> dict[str, str]:
    """Return the environment's limits and its host, which k6 itself looks at once more."""
    limits = settings.environment.limits
    # A reference target was started for this very run: its address is the one that it told.
    address = mcp_url if settings.is_reference() else settings.base_url or ""
    return {
        "LIMIT_VUS": str(limits.max_vus),
        "LIMIT_RPS": str(limits.max_rps),
        "LIMIT_SECONDS": str(limits.max_duration_seconds),
        "LIMIT_HOST": urlsplit(address).netloc,
    }


def build_switches(settings: Settings) -> dict[str, str]:
    """Return how the scripts are to speak with a target."""
    return {"MCP_PROTOCOL": settings.protocol, "CALL_TIMEOUT_SECONDS": str(CALL_TIMEOUT_SECONDS)}


def build_told(scenario: str, settings: Settings, mcp_url: str) -> dict[str, str]:
    """Return all that one script is told, but for places."""
    knobs = build_knobs(scenario, settings.profile, settings.parallelism)
    return knobs | build_limits(settings, mcp_url) | build_switches(settings)


def build_environment(
    variables: Mapping[str, str],
    told: Mapping[str, str],
    *,
    mcp_url: str,
    bearer_file: Path,
    out_dir: Path,
    outputs: Sequence[str] = (),
) -> dict[str, str]:
    """Return the whole environment of the k6 process; `told` are knobs, limits and switches."""
    return {
        "GOGC": GARBAGE_PER_CENT,
        **build_child_environment(variables, GO_VARIABLES),
        **select_variables(outputs, variables),
        "SUMMARY_FILE": str(out_dir / "summary.json"),  # unless it is told another
        **told,
        "HOME": str(out_dir),  # a k6 configuration of the user's own would change what is measured
        "MCP_URL": mcp_url,
        "MCP_BEARER_FILE": str(bearer_file.resolve()),
        "TOOLS_FILE": str(out_dir / "tools.json"),
        "K6_WEB_DASHBOARD": "true",
        # Only the file is wanted, but k6 2.x listens all the same, at port -1 on every interface.
        "K6_WEB_DASHBOARD_HOST": "127.0.0.1",
        "K6_WEB_DASHBOARD_PORT": "0",
        "K6_WEB_DASHBOARD_EXPORT": str(out_dir / "dashboard.html"),
    }


def run_scenarios(
    settings: Settings,
    folder: RunFolder,
    mcp_url: str,
    bearer_file: Path,
    *,
    run: "RunScenario",
    scenarios: Sequence[str] = SCENARIOS,
    watcher: Watcher | None = None,
    renewal_url: str | None = None,
) -> RunFolder:
    """Run the scenarios one after the other and return the folder with their rows.

    `run` is what runs one: `run_scenario` with its binary, or a fleet (loadtest.fleet.run).
    The protocol that the first one finds is that of them all. `run.json` is rewritten before and
    after each, so that it is true whenever this process is killed. One that fails does not keep
    the others from running; one that was aborted does: the target is down. One that cannot start
    raises K6Error, and is kept as failed. On KeyboardInterrupt or SystemExit the partial rows are
    kept and marked, then it goes on up.
    """
    for scenario in scenarios:
        folder = _note(folder, begin_scenario(scenario))
        try:
            finished = run(
                scenario,
                settings,
                mcp_url,
                bearer_file,
                out_dir=folder.scenario_dir(scenario),
                watcher=watcher,
                renewal_url=renewal_url,
            )
        except K6Error as failure:
            _keep(folder, ScenarioRun(ScenarioResult(scenario, "failed", reason=str(failure))))
            raise
        if finished.server is not None and finished.server.protocol in PROTOCOLS:
            settings = replace(settings, protocol=finished.server.protocol)
        folder = _keep(folder, finished)
        if finished.interruption is not None:
            raise finished.interruption
        if finished.result.outcome == "aborted":
            break
    return folder


def run_scenario(
    scenario: str,
    settings: Settings,
    mcp_url: str,
    bearer_file: Path,
    *,
    out_dir: Path,
    binary: K6Binary,
    watcher: Watcher | None = None,
    renewal_url: str | None = None,
    memory_bytes: int | None = None,
) -> ScenarioRun:
    """Run one scenario and read back what it measured; a failure is a result, not an exception.

    `renewal_url` is where k6 asks for fresh bearers (loadtest.renewal); `memory_bytes` is what
    there is for k6 and all else, the machine's where it is not given. KeyboardInterrupt and
    SystemExit stop k6 and come back as `interruption`.
    """
    watcher = watcher or NoWatcher()
    phases = build_phases(scenario, settings.profile, settings.unit)
    environment = build_environment(
        settings.variables,
        build_told(scenario, settings, mcp_url),
        mcp_url=mcp_url,
        bearer_file=bearer_file,
        out_dir=out_dir,
        outputs=settings.outputs,
    )
    environment["K6_WEB_DASHBOARD_PERIOD"] = f"{find_period(phases)}s"
    if renewal_url is not None:
        environment["RENEWAL_URL"] = renewal_url
    write_text(out_dir / "tools.json", settings.tools.render())
    started = utc_now()
    interruption: BaseException | None = None
    broken_off: str | None = None
    with open_log(settings.state_dir, mcp_url) as log, MemoryGuard(memory_bytes) as guard:
        command = build_command(binary, scenario, settings.outputs)
        process = start(command, environment, log)
        note_writer(log, process.pid)
        vitals = Vitals(process.pid)
        guard.watch(process.pid)
        try:
            watcher.begin(scenario, phases)
            broken_off = _watch(process, bound_seconds(phases), watcher, vitals)
        except (KeyboardInterrupt, SystemExit) as caught:
            interruption = caught
        finally:
            try:
                stop(process)
            except (KeyboardInterrupt, SystemExit) as caught:  # asked twice: do not wait for it
                interruption = caught
                kill(process)
    sessions_left, caught_late = _close_left(settings.state_dir, bearer_file, out_dir)
    redact_folder(out_dir)
    interruption = caught_late or interruption
    result, rows, server = _read_back(scenario, out_dir, process.returncode, vitals)
    result = replace(result, started=started, ended=utc_now(), sessions_left=sessions_left)
    if interruption is not None:
        result = replace(result, outcome="interrupted", reason="stopped by a signal")
    elif broken_off is not None or guard.reason is not None:
        result = replace(result, outcome="aborted", reason=guard.reason or broken_off)
    watcher.end(result)
    return ScenarioRun(result, rows, server, interruption)


def stop(*processes: subprocess.Popen[bytes]) -> None:
    """Ask k6 once to stop gracefully; kill it if it has not written its summary in time."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            if os.name == "posix":
                process.send_signal(signal.SIGINT)
            else:
                process.send_signal(signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined,unused-ignore]
    deadline = time.monotonic() + STOP_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            kill(process)


def parse_summary(path: Path, scenario: str) -> Summary:
    """Read `summary.json`; raise ResultsError, naming the file, for anything but ours and whole."""
    try:
        summary = Summary.model_validate(parse_json(read_whole(path)))
    except FileNotFoundError:
        raise ResultsError(f"{path} does not exist: k6 ended before it wrote its summary") from None
    except OSError as failure:
        raise ResultsError(f"{path} cannot be read: {failure.strerror}") from None
    except ValueError as failure:
        found = failure.errors() if isinstance(failure, ValidationError) else ()
        said = found[0]["msg"] if found else failure
        raise ResultsError(
            f"{path} is not a whole summary of ours ({said}): run the scenario again"
        ) from None
    own = summary.loadtest
    if own.version != SUMMARY_VERSION or own.scenario != scenario:
        raise ResultsError(
            f"{path} is of scenario {own.scenario}, version {own.version}; "
            f"expected {scenario}, version {SUMMARY_VERSION}"
        )
    return summary


def build_rows(summary: Summary) -> tuple[Row, ...]:
    """Turn k6's aggregate into rows; a slice that was never reached has none."""
    own = summary.loadtest
    if own.elapsed_ms is None or own.server is None:
        return ()
    if own.scenario == "cold-start":
        frames = ("connect", OPENINGS[own.server.era], "tools/list", "first dispatch")
        ended = summary.metrics.get("mcp_ended", {})
        elapsed_ms = ended["max"] if ended.get("count") else own.elapsed_ms
        clients = min(own.clients, int(ended.get("count", 0)) or 1)
        return tuple(
            _build_row(summary, "frame", frame, f"frame:{frame}", elapsed_ms / 1000, clients)
            for frame in frames
        )
    rows: list[Row] = []
    for piece in own.slices:
        seconds = min(piece.seconds, own.elapsed_ms / 1000 - piece.begins)
        if seconds <= 0:
            continue
        selector = f"stage:{piece.name}" if own.scenario == "sessions" else ""
        kind: Literal["stage", "tool"] = "stage" if own.scenario == "sessions" else "tool"
        clients = min(own.clients, piece.vus)
        build = partial(_build_row, summary, seconds=seconds, clients=clients)
        rows.append(build(kind, piece.name, selector, rate=piece.rate))
        if kind == "tool":
            rows += [build(kind, tool, f"tool:{tool}") for tool in own.tools]
        rows.append(build("opening", piece.name, selector, metric="opening"))
    return tuple(rows)


def find_crossed(summary: Summary) -> tuple[str, ...]:
    """Return the thresholds that were crossed, as `metric{tags}: rule`."""
    return tuple(
        f"{name}: {rule}"
        for name, metric in summary.metrics.items()
        for rule, crossed in metric.get("thresholds", {}).items()
        if crossed
    )


def inspect(binary: K6Binary, script: Path) -> None:
    """Have k6 load a script and its options; raise K6Error with its complaint."""
    with tempfile.TemporaryDirectory() as name:
        bearer_file = Path(name) / "bearer.json"
        write_json(bearer_file, 2, {"bearers": [{"access_token": "none"}]}, private=True)
        write_text(Path(name) / "tools.json", NOVAMART.read_text(encoding="utf-8"))
        knobs = {"ITERATIONS": "1", "VUS": "1", "STAGES": "1", "STAGE_SECONDS": "1"}
        environment = build_environment(
            os.environ,
            knobs | {"DURATION": "1"},
            mcp_url="http://127.0.0.1/mcp",
            bearer_file=bearer_file,
            out_dir=Path(name),
        )
        command = [str(binary.path), "inspect", "--include-system-env-vars", str(script)]
        done = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    if done.returncode != 0:
        raise K6Error(f"{script}: {find_error(done.stderr) or f'k6 ended with {done.returncode}'}")


def _inspect_binary(path: Path, source: str) -> K6Binary:
    match = re.search(r"\bk6(?:\.exe)? v(\d+\.\d+\.\d+\S*)", _ask(path, source, "version"))
    if match is None:
        raise K6Error(f"{path} ({source}) is not k6: `{path} version` names no version")
    if _parse_version(match[1]) < MINIMUM:
        least = ".".join(str(part) for part in MINIMUM)
        raise K6Error(f"{path} ({source}) is k6 {match[1]}, older than {least}: update it")
    flags = re.findall(r"(?<!\S)--[a-z][a-z-]+", _ask(path, source, "run", "--help"))
    return K6Binary(path, match[1], source, frozenset(flags))


def _ask(path: Path, source: str, *arguments: str) -> str:
    """Return what a k6 prints."""
    try:
        return subprocess.run(  # noqa: S603
            [str(path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=build_child_environment(os.environ),
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise K6Error(f"{path} ({source}) cannot be run: {failure.__class__.__name__}") from None


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _count(count: int, unit: str) -> str:
    return f"{count} {unit}{'s' * (count != 1)}"


def _slice_seconds(scenario: str, profile: Profile) -> int:
    if scenario == "sessions":
        return profile.sessions.stage_seconds
    return profile.tools.duration_seconds


def _drain_seconds(seconds: float) -> float:
    """Return how long calls in flight when a slice ends may still take, by the slice's length."""
    return min(10.0, max(2.0, seconds / 10))


def bound_seconds(phases: tuple[Phase, ...]) -> float:
    """Return when even a k6 that hangs is stopped."""
    scheduled = sum(phase.seconds or COLD_START_MAX_SECONDS for phase in phases)
    return SETUP_SECONDS + scheduled + STOP_SECONDS


def start(
    command: list[str], environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start k6 in a process group of its own: Ctrl-C reaches us alone, and we pass one on."""
    group: dict[str, Any] = (
        {"process_group": 0}
        if os.name == "posix"
        else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    )
    try:
        return subprocess.Popen(  # noqa: S603
            [*_build_guard(), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            **group,
        )
    except OSError as failure:
        raise K6Error(f"{command[0]} cannot be started: {failure.strerror}") from None


def _build_guard() -> list[str]:
    """Return a prefix by which Linux stops k6 when we die without a word (kill -9).

    The kernel watches the starting thread, so only a main thread may ask for it. Elsewhere k6 ends
    by its own schedule.
    """
    guard = shutil.which("setpriv") if sys.platform == "linux" else None
    if guard is None or threading.current_thread() is not threading.main_thread():
        return []
    return [guard, "--pdeathsig", "INT", "--"]


def _watch(
    process: subprocess.Popen[bytes], bound_seconds: float, watcher: Watcher, vitals: Vitals
) -> str | None:
    """Wait for k6 to end while the watcher looks; return why it must be stopped before."""
    deadline = time.monotonic() + bound_seconds
    feed, rule = find_feed(process.pid), AbortRule()
    while (now := time.monotonic()) < deadline:
        vitals.look()
        live = feed.read()
        fault = rule.judge(live, now) if live is not None else None
        if fault is not None:
            return fault
        watcher.tick(live)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.25)
            return None
    return "k6 ran past its schedule"


def kill(process: subprocess.Popen[bytes]) -> None:
    """End k6 without a word."""
    process.kill()
    process.wait()


def _close_left(
    state_dir: Path, bearer_file: Path, out_dir: Path
) -> tuple[int, BaseException | None]:
    """Close what k6 left open; return how much stays, and the interruption that cut it short."""
    return close_opened(state_dir, bearer_file, settle_log(state_dir, out_dir / "k6.log"))


def close_opened(
    state_dir: Path, bearer_file: Path, sessions: Sequence[OpenSession]
) -> tuple[int, BaseException | None]:
    """Close sessions; return how many stay, and the interruption that cut it short."""
    try:
        bearers = read_bearers(bearer_file) if sessions else ()
        return len(close_sessions(state_dir, sessions, bearers).left), None
    except LoadtestError:  # of a damaged file: the next run says so
        return len(sessions), None
    except (KeyboardInterrupt, SystemExit) as caught:
        return len(sessions), caught


def _read_back(
    scenario: str, out_dir: Path, exit_code: int, vitals: Vitals
) -> tuple[ScenarioResult, tuple[Row, ...], Server | None]:
    log = (out_dir / "k6.log").read_text(encoding="utf-8", errors="replace")
    result = ScenarioResult(scenario, _name_outcome(exit_code), exit_code)
    if result.outcome in {"failed", "aborted"}:
        result = replace(result, reason=find_error(log) or f"k6 ended with {exit_code}")
    elif "source=stacktrace" in log:
        result = replace(result, outcome="failed", reason=find_error(log))
    try:
        summary = parse_summary(out_dir / "summary.json", scenario)
        rows = build_rows(summary)
    except ResultsError as failure:
        reason = f"{result.reason}; {failure}" if result.outcome == "failed" else str(failure)
        return replace(result, outcome="failed", reason=reason), (), None
    crossed = find_crossed(summary)
    if crossed and result.outcome == "ok":  # ours, not k6's
        result = replace(result, outcome="thresholds crossed")
    lateness = summary.metrics.get("mcp_generator_lateness", {})
    generator = vitals.describe(lateness["p(95)"] if lateness.get("count") else None)
    result = replace(result, crossed=crossed, generator=generator)
    return result, rows, summary.loadtest.server


def _name_outcome(exit_code: int) -> Outcome:
    outcomes: dict[int, Outcome] = {
        EXIT_OK: "ok",
        EXIT_THRESHOLDS: "thresholds crossed",
        EXIT_INTERRUPTED: "interrupted",
        EXIT_ABORTED: "aborted",
    }
    return outcomes.get(exit_code, "failed")


def find_error(log: str) -> str | None:
    """Return the first line of the last error in a k6 log."""
    for line in reversed(log.splitlines()):
        match = re.search(r'level=error msg=(?:"((?:[^"\\]|\\.)*)"|(\S+))', line)
        if match is not None:
            text = (match[1] or match[2]).replace('\\"', '"')
            line = re.split(r"\\n", text)[0].removeprefix("GoError: ").removeprefix("Error: ")
            return tidy_words(line, MOST_QUOTED)
    return None


def _build_row(
    summary: Summary,
    kind: Literal["frame", "stage", "tool", "opening"],
    name: str,
    selector: str,
    seconds: float,
    clients: int,
    *,
    metric: str = "",
    rate: float | None = None,
) -> Row:
    braced = f"{{{selector}}}" if selector else ""
    durations = summary.metrics.get(f"mcp_{metric or 'duration'}{braced}", {})
    failures = summary.failures(
        "mcp_open_failures" if metric == "opening" else "mcp_failures", selector
    )
    ok = int(durations.get("count", 0))
    count = ok + sum(failures.values())
    aggregates = selector in {"", "frame:first dispatch"} and not metric and rate is None
    is_held = aggregates and summary.count("mcp_held") > HELD_SHARE * count
    responses = {} if metric else summary.metrics.get(f"mcp_response{braced}", {})
    return Row(
        scenario=summary.loadtest.scenario,
        kind=kind,
        name=name,
        count=count,
        ok=ok,
        failures=failures,
        seconds=seconds,
        offered_rate=rate,
        achieved_rate=count / seconds if seconds > 0 else 0.0,
        duration=_build_percentiles(durations),
        response=_build_percentiles(responses),
        clients=clients,
        held_rate=summary.loadtest.most_rate if is_held else None,
    )


def _build_percentiles(values: Mapping[str, Any]) -> Percentiles | None:
    """Return k6's percentiles; a series without a sample says 0 and means nothing."""
    if not values.get("count"):
        return None
    if not set(PERCENTILES) <= values.keys():
        raise ResultsError("summary.json lacks percentiles of a series: run the scenario again")
    return Percentiles(*(float(values[key]) for key in PERCENTILES))


def _keep(folder: RunFolder, finished: ScenarioRun) -> RunFolder:
    """Write the rows and the result of one scenario, and who answered."""
    if finished.rows:
        folder = write_rows(folder, finished.result.name, finished.rows)
    target = folder.run.target
    if finished.server is not None:
        target = replace(
            target,
            server_name=finished.server.name,
            server_version=finished.server.version,
            protocol_version=finished.server.protocol,
            era=finished.server.era,
        )
    regions = tuple(sorted({*folder.run.regions, *finished.regions}))
    run = replace(folder.run, target=target, regions=regions, ended=utc_now())
    return _note(replace(folder, run=run), finished.result)


def _note(folder: RunFolder, result: ScenarioResult) -> RunFolder:
    """Write a scenario's result into `run.json`, in the place of the one that it had."""
    folder = replace(folder, run=folder.run.note(result))
    write_run(folder)
    return folder


def main(arguments: Sequence[str]) -> int:
    """Run `inspect SCRIPT...`: k6 loads each script and its options."""
    if len(arguments) < 2 or arguments[0] != "inspect":
        print("usage: python -m loadtest.k6 inspect SCRIPT...", file=sys.stderr)
        return UsageError.exit_code
    try:
        binary = find_k6(os.environ)
        for script in arguments[1:]:
            inspect(binary, Path(script))
    except K6Error as failure:
        print(failure, file=sys.stderr)
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
