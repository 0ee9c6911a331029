"""Load the settings from `loadtest.toml`, `.env`, the process environment and the options."""

import hashlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from loadtest.common.access import Access, set_access
from loadtest.common.files import STATE_DIR, check_private
from loadtest.common.parsing import check_text, parse_count, parse_url
from loadtest.common.redaction import SecretStr, learn_variables
from loadtest.config.access import read_access
from loadtest.config.env_file import name_env_file, parse_env_file
from loadtest.config.knobs import KNOBS, PROFILE_KNOBS, describe_knob, name_variable
from loadtest.config.models import (
    COLD_START_MAX_SECONDS,
    PROTOCOLS,
    ConfigTable,
    Environment,
    Limits,
    Profile,
)
from loadtest.config.objectives import Objective, list_objectives
from loadtest.config.pace import DEFAULT_PACE, Timeout
from loadtest.config.project import CONFIG_FILE, Project, read_project
from loadtest.config.settings import CREDENTIALS_FILE, Credentials, Settings
from loadtest.config.tool_table import (
    NOVAMART,
    SECTIONS,
    ToolTable,
    list_names,
    parse_table,
    read_table,
)
from loadtest.errors import ConfigError

# Prefix of the state folder of an address given by --mcp-url; no environment may use it.
URL_PREFIX = "url-"

_T = TypeVar("_T")


def check_environment_name(name: str) -> str:
    """Refuse a name whose state folder would collide with other files in `.loadtest`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ValueError("an environment's name has only letters, digits, '-', '_' and '.'")
    if name.casefold() in {"runs", "browser.json"} or name.casefold().startswith(URL_PREFIX):
        raise ValueError(f"an environment cannot be named runs, browser.json or {URL_PREFIX}…")
    return name


EnvironmentName = Annotated[str, AfterValidator(check_environment_name)]


class ConfigFile(ConfigTable):
    """A whole configuration: the environments and profiles, by name."""

    version: Literal[1] = 1
    default_environment: str = "local"
    docs_pages: tuple[str, ...] = ()
    environment: dict[EnvironmentName, Environment]
    profile: dict[str, Profile]


def load_settings(
    root: Path,
    environment_name: str | None = None,
    profile_name: str | None = None,
    knobs: Mapping[str, str | None] | None = None,
    process_env: Mapping[str, str] | None = None,
    *,
    mcp_url: str | None = None,
    project: Project | None = None,
) -> Settings:
    """Load the settings from `loadtest.toml`, env files, the process environment and the options.

    `knobs` maps names (`stages`, `stage_seconds`, …) to text. An option wins over the process
    environment (`LOADTEST_STAGES`, …), which wins over `.env.<environment>`, which wins over
    `.env`, which wins over the profile.
    `mcp_url` is an MCP endpoint that replaces the environment's own: it has its own state folder,
    and takes pages, scope and claims only from an environment that is named. `project` is a
    configuration that is not written yet. Raises ConfigError that lists every fault by name, never
    by value.
    """
    project = project or read_project(root)
    file = check_project(project)
    variables = _read_variables(root, process_env)
    name = environment_name or variables.get("LOADTEST_ENV") or file.default_environment
    environment = _pick(file.environment, name, "environment", "--env", project)
    # The environment of a typed address counts only if it is named too.
    if mcp_url is None or environment_name is not None:
        variables = _read_variables(root, process_env, name)
    base_url = variables.get("LOADTEST_BASE_URL")
    if mcp_url is not None:
        base_url, environment = _point_at(mcp_url, environment, named=environment_name is not None)
        name = _name_url(base_url + environment.mcp_path)
    profile_key = profile_name or variables.get("LOADTEST_PROFILE") or environment.default_profile
    given = _read_knobs(variables, knobs or {})
    tools = _load_tools(root, name, environment, given.get("tools"), project)
    profile = _pick(file.profile, profile_key, "profile", "--profile", project)
    timeout_seconds = _parse_timeout(given.get("timeout_seconds"))
    tools, profile = _limit_time(tools, profile, environment, timeout_seconds)
    ladder_tool = environment.ladder_tool
    if "tools" in given and ladder_tool not in tools.tools:
        ladder_tool = None  # it belongs to the environment's own table
    profile = _apply_knobs(profile, {"tool": ladder_tool, **given}, tools, environment)
    _check_pace(profile)
    if project.has_default("profile", profile_key, "streams") and "stream_stages" not in given:
        profile = _leave_out_streams(profile, environment.limits, tools)
    _check_limits(name, environment.limits, profile, tools)
    objectives = _list_objectives(name, environment, tools, is_own_table="tools" not in given)
    if "stages" not in given and profile_key == environment.default_profile:
        _check_holds(name, environment, profile)
    hosted = environment.target == "hosted"
    base_url = parse_base_url(base_url) if hosted and base_url else None
    access = _read_access(root, environment, variables)
    if base_url is not None:
        set_access(base_url, access)
    return Settings(
        root=root,
        environment_name=name,
        environment=environment,
        profile_name=profile_key,
        profile=profile,
        base_url=base_url,
        credentials=_load_credentials(
            root / STATE_DIR / name / CREDENTIALS_FILE, variables if hosted else {}
        ),
        access=access,
        clients=_parse_clients(given.get("clients") or str(environment.clients), environment),
        protocol=_parse_protocol(given.get("protocol") or environment.protocol),
        tools=tools,
        objectives=objectives,
        tools_assumed=tools.source == "novamart" and environment.tools is None,
        draft_tools=tuple(filter(None, given.get("draft_tools", "").split(","))),
        tracking_issue=variables.get("LOADTEST_TRACKING_ISSUE") or None,
        repository=variables.get("GITHUB_REPOSITORY") or None,
        docs_pages=tuple(root / page for page in file.docs_pages),
        variables=variables,
    )


def check_project(project: Project) -> ConfigFile:
    """Return the tables of a configuration; raise ConfigError that lists every fault."""
    try:
        return ConfigFile.model_validate(project.data)
    except ValidationError as failure:
        raise ConfigError(f"{project.path}: {_describe(failure)}") from None


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
        raise ConfigError("LOADTEST_BASE_URL must be https, so that no bearer is sent unencrypted")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(
            "LOADTEST_BASE_URL must be only an origin: remove path, query and fragment"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _describe(failure: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in error['loc']) or 'file'}: {error['msg']}"
        for error in failure.errors(include_url=False, include_input=False)
    )


def _read_variables(
    root: Path, process_env: Mapping[str, str] | None, environment_name: str | None = None
) -> dict[str, str]:
    """Read the process environment, else the environment's own env file, else `.env`."""
    given = os.environ if process_env is None else process_env
    learn_variables(given)
    own = {}
    if environment_name is not None:
        own = parse_env_file(name_env_file(root, environment_name))
        if "LOADTEST_ENV" in own:
            raise ConfigError(
                f".env.{environment_name} sets LOADTEST_ENV, but it is read only for its own "
                "environment: move the line to .env"
            )
    found: dict[str, str] = {}
    for variables in (parse_env_file(root / ".env"), own, given):
        # An empty value is the same as none, as in a file that is still to be filled in.
        found |= {name: value for name, value in variables.items() if value}
    for name, value in found.items():
        try:
            check_text(value)
        except ValueError as failure:
            if name.startswith(("LOADTEST_", "GITHUB_", "K6_")):
                raise ConfigError(f"{name}: {failure}") from None
    return found


def _pick(table: Mapping[str, _T], name: str, kind: str, flag: str, project: Project) -> _T:
    if name in table:
        return table[name]
    known = ", ".join(table)
    if project.path is None:
        raise ConfigError(
            f"unknown {kind} '{name}': without a {CONFIG_FILE} here or in a folder above, there is "
            f"only {known} ({flag})"
        )
    raise ConfigError(f"unknown {kind} '{name}': {project.source} has {known} ({flag})")


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


def _name_url(mcp_url: str) -> str:
    """Name the environment of an address: its host, for people, and a hash, to be unique."""
    host = re.sub(r"[^a-z0-9.-]", "_", parse_url(mcp_url).hostname or "")[:40]
    return f"{URL_PREFIX}{host}-{hashlib.sha256(mcp_url.encode()).hexdigest()[:12]}"


def _read_knobs(variables: Mapping[str, str], flags: Mapping[str, str | None]) -> dict[str, str]:
    given = {knob: flags.get(knob) or variables.get(name_variable(knob)) for knob in KNOBS}
    return {knob: text for knob, text in given.items() if text}


def _read_access(root: Path, environment: Environment, variables: Mapping[str, str]) -> Access:
    certificate = environment.tls_certificate, environment.tls_key
    return read_access(root, environment.headers, *certificate, variables)


def _parse_clients(text: str, environment: Environment) -> int:
    try:
        clients = parse_count(text)
    except ValueError:
        raise ConfigError(f"{describe_knob('clients')} must be a whole number above 0") from None
    if clients != 1 and environment.auth != "bearer":
        raise ConfigError(
            f'{describe_knob("clients")} is {clients}, but with auth = "{environment.auth}" there '
            "is one client: all sessions share its quota"
        )
    return clients


def _parse_protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise ConfigError(f"{describe_knob('protocol')} must be one of {', '.join(PROTOCOLS)}")
    return text


def _load_tools(
    root: Path, name: str, environment: Environment, given: str | None, project: Project
) -> ToolTable:
    """Read the table from the option or variable, else the environment's, else NovaMart's."""
    if given:
        return read_table(Path(given))
    parts = (*SECTIONS, "pools", "answers")
    given_here = {section: getattr(environment, section) for section in parts}
    beside = {section: entries for section, entries in given_here.items() if entries}
    tools = beside.pop("tools", None)
    has_own = any(section in SECTIONS for section in beside)
    if isinstance(tools, dict) or (tools is None and has_own):
        own = {"tools": tools} if tools else {}
        return parse_table(own | beside, f"{project.source}, environment {name}", root)
    if "pools" in beside:
        raise ConfigError(
            f"{project.source}, environment {name}: pools is only for tools that are tables here; "
            "a JSON file of tools has its own pools"
        )
    if tools in {None, "novamart"}:
        return read_table(NOVAMART, "novamart", beside)
    return read_table(root / str(tools), str(tools), beside)


def _parse_timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return TypeAdapter(Timeout).validate_python(text)
    except ValidationError:
        raise ConfigError(
            f"{describe_knob('timeout_seconds')} must be a number of seconds, at most an hour"
        ) from None


def _limit_time(
    tools: ToolTable, profile: Profile, environment: Environment, given: float | None
) -> tuple[ToolTable, Profile]:
    """Return table and profile with the time limits that hold: an option's wins over a tool's."""
    if profile.remeasure_minutes is None:
        update = {"remeasure_minutes": environment.remeasure_minutes}
        profile = profile.model_copy(update=update)
    seconds = given or profile.timeout_seconds or environment.timeout_seconds
    if seconds is None:
        return tools, profile
    profile = profile.model_copy(update={"timeout_seconds": seconds})
    return tools.limit_calls(seconds, over=given is not None), profile


def _apply_knobs(
    profile: Profile, given: Mapping[str, str | None], tools: ToolTable, environment: Environment
) -> Profile:
    """Return the profile with every knob that an option, a variable or the environment sets.

    The pace of the ladder is an option's, else the tool's, the profile's or the environment's.
    """
    data: dict[str, Any] = profile.model_dump()
    ladder = data["sessions"]
    tool = ladder["tool"] = given.get("tool") or ladder["tool"] or next(iter(tools.entries))
    if tool in tools.entries and tools.entries[tool].pace_seconds is not None:
        ladder["pace_seconds"] = tools.entries[tool].pace_seconds
    ladder["pace_seconds"] = ladder["pace_seconds"] or environment.pace_seconds
    faults = []
    for name, (table, key) in PROFILE_KNOBS.items():
        text = given.get(name)
        if text is not None and data[table] is None:
            faults.append(f"{describe_knob(name)}: the profile has no table {table}")
        elif text is not None:
            data[table][key] = tuple(text.split(",")) if key == "stages" else text
    if ladder["pace_seconds"] == DEFAULT_PACE:  # like the runs of earlier versions
        ladder["pace_seconds"] = None
    if tool not in tools.entries:
        known = list_names(tools.entries)
        text = f"{tools.source} has only {known}; set it, or ladder_tool, to one of these"
        faults.append(f"{describe_knob('tool')}: {text}")
    try:
        made = Profile.model_validate(data)
    except ValidationError as failure:
        names = {".".join(place): describe_knob(knob) for knob, place in PROFILE_KNOBS.items()}
        faults += [
            f"{names.get(place := '.'.join(map(str, error['loc'][:2])), place)}: {error['msg']}"
            for error in failure.errors(include_url=False, include_input=False)
        ]
    if faults:
        raise ConfigError("; ".join(faults))
    return made


def _check_pace(profile: Profile) -> None:
    """Raise unless every session of a stage can call, and every cold start can begin."""
    ladder, mix, starts = profile.sessions, profile.tools, profile.cold_start
    faults = []
    if mix.pace is not None and mix.pace.mean_seconds > mix.duration_seconds:
        faults.append(
            f"a mix of {mix.duration_seconds} s is too short for "
            f"{describe_knob('mix_pace_seconds')} {mix.pace.text}: some sessions would make no call"
        )
    if ladder.pace.mean_seconds > ladder.stage_seconds:
        faults.append(
            f"a stage of {ladder.stage_seconds} s is too short for {describe_knob('pace_seconds')} "
            f"{ladder.pace.text}: some sessions would make no call; give it "
            f"{describe_knob('stage_seconds')} of {math.ceil(4 * ladder.pace.mean_seconds)}"
        )
    if starts.find_seconds() > COLD_START_MAX_SECONDS:
        faults.append(
            f"{starts.iterations} cold starts at {starts.starts_per_second:g} per second take "
            f"{starts.find_seconds():,.0f} s, but at most {COLD_START_MAX_SECONDS} s are allowed: "
            f"give {describe_knob('starts_per_second')} of "
            f"{math.ceil(100 * starts.iterations / COLD_START_MAX_SECONDS) / 100:g} at least"
        )
    if faults:
        raise ConfigError("; ".join(faults))


def _leave_out_streams(profile: Profile, limits: Limits, tools: ToolTable) -> Profile:
    """Return a profile without its ladder of streams if the limits allow only the rest.

    Nobody asked for streams that come with our own profile: limits that were set for the other
    scenarios still do.
    """
    others = profile.model_copy(update={"streams": None})
    if _find_excess(limits, profile, tools) and not _find_excess(limits, others, tools):
        return others
    return profile


def _check_limits(name: str, limits: Limits, profile: Profile, tools: ToolTable) -> None:
    over = _find_excess(limits, profile, tools)
    if over:
        raise ConfigError(f"over the limits of environment {name}: {'; '.join(over)}")


def _find_excess(limits: Limits, profile: Profile, tools: ToolTable) -> list[str]:
    """Return by how much a profile is over each limit, in words."""
    asked = {
        "max_vus": profile.most_vus(),
        "max_rps": profile.most_rps(),
        "max_duration_seconds": profile.scheduled_seconds(tools),
    }
    return [
        f"{limit} is {getattr(limits, limit)}, requested {round(value, 2):.15g}"
        for limit, value in asked.items()
        if value > getattr(limits, limit)
    ]


def _list_objectives(
    name: str, environment: Environment, tools: ToolTable, *, is_own_table: bool
) -> tuple[Objective, ...]:
    try:
        return list_objectives(environment.slo, tools, is_own_table=is_own_table)
    except ConfigError as failure:
        raise ConfigError(f"environment {name}: {failure}") from None


def _check_holds(name: str, environment: Environment, profile: Profile) -> None:
    """Raise ConfigError if the usual run of an environment cannot show what it is to hold."""
    slo = environment.slo
    for key, holds, ladder in (
        ("holds", slo.holds, "sessions"),
        ("holds_streams", slo.holds_streams, "streams"),
    ):
        most = max(profile.list_stages(ladder), default=0)
        if holds is not None and holds > most:
            ends = f"ladder of {ladder} ends at {most}" if most else f"profile has no {ladder}"
            raise ConfigError(
                f"environment {name}: slo: {key} = {holds}, but the {ends} in profile "
                f"{environment.default_profile}: give it a stage of {holds}, or choose another "
                "default_profile"
            )


def _load_credentials(path: Path, variables: Mapping[str, str]) -> Credentials:
    """Read credentials from variables, else from provision's file if that is the same user's."""
    kept = parse_env_file(path)
    if kept:
        check_private(path, ConfigError, "chmod 600 it, then change the password")
    if variables.get("LOADTEST_EMAIL") not in {None, kept.get("LOADTEST_EMAIL")}:
        kept = {}
    values = kept | {name: value for name, value in variables.items() if value}
    # If provision had to change the password, its file wins over the variable's old password.
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
