"""One run in words and tables: for the terminal, and as `report.md` in the run folder."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loadtest.compare import (
    MIN_SAMPLES,
    Break,
    Knee,
    Percentile,
    find_knee,
    is_thin,
    pick_stages,
)
from loadtest.errors import ReportError
from loadtest.files import write_text
from loadtest.history import pick_latency
from loadtest.results import (
    MOST_CPU_SHARE,
    MOST_LATENESS_MS,
    SCENARIOS,
    Generator,
    Percentiles,
    Row,
    RunFolder,
    ScenarioResult,
)

NO_DATA = "no data"
THIN = "~"
TERMINAL_WIDTH = 80
SHARED = "shares_with_target"  # of a run's machine: said as a caveat, not as a fact
MAX_RATE_LIMITED_SHARE = 0.01
# Refusals that say where a limit lies, not that something went wrong.
REFUSALS = frozenset({"capacity", "rate_limited"})
PERCENTILES: tuple[Percentile, ...] = ("p50", "p95", "p99")

_TITLES = {
    "cold-start": "Cold start",
    "sessions": "Concurrent sessions",
    "tools": "Tool-call mix",
}
_REASONS = {
    "rpc_error": ("JSON-RPC error", "JSON-RPC errors"),
    "timeout": ("timeout", "timeouts"),
    "connection": ("failed connection", "failed connections"),
    "incomplete": ("incomplete result", "incomplete results"),
    "unparseable": ("unreadable reply", "unreadable replies"),
    "unauthorized": ("unauthorized", "unauthorized"),
    "capacity": ("rejected at the session cap", "rejected at the session cap"),
    "rate_limited": ("rate limited", "rate limited"),
    "cut_off": ("cut off at the end", "cut off at the end"),
}
_LEVEL_STYLES = {"good": "bold green", "warning": "bold yellow", "bad": "bold red"}

Level = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Verdict:
    """What the run says in a few sentences, worst news first."""

    level: Level
    text: str


@dataclass(frozen=True)
class Column:
    """One column: its header on a page, and on two lines in a terminal."""

    header: str
    short: str
    numeric: bool = True


@dataclass(frozen=True)
class Sheet:
    """One scenario as a table: `remark` says how it went, `details` name failures by reason."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str | None = None
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything a rendering shows; plain text, not yet escaped for any medium."""

    run_id: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...]
    knobs: str
    caveats: tuple[str, ...]
    sheets: tuple[Sheet, ...]
    legend: tuple[str, ...]


def build_report(folder: RunFolder) -> Report:
    """Put a run into words and cells, the same for every medium."""
    run = folder.run
    sheets = tuple(_build_sheet(folder, scenario) for scenario in SCENARIOS)
    return Report(
        run_id=_clean(run.run_id),
        verdict=build_verdict(folder),
        facts=tuple((name, _clean(value)) for name, value in _build_facts(folder)),
        knobs=_clean(", ".join(_flatten(run.knobs)) or NO_DATA),
        caveats=tuple(_build_caveats(folder)),
        sheets=sheets,
        legend=tuple(_build_legend(sheets)),
    )


def build_verdict(folder: RunFolder) -> Verdict:
    """Say what the run shows, and first whatever keeps it from showing more."""
    bad = [*_describe_failed(folder)]
    warnings = [*_describe_partial(folder), *_describe_crossed(folder)]
    limited = dict(_find_rate_limited(folder))
    if limited:
        shares = (f"{format_share(share)} in {_title(name)}" for name, share in limited.items())
        warnings.append(
            f"Not valid for latency: calls were rate limited, {', '.join(shares)}. Have the "
            "client's quota on the target raised, then run again."
        )
    warnings += _describe_generator(folder)
    good: list[str] = []
    if "sessions" not in limited:
        holding, sentence = _describe_knee(folder, find_knee(folder.rows))
        (good if holding else warnings).append(sentence)
    failed, calls = _count_failures(_leaves(folder.rows))
    if calls:
        share = f" ({format_share(failed / calls)})" if failed else ""
        good.append(f"{_failures(failed)} in {_calls(calls)}{share}.")
    level: Level = "bad" if bad else "warning" if warnings else "good"
    return Verdict(level, _clean(" ".join([*bad, *warnings, *good])))


def render_terminal(folder: RunFolder) -> Group:
    """Return verdict, facts and tables for a terminal of 80 columns or more."""
    report = build_report(folder)
    facts = Table.grid(padding=(0, 2))
    for name, value in report.facts:
        facts.add_row(Text(name, style="dim"), Text(value))
    parts: list[RenderableType] = [
        Text(report.verdict.text, style=_LEVEL_STYLES[report.verdict.level]),
        Padding(facts, (1, 0, 0, 0)),
    ]
    parts += [Text(caveat, style="yellow") for caveat in report.caveats]
    for sheet in report.sheets:
        parts += _render_sheet(sheet)
    parts.append(Text("\n".join(["", *report.legend]), style="dim"))
    return Group(*parts)


def render_markdown(folder: RunFolder) -> str:
    """Return `report.md`: whatever a server sent is escaped and cannot become markup."""
    report = build_report(folder)
    parts = [f"# Load test {_escape(report.run_id)}", f"**{_escape(report.verdict.text)}**"]
    parts += [f"> {_escape(caveat)}" for caveat in report.caveats]
    facts = [*report.facts, ("knobs", report.knobs)]
    parts.append(_render_grid(("Fact", "Value"), (False, False), facts))
    for sheet in report.sheets:
        parts.append(f"## {sheet.title}")
        if sheet.remark:
            parts.append(_escape(sheet.remark))
        if sheet.rows:
            headers = [column.header for column in sheet.columns]
            numeric = [column.numeric for column in sheet.columns]
            parts.append(_render_grid(headers, numeric, sheet.rows))
        if sheet.details:
            parts.append("\n".join(f"- {_escape(detail)}" for detail in sheet.details))
    parts.append("\n".join(f"- {_escape(line)}" for line in report.legend))
    return "\n\n".join(parts) + "\n"


def write_report(folder: RunFolder) -> Path:
    """Write `report.md` into the run folder and return its path."""
    path = folder.path / "report.md"
    try:
        write_text(path, render_markdown(folder))
    except OSError as failure:
        raise ReportError(f"{path} cannot be written: {failure.strerror}") from None
    return path


def format_ms(value: float | None) -> str:
    """Return milliseconds with the digits that mean something; from ten seconds on, seconds."""
    if value is None or not math.isfinite(value):
        return NO_DATA
    if 0 < value < 0.005:
        return "<0.01"
    if 0 < value < 0.995:
        return f"{value:.2f}"
    if value < 9.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 9999.5 else f"{value / 1000:.1f}s"


def format_rate(value: float | None) -> str:
    """Return calls/s; one decimal below 100, since 9.9 of 10 is not 10."""
    if value is None or not math.isfinite(value):
        return NO_DATA
    if 0 < value < 0.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def format_count(value: int) -> str:
    """Return a count with thousands separators."""
    return f"{value:,}"


def format_share(share: float) -> str:
    """Return a share in per cent; what is not nothing never reads as 0, nor most as all."""
    percent = share * 100
    if 0 < percent < 0.05:
        return "under 0.1 %"
    if 99.95 <= percent < 100:
        return "over 99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def format_reasons(failures: Mapping[str, int]) -> str:
    """Return failures in words, most frequent first; empty when there are none."""
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(_reason(reason, count) for reason, count in ordered if count > 0)


def _reason(reason: str, count: int) -> str:
    plural = count != 1
    kind, _, code = reason.partition(":")
    if kind == "tool_error":
        words = f"tool error{'s' * plural}" + (f" {_clean(code)}" if code else "")
    elif status := re.fullmatch(r"http_(\d{3})", reason):
        words = f"x HTTP {status[1]}"
    else:
        words = _REASONS.get(reason, (_clean(reason),) * 2)[plural]
    return f"{format_count(count)} {words}"


def _calls(count: int) -> str:
    return f"{format_count(count)} call{'s' * (count != 1)}"


def _failures(count: int) -> str:
    return f"{format_count(count)} failure{'s' * (count != 1)}"


def _unit(folder: RunFolder) -> str:
    # The stateless era has no sessions: its ladder is of clients at work at one time.
    return "client" if folder.run.target.era == "stateless" else "session"


def _units(folder: RunFolder, count: int) -> str:
    return f"{format_count(count)} {_unit(folder)}{'s' * (count != 1)}"


def _title(scenario: str) -> str:
    return _TITLES.get(scenario, scenario).lower()


def _results(folder: RunFolder) -> Iterator[tuple[str, ScenarioResult]]:
    for result in folder.run.scenarios:
        yield _title(result.name), result


def _describe_failed(folder: RunFolder) -> Iterator[str]:
    if not folder.run.scenarios:
        yield "No scenario ran."
    for title, result in _results(folder):
        if result.outcome in {"failed", "aborted"}:
            word = result.outcome.capitalize()
            yield f"{word}: {title}: {_sentence(result.reason or 'no reason given')}"


def _describe_partial(folder: RunFolder) -> Iterator[str]:
    cut = [title for title, result in _results(folder) if result.outcome == "interrupted"]
    missing = [title for title, result in _results(folder) if result.outcome == "not run"]
    if cut:
        yield f"Interrupted: the numbers of {', '.join(cut)} are partial."
    if missing:
        yield f"Not run: {', '.join(missing)}."


def _describe_generator(folder: RunFolder) -> Iterator[str]:
    for title, result in _results(folder):
        generator = result.generator
        if generator is None or not generator.is_bottleneck():
            continue
        late = generator.lateness_p95_ms
        faults = []
        if generator.cpu_share > MOST_CPU_SHARE:
            faults.append(f"took {format_share(generator.cpu_share)} of its processors")
        if late is not None and late > MOST_LATENESS_MS:
            faults.append(f"made its calls late, p95 {format_ms(late)} ms")
        yield (
            f"Generator-bound: in {title} the load generator {' and '.join(faults)}. Do not blame "
            "the target; use a larger machine or a smaller profile."
        )


def _describe_crossed(folder: RunFolder) -> Iterator[str]:
    for title, result in _results(folder):
        if result.outcome != "thresholds crossed":
            continue
        failed, calls = _count_failures(_leaves(folder.rows, result.name))
        what = f"{_failures(failed)} in {_calls(calls)}"
        if failed:
            yield f"Over its limits: {title}, {what} ({format_share(failed / calls)})."
        else:
            yield f"Over its limits: {title}, {', '.join(result.crossed) or what}."


def _describe_knee(folder: RunFolder, knee: Knee | None) -> tuple[bool, str]:
    """Return whether something good is said, and the sentences that say it."""
    if knee is None:
        return False, "Nothing to say about concurrent sessions: no stage was measured."
    held = int(knee.holds.name) if knee.holds else 0
    below = [fault for fault in knee.breaks if int(fault.stage.name) < held]
    above = [fault for fault in knee.breaks if int(fault.stage.name) > held]
    sentences = []
    if knee.holds is None:
        sentences.append("No stage holds.")
    else:
        rate = format_rate(knee.holds.achieved_rate)
        sentences.append(f"Holds {_units(folder, held)} at {rate} calls/s; {_p95(knee.holds)}.")
    sentences += [f"Below that, {_describe_break(folder, fault)}" for fault in below]
    if above:
        sentences.append(f"A{_describe_break(folder, above[0])[1:]}")
    elif knee.holds is not None and not below:
        whole = any(
            result.name == "sessions" and result.outcome in {"ok", "thresholds crossed"}
            for result in folder.run.scenarios
        )
        sentences.append("No stage broke." if whole else "No stage broke of those measured.")
    if knee.unjudged and knee.holds is not None:
        sentences.append("Too few calls to say whether latency grows with sessions.")
    return knee.holds is not None and not below, " ".join(sentences)


def _describe_break(folder: RunFolder, fault: Break) -> str:
    smallest = pick_stages(folder.rows)[0]
    stage = fault.stage
    reasons = []
    if fault.rejected:
        share = format_share(fault.rejected / fault.attempts) if fault.attempts else NO_DATA
        reasons.append(
            f"{format_count(fault.rejected)} of {format_count(fault.attempts)} rejected at the "
            f"session cap ({share})"
        )
    if fault.no_data:
        reasons.append("no call was answered ok" if stage.count else NO_DATA)
    if fault.rate_share is not None:
        reasons.append(
            f"{format_rate(stage.achieved_rate)} of {format_rate(stage.offered_rate)} calls/s "
            f"({format_share(fault.rate_share)})"
        )
    if fault.slowdown is not None:
        reasons.append(
            f"{_p95(stage)}, {format_rate(fault.slowdown)} times that of "
            f"{_units(folder, int(smallest.name))}"
        )
    return f"at {_units(folder, int(stage.name))}: {'; '.join(reasons)}."


def _p95(row: Row) -> str:
    text = _cell(row, pick_latency(row), "p95")
    return f"p95 {text}" if text.endswith("s") else f"p95 {text} ms"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _leaves(rows: Iterable[Row], scenario: str | None = None) -> list[Row]:
    """Return rows that count each call once: neither openings nor an aggregate beside its parts.

    Frames of a cold start are requests, not calls; they count only where `scenario` asks for them.
    """
    kinds = {"stage", "tool", "frame"} if scenario else {"stage", "tool"}
    found = [row for row in rows if row.kind in kinds and scenario in {None, row.scenario}]
    parts = [row for row in found if not _is_aggregate(row)]
    has_tools = any(row.kind == "tool" for row in parts)
    return parts if has_tools else found


def _is_aggregate(row: Row) -> bool:
    return row.kind == "tool" and row.name == "all"


def _count_failures(rows: Sequence[Row]) -> tuple[int, int]:
    """Return how many calls failed, refusals apart, and how many there were."""
    failures = (item for row in rows for item in row.failures.items())
    failed = sum(count for reason, count in failures if reason not in REFUSALS)
    return failed, sum(row.count for row in rows)


def _find_rate_limited(folder: RunFolder) -> Iterator[tuple[str, float]]:
    """Yield the scenarios in which more than 1 % of the calls met a quota, and the share."""
    for scenario in SCENARIOS:
        rows = _leaves(folder.rows, scenario)
        calls = sum(row.count for row in rows)
        limited = sum(row.failures.get("rate_limited", 0) for row in rows)
        if calls and limited / calls > MAX_RATE_LIMITED_SHARE:
            yield scenario, limited / calls


def _build_facts(folder: RunFolder) -> Iterator[tuple[str, str]]:
    run = folder.run
    target = run.target
    server = " ".join(filter(None, (target.server_name, target.server_version)))
    protocol = target.protocol_version or NO_DATA
    machine = ", ".join(_flatten({k: v for k, v in run.machine.items() if k != SHARED}))
    yield "time", _format_time(run.started, run.ended)
    yield "git SHA", run.git_sha or "none: not a git checkout"
    yield "environment", run.environment
    yield "target", f"{target.host}, {server or 'server did not say its name'}"
    yield "protocol", f"{protocol} ({target.era} era)" if target.era else protocol
    yield "profile", run.profile
    if run.clients != 1:
        yield "clients", format_count(run.clients)
    yield "k6", run.k6_version
    yield "machine", machine or NO_DATA
    if generators := [result.generator for result in run.scenarios if result.generator]:
        yield "generator", _describe_load(generators)
    if run.run_url:
        yield "workflow run", run.run_url
    yield "run folder", "/".join(folder.path.parts[-3:])


def _describe_load(generators: Sequence[Generator]) -> str:
    """Say what the load generator took at most in any scenario."""
    lateness = [item.lateness_p95_ms for item in generators if item.lateness_p95_ms is not None]
    parts = [
        f"{format_share(max(item.cpu_share for item in generators))} of the processors",
        f"{max(item.peak_memory_mb for item in generators):.0f} MB",
        *([f"p95 {format_ms(max(lateness))} ms late"] if lateness else []),
    ]
    return f"at most {', '.join(parts)}"


def _format_time(started: str, ended: str | None) -> str:
    try:
        begin = datetime.fromisoformat(started)
        seconds = (datetime.fromisoformat(ended) - begin).total_seconds() if ended else None
    except (ValueError, TypeError):
        return started
    took = "did not end" if seconds is None else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{begin:%Y-%m-%d %H:%M:%S} UTC, {took.removeprefix('0 min ')}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            yield f"{prefix}{name} {text}"


def _build_caveats(folder: RunFolder) -> Iterator[str]:
    host = urlsplit(f"//{folder.run.target.host}").hostname or ""
    shared = folder.run.machine.get(SHARED)
    if (
        shared
        or folder.run.environment == "local"
        or host in {"localhost", "::1"}
        or host.startswith("127.")
    ):
        yield (
            "Target and load generator shared one machine: these numbers measure both together, "
            "and say little about a hosted target."
        )
    for title, result in _results(folder):
        if result.sessions_left:
            yield f"{_units(folder, result.sessions_left)} not seen closed in {title}."


def _build_sheet(folder: RunFolder, scenario: str) -> Sheet:
    rows = [row for row in folder.rows if row.scenario == scenario and row.kind != "opening"]
    others = sorted((row for row in rows if row.kind != "stage"), key=_is_aggregate)
    rows = [*pick_stages(rows), *others]
    openings = [row for row in folder.rows if row.scenario == scenario and row.kind == "opening"]
    result = next((item for item in folder.run.scenarios if item.name == scenario), None)
    offered = scenario == "sessions" or any(row.offered_rate is not None for row in rows)
    response = scenario == "sessions" or any(row.response is not None for row in rows)
    rates = scenario != "cold-start"
    first = {"cold-start": "step", "tools": "tool"}.get(scenario, f"{_unit(folder)}s")
    title = _TITLES[scenario]
    if scenario == "sessions" and folder.run.target.era == "stateless":
        title = "Concurrent clients"
    columns = (
        Column(first, first, numeric=scenario == "sessions"),
        *([Column("offered/s", "offered\n/s")] if offered else []),
        *([Column("achieved/s", "achieved\n/s")] if rates else []),
        Column("ok", "ok"),
        Column("not ok", "not\nok"),
        *(Column(f"call {name}", f"call\n{name}") for name in PERCENTILES),
        *(Column(f"due {name}", f"due\n{name}") for name in PERCENTILES if response),
    )
    cells = tuple(
        (
            _clean(row.name),
            *([format_rate(row.offered_rate)] if offered else []),
            *(
                [format_rate(row.achieved_rate) if row.count and row.seconds else NO_DATA]
                if rates
                else []
            ),
            format_count(row.ok) if row.count else NO_DATA,
            format_count(row.count - row.ok) if row.count else NO_DATA,
            *(_cell(row, row.duration, name) for name in PERCENTILES),
            *(_cell(row, row.response, name) for name in PERCENTILES if response),
        )
        for row in rows
    )
    return Sheet(
        title,
        columns,
        cells,
        remark=_describe_outcome(result, has_rows=bool(rows)),
        details=tuple(_describe_details(folder, scenario, rows, openings)),
    )


def _describe_outcome(result: ScenarioResult | None, *, has_rows: bool) -> str | None:
    if result is None:
        return "No data: not part of this run."
    reason = f": {_clean(result.reason)}" if result.reason else ""
    words = {
        "ok": "" if has_rows else "No data.",
        "thresholds crossed": f"Thresholds crossed: {_clean(', '.join(result.crossed))}.",
        "interrupted": _sentence(f"Interrupted{reason}") + " The numbers are partial.",
        "aborted": _sentence(f"Aborted{reason}") + " The numbers are partial.",
        "failed": _sentence(f"Failed{reason}"),
        "not run": _sentence(f"Not run{reason}"),
    }[result.outcome]
    return words or None


def _describe_details(
    folder: RunFolder, scenario: str, rows: Sequence[Row], openings: Sequence[Row]
) -> Iterator[str]:
    """Yield, per line of the table, what was not ok by reason; then sessions that did not open."""
    for row in rows:
        reasons = format_reasons(row.failures)
        if reasons and not (_is_aggregate(row) and len(rows) > 1):
            numbered = scenario == "sessions" and row.name.isdecimal()
            name = _units(folder, int(row.name)) if numbered else _clean(row.name)
            yield f"{name}: {reasons}, of {_calls(row.count)}"
    for row in openings:
        reasons = format_reasons(row.failures)
        if reasons:
            where = f" at stage {_clean(row.name)}" if scenario == "sessions" else ""
            yield f"{_unit(folder)}s opened{where}: {reasons}, of {format_count(row.count)}"


def _build_legend(sheets: Sequence[Sheet]) -> Iterator[str]:
    headers = {column.header for sheet in sheets for column in sheet.columns if sheet.rows}
    cells = [cell for sheet in sheets for row in sheet.rows for cell in row]
    line = "Times in ms (s where marked) of calls answered ok. call: from sending it to its answer"
    yield (
        f"{line}; due: from when the schedule asked for it." if "due p50" in headers else f"{line}."
    )
    if any(cell.startswith(THIN) for cell in cells):
        p50, p95, p99 = (f"{MIN_SAMPLES[name]:,}" for name in PERCENTILES)
        yield f"{THIN} thin: too few calls behind it (p50 needs {p50}, p95 {p95}, p99 {p99})."
    if "due p50" in headers:
        yield (
            "A stage holds at 90 % or more of its offered rate, a due p95 below twice the smallest "
            "stage's, and no rejection."
        )


def _cell(row: Row, latency: Percentiles | None, percentile: Percentile) -> str:
    if latency is None or not row.ok:
        return NO_DATA
    text = format_ms(getattr(latency, percentile))
    return f"{THIN}{text}" if is_thin(row, percentile) and text != NO_DATA else text


def _clean(text: str) -> str:
    """Return `text` on one line, without control characters that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def _escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it stands, in a table cell too."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$#!])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _render_sheet(sheet: Sheet) -> Iterator[RenderableType]:
    yield Text(f"\n{sheet.title}", style="bold")
    if sheet.remark:
        yield Text(sheet.remark, style="yellow")
    if sheet.rows:
        yield _render_table(sheet)
    for detail in sheet.details:
        yield Text(detail)


def _render_table(sheet: Sheet) -> Table:
    """Return the sheet as a terminal table, its columns closer together where 80 are too few."""
    lines = [tuple(column.short for column in sheet.columns)]
    for row in sheet.rows:
        # Broken here, a row without data takes no more room than any other.
        pairs = zip(row, sheet.columns, strict=True)
        lines.append(
            tuple(
                NO_DATA.replace(" ", "\n") if column.numeric and cell == NO_DATA else cell
                for cell, column in pairs
            )
        )
    widths = [
        max(len(part) for cell in column for part in cell.split("\n"))
        for column in zip(*lines, strict=True)
    ]
    gap = 1 if sum(widths) + 2 * len(widths) <= TERMINAL_WIDTH else 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    for column in sheet.columns:
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(Text(column.short), justify=justify, vertical="bottom")
    for line in lines[1:]:
        table.add_row(*(Text(cell) for cell in line))
    return table


def _render_grid(
    headers: Sequence[str], numeric: Sequence[bool], rows: Iterable[Sequence[str]]
) -> str:
    lines = [[_escape(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*lines, strict=True)]
    rule = [
        "-" * (width - right) + ":" * right for width, right in zip(widths, numeric, strict=True)
    ]
    padded = [
        [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])
