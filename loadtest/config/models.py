"""The tables of `loadtest.toml`: environments, limits, profiles."""

import math
import re
from collections.abc import Mapping
from string import Template
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from loadtest.common.parsing import parse_url
from loadtest.common.redaction import VARIABLES
from loadtest.config.access import Headers
from loadtest.config.kubernetes_types import (
    Cpu,
    Image,
    LabelKey,
    LabelName,
    LabelValue,
    Memory,
    ObjectName,
)
from loadtest.config.objectives import Slo
from loadtest.config.pace import DEFAULT_PACE, Pace, PaceText, Timeout, parse_pace
from loadtest.config.refusals import RefusalPattern
from loadtest.config.tool_table import ToolTable
from loadtest.errors import ConfigError

# No load test has more of anything, and larger numbers would overflow.
Positive = Annotated[int, Field(gt=0, le=10**9)]
# Calls per second: a whole number, or less than one for a small quota.
Rate = Annotated[
    float,
    Field(ge=0.01, allow_inf_nan=False),
    AfterValidator(lambda rate: int(rate) if rate.is_integer() else rate),
]

Minutes = Annotated[float, Field(ge=0, le=24 * 60)]

# The revisions in k6/lib/protocol.js; auto uses the newest era that the target speaks.
Protocol = Literal["auto", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
STATELESS = "2026-07-28"


# Calls of usual tools may take up to this long after their stage has ended.
MOST_USUAL_DRAIN_SECONDS = 10.0
COLD_START_MAX_SECONDS = 600
# Of a cold start, at most: two that open, tools/list, DELETE. See k6/lib/run.js.
START_REQUESTS = 4


def find_unit(protocol: str) -> str:
    """Return what a stage of the ladder counts; a stateless client has no session."""
    return "client" if protocol == STATELESS else "session"


# Where a bearer comes from: `auto` refreshes, else signs in with a browser.
Via = Literal["auto", "browser", "session", "client-credentials", "given"]

# What a server demands of its callers: a bearer, a key in the headers, or neither.
Auth = Literal["bearer", "header", "none"]

Scenario = Literal["cold-start", "sessions", "tools", "streams", "soak"]
# They need no table in a profile: every profile has theirs.
USUAL_SCENARIOS: tuple[Scenario, ...] = ("cold-start", "sessions", "tools")

# How k6 runs: one, several on this machine, or runners of a Kubernetes cluster.
Engine = Literal["local", "segments", "kubernetes"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

# The tasks that find the edge of a target, so that its owner must allow them.
EdgeTask = Literal["leaks", "capacity"]


class ConfigTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(ConfigTable):
    """The highest load that an environment allows; knobs above it are refused."""

    max_vus: Positive
    max_rps: Positive
    max_duration_seconds: Positive


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


# One name or several, tried together: an exact accessible name, or `css=…` / `role=…`.
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_tuple)]
PageWord = Literal[
    "account_locked", "captcha", "consent_denied", "password_change", "wrong_password", "wrong_totp"
]


class Step(ConfigTable):
    """One extra thing to do on the pages: click, or fill with a credential, or press a key."""

    click: Name | None = None
    fill: Name | None = None
    with_: Literal["email", "password", "totp"] | None = Field(default=None, alias="with")
    press: Name | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if [self.click, self.fill, self.press].count(None) != 2:
            raise ValueError("a step has exactly one of click, fill and press")
        if (self.fill is None) != (self.with_ is None):
            raise ValueError("fill and with go together; with is email, password or totp")
        return self


class Pages(ConfigTable):
    """How to drive the sign-in and consent pages: by accessible names, as a person does.

    `steps` run before the built-in actions, each once, in order, as soon as their control exists.
    `says` maps a cause to a text on the page that shows it. If a page shows nothing known for
    `settle_seconds`, the browser returns to the authorize URL.
    """

    email_label: Names = ("Email",)
    password_label: Names = ("Password",)
    totp_label: Names = ("Code", "Authentication code", "Verification code", "One-time code")
    sign_in_button: Names = ("Sign in", "Log in")
    next_button: Names = ("Next", "Continue")
    totp_button: Names = ("Verify", "Continue", "Submit", "Sign in")
    approve_button: Names = ("Approve", "Authorize")
    dismiss_buttons: Names = ("Skip tour",)
    workspace_label: Names = ()
    workspace: Names = ()
    steps: tuple[Step, ...] = ()
    says: Mapping[PageWord, Name] = {}
    settle_seconds: Annotated[float, Field(gt=0, le=60)] = 2.5
    sign_in_origins: Annotated[tuple[Name, ...], BeforeValidator(_as_tuple)] = ()

    @field_validator("sign_in_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(parse_origin(origin) for origin in origins)


class Quota(ConfigTable):
    """What a target allows one OAuth client in a sliding minute.

    A call costs its tool's weight in units, 1 by default; an owner may raise the quota to at most
    `most_units_per_minute`. With `fit`, the tool mix of every run stays within it.
    """

    units_per_minute: Positive
    most_units_per_minute: Positive | None = None
    weights: Mapping[str, Positive] = {}
    fit: bool = False

    def weigh(self, tool: str) -> int:
        """Return what a call of the tool costs."""
        return self.weights.get(tool, 1)


class Toleration(ConfigTable):
    """A taint that runners tolerate; without a key, every taint."""

    key: LabelKey | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _check_operator(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError('operator = "Exists" cannot have a value')
        if self.operator == "Equal" and self.key is None:
            raise ValueError('a toleration without a key needs operator = "Exists"')
        return self


class Kubernetes(ConfigTable):
    """Where `--engine kubernetes` runs, in a cluster that has the k6-operator.

    `context` is one of the kubeconfig, by default its current one. `cpu` is a runner's request,
    `memory` its request and its limit; runners are spread over nodes (or zones and nodes) as
    evenly as possible. A runner may take `start_seconds` to start.
    """

    namespace: LabelName
    context: Name | None = None
    image: Image = "grafana/k6:1.1.0"
    starter_image: Image | None = None
    cpu: Cpu = "1"
    memory: Memory = "2Gi"
    spread: Literal["node", "zone", "none"] = "node"
    node_selector: Mapping[LabelKey, LabelValue] = {}
    tolerations: tuple[Toleration, ...] = ()
    image_pull_secrets: tuple[ObjectName, ...] = ()
    start_seconds: Positive = 300


def _check_control_path(path: str) -> str:
    if not re.fullmatch(r"/(?!/)[!-~]*", path) or "#" in path or "\\" in path:
        raise ValueError(
            'it is a path on the origin of the target, such as "/health": it begins with one /'
        )
    return path


# A document on the origin of the target.
def _check_repository(text: str) -> str:
    """Return a repository of GitHub as `owner/app`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.{1,2}$)[\w.-]{1,100}", text, re.ASCII):
        raise ValueError('repository is the owner and the name on GitHub, such as "example/app"')
    return text


def _check_commit_source(text: str) -> str:
    if not re.fullmatch(r"\$[A-Za-z_]\w*|header:[A-Za-z0-9-]+|version", text, re.ASCII):
        raise ValueError('deployed_commit is "$VARIABLE", "header:NAME" or "version"')
    if text.startswith("$") and VARIABLES.search(text.upper()):
        raise ValueError(f"deployed_commit: by its name, {text} is a secret; use another variable")
    return text


Repository = Annotated[str, AfterValidator(_check_repository)]
CommitSource = Annotated[str, AfterValidator(_check_commit_source)]
ControlPath = Annotated[str, AfterValidator(_check_control_path)]


class Environment(ConfigTable):
    """One target in `loadtest.toml`: everything except addresses and secrets."""

    target: Literal["reference", "hosted"]
    default_profile: str
    limits: Limits
    allow: frozenset[EdgeTask] = frozenset()  # the tasks that may bring the target to its edge
    provision: Literal["novamart", "none"] = "novamart"

    # Access. `headers` and the certificate go only to the target's own origin.
    auth: Auth = "bearer"  # with another one, nothing is minted
    headers: Headers = {}
    tls_certificate: Name | None = None
    tls_key: Name | None = None

    # The bearers.
    via: Via = "auto"  # where bearers come from, also renewed ones
    revoke_after: bool = False  # the chain ends with revoking what it left
    scope: str | None = None  # None: as the challenge or the metadata says
    workspace_claim: str | None = None  # the claim of a JWT that names the workspace
    client_metadata_url: str | None = None  # of our Client ID Metadata Document
    # How a given client sends its secret, if the server offers both methods.
    client_auth: Literal["client_secret_basic", "client_secret_post"] | None = None
    clients: Positive = 1
    pages: Pages = Pages()

    # The MCP server.
    mcp_path: str = "/mcp/{workspace_id}"
    protocol: Protocol = "auto"
    # A cheap static document of the origin, for the control. None: the metadata (RFC 9728).
    control_path: ControlPath | None = None
    quota: Quota | None = None
    refusals: tuple[RefusalPattern, ...] = ()  # the server's own words, beside the known ones

    # What is called, and how. `resources` and so on are called beside the tools.
    tools: str | dict[str, Any] | None = None  # a table, the path of one, or `novamart`
    resources: dict[str, Any] = {}
    prompts: dict[str, Any] = {}
    completions: dict[str, Any] = {}
    flows: dict[str, Any] = {}
    pools: dict[str, Any] = {}  # the values that arguments refer to
    answers: dict[str, Any] = {}  # for a server that asks for input
    ladder_tool: Name | None = None  # None: as the profile says
    streams: bool = True  # sessions hold a stream beside their calls, as real clients do
    # These three hold where neither tool nor profile has its own.
    pace_seconds: PaceText | None = None
    timeout_seconds: Timeout | None = None
    remeasure_minutes: Minutes | None = None

    # The verdict and the report.
    slo: Slo = Slo()
    cadence_days: Positive | None = None  # how often a run is due
    # The account or team to mention if a run failed or regressed.
    mention: Annotated[str, Field(pattern=r"^@?[\w-]+(/[\w.-]+)?$")] | None = None
    repository: Repository | None = None  # of the target's code on GitHub
    deployed_commit: CommitSource | None = None  # where its commit is read from

    kubernetes: Kubernetes | None = None

    @model_validator(mode="before")
    @classmethod
    def _provision_nothing(cls, data: Any) -> Any:
        """Without a bearer there is no user: nothing is provisioned."""
        if isinstance(data, dict) and data.get("auth", "bearer") != "bearer":
            return {"provision": "none", **data}
        return data

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        names = {name.lower() for name in self.headers}
        if self.target == "reference" and (self.auth != "bearer" or names or self.tls_certificate):
            raise ValueError('auth, headers and tls_certificate need target = "hosted"')
        if "authorization" in names and self.auth != "header":
            raise ValueError('the header Authorization needs auth = "header"')
        if self.auth == "header" and not names:
            raise ValueError('auth = "header" needs headers with the key')
        if self.auth != "bearer" and self.provision != "none":
            raise ValueError(f'provision = "{self.provision}" needs auth = "bearer"')
        if self.auth != "bearer" and self.clients != 1:
            raise ValueError(f'clients is {self.clients}, but auth = "{self.auth}" has one client')
        if self.tls_key and not self.tls_certificate:
            raise ValueError("tls_key needs tls_certificate")
        for key in ("tls_certificate", "tls_key"):
            text = getattr(self, key) or ""
            if "-----BEGIN" in text or not Template(text).is_valid():
                raise ValueError(f"{key} is the path of a PEM file, or a variable as $NAME")
        return self

    def build_mcp_path(self, workspace_id: str | None) -> str:
        """Return the path of the MCP endpoint, with the workspace if it contains one."""
        if "{workspace_id}" not in self.mcp_path:
            return self.mcp_path
        if workspace_id is None:
            raise ConfigError("LOADTEST_WORKSPACE_ID is not set, but mcp_path needs it")
        return self.mcp_path.replace("{workspace_id}", workspace_id)


class ColdStart(ConfigTable):
    """Knobs of the cold-start scenario: `iterations` brand-new sessions, shared by `vus`.

    With `starts_per_second` they begin at even distances, without it each as soon as it can.
    """

    iterations: Positive
    vus: Positive
    starts_per_second: Rate | None = None

    def find_seconds(self) -> float:
        """Return how long the starts take at their pace; 0 without one."""
        return self.iterations / self.starts_per_second if self.starts_per_second else 0.0


class Sessions(ConfigTable):
    """Knobs of the concurrent-sessions ladder: one stage of `stage_seconds` per session count.

    Without `tool`, it calls the first one of the table. Without `pace_seconds`, each session calls
    once a second.
    """

    stages: Annotated[tuple[Positive, ...], Field(min_length=1)]
    stage_seconds: Positive
    tool: str | None = None
    pace_seconds: PaceText | None = None

    @property
    def pace(self) -> Pace:
        """Return how often each session calls."""
        return parse_pace(self.pace_seconds or DEFAULT_PACE)

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if len(set(self.stages)) != len(self.stages):
            raise ValueError("stages must differ: the session count is the key of a row")
        return self


class Tools(ConfigTable):
    """Knobs of the tool-call mix: closed loop by `vus`, or open loop at `target_rps` calls/s.

    With `pace_seconds`, each session pauses between its calls as a session of the ladder does.
    With `observe_seconds`, one more client calls each of these seconds, and reads the replies as
    they arrive.
    """

    vus: Positive
    duration_seconds: Positive
    target_rps: Rate | None = None
    pace_seconds: PaceText | None = None
    observe_seconds: Annotated[float, Field(ge=0.1, le=3600)] | None = None

    @model_validator(mode="after")
    def _check_pace(self) -> Self:
        if self.pace is not None and self.target_rps is not None:
            raise ValueError("the mix has either target_rps or pace_seconds, not both")
        if self.pace is not None and self.pace.kind == "burst":
            raise ValueError("a session of the mix makes one call at a time: no bursts")
        return self

    @property
    def pace(self) -> Pace | None:
        """Return how often each session calls; None: again at once, or by `target_rps`."""
        return parse_pace(self.pace_seconds) if self.pace_seconds else None

    @property
    def scheduled_rps(self) -> float | None:
        """Return the highest scheduled rate; None if sessions call again at once."""
        return self.vus * self.pace.find_rate() if self.pace else self.target_rps

    @property
    def observed_rps(self) -> float:
        """Return the calls/s of the client that observes, at most."""
        return 1 / self.observe_seconds if self.observe_seconds else 0.0


class Streams(ConfigTable):
    """Knobs of the ladder of streams: one stage of `stage_seconds` per number of clients.

    Each client holds a stream and does nothing else. One more client calls the tool of the ladder
    of sessions, at its pace.
    """

    stages: Annotated[tuple[Positive, ...], Field(min_length=1)]
    stage_seconds: Positive

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if len(set(self.stages)) != len(self.stages):
            raise ValueError("stages must differ: the stream count is the key of a row")
        return self

    def most_vus(self) -> int:
        """Return the clients of the largest stage, with the one that calls."""
        return max(self.stages) + 1


class Soak(ConfigTable):
    """Knobs of the soak: `vus` sessions at a time that call the mix, for hours.

    Each lasts `session_seconds`, then a new one opens in its place. Without `pace_seconds`, a
    session calls once a second.
    """

    vus: Positive
    duration_seconds: Positive
    session_seconds: Positive = 60
    pace_seconds: PaceText | None = None

    @property
    def pace(self) -> Pace:
        """Return how often each session calls."""
        return parse_pace(self.pace_seconds or DEFAULT_PACE)

    def find_rate(self) -> float:
        """Return the scheduled requests/s, with those that open and close sessions."""
        return self.vus * (self.pace.find_rate() + START_REQUESTS / self.session_seconds)

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.session_seconds > self.duration_seconds:
            raise ValueError("a session of the soak cannot last longer than the soak")
        if self.pace.mean_seconds > self.session_seconds:
            raise ValueError("a session of the soak is too short for its pace: some would not call")
        if self.pace.kind == "burst":
            raise ValueError("a session of the soak makes one call at a time: no bursts")
        return self


class Profile(ConfigTable):
    """How much load to send: the knobs of the scenarios.

    `scenarios` are those that run if none is named; without it, all that need no table of their
    own, and the streams if there is a table. `timeout_seconds` is the time limit of requests, 30 s
    by default; a tool may have its own. `remeasure_minutes` is how long suspicious figures may be
    measured again, in all.
    """

    cold_start: ColdStart
    sessions: Sessions
    tools: Tools
    streams: Streams | None = None
    soak: Soak | None = None
    scenarios: Annotated[tuple[Scenario, ...], Field(min_length=1)] | None = None
    max_failure_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    timeout_seconds: Timeout | None = None
    remeasure_minutes: Minutes | None = None

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        for name in self.scenarios or ():
            if name not in self.count_vus():
                raise ValueError(f"scenarios names {name}, but the profile has no table {name}")
        return self

    def choose_scenarios(self) -> tuple[str, ...]:
        """Return the scenarios that run if none is named."""
        return self.scenarios or (*USUAL_SCENARIOS, *(["streams"] if self.streams else []))

    def count_vus(self) -> dict[str, int]:
        """Return by scenario the highest number of clients that run at the same time."""
        return {
            "cold-start": self.cold_start.vus,
            "sessions": max(self.sessions.stages),
            "tools": self.tools.vus + (self.tools.observe_seconds is not None),
            **({"streams": self.streams.most_vus()} if self.streams else {}),
            **({"soak": self.soak.vus} if self.soak else {}),
        }

    def find_rates(self) -> dict[str, float]:
        """Return by scenario the scheduled rate in calls/s, if the target answers at once."""
        return {
            "cold-start": START_REQUESTS * (self.cold_start.starts_per_second or 0),
            "sessions": max(self.sessions.stages) * self.sessions.pace.find_rate(),
            "tools": (self.tools.scheduled_rps or 0) + self.tools.observed_rps,
            **({"streams": self.sessions.pace.find_rate()} if self.streams else {}),
            **({"soak": self.soak.find_rate()} if self.soak else {}),
        }

    def most_vus(self) -> int:
        """Return the highest number of clients that run at the same time."""
        return max(self.count_vus().values())

    def most_rps(self) -> float:
        """Return the highest scheduled rate in calls/s, if the target answers at once."""
        return max(self.find_rates().values())

    def find_slice_seconds(self, scenario: str) -> int:
        """Return how long the sessions of a stage, of the mix or of the soak call."""
        if scenario == "sessions":
            return self.sessions.stage_seconds
        if scenario == "streams" and self.streams:
            return self.streams.stage_seconds
        if scenario == "soak" and self.soak:
            return self.soak.duration_seconds
        return self.tools.duration_seconds

    def list_stages(self, scenario: str) -> tuple[int, ...]:
        """Return the stages of a scenario that is a ladder; none of another one."""
        if scenario == "streams" and self.streams:
            return self.streams.stages
        return self.sessions.stages if scenario == "sessions" else ()

    def find_drain_seconds(self, scenario: str, tools: ToolTable) -> float:
        """Return how long calls may take after their stage or mix has ended.

        2 to 10 s, or longer for slow tools: a pace more in a ladder with a fixed interval, because
        sessions that need longer do not keep it; else the whole time limit that was set.
        """
        ladder = self.sessions
        seconds = self.find_slice_seconds(scenario)
        usual = min(MOST_USUAL_DRAIN_SECONDS, max(2.0, seconds / 10))
        if scenario not in {"sessions", "streams"}:
            return max(usual, tools.find_timeout(least=0))
        if ladder.pace_seconds is None:
            return usual
        limit = tools.find_timeout((str(ladder.tool),))
        is_fixed = ladder.pace.kind == "interval"
        return max(usual, min(limit, usual + ladder.pace.mean_seconds) if is_fixed else limit)

    def scheduled_seconds(self, tools: ToolTable) -> int:
        """Return the scheduled time of ladders, mix and soak; that of the cold start is not known.

        It includes the time for slow calls to end. Of a profile that names its scenarios, only
        these count.
        """
        slices = {"sessions": len(self.sessions.stages), "tools": 1}
        slices |= {"streams": len(self.streams.stages)} if self.streams else {}
        slices |= {"soak": 1} if self.soak else {}
        return math.ceil(
            sum(
                count
                * (
                    self.find_slice_seconds(name)
                    + max(0.0, self.find_drain_seconds(name, tools) - MOST_USUAL_DRAIN_SECONDS)
                )
                for name, count in slices.items()
                if name in (self.scenarios or slices)
            )
        )


def parse_origin(url: str) -> str:
    """Return the origin of a URL as a browser writes it; raise ValueError if it is not a URL."""
    try:
        parts = parse_url(url)
    except ValueError:
        raise ValueError("an origin is like https://login.example.com") from None
    assert parts.hostname is not None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in {None, usual} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
