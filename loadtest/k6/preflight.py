"""Before a run: compare the target's tools with the tool table, and call each entry once."""

import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from loadtest.common.files import write_json, write_text
from loadtest.common.parsing import tidy_text
from loadtest.common.redaction import redact_folder
from loadtest.config.models import PROTOCOLS
from loadtest.config.settings import Settings
from loadtest.config.tool_table import ListedTool, ToolTable, build_draft, list_names
from loadtest.errors import ConfigError, K6Error
from loadtest.k6.binary import K6Binary
from loadtest.k6.command import (
    CALL_TIMEOUT_SECONDS,
    SETUP_SECONDS,
    build_command,
    build_environment,
    build_limits,
    build_switches,
)
from loadtest.k6.health import MemoryGuard
from loadtest.k6.plan import find_host
from loadtest.k6.process import find_error, start, stop
from loadtest.k6.summary import Server
from loadtest.state.bearers import read_bearers

DRAFT_FILE = "tools-draft.json"
MAX_ANSWER_CHARS = 300
MAX_LIST_BYTES = 16 * 2**20
# Of pools, for each place of a table: a value that the schema refuses is rarely alone.
MAX_CHECKED_VALUES = 200


@dataclass(frozen=True)
class Checked:
    """What the preflight found: how to speak with the target, and what matters for a quota.

    `tools` is the table with the headers that the schemas require, `durations_ms` are of one call
    of each tool, `policy` is a RateLimit-Policy header.
    """

    protocol: str
    tools: ToolTable
    durations_ms: Mapping[str, float] = field(default_factory=dict)
    policy: str | None = None


class _Answer(BaseModel):
    """The answer to an entry's call: its `outcome` as k6 counts it, and the target's `message`."""

    tool: str
    outcome: str
    message: str
    duration_ms: float


class _Findings(BaseModel):
    model_config = ConfigDict(frozen=True)

    version: Literal[1]
    server: Server
    tools: tuple[ListedTool, ...]
    answers: tuple[_Answer, ...]
    policy: str | None = None


def check_target(
    settings: Settings,
    mcp_url: str,
    bearer_file: Path,
    scenarios: Sequence[str],
    *,
    binary: K6Binary,
    tell: Callable[[str], None],
) -> Checked:
    """Return the protocol that the target speaks, and what the schemas of the tools require.

    A client with limits lists the tools first, since k6 has no limits. Then k6 calls each entry of
    the table that these scenarios call once, in one session, and again if the first call fails.
    Raises ConfigError if the table does not fit the target, with a draft of a table that does, and
    K6Error with the target's own answer if a call fails. A call over a quota is not a failure.
    """
    names = settings.list_calls(scenarios)
    if not names:
        return Checked(settings.protocol, settings.tools)
    table = settings.tools.pick_first(names)
    _check_bounds(mcp_url, bearer_file)
    findings = _ask(settings, table, mcp_url, bearer_file, binary)
    listed = {tool.name: tool for tool in findings.tools}
    _check_names(settings, table, listed)
    _check_arguments(settings.tools, table.tools, listed)
    limited = _check_answers(table, findings.answers)
    if limited:
        tell(
            f"{list_names(limited)} met a rate limit: so will the run, unless the client's "
            "quota on the target is raised"
        )
    server = findings.server
    spoken = " ".join(filter(None, (server.name, server.version))) or "a server without a name"
    what = "tools" if len(table.tools) == len(names) else "entries of the table"
    tell(f"{spoken}, {server.protocol}: {len(names) - len(limited)} of {len(names)} {what} answer")
    mirrored = {name: listed[name].mirrored for name in table.tools if listed[name].mirrored}
    return Checked(
        protocol=server.protocol if server.protocol in PROTOCOLS else settings.protocol,
        tools=settings.tools.model_copy(update={"mirrored": mirrored}),
        durations_ms={answer.tool: answer.duration_ms for answer in findings.answers},
        policy=findings.policy,
    )


def _check_bounds(mcp_url: str, bearer_file: Path) -> None:
    """Raise if the list of tools is too long or too slow: k6 would keep all of it in memory."""
    import httpx2

    from loadtest.common.http import BodyError, explain, open_client
    from loadtest.mint.oauth.acceptance import list_tools

    bearer = read_bearers(bearer_file)[0]
    try:
        with open_client(CALL_TIMEOUT_SECONDS, most_bytes=MAX_LIST_BYTES) as http:
            list_tools(mcp_url, bearer.access_token, http)
    except (BodyError, httpx2.ReadTimeout) as failure:
        raise K6Error(f"preflight: {mcp_url} is not measured: {explain(failure)}") from None
    except httpx2.HTTPError:
        return  # k6 reports it


def _ask(
    settings: Settings, table: ToolTable, mcp_url: str, bearer_file: Path, binary: K6Binary
) -> _Findings:
    """Run `k6/preflight.js` and return what it found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = build_environment(
            settings.variables,
            build_limits(settings.environment.limits, find_host(settings, mcp_url))
            | build_switches(settings.protocol),
            mcp_url=mcp_url,
            bearer_file=bearer_file,
            out_dir=folder,
        )
        write_text(folder / "tools.json", table.render())
        _run(build_command(binary, "preflight"), environment, folder / "k6.log", len(table.entries))
        redact_folder(folder)
        try:
            return _Findings.model_validate_json((folder / "summary.json").read_bytes())
        except (OSError, ValidationError):
            log = (folder / "k6.log").read_text(encoding="utf-8", errors="replace")
            error = find_error(log) or "k6 ended before it wrote its findings"
            raise K6Error(f"preflight: {error}") from None


def _run(command: list[str], environment: dict[str, str], log: Path, calls: int) -> None:
    with log.open("wb") as file, MemoryGuard() as guard:
        process = start(command, environment, file)
        guard.watch(process.pid)
        try:
            process.wait(SETUP_SECONDS + calls * CALL_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise K6Error("preflight: k6 exceeded its time limit and was stopped") from None
        finally:
            stop(process)
    if guard.reason is not None:
        raise K6Error(f"preflight: {guard.reason}")


def _check_names(settings: Settings, table: ToolTable, listed: dict[str, ListedTool]) -> None:
    """Raise if the target lacks a tool of the table; a draft lists the tools that it has."""
    missing = [name for name in table.tools if name not in listed]
    if not missing:
        return
    if not listed:
        raise ConfigError("the target lists no tool: there is nothing to call")
    what = (
        "the target does not have NovaMart's tools, and no tool table was given"
        if settings.tools_assumed
        else f"{table.source}: the target has no tool {list_names(missing)}"
    )
    draft = settings.state_dir / DRAFT_FILE
    _write_draft(draft, listed)
    raise ConfigError(
        f"{what}. It has {list_names(listed)}: copy {draft.relative_to(settings.root)} to "
        "tools.json, fill it in, and run again with --tools tools.json"
    )


def _write_draft(path: Path, listed: dict[str, ListedTool]) -> None:
    write_json(path, 1, build_draft(listed.values()))


def _check_arguments(table: ToolTable, names: Iterable[str], listed: dict[str, ListedTool]) -> None:
    """Raise at the first arguments that the schema of a tool refuses: they would measure errors."""
    for name in names:
        for index, arguments in table.spread_arguments(name, MAX_CHECKED_VALUES):
            for fault in _find_faults(listed[name].input_schema, arguments):
                raise ConfigError(
                    f"{table.source}: tool {name}, arguments[{index}] do not match the target's "
                    f"schema: {tidy_text(fault, MAX_ANSWER_CHARS)}"
                )


def _find_faults(schema: Any, arguments: dict[str, Any]) -> Iterator[str]:
    """Yield the fault that a JSON Schema finds in the arguments; an invalid schema finds none."""
    from jsonschema.exceptions import SchemaError, best_match  # type: ignore[import-untyped,unused-ignore]
    from jsonschema.validators import Draft202012Validator, validator_for  # type: ignore[import-untyped,unused-ignore]
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if not isinstance(schema, dict):
        return
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
        # With an empty registry, a reference to another server is never fetched.
        fault = best_match(kind(schema, registry=Registry()).iter_errors(arguments))
    except (SchemaError, Unresolvable, RecursionError):
        return
    if fault is not None:
        yield f"{fault.json_path}: {fault.message}"


def _check_answers(table: ToolTable, answers: Sequence[_Answer]) -> list[str]:
    """Return the entries that were rate limited; raise with the answer of one that failed."""
    for answer in answers:
        if answer.outcome not in {"ok", "rate_limited"}:
            message = tidy_text(answer.message, MAX_ANSWER_CHARS)
            what = f"{table.find_kind(answer.tool)} {answer.tool}"
            raise K6Error(
                f"preflight: {what} fails ({answer.outcome}): "
                f"{message} (fix its arguments in {table.source}, or the target)"
            )
    return [answer.tool for answer in answers if answer.outcome == "rate_limited"]
