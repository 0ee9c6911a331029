"""The slowest calls of a scenario, read from k6's logs, where k6/lib/slowest.js prints them."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from loadtest.common.parsing import parse_json
from loadtest.config.tool_table import ToolTable
from loadtest.k6.summary import OPENINGS
from loadtest.results.run import RowKind, ServerName, SlowCall

MOST_PER_TOOL = 3

_LINE = re.compile(rb'^time="[^"]*" level=info msg="slow calls ((?:[^"\\]|\\.)*)"')
_Ms = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Noted(BaseModel):
    tool: str
    ms: _Ms
    server_ms: _Ms | None
    at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
    trace_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None
    request_id: ServerName | None


_NOTED = TypeAdapter(tuple[_Noted, ...])


def read_slowest(logs: Iterable[Path], scenario: str, table: ToolTable) -> tuple[SlowCall, ...]:
    """Return the slowest calls of each tool over all VUs, slowest first; damaged lines are skipped.

    Of a cold start, they are the slowest requests of each frame.
    """
    kinds = _list_kinds(scenario, table)
    by_tool: dict[str, list[_Noted]] = {tool: [] for tool in kinds}
    for path in logs:
        with path.open("rb") as lines:
            for noted in _read_lines(lines):
                if noted.tool in kinds:
                    by_tool[noted.tool].append(noted)
    found = [
        SlowCall(
            scenario,
            kinds[tool],
            tool,
            round(noted.ms, 3),
            None if noted.server_ms is None else round(noted.server_ms, 3),
            noted.at,
            noted.trace_id,
            noted.request_id,
        )
        for tool, calls in by_tool.items()
        for noted in _pick(calls)
    ]
    return tuple(sorted(found, key=lambda call: -call.ms))


def _pick(calls: Iterable[_Noted]) -> list[_Noted]:
    """Return the slowest calls; the last one has a trace id if any has, so that it can be found."""
    ordered = sorted(calls, key=lambda each: (-each.ms, each.trace_id is None))
    picked = ordered[:MOST_PER_TOOL]
    traced = next((each for each in ordered if each.trace_id), None)
    if traced is not None and traced not in picked:
        picked[-1] = traced
    return picked


def _read_lines(lines: Iterable[bytes]) -> Iterator[_Noted]:
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            body: Any = parse_json(json.loads(b'"' + match[1] + b'"'))
            yield from _NOTED.validate_python(body)
        except ValueError:
            continue


def _list_kinds(scenario: str, table: ToolTable) -> dict[str, RowKind]:
    """Return the kind of everything that a scenario calls, by the name of its row."""
    if scenario == "cold-start":
        return dict.fromkeys((*OPENINGS.values(), "tools/list"), "frame")
    kinds: dict[str, RowKind] = {}
    parts: tuple[tuple[Iterable[str], RowKind], ...] = (
        (table.tools, "tool"),
        (table.resources, "resource"),
        (table.prompts, "prompt"),
        (table.completions, "completion"),
        (table.steps, "step"),
    )
    for names, kind in parts:
        kinds |= dict.fromkeys(names, kind)
    return kinds
