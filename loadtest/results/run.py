"""One run: what was measured, by which load generator, and how it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from loadtest.common.clock import utc_now
from loadtest.common.parsing import tidy_text
from loadtest.config.models import Engine, Scenario
from loadtest.config.objectives import Objective

SCENARIOS: tuple[str, ...] = get_args(Scenario)

# How a scenario ended.
Outcome = Literal["ok", "thresholds crossed", "aborted", "interrupted", "failed", "not run"]

# Why a call failed, in the words of k6/lib/outcome.js, which adds `tool_error:<code>` and
# `http_<status>`. `session_lost`: the server did not know the session any more. `incomplete` is a
# result of another type than complete; `input_required` waits for something that the table does not
# answer; `no_argument` is a step of a flow that was not sent; `cut_off` had no answer when its
# slice ended, before its own time limit.
Reason = Literal[
    "capacity",
    "rate_limited",
    "session_lost",
    "unauthorized",
    "timeout",
    "cut_off",
    "connection",
    "rpc_error",
    "incomplete",
    "unparseable",
    "no_argument",
    "input_required",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
# They show where a limit is, not that something went wrong.
REFUSALS: tuple[Reason, ...] = ("capacity", "rate_limited")
# They show that the target is up.
ALIVE: tuple[Reason, ...] = (*REFUSALS, "session_lost")

# Above either, the figures say more about the load generator than about the target.
MOST_CPU_SHARE = 0.85
MOST_LATENESS_MS = 100.0
# With a longer name, a comment could not be posted.
MOST_NAME_CHARS = 200

# What a row is about. Rows of CALLED are the parts of the mix; their sum is the tool `all`.
# A row of kind `flow` is about whole flows, whose calls are in the rows of their steps. A row of
# kind `control` is about a static document of the same origin, or the connection to it. The one of
# kind `capacity` has the rate that a search found.
RowKind = Literal[
    "frame",
    "stage",
    "tool",
    "resource",
    "prompt",
    "completion",
    "step",
    "flow",
    "opening",
    "stream",
    "control",
    "capacity",
]
CALLED: tuple[RowKind, ...] = ("tool", "resource", "prompt", "completion", "step")

# Rows beside those of the calls: sessions that opened, the streams that they held, the control, and
# what a search found.
ASIDE: tuple[RowKind, ...] = ("opening", "stream", "control", "capacity")

# What a search for the capacity counts.
CapacityUnit = Literal["sessions", "calls"]
# The strain of a load that was refused, and the most of any.
MOST_STRAIN = 100.0

# A number of calls. A damaged file or comment may hold anything.
Calls = Annotated[int, Field(ge=0)]
# A name, a version or an id that a server reports.
ServerName = Annotated[str, AfterValidator(lambda text: tidy_text(text, MOST_NAME_CHARS))]


@dataclass(frozen=True)
class Percentiles:
    """Latency of the successful calls, in milliseconds (k6's own percentiles)."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class Spread:
    """A quantity other than a latency, over the replies that were measured."""

    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class Replies:
    """The replies to the successful calls of a row; times in milliseconds.

    `count` replies were measured: all of slow calls, a part of fast ones, chosen by time alone.
    `size` is in bytes of the body, with the framing of events and without HTTP headers.
    `first_byte` is counted from when the request was sent. `receiving` is the time from the first
    to the last byte, so no silence within a reply was longer. `silence` is the longest silence
    itself, measured on `streamed` calls by a client beside k6; None if there was none.
    """

    count: Calls
    size: Spread
    first_byte: Spread
    receiving: Spread
    silence: Spread | None = None
    streamed: Calls = 0


@dataclass(frozen=True)
class LostSessions:
    """The sessions that the server lost while they were in use.

    `calls` (the median) and `least_calls` were answered before the loss. `ages_seconds` are the
    shortest and the longest time from opening to the loss; `moments_seconds` are the first and the
    last loss, from the start of the slice.
    """

    count: Calls
    calls: float
    least_calls: float
    ages_seconds: tuple[float, float]
    moments_seconds: tuple[float, float]


@dataclass(frozen=True)
class HeldStreams:
    """The streams from the server that the sessions of a row asked for.

    `none` of them were answered with "there are no streams" (405). `early` ended before their
    session: after `early_seconds`, the shortest and the longest of them. `stays` were still open
    some seconds after their session had been deleted. `quiet` sent no headers before their end.
    `keep_alives` counts the comments on all of them. `silence_seconds` is the mean silence of the
    stream that was heard least, so its longest silence was not shorter. `longest_silence_seconds`
    is the longest silence itself, of a stream that a client beside k6 held; None without one.
    """

    none: Calls = 0
    early: Calls = 0
    early_seconds: tuple[float, float] | None = None
    stays: Calls = 0
    quiet: Calls = 0
    keep_alives: Calls = 0
    silence_seconds: float | None = None
    longest_silence_seconds: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table: a frame of the cold start, a stage of the ladder, or what is called.

    A row of kind `opening` counts the sessions opened for the stage (or mix, `all`) of that name;
    `lost` are those of them that the server lost later.
    A row of kind `stream` counts the streams that these sessions asked for: `ok` were open,
    `failures` were refused, `duration` is the time until the headers of those whose headers came
    before their end.
    `failures` counts the calls that failed by `Reason`, `tool_error:<code>` or `http_<status>`.
    `count` = `ok` + all failures: calls made. Rates are calls/s over `seconds`, the time the slice
    lasted; `offered_rate` is None in a closed loop; the difference of `offered_rate` and
    `achieved_rate` are the calls that were due but not made. `duration` is the call as the client
    saw it; `response` is measured from the scheduled time of the call. Both are None without data.
    `clients` is the number of OAuth clients that made the calls, each with its own bearer and an
    equal share of the sessions. `held_rate` is the environment's limit in calls/s if it limited a
    closed loop: the rate is then that of the limit, not of the target. `replies` is None without
    a reply, and in runs of earlier versions. `beyond` counts the calls, answered or not, that took
    longer than 60 s and 120 s, by `60_s` and `120_s`. `server_time` is how long the server says it
    worked (`Server-Timing`), over the calls for which it said so.
    """

    scenario: str
    kind: RowKind
    name: str
    count: Calls
    ok: Calls
    failures: Mapping[str, Calls]
    seconds: float
    offered_rate: float | None
    achieved_rate: float
    duration: Percentiles | None
    response: Percentiles | None = None
    clients: int = 1
    held_rate: float | None = None
    replies: Replies | None = None
    lost: LostSessions | None = None
    streams: HeldStreams | None = None
    beyond: Mapping[str, Calls] = field(default_factory=dict)
    server_time: Percentiles | None = None

    @property
    def held_streams(self) -> int:
        """Return how many streams of a row of kind `stream` were open until their session ended."""
        return self.ok - (self.streams.early if self.streams else 0)

    @property
    def ok_rate(self) -> float:
        """Return the successful calls/s; `achieved_rate` counts failed calls too."""
        return self.achieved_rate * (self.ok / self.count) if self.count else 0.0


@dataclass(frozen=True)
class SlowCall:
    """One of the slowest calls of a tool, with what its owner needs to find it in a trace.

    `at` is UTC, ISO 8601 with milliseconds; `server_ms` is how long the server says it worked.
    """

    scenario: str
    kind: RowKind
    name: str
    ms: float
    server_ms: float | None
    at: str
    trace_id: ServerName | None = None
    request_id: ServerName | None = None


@dataclass(frozen=True)
class Generator:
    """What the load generator used, and how late it sent calls.

    `cpu_share` is the share of all processors that k6 may use. It and the memory are sums over all
    runners, and None if they cannot be measured. `lateness_p95_ms` is the time from a call's
    scheduled time to its start, None if nothing was scheduled.
    """

    cpu_share: float | None
    peak_memory_mb: float | None
    lateness_p95_ms: float | None = None

    def is_bottleneck(self) -> bool:
        """Return whether the load generator, not the target, may have caused the figures."""
        late = self.lateness_p95_ms is not None and self.lateness_p95_ms > MOST_LATENESS_MS
        return late or (self.cpu_share or 0) > MOST_CPU_SHARE


@dataclass(frozen=True)
class RunnerFault:
    """A runner with an incomplete share of the figures, and why.

    `lost`: it ended early. `late`: it began after the others. `partial`: some of its figures did
    not arrive.
    """

    runner: int
    state: Literal["lost", "late", "partial"]
    reason: str

    def describe(self) -> str:
        """Return the fault as a short phrase."""
        return f"runner {self.runner} {self.state}: {self.reason}"


RiseFigure = Literal["p50", "p95", "refused", "failed"]


@dataclass(frozen=True)
class Rise:
    """A figure of a row that rose within a scenario, from `start` to `end`, as a line has it.

    `per_hour` is how fast, and `error` its standard error. p50 and p95 are in ms; `refused` and
    `failed` are shares, from 0 to 1, of the calls, openings or streams. `is_explained`: the control
    rose as well, so the cause is the network or a host.
    """

    kind: RowKind
    name: str
    figure: RiseFigure
    per_hour: float
    error: float
    start: float
    end: float
    is_explained: bool = False


@dataclass(frozen=True)
class ScenarioResult:
    """How one scenario went; `crossed` names the thresholds that its numbers crossed.

    `generator` is None if the load generator could not be watched. `sessions_left` counts sessions
    that could not be closed, not even after k6 had ended. `faults` are the runners that did not do
    their whole share. `rises` are what rose within a soak.
    """

    name: str
    outcome: Outcome
    exit_code: int | None = None
    reason: str | None = None
    crossed: tuple[str, ...] = ()
    started: str | None = None
    ended: str | None = None
    sessions_left: int = 0
    generator: Generator | None = None
    faults: tuple[RunnerFault, ...] = ()
    rises: tuple[Rise, ...] = ()

    def is_whole(self) -> bool:
        """Return whether the scenario reached its end and measured everything."""
        return self.outcome in {"ok", "thresholds crossed"}


@dataclass(frozen=True)
class Target:
    """The server: `host` and port, the name and version it reports, and the protocol used.

    `repository` (`owner/app`) and `commit` are those of what is deployed, where they are known.
    """

    host: str
    server_name: ServerName | None = None
    server_version: ServerName | None = None
    protocol_version: ServerName | None = None
    era: Literal["handshake", "stateless"] | None = None
    repository: ServerName | None = None
    commit: ServerName | None = None


@dataclass(frozen=True)
class Repeat:
    """What was suspicious, measured again: round `number`, from 1.

    `remeasured` names the stages of each scenario, none for a whole scenario. `scenarios` has how
    they ended; one that was interrupted does not change the outcome of the run. `share` is the part
    of its length in the run that each slice took.
    """

    number: Annotated[int, Field(ge=1)]
    remeasured: Mapping[str, tuple[str, ...]]
    scenarios: tuple[ScenarioResult, ...] = ()
    share: float = 1.0

    def note(self, result: ScenarioResult) -> "Repeat":
        """Return the repeat with a scenario's result replaced by this one."""
        return replace(self, scenarios=_put(self.scenarios, result))


@dataclass(frozen=True)
class CapacityStep:
    """One step of a search for the capacity: a load, and how the target bore it.

    `strain` is the worst figure ÷ its limit, at most 1 if the load was borne, `MOST_STRAIN` if it
    was refused. `bore` is how much of
    the load was served, where a load that was too much shows that. `reason` is what gave way.
    """

    load: Calls
    strain: float
    bore: int | None = None
    reason: str | None = None

    @property
    def is_borne(self) -> bool:
        """Return whether every figure was within its limit."""
        return self.strain <= 1


@dataclass(frozen=True)
class Capacity:
    """What a search for the capacity found, in sessions or in calls per second (`unit`).

    The target bears `most`, and the edge is from `low` to `high`; `high` is None if no load was too
    much. `beyond` is what gave way above it, `stopped` why the search ended before the edge was
    known. `limits` are what each step was judged by, in words; `pace` is that of a session.
    """

    unit: CapacityUnit
    most: Calls
    low: Calls
    high: int | None
    beyond: str | None = None
    stopped: str | None = None
    limits: tuple[str, ...] = ()
    pace: str = "1"
    steps: tuple[CapacityStep, ...] = ()


@dataclass(frozen=True)
class Run:
    """`run.json`: times are UTC, ISO 8601; `git_sha` is None outside a checkout.

    `generators` is the number of k6 processes that made the load, `engine` how they were run, and
    `regions` where, if that is known. `streams`: sessions held a stream beside their calls; None in
    runs of versions that could not. `repeats_note` tells why something suspicious was not measured
    again, or not often enough. `objectives` were in force when it began. `capacity` is what a
    search found, of which the rows are the steps.
    """

    run_id: str
    loadtest_version: str
    started: str
    environment: str
    profile: str
    knobs: Mapping[str, Any]
    target: Target
    k6_version: str
    machine: Mapping[str, Any]
    git_sha: str | None = None
    ended: str | None = None
    scenarios: tuple[ScenarioResult, ...] = ()
    run_url: str | None = None
    clients: int = 1
    engine: Engine = "local"
    generators: int = 1
    regions: tuple[str, ...] = ()
    streams: bool | None = None
    repeats: tuple[Repeat, ...] = ()
    repeats_note: str | None = None
    objectives: tuple[Objective, ...] = ()
    capacity: Capacity | None = None

    def outcome(self) -> Outcome:
        """Return the worst outcome of the scenarios; a run without scenarios is `not run`."""
        if not self.scenarios:
            return "not run"
        order: tuple[Outcome, ...] = (
            "failed",
            "aborted",
            "interrupted",
            "not run",
            "thresholds crossed",
        )
        found = {scenario.outcome for scenario in self.scenarios}
        return next((outcome for outcome in order if outcome in found), "ok")

    def note(self, result: ScenarioResult) -> "Run":
        """Return the run with a scenario's result replaced by this one."""
        return replace(self, scenarios=_put(self.scenarios, result))

    def count_rises(self) -> int:
        """Return how many figures rose within its scenarios, while the control did not."""
        rises = (rise for result in self.scenarios for rise in result.rises)
        return sum(not rise.is_explained for rise in rises)

    def has_ended(self) -> bool:
        """Return whether the run reached its end, good or bad, and was not cut off."""
        return self.outcome() not in {"interrupted", "not run"}

    def has_failed(self) -> bool:
        """Return whether results are missing for another reason than a signal."""
        return self.outcome() in {"failed", "aborted", "not run"}

    def is_generator_bound(self) -> bool:
        """Return whether the load generator was the bottleneck of a scenario."""
        watched = (scenario.generator for scenario in self.scenarios)
        return any(generator is not None and generator.is_bottleneck() for generator in watched)


def _put(results: Sequence[ScenarioResult], result: ScenarioResult) -> tuple[ScenarioResult, ...]:
    others = {each.name: each for each in results}
    return tuple((others | {result.name: result}).values())


def plan_scenarios(names: Sequence[str]) -> tuple[ScenarioResult, ...]:
    """Return the results of a run's scenarios before the first has begun."""
    return tuple(ScenarioResult(name, "not run") for name in names)


def begin_scenario(name: str) -> ScenarioResult:
    """Return the result of a scenario while it runs; it stays if the process is killed."""
    reason = "it was running when this was written: it still runs, or its process was killed"
    return ScenarioResult(name, "interrupted", reason=reason, started=utc_now())
