"""What to test, as whom and how hard: `loadtest.toml` plus the process environment or `.env`."""

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from loadtest.common.files import check_private, read_whole
from loadtest.common.parsing import check_text, parse_count, parse_url
from loadtest.common.redaction import SecretStr, learn_variables
from loadtest.errors import ConfigError
from loadtest.kubernetes import (
    Cpu,
    Image,
    LabelKey,
    LabelName,
    LabelValue,
    Memory,
    ObjectName,
    Schedule,
)
from loadtest.tools import NOVAMART, ToolTable, list_names, parse_table, read_table

CONFIG_VERSION = 1
CONFIG_FILE = "loadtest.toml"
STATE_DIR = ".loadtest"
# An address that was typed in passing keeps its state under such a name, and no environment may.
TYPED_PREFIX = "url-"
CREDENTIALS_FILE = "credentials.env"

# No load test has more of anything, and a larger number could not be reckoned with.
Positive = Annotated[int, Field(gt=0, le=10**9)]
# Calls a second: less than one, for a small quota, or a whole number.
Rate = Annotated[
    float,
    Field(ge=0.01, allow_inf_nan=False),
    AfterValidator(lambda rate: int(rate) if rate.is_integer() else rate),
]

# The revisions that k6/lib/protocol.js speaks; auto takes the newest era that the target speaks.
Protocol = Literal["auto", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
STATELESS = "2026-07-28"

# Where a bearer comes from: `auto` refreshes, else signs in with a browser.
Via = Literal["auto", "browser", "session", "client-credentials", "given"]

# How k6 runs: one, several on this machine, or runners of a Kubernetes cluster.
Engine = Literal["local", "segments", "kubernetes"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

# Variable (and, in lower case with dashes, flag) → where the knob stands in a profile.
KNOBS: Mapping[str, tuple[str, str]] = {
    "ITERATIONS": ("cold_start", "iterations"),
    "STAGES": ("sessions", "stages"),
    "STAGE_SECONDS": ("sessions", "stage_seconds"),
    "TOOL": ("sessions", "tool"),
    "VUS": ("tools", "vus"),
    "DURATION": ("tools", "duration_seconds"),
    "TARGET_RPS": ("tools", "target_rps"),
}

OWN_VARIABLES = frozenset({*KNOBS, "CLIENTS", "PROTOCOL", "TOOLS"})

_T = TypeVar("_T")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Table):
    """The most that an environment may be asked to bear; knobs above it are refused."""

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


class Step(_Table):
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
            raise ValueError("fill goes with with: email, password or totp")
        return self


class Pages(_Table):
    """How the sign-in and consent pages are driven: by accessible name, as a person would.

    `steps` come before what we would do by ourselves, each once, in their order, as soon as their
    control is there; `says` maps a cause to words of the page that tell it; a page that asks for
    nothing known for `settle_seconds` is left for the authorize URL.
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


class Quota(_Table):
    """What a target takes of one OAuth client in a sliding minute.

    A call costs its tool's weight in units, 1 where none is given; an owner may have the quota
    raised, to `most_units_per_minute` at most. With `fit` the tool mix of every run keeps it.
    """

    units_per_minute: Positive
    most_units_per_minute: Positive | None = None
    weights: Mapping[str, Positive] = {}
    fit: bool = False

    def weigh(self, tool: str) -> int:
        """Return what a call of the tool costs."""
        return self.weights.get(tool, 1)


class Toleration(_Table):
    """A taint that runners bear; without a key, every one."""

    key: LabelKey | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _check_operator(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError('operator = "Exists" takes no value')
        if self.operator == "Equal" and self.key is None:
            raise ValueError('a toleration without a key has operator = "Exists"')
        return self


class Kubernetes(_Table):
    """Where `--engine kubernetes` runs, in a cluster that has the k6-operator.

    `context` is one of the kubeconfig, else its current one. `cpu` is what a runner is promised,
    `memory` what it is promised and given at most; they are spread over nodes (or zones and nodes)
    as evenly as there is room. A runner may take `start_seconds` to start. The last three make the
    cadence: `job_image` holds a checkout and names its user by number, `job_secret` is a Secret of
    yours with LOADTEST_* keys.
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
    schedule: Schedule | None = None
    job_image: Image | None = None
    job_secret: ObjectName | None = None

    @model_validator(mode="after")
    def _check_cadence(self) -> Self:
        if [self.schedule, self.job_image, self.job_secret].count(None) not in {0, 3}:
            raise ValueError("schedule, job_image and job_secret go together")
        return self


class Environment(_Table):
    """One target as `loadtest.toml` describes it: everything but addresses and secrets.

    Without `scope` the challenge or the metadata decides; with `workspace_claim` the bearer must
    be a JWT that names the workspace; `client_metadata_url` is a Client ID Metadata Document of
    ours, used where the authorization server takes such; `client_auth` is how a given client sends
    its secret, where the server offers both ways; `cadence_days` is how often a run is due, if
    it is; `mention` is the account or team that a report calls when a run failed or regressed;
    `via` is where bearers come from, renewed ones included; with `revoke_after` the whole chain
    ends by revoking what it left; `tools` are a table of what to call, or the path of one from the
    root of the checkout, or `novamart`.
    """

    target: Literal["reference", "hosted"]
    default_profile: str
    limits: Limits
    provision: Literal["novamart", "none"] = "novamart"
    via: Via = "auto"
    revoke_after: bool = False
    mcp_path: str = "/mcp/{workspace_id}"
    scope: str | None = None
    workspace_claim: str | None = None
    client_metadata_url: str | None = None
    client_auth: Literal["client_secret_basic", "client_secret_post"] | None = None
    clients: Positive = 1
    protocol: Protocol = "auto"
    quota: Quota | None = None
    cadence_days: Positive | None = None
    mention: Annotated[str, Field(pattern=r"^@?[\w-]+(/[\w.-]+)?$")] | None = None
    tools: str | dict[str, Any] | None = None
    pages: Pages = Pages()
    kubernetes: Kubernetes | None = None

    def build_mcp_path(self, workspace_id: str | None) -> str:
        """Return the path of the MCP endpoint, with the workspace where it names one."""
        if "{workspace_id}" not in self.mcp_path:
            return self.mcp_path
        if workspace_id is None:
            raise ConfigError("LOADTEST_WORKSPACE_ID is not set, and mcp_path needs it")
        return self.mcp_path.replace("{workspace_id}", workspace_id)


class ColdStart(_Table):
    """Knobs of the cold-start scenario: `iterations` brand-new sessions, shared by `vus`."""

    iterations: Positive
    vus: Positive


class Sessions(_Table):
    """Knobs of the concurrent-sessions ladder: one stage of `stage_seconds` per session count.

    Without a `tool` it calls the first of the table.
    """

    stages: Annotated[tuple[Positive, ...], Field(min_length=1)]
    stage_seconds: Positive
    tool: str | None = None

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if len(set(self.stages)) != len(self.stages):
            raise ValueError("stages must differ from each other: rows are keyed by session count")
        return self


class Tools(_Table):
    """Knobs of the tool-call mix: closed loop by `vus`, or open loop at `target_rps` calls/s."""

    vus: Positive
    duration_seconds: Positive
    target_rps: Rate | None = None


class Profile(_Table):
    """How hard to test: the knobs of the three scenarios."""

    cold_start: ColdStart
    sessions: Sessions
    tools: Tools
    max_failure_share: Annotated[float, Field(ge=0, le=1)] = 0.01

    def most_vus(self) -> int:
        """Return the most virtual users that run at one time."""
        return max(self.cold_start.vus, max(self.sessions.stages), self.tools.vus)

    def most_rps(self) -> float:
        """Return the highest scheduled rate in calls/s (one call per session and second)."""
        return max(max(self.sessions.stages), self.tools.target_rps or 0)

    def scheduled_seconds(self) -> int:
        """Return the scheduled time of ladder and mix; the cold start takes what it takes."""
        return len(self.sessions.stages) * self.sessions.stage_seconds + self.tools.duration_seconds


def _check_environment_name(name: str) -> str:
    """Refuse what would put an environment's state where other things of `.loadtest` lie."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ValueError("an environment is named by letters, digits, '-', '_' and '.'")
    if name.casefold() in {"runs", "browser.json"} or name.casefold().startswith(TYPED_PREFIX):
        raise ValueError(f"an environment cannot be named runs, browser.json or {TYPED_PREFIX}…")
    return name


EnvironmentName = Annotated[str, AfterValidator(_check_environment_name)]


class _File(_Table):
    version: Literal[1]
    default_environment: str
    docs_pages: tuple[str, ...] = ()
    environment: dict[EnvironmentName, Environment]
    profile: dict[str, Profile]


@dataclass(frozen=True)
class Credentials:
    """Who signs in and where: from LOADTEST_* variables, else from what provision wrote."""

    email: str | None = None
    password: SecretStr | None = None
    workspace_id: str | None = None
    totp_secret: SecretStr | None = None


@dataclass(frozen=True)
class Settings:
    """Everything a stage may ask: one environment, one profile, credentials and places.

    `tools_assumed`: nobody said which tools to call, so they are NovaMart's if the target has them.
    """

    root: Path
    environment_name: str
    environment: Environment
    profile_name: str
    profile: Profile
    base_url: str | None
    credentials: Credentials
    tools: ToolTable
    tools_assumed: bool = False
    clients: int = 1
    protocol: str = "auto"
    tracking_issue: str | None = None
    repository: str | None = None
    docs_pages: tuple[Path, ...] = ()
    outputs: tuple[str, ...] = ()
    engine: Engine = "local"
    parallelism: int = 1
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def state_dir(self) -> Path:
        """Return where this environment keeps its bearer and credentials (0700)."""
        return self.root / STATE_DIR / self.environment_name

    @property
    def runs_dir(self) -> Path:
        """Return where run folders lie."""
        return self.root / STATE_DIR / "runs"

    @property
    def credentials_file(self) -> Path:
        """Return the 0600 env file that provision writes."""
        return self.state_dir / CREDENTIALS_FILE

    @property
    def bearer_file(self) -> Path:
        """Return the 0600 file that mint writes and k6 reads."""
        return self.state_dir / "bearer.json"

    @property
    def browser_record(self) -> Path:
        """Return where the choice of browser is remembered, for all environments."""
        return self.root / STATE_DIR / "browser.json"

    @property
    def clients_file(self) -> Path:
        """Return the 0600 file that remembers our registrations and refresh tokens."""
        return self.state_dir / "clients.json"

    @property
    def unit(self) -> str:
        """Return what a ladder has many of; the stateless era has no sessions."""
        return "client" if self.protocol == STATELESS else "session"

    def build_mcp_url(self, base_url: str, workspace_id: str | None) -> str:
        """Return the MCP endpoint, of a workspace where the path names one."""
        return base_url + self.environment.build_mcp_path(workspace_id)

    def find_variable(self, name: str) -> str | None:
        """Return a variable meant for hosted targets; a reference target never sees it."""
        return None if self.is_reference() else self.variables.get(name)

    def find_sign_in_origins(self) -> frozenset[str]:
        """Return where credentials may be typed, beside the servers' own origins."""
        text = self.find_variable("LOADTEST_SIGN_IN_ORIGINS") or ""
        try:
            given = {parse_origin(part.strip()) for part in text.split(",") if part.strip()}
        except ValueError as failure:
            raise ConfigError(f"LOADTEST_SIGN_IN_ORIGINS: {failure}") from None
        return frozenset(given) | frozenset(self.environment.pages.sign_in_origins)

    def find_secret(self, name: str) -> SecretStr | None:
        """Return such a variable as a secret."""
        value = self.find_variable(name)
        return SecretStr(value) if value else None

    def list_tools(self, scenarios: Iterable[str]) -> tuple[str, ...]:
        """Return the tools that these scenarios call."""
        if "tools" in scenarios:
            return tuple(self.tools.tools)
        return (str(self.profile.sessions.tool),) if "sessions" in scenarios else ()

    def is_reference(self) -> bool:
        """Return whether the target is the embedded one, started for the run."""
        return self.environment.target == "reference"


def load_settings(
    root: Path,
    environment_name: str | None = None,
    profile_name: str | None = None,
    knobs: Mapping[str, str | None] | None = None,
    process_env: Mapping[str, str] | None = None,
    *,
    mcp_url: str | None = None,
) -> Settings:
    """Combine `loadtest.toml`, `.env`, the process environment and knobs given by flag.

    `knobs` maps variable names (`STAGES`, `STAGE_SECONDS`, …) to text; a flag wins over the
    process environment, which wins over `.env`, which wins over the profile. `mcp_url` is an MCP
    endpoint typed in passing: it gets state of its own, and only what the named environment says
    of pages, scope and claims. Raises ConfigError with every fault found, by name and never by
    value.
    """
    file = _parse_file(root / CONFIG_FILE)
    variables = _read_variables(root, process_env)
    name = environment_name or variables.get("LOADTEST_ENV") or file.default_environment
    environment = _pick(file.environment, name, "environment", "--env")
    base_url = variables.get("LOADTEST_BASE_URL")
    if mcp_url is not None:
        base_url, environment = _point_at(mcp_url, environment, named=environment_name is not None)
        name = _name_typed(base_url + environment.mcp_path)
    profile_key = profile_name or variables.get("LOADTEST_PROFILE") or environment.default_profile
    given = (knobs or {}).get("TOOLS") or variables.get("TOOLS")
    tools = _load_tools(root, name, environment, given)
    profile = _apply_knobs(
        _pick(file.profile, profile_key, "profile", "--profile"), variables, knobs or {}, tools
    )
    _check_limits(name, environment.limits, profile)
    hosted = environment.target == "hosted"
    return Settings(
        root=root,
        environment_name=name,
        environment=environment,
        profile_name=profile_key,
        profile=profile,
        base_url=parse_base_url(base_url) if hosted and base_url else None,
        credentials=_load_credentials(
            root / STATE_DIR / name / CREDENTIALS_FILE, variables if hosted else {}
        ),
        clients=_parse_clients(environment, variables, knobs or {}),
        protocol=_parse_protocol(environment, variables, knobs or {}),
        tools=tools,
        tools_assumed=environment.tools is None and not given,
        tracking_issue=variables.get("LOADTEST_TRACKING_ISSUE") or None,
        repository=variables.get("GITHUB_REPOSITORY") or None,
        docs_pages=tuple(root / page for page in file.docs_pages),
        variables=variables,
    )


def check_hosted(settings: Settings, *needed: str) -> None:
    """Raise ConfigError naming every LOADTEST_* variable a hosted environment still lacks."""
    if settings.is_reference():
        return
    have = {
        "LOADTEST_BASE_URL": settings.base_url,
        "LOADTEST_EMAIL": settings.credentials.email,
        "LOADTEST_PASSWORD": settings.credentials.password,
        "LOADTEST_WORKSPACE_ID": settings.credentials.workspace_id,
    }
    missing = [name for name in needed if not have[name]]
    if missing:
        raise ConfigError(
            f"environment {settings.environment_name} lacks {', '.join(missing)}: set "
            + (
                "it as a variable or in .env"
                if len(missing) == 1
                else "them as variables or in .env"
            )
        )


def parse_base_url(text: str) -> str:
    """Return the target's origin; raise ConfigError unless it is https, or http on loopback."""
    try:
        parts = parse_url(text)
    except ValueError:
        raise ConfigError(
            "LOADTEST_BASE_URL is not an http(s) origin such as https://api.example.com"
        ) from None
    loopback = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme == "http" and not loopback:
        raise ConfigError(
            "LOADTEST_BASE_URL must be https: a bearer must not cross a network in clear"
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(
            "LOADTEST_BASE_URL must be an origin only: remove path, query and fragment"
        )
    return f"{parts.scheme}://{parts.netloc}"


def parse_origin(url: str) -> str:
    """Return scheme, host and port of a URL as a browser writes an origin; raise ValueError."""
    try:
        parts = parse_url(url)
    except ValueError:
        raise ValueError("an origin is like https://login.example.com") from None
    assert parts.hostname is not None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in {None, usual} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def parse_env_file(path: Path) -> dict[str, str]:
    """Read `NAME=value` lines (quotes optional, `#` comments); raise ConfigError by line number."""
    values: dict[str, str] = {}
    try:
        text = read_whole(path).decode()
    except FileNotFoundError:
        return values
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError(f"{path} cannot be read: {failure.__class__.__name__}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = re.fullmatch(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)", stripped)
        if match is None:
            raise ConfigError(f"{path}, line {number}: expected NAME=value")
        value = match[2]
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[match[1]] = value
    learn_variables(values)
    return values


def _parse_file(path: Path) -> _File:
    try:
        data = tomllib.loads(read_whole(path).decode())
        check_text(data)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: run from the root of a checkout") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply") from None
    except (OSError, ValueError) as failure:
        raise ConfigError(f"{path} is not valid TOML: {failure}") from None
    if isinstance(data.get("version"), int) and data["version"] > CONFIG_VERSION:
        raise ConfigError(f"{path} has version {data['version']}: update this checkout")
    try:
        return _File.model_validate(data)
    except ValidationError as failure:
        raise ConfigError(f"{path}: {_describe(failure)}") from None


def _describe(failure: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in error['loc']) or 'file'}: {error['msg']}"
        for error in failure.errors(include_url=False, include_input=False)
    )


def _read_variables(root: Path, process_env: Mapping[str, str] | None) -> dict[str, str]:
    given = os.environ if process_env is None else process_env
    learn_variables(given)
    found = parse_env_file(root / ".env") | {name: value for name, value in given.items() if value}
    for name, value in found.items():
        try:
            check_text(value)
        except ValueError as failure:
            if name.startswith(("LOADTEST_", "GITHUB_", "K6_")) or name in OWN_VARIABLES:
                raise ConfigError(f"{name}: {failure}") from None
    return found


def _pick(table: Mapping[str, _T], name: str, kind: str, flag: str) -> _T:
    try:
        return table[name]
    except KeyError:
        raise ConfigError(
            f"unknown {kind} '{name}': {CONFIG_FILE} has {', '.join(table)} ({flag})"
        ) from None


def _point_at(mcp_url: str, environment: Environment, *, named: bool) -> tuple[str, Environment]:
    """Return the origin of an MCP endpoint and the environment to reach it with."""
    try:
        parts = parse_url(mcp_url)
    except ValueError:
        parts = None
    if parts is None or parts.query or parts.fragment:
        raise ConfigError("--mcp-url is not an address such as https://mcp.example.com/mcp")
    update = {"target": "hosted", "provision": "none", "mcp_path": parts.path or "/"}
    if named:
        return f"{parts.scheme}://{parts.netloc}", environment.model_copy(update=update)
    fresh = {"default_profile": environment.default_profile, "limits": environment.limits}
    return f"{parts.scheme}://{parts.netloc}", Environment.model_validate(fresh | update)


def _name_typed(mcp_url: str) -> str:
    """Name an environment that is an address: its host, to be read, and a hash, to be unique."""
    host = re.sub(r"[^a-z0-9.-]", "_", parse_url(mcp_url).hostname or "")[:40]
    return f"{TYPED_PREFIX}{host}-{hashlib.sha256(mcp_url.encode()).hexdigest()[:12]}"


def _parse_clients(
    environment: Environment, variables: Mapping[str, str], flags: Mapping[str, str | None]
) -> int:
    text = flags.get("CLIENTS") or variables.get("CLIENTS") or str(environment.clients)
    try:
        return parse_count(text)
    except ValueError:
        raise ConfigError("CLIENTS must be a whole number above 0") from None


def _parse_protocol(
    environment: Environment, variables: Mapping[str, str], flags: Mapping[str, str | None]
) -> str:
    text = flags.get("PROTOCOL") or variables.get("PROTOCOL") or environment.protocol
    if text not in PROTOCOLS:
        raise ConfigError(f"PROTOCOL must be one of {', '.join(PROTOCOLS)}")
    return text


def _load_tools(root: Path, name: str, environment: Environment, given: str | None) -> ToolTable:
    """Read the table that a flag or variable names, else the environment's, else NovaMart's."""
    if given:
        return read_table(Path(given))
    if isinstance(environment.tools, dict):
        return parse_table({"tools": environment.tools}, f"{CONFIG_FILE}, environment {name}")
    if environment.tools in {None, "novamart"}:
        return read_table(NOVAMART, "novamart")
    return read_table(root / str(environment.tools), str(environment.tools))


def _apply_knobs(
    profile: Profile,
    variables: Mapping[str, str],
    flags: Mapping[str, str | None],
    tools: ToolTable,
) -> Profile:
    """Return the profile with every knob that a flag or variable overrides."""
    data: dict[str, Any] = profile.model_dump()
    for name, (table, key) in KNOBS.items():
        text = flags.get(name) or variables.get(name)
        if text:
            data[table][key] = tuple(text.split(",")) if name == "STAGES" else text
    tool = data["sessions"]["tool"] = data["sessions"]["tool"] or next(iter(tools.tools))
    faults = []
    if tool not in tools.tools:
        known = list_names(tools.tools)
        faults.append(f"TOOL: {tools.source} has {known}; name a table with others by TOOLS")
    try:
        made = Profile.model_validate(data)
    except ValidationError as failure:
        names = {".".join(place): name for name, place in KNOBS.items()}
        faults += [
            f"{names.get(place := '.'.join(map(str, error['loc'][:2])), place)}: {error['msg']}"
            for error in failure.errors(include_url=False, include_input=False)
        ]
    if faults:
        raise ConfigError("; ".join(faults))
    return made


def _check_limits(name: str, limits: Limits, profile: Profile) -> None:
    asked = {
        "max_vus": profile.most_vus(),
        "max_rps": profile.most_rps(),
        "max_duration_seconds": profile.scheduled_seconds(),
    }
    over = [
        f"{limit} is {getattr(limits, limit)}, asked for {value}"
        for limit, value in asked.items()
        if value > getattr(limits, limit)
    ]
    if over:
        raise ConfigError(f"over the limits of environment {name}: {'; '.join(over)}")


def _load_credentials(path: Path, variables: Mapping[str, str]) -> Credentials:
    """Prefer variables; what provision kept counts only for the same user."""
    kept = parse_env_file(path)
    if kept:
        check_private(path, ConfigError, "chmod 600 it, then change the password")
    if variables.get("LOADTEST_EMAIL") not in {None, kept.get("LOADTEST_EMAIL")}:
        kept = {}
    values = kept | {name: value for name, value in variables.items() if value}
    # A password that provision had to change goes before the variable that still holds it.
    if kept.get("LOADTEST_PASSWORD_BEFORE") == variables.get("LOADTEST_PASSWORD", ""):
        values["LOADTEST_PASSWORD"] = kept.get("LOADTEST_PASSWORD", "")
    password = values.get("LOADTEST_PASSWORD")
    totp_secret = values.get("LOADTEST_TOTP_SECRET")
    return Credentials(
        email=values.get("LOADTEST_EMAIL"),
        password=SecretStr(password) if password else None,
        workspace_id=values.get("LOADTEST_WORKSPACE_ID"),
        totp_secret=SecretStr(totp_secret) if totp_secret else None,
    )
