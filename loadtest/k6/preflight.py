"""Before a run: compare the target's tools with the tool table, and call each entry once."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from loadtest.common.command_name import spell
from loadtest.common.files import write_json, write_text
from loadtest.common.parsing import tidy_text
from loadtest.common.processes import has_ended
from loadtest.common.redaction import redact_folder, redact_json
from loadtest.config.flows import list_references
from loadtest.config.knobs import describe_knob
from loadtest.config.models import PROTOCOLS, Profile
from loadtest.config.pace import DEFAULT_TIMEOUT_SECONDS
from loadtest.config.settings import Settings
from loadtest.config.tool_table import ListedTool, Pool, ToolTable, list_names
from loadtest.errors import ConfigError, K6Error
from loadtest.k6.binary import K6Binary
from loadtest.k6.command import (
    build_command,
    build_environment,
    build_limits,
    build_switches,
    find_setup_seconds,
)
from loadtest.k6.health import MemoryGuard
from loadtest.k6.input_schema import find_fault
from loadtest.k6.plan import build_access_variables, find_host
from loadtest.k6.process import find_error, start, stop
from loadtest.k6.summary import Server
from loadtest.k6.tool_draft import Answer, build_trial, draft_tools, render_draft
from loadtest.state.bearers import read_callers
from loadtest.target.rate_limits import RateLimits, read_rate_limits

DRAFT_FILE = "tools-draft.json"
# k6 calls nothing if a tool of its table is not listed: this table only lists.
_LISTING = ToolTable(
    source="no table", tools={"a tool that no server has": Pool(weight=1, arguments=({},))}
)
MAX_ANSWER_CHARS = 300
# Outcomes of a call that works; a quota does not make it wrong.
FINE = frozenset({"ok", "rate_limited"})
MAX_LIST_BYTES = 16 * 2**20
# Of pools, for each place of a table: a value that the schema refuses is rarely alone.
MAX_CHECKED_VALUES = 200
# What a run can measure although the tool was not called.
_EXPECTED = {
    "rate_limited": "met a rate limit: the run will meet it too, unless the client's quota on the "
    "target is raised",
    "capacity": "was refused because the server is full: it will refuse the run too",
    "session_lost": "was not answered in any session, because the server lost each of them: "
    f"{spell('doctor')} tries whether replicas share their sessions",
}


@dataclass(frozen=True)
class Checked:
    """What the preflight found: how to speak with the target, and what matters for a quota.

    `tools` is the table with the headers that the schemas require, `durations_ms` are of one call
    of each tool, `limits` is what RateLimit headers announce. `headers` are those of the reply to
    `tools/list`; without a call, they and the version are read only for `deployed_commit`.
    """

    protocol: str
    tools: ToolTable
    durations_ms: Mapping[str, float] = field(default_factory=dict)
    limits: RateLimits | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    server_version: str | None = None


@dataclass(frozen=True)
class DraftedTable:
    """A draft of a table for a server: the entries of what it calls, and of what it leaves out.

    `limits` is what RateLimit headers announce.
    """

    server: Server
    tools: Mapping[str, Any]
    left_out: Mapping[str, Any]
    limits: RateLimits | None


class _Answer(BaseModel):
    """The answer to an entry's call: its `outcome` as k6 counts it, and the target's `message`.

    `index` is the place of the arguments among those of the entry.
    """

    tool: str
    index: int
    outcome: str
    message: str
    duration_ms: float


class _Findings(BaseModel):
    model_config = ConfigDict(frozen=True)

    version: Literal[1]
    server: Server
    tools: tuple[ListedTool, ...]
    answers: tuple[_Answer, ...]
    limits: dict[str, str] = {}


def check_target(
    settings: Settings,
    mcp_url: str,
    bearer_file: Path | None,
    scenarios: Sequence[str],
    *,
    binary: K6Binary,
    tell: Callable[[str], None],
) -> Checked:
    """Return the protocol that the target speaks, and what the schemas of the tools require.

    A client with limits lists the tools first, since k6 has no limits. Then k6 calls each entry of
    the table that these scenarios call once, in one session, and again if the first call fails.
    Raises ConfigError if the table does not fit the target, with a draft of a table that does and
    whose calls were tried in the same way, and K6Error with the target's own answer if a call
    fails. A call over a quota is not a failure.
    """
    names = settings.list_calls(scenarios)
    if not names and (settings.environment.deployed_commit or "$").startswith("$"):
        return Checked(settings.protocol, settings.tools)
    headers = _check_bounds(mcp_url, bearer_file)
    ask = partial(_ask, settings, mcp_url, bearer_file, binary)
    if not names:
        version = ask(_LISTING).server.version
        return Checked(settings.protocol, settings.tools, headers=headers, server_version=version)
    table = settings.tools.pick_first(names)
    findings = ask(table)
    listed = {tool.name: tool for tool in findings.tools}
    _check_names(settings, table, listed, ask)
    _check_arguments(settings.tools, table, listed)
    refused = _check_answers(table, findings.answers)
    for outcome, tools in refused.items():
        tell(f"{list_names(tools)} {_EXPECTED[outcome]}")
    server = findings.server
    spoken = " ".join(filter(None, (server.name, server.version))) or "a server without a name"
    what = "tools" if len(table.tools) == len(names) else "calls of the table"
    count = len(list(table.list_weights()))
    answered = count - sum(map(len, refused.values()))
    limits = read_rate_limits(findings.limits)
    if limits is not None:
        tell(f"the server announces {limits.describe()}")
    tell(f"{spoken}, {server.protocol}: {answered} of {count} {what} answer")
    mirrored = {name: listed[name].mirrored for name in table.list_tools() if listed[name].mirrored}
    return Checked(
        protocol=server.protocol if server.protocol in PROTOCOLS else settings.protocol,
        tools=settings.tools.model_copy(update={"mirrored": mirrored}),
        durations_ms={answer.tool: answer.duration_ms for answer in findings.answers},
        limits=limits,
        headers=headers,
        server_version=server.version,
    )


def draft_table(
    settings: Settings,
    mcp_url: str,
    bearer_file: Path | None,
    named: Sequence[str],
    *,
    binary: K6Binary,
) -> DraftedTable:
    """Draft a table of the read-only tools and of those named, and try each of its calls once."""
    _check_bounds(mcp_url, bearer_file)
    ask = partial(_ask, settings, mcp_url, bearer_file, binary)
    findings = ask(_LISTING)
    body = redact_json(_draft(named, {tool.name: tool for tool in findings.tools}, ask))
    limits = read_rate_limits(findings.limits)
    return DraftedTable(findings.server, body["tools"], body["left_out"], limits)


def find_slow_calls(
    profile: Profile, tools: ToolTable, scenarios: Sequence[str], durations_ms: Mapping[str, float]
) -> Iterator[str]:
    """Yield a warning for each scenario whose schedule is too short for what a call took."""
    pace, tool = profile.sessions.pace, str(profile.sessions.tool)
    seconds = durations_ms.get(tool, 0.0) / 1000
    if "sessions" in scenarios and pace.kind == "interval" and seconds > pace.mean_seconds:
        yield (
            f"a call of {tool} took {seconds:.1f} s, but a session makes one every {pace.text} s: "
            f"no stage can be sustained; use --pace-seconds {math.ceil(2 * seconds)}"
        )
    drain = profile.find_drain_seconds("tools", tools)
    slow = [name for name in tools.entries if durations_ms.get(name, 0.0) / 1000 > drain]
    if "tools" in scenarios and slow:
        most = max(durations_ms[name] for name in slow) / 1000
        yield (
            f"a call of {list_names(slow)} took up to {most:.1f} s, but the mix waits {drain:g} s "
            f"for its last calls: give timeout_seconds, such as {math.ceil(3 * most)}"
        )


def _check_bounds(mcp_url: str, bearer_file: Path | None) -> Mapping[str, str]:
    """Raise if the list of tools is too long or too slow: k6 would keep all of it in memory.

    Returns the headers of the last reply.
    """
    import httpx2

    from loadtest.common.http import BodyError, explain, open_client
    from loadtest.mint.oauth.acceptance import list_tools

    caller = read_callers(bearer_file, mcp_url)[0]
    try:
        with open_client(DEFAULT_TIMEOUT_SECONDS, most_bytes=MAX_LIST_BYTES) as http:
            return list_tools(mcp_url, caller.access_token, http).headers
    except (BodyError, httpx2.ReadTimeout) as failure:
        raise K6Error(f"preflight: {mcp_url} is not measured: {explain(failure)}") from None
    except httpx2.HTTPError:
        return {}  # k6 reports it


def _ask(
    settings: Settings,
    mcp_url: str,
    bearer_file: Path | None,
    binary: K6Binary,
    table: ToolTable,
) -> _Findings:
    """Run `k6/preflight.js` and return what it found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = build_environment(
            settings.variables,
            build_limits(settings.environment.limits, find_host(settings, mcp_url))
            | build_switches(settings.protocol, settings.profile, settings.environment.refusals),
            mcp_url=mcp_url,
            bearer_file=bearer_file,
            out_dir=folder,
            private_variables=build_access_variables(settings.access),
        )
        write_text(folder / "tools.json", table.render())
        seconds = find_setup_seconds(settings.profile)
        # A call that fails is made again.
        for name, entry in table.entries.items():
            seconds += 2 * len(entry.arguments) * table.find_timeout((name,))
        for name, flow in table.flows.items():
            seconds += 2 * len(flow.steps) * table.find_timeout((name,))
        _run(build_command(binary, "preflight"), environment, folder / "k6.log", seconds)
        redact_folder(folder)
        try:
            return _Findings.model_validate_json((folder / "summary.json").read_bytes())
        except (OSError, ValidationError):
            log = (folder / "k6.log").read_text(encoding="utf-8", errors="replace")
            error = find_error(log) or "k6 ended before it wrote its findings"
            raise K6Error(f"preflight: {error}") from None


def _run(command: list[str], environment: dict[str, str], log: Path, seconds: float) -> None:
    with log.open("wb") as file, MemoryGuard() as guard:
        process = start(command, environment, file)
        guard.watch(process.pid)
        try:
            if not has_ended(process, seconds):
                raise K6Error("preflight: k6 exceeded its time limit and was stopped")
        finally:
            stop(process)
    if guard.reason is not None:
        raise K6Error(f"preflight: {guard.reason}")


def _check_names(
    settings: Settings,
    table: ToolTable,
    listed: dict[str, ListedTool],
    ask: Callable[[ToolTable], _Findings],
) -> None:
    """Raise if the target lacks a tool of the table, or a draft is asked for; then write one."""
    missing = [name for name in table.list_tools() if name not in listed]
    if not missing and not settings.draft_tools:
        return
    if not listed:
        raise ConfigError("the target lists no tool: there is nothing to call")
    if not missing:
        what = f"{describe_knob('draft_tools')} asks for a draft instead of a run"
    elif settings.tools_assumed:
        what = "the target does not have NovaMart's tools, and no tool table was given"
    else:
        what = f"{table.source}: the target has no tool {list_names(missing)}"
    if unknown := [name for name in settings.draft_tools if name not in listed]:
        raise ConfigError(
            f"{describe_knob('draft_tools')}: the target has no tool {list_names(unknown)}, only "
            f"{list_names(listed)}"
        )
    draft = settings.state_dir / DRAFT_FILE
    body = _draft(settings.draft_tools, listed, ask)
    write_json(draft, 1, body)
    called, refused = list(body["tools"]), list(body["left_out"])
    place = draft.relative_to(settings.root)
    why = f" and says why not {list_names(refused)}" if refused else ""
    if called:
        raise ConfigError(
            f"{what}. {place} is a draft: it calls {list_names(called)}, tried "
            f"once{why and ','}{why}; read it, then run again with --tools {place}"
        )
    raise ConfigError(
        f"{what}. {place} is a draft: it calls no tool{why}; name those that a load "
        f"test may call with --draft-tools, or fill it in and run with --tools {place}"
    )


def _draft(
    named: Sequence[str], listed: dict[str, ListedTool], ask: Callable[[ToolTable], _Findings]
) -> dict[str, Any]:
    """Return a draft whose calls were tried."""
    drafted = draft_tools(listed.values(), named)
    trial = build_trial(drafted, DRAFT_FILE)
    answers = ask(trial).answers if trial is not None else ()
    return render_draft(drafted, map(_read_answer, answers))


def _read_answer(answer: _Answer) -> Answer:
    words = f"{answer.outcome}: {tidy_text(answer.message, MAX_ANSWER_CHARS)}"
    fine = answer.outcome in FINE
    return Answer(answer.tool, answer.index, fine, "ok" if answer.outcome == "ok" else words)


def _check_arguments(table: ToolTable, picked: ToolTable, listed: dict[str, ListedTool]) -> None:
    """Raise at the first arguments that the schema of a tool refuses: they would measure errors.

    The arguments of a step that refers to an earlier answer are not known.
    """
    calls = {name: name for name in picked.tools}
    calls |= {name: step.tool for name, step in picked.steps.items() if step.tool is not None}
    for name, tool in calls.items():
        for index, arguments in table.spread_arguments(name, MAX_CHECKED_VALUES):
            if any(list_references(arguments)):
                continue
            fault = find_fault(listed[tool].input_schema, arguments)
            if fault is not None:
                raise ConfigError(
                    f"{table.source}: {table.find_kind(name)} {name}, arguments[{index}] do not "
                    f"match the target's schema: {tidy_text(fault, MAX_ANSWER_CHARS)}"
                )


def _check_answers(table: ToolTable, answers: Sequence[_Answer]) -> dict[str, list[str]]:
    """Return the entries that were refused, by outcome; raise with the answer of a failed one."""
    refused: dict[str, list[str]] = {}
    for answer in answers:
        if answer.outcome in _EXPECTED:
            refused.setdefault(answer.outcome, []).append(answer.tool)
        elif answer.outcome != "ok":
            message = tidy_text(answer.message, MAX_ANSWER_CHARS)
            what = f"{table.find_kind(answer.tool)} {answer.tool}"
            raise K6Error(
                f"preflight: {what} fails ({answer.outcome}): "
                f"{message} (fix its arguments in {table.source}, or the target)"
            )
    return refused
