"""Words that several parts of a report use."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from loadtest.report.content.formatting import format_count
from loadtest.results.history import CONTROL, Cell, is_aggregate
from loadtest.results.run import CALLED, Row, ScenarioResult
from loadtest.results.run_folder import RunFolder

TITLES = {
    "cold-start": "Cold start",
    "sessions": "Concurrent sessions",
    "tools": "Tool-call mix",
    "streams": "Streams",
    "soak": "Soak",
}
# The kinds of rows that are not tools; the name of a step tells it already.
NAMED = {"resource", "prompt", "completion", "flow", CONTROL}
_ADDRESS = re.compile(r"https?://[^\s<>()\[\]\"'`\\|*]+")
_REASONS = {
    "rpc_error": ("JSON-RPC error", "JSON-RPC errors"),
    "timeout": ("timeout", "timeouts"),
    "connection": ("failed connection", "failed connections"),
    "incomplete": ("incomplete result", "incomplete results"),
    "input_required": ("request of the server for input", "requests of the server for input"),
    "no_argument": ("step without its argument", "steps without their argument"),
    "unparseable": ("unreadable reply", "unreadable replies"),
    "unauthorized": ("unauthorized", "unauthorized"),
    "capacity": ("refused by a full server", "refused by a full server"),
    "rate_limited": ("rate limited", "rate limited"),
    "session_lost": ("call in a lost session", "calls in lost sessions"),
    "cut_off": ("cut off at the end", "cut off at the end"),
}


def format_reasons(failures: Mapping[str, int]) -> str:
    """Return failures by reason, the most frequent first; an empty text if there are none."""
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(_reason(reason, count) for reason, count in ordered if count > 0)


def _reason(reason: str, count: int) -> str:
    plural = count != 1
    kind, _, code = reason.partition(":")
    if kind == "tool_error":
        words = f"tool error{'s' * plural}" + (f" {clean(code)}" if code else "")
    elif status := re.fullmatch(r"http_(\d{3})", reason):
        words = f"x HTTP {status[1]}"
    else:
        words = _REASONS.get(reason, (clean(reason),) * 2)[plural]
    return f"{format_count(count)} {words}"


def name_calls(count: int) -> str:
    """Return "1 call", "1,200 calls"."""
    return f"{format_count(count)} call{'s' * (count != 1)}"


def name_unit(folder: RunFolder) -> str:
    """Return what a ladder counts: sessions, or clients in the stateless era."""
    return "client" if folder.run.target.era == "stateless" else "session"


def name_units(folder: RunFolder, count: int) -> str:
    """Return "1 session", "200 clients"."""
    return f"{format_count(count)} {name_unit(folder)}{'s' * (count != 1)}"


def name_row(folder: RunFolder, row: Row) -> str:
    """Return the name of a row: "executeSQL", "100 sessions"."""
    if row.kind in {"stage", "opening", "stream"} and row.name.isdecimal():
        return _name_stage(folder, row.scenario, row.name)
    return name_called(row.kind, row.name)


def _name_stage(folder: RunFolder, scenario: str, name: str) -> str:
    """Return "100 sessions", "100 clients", "100 streams"."""
    if scenario == "streams":
        return f"{format_count(int(name))} stream{'s' * (name != '1')}"
    return name_units(folder, int(name))


def name_called(kind: str, name: str) -> str:
    """Return the name of what a row is about; one that is not a tool says what it is."""
    return f"{clean(name)} ({kind})" if kind in NAMED else clean(name)


def name_mix(rows: Iterable[Row]) -> str:
    """Return what the mix calls: tools, or also something else."""
    return "call" if any(row.kind in CALLED[1:] for row in rows) else "tool"


def name_scenario(scenario: str) -> str:
    """Return a scenario's title within a sentence."""
    return TITLES.get(scenario, scenario).lower()


def name_cell(folder: RunFolder, cell: Cell) -> str:
    """Return the name of a figure: "executeSQL p99", "p95 at 100 sessions"."""
    figure = {"rate": "calls/s", "failed": "failures"}.get(cell.figure, cell.figure)
    subject = name_subject(folder, cell)
    if cell.kind == "opening":
        return f"{subject}: {figure}"
    return f"{figure} at {subject}" if cell.kind == "stage" else f"{subject} {figure}"


def name_subject(folder: RunFolder, cell: Cell) -> str:
    """Return what a figure is about: "executeSQL", "100 sessions", "all tools"."""
    name = name_called(cell.kind, cell.name)
    if cell.kind in {"stage", "opening"} and cell.name.isdecimal():
        name = _name_stage(folder, cell.scenario, cell.name)
    if cell.kind == "opening":
        is_ladder = cell.scenario in {"sessions", "streams"}
        where = f" at {name}" if is_ladder else f" in {name_scenario(cell.scenario)}"
        return f"opening {name_unit(folder)}s{where}"
    return f"all {name_mix(folder.rows)}s" if is_aggregate(cell) else name


def list_results(folder: RunFolder) -> Iterator[tuple[str, ScenarioResult]]:
    """Yield every scenario's title and result."""
    for result in folder.run.scenarios:
        yield name_scenario(result.name), result


def end_sentence(text: str) -> str:
    """Return `text` with a full stop, unless it ends a sentence already."""
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield nested values as "path.name value"."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            yield f"{prefix}{name} {text}"


def clean(text: str) -> str:
    """Return `text` on one line, without control characters."""
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def is_address(text: str | None) -> bool:
    """Return whether `text` is an address that can be linked."""
    return text is not None and _ADDRESS.fullmatch(text) is not None
