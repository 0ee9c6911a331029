"""A scenario as a table of text, and the legend of all tables."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loadtest.compare.changes import REGRESSED, Change, Status
from loadtest.compare.comparison import Comparison
from loadtest.compare.knee import MIN_SAMPLES, count_refused, find_pace, pick_stages
from loadtest.config.pace import DEFAULT_PACE
from loadtest.report.content.changes import ReportLine
from loadtest.report.content.failures import describe_excess
from loadtest.report.content.formatting import (
    NO_DATA,
    PERCENTILES,
    THIN,
    format_cell,
    format_change,
    format_changes,
    format_count,
    format_rate,
    format_share,
    format_span,
    is_bold,
)
from loadtest.report.content.streams import describe_details
from loadtest.report.content.wording import (
    TITLES,
    clean,
    end_sentence,
    format_reasons,
    name_called,
    name_calls,
    name_mix,
    name_row,
    name_scenario,
    name_unit,
)
from loadtest.results.history import Cell, Figure, is_aggregate, read_figures
from loadtest.results.run import ASIDE, Row, ScenarioResult
from loadtest.results.run_folder import RunFolder

# More stages are shown as about this many ranges.
MOST_STAGES, MOST_RANGES = 16, 8
LADDERS = ("sessions", "streams")
NOTHING = {"", "0", "0 %"}
_FIGURES: Mapping[str, Figure] = {
    **{f"{name} ms": name for name in PERCENTILES},
    "calls/s": "rate",
    "failed": "failed",
}


@dataclass(frozen=True)
class Column:
    """One column: its header on a page, which may be a link, and on two lines in a terminal.

    `holds`: it has short phrases that should not break over lines.
    """

    header: str
    short: str
    numeric: bool = True
    url: str | None = None
    holds: bool = False


@dataclass(frozen=True)
class TableCell:
    """The text of a cell, its change since the last good run, and its status.

    `name` is what a server calls something; it stands before the text. `worse`: by over 25 %.
    `leads`: it stands for its finding, so that it has the mark of the finding. `url` is where the
    text leads to, `commits_url` what was changed.
    """

    text: str
    change: str = ""
    status: Status | None = None
    name: str = ""
    worse: bool = False
    leads: bool = False
    url: str | None = None
    commits_url: str | None = None

    @property
    def words(self) -> str:
        """Return name and text."""
        return " ".join(filter(None, (self.name, self.text)))


@dataclass(frozen=True)
class ReportTable:
    """One scenario as a table: `note` is about its outcome, `details` name failures by reason.

    `compared_with` names its baseline if that differs from the one of the whole report. `news`
    tells what moved in it: "1 regression".
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    note: str | None = None
    compared_with: ReportLine | None = None
    details: tuple[str, ...] = ()
    news: str = ""
    scenario: str = ""


def build_table(
    folder: RunFolder, scenario: str, comparison: Comparison, *, brief: bool = False
) -> ReportTable:
    """Build the table of one scenario; a brief one has only the figures that are compared.

    It has no column of zeros, and shows many stages as ranges.
    """
    shown = [row for row in folder.rows if row.scenario == scenario]
    rows = [row for row in shown if row.kind not in ASIDE]
    others = sorted((row for row in rows if row.kind != "stage"), key=is_aggregate)
    rows = [*pick_stages(rows, scenario), *others]
    openings = [row for row in shown if row.kind == "opening"]
    result = next((item for item in folder.run.scenarios if item.name == scenario), None)
    title = TITLES[scenario]
    if scenario == "sessions" and folder.run.target.era == "stateless":
        title = "Concurrent clients"
    first = {"cold-start": "step", "sessions": f"{name_unit(folder)}s", "streams": "streams"}.get(
        scenario, name_mix(rows)
    )
    headers = tuple((_list_brief if brief else _list_full)(scenario, rows))
    columns = (Column(header, header.replace(" ", "\n").replace("/", "\n/")) for header in headers)
    leads = {finding.lead for finding in comparison.findings}
    cells = [_build_cells(row, comparison.changes, leads, brief=brief) for row in rows]
    held = {row.name: format_count(row.held_streams) for row in shown if row.kind == "stream"}
    for row, found in zip(rows, cells, strict=True):
        found["held"] = TableCell(held.get(row.name, NO_DATA))
    lines = [
        (_name(row), *(found[header] for header in headers))
        for row, found in zip(rows, cells, strict=True)
    ]
    if brief and scenario == "sessions" and len(rows) > MOST_STAGES:
        lines = [*_merge_stages(rows, lines, headers, comparison.changes)]
    table = ReportTable(
        title,
        (Column(first, first, numeric=scenario in LADDERS), *columns),
        tuple(lines),
        note=_describe_outcome(folder, result, has_rows=bool(rows)),
        details=tuple(_describe_details(folder, scenario, rows, openings)),
        scenario=scenario,
    )
    return drop_empty(table) if brief else table


def drop_empty(table: ReportTable) -> ReportTable:
    """Return a table without the columns in which there is nothing but zeros."""
    kept = [
        place
        for place in range(len(table.columns))
        if not place
        or any(row[place].words not in NOTHING or row[place].change for row in table.rows)
    ]
    columns = tuple(table.columns[place] for place in kept)
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return replace(table, columns=columns, rows=rows)


def _name(row: Row) -> TableCell:
    name = name_called(row.kind, row.name)
    return TableCell(name) if row.kind == "stage" or is_aggregate(row) else TableCell("", name=name)


def _merge_stages(
    rows: Sequence[Row],
    lines: Sequence[tuple[TableCell, ...]],
    headers: Sequence[str],
    changes: Mapping[Cell, Change],
) -> Iterator[tuple[TableCell, ...]]:
    """Yield lines for ranges of stages; one in which something moved is not mixed with others."""
    most = math.ceil(len(rows) / MOST_RANGES)
    marked = [any(cell.worse or cell.status in REGRESSED for cell in line) for line in lines]
    begin = 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and marked[end] == marked[begin] and end - begin < most:
            continue
        part = slice(begin, end)
        yield _merge_range(rows[part], lines[part], headers, changes)
        begin = end


def _merge_range(
    rows: Sequence[Row],
    lines: Sequence[tuple[TableCell, ...]],
    headers: Sequence[str],
    changes: Mapping[Cell, Change],
) -> tuple[TableCell, ...]:
    merged = [TableCell(format_span(lines[0][0].text, lines[-1][0].text))]
    for place, header in enumerate(headers, start=1):
        figure = _FIGURES[header]
        cells = [line[place] for line in lines]
        keys = [Cell(row.scenario, row.kind, row.name, figure) for row in rows]
        values = [read_figures(row).get(key) for row, key in zip(rows, keys, strict=True)]
        order = sorted(range(len(rows)), key=lambda each: values[each] or 0.0)
        known = [changes[key] for key in keys if key in changes]
        leading = next((cell for cell in cells if cell.leads), cells[0])
        merged.append(
            TableCell(
                format_span(cells[order[0]].text, cells[order[-1]].text),
                format_changes(figure, known) if any(cell.change for cell in cells) else "",
                leading.status,
                worse=any(cell.worse for cell in cells),
                leads=leading.leads,
            )
        )
    return tuple(merged)


def _list_full(scenario: str, rows: Sequence[Row]) -> Iterator[str]:
    if scenario == "streams":
        yield from ("held", "ok", "failed", *(f"due {name}" for name in PERCENTILES))
        return
    if scenario == "sessions" or any(row.offered_rate is not None for row in rows):
        yield "offered/s"
    if scenario != "cold-start":
        yield "ok/s"
    yield from ("ok", "failed", *(f"call {name}" for name in PERCENTILES))
    if scenario == "sessions" or any(row.response is not None for row in rows):
        yield from (f"due {name}" for name in PERCENTILES)


def _list_brief(scenario: str, _rows: Sequence[Row]) -> Iterator[str]:
    if scenario == "streams":
        yield "held"
    yield from (f"{name} ms" for name in PERCENTILES)
    if scenario in {"sessions", "tools"}:
        yield "calls/s"
    yield "failed"


def _build_cells(
    row: Row, changes: Mapping[Cell, Change], leads: Collection[Cell], *, brief: bool
) -> dict[str, TableCell]:
    """Return the cells of one row by header."""

    def compared(figure: Figure, text: str) -> TableCell:
        cell = Cell(row.scenario, row.kind, row.name, figure)
        change = changes.get(cell)
        return TableCell(
            text,
            format_change(figure, change),
            change.status if change else None,
            worse=is_bold(figure, change),
            leads=cell in leads,
        )

    offered, rate, bad = format_rate(row.offered_rate), NO_DATA, row.count - row.ok
    if row.count and row.seconds:
        rate = format_rate(row.ok_rate)
    kept = row.offered_rate is None or offered == rate or rate == NO_DATA
    ok, failed = NO_DATA, NO_DATA
    if row.count:
        ok = format_count(row.ok)
        failed = format_share(bad / row.count) if brief else format_count(bad)
    cells = {
        "offered/s": TableCell("" if row.offered_rate is None else offered),
        "ok/s": compared("rate", rate),
        "calls/s": compared("rate", rate if kept else f"{rate} of {offered}"),
        "ok": TableCell(ok),
        "failed": compared("failed", failed),
    }
    for name in PERCENTILES:
        call = format_cell(row, row.duration, name)
        due = format_cell(row, row.response, name)
        judged = compared(name, due if row.response else call)
        cells[f"{name} ms"] = judged
        cells[f"call {name}"] = TableCell(call) if row.response else judged
        cells[f"due {name}"] = judged if row.response else TableCell(due)
    return cells


def _describe_outcome(
    folder: RunFolder, result: ScenarioResult | None, *, has_rows: bool
) -> str | None:
    if result is None:
        return "Not part of this run."
    reason = f": {clean(result.reason)}" if result.reason else ""
    excess = describe_excess(folder, result.name)
    crossed = f"Thresholds crossed: {clean(', '.join(result.crossed))}."
    words = {
        "ok": "" if has_rows else "No data.",
        "thresholds crossed": f"Too many failures: {excess}." if excess else crossed,
        "interrupted": end_sentence(f"Interrupted{reason}") + " The numbers are partial.",
        "aborted": end_sentence(f"Aborted{reason}") + " The numbers are partial.",
        "failed": end_sentence(f"Failed{reason}"),
        "not run": end_sentence(f"Not run{reason}"),
    }[result.outcome]
    return words or None


def _describe_details(
    folder: RunFolder, scenario: str, rows: Sequence[Row], openings: Sequence[Row]
) -> Iterator[str]:
    """Yield the failures of each row by reason, then the sessions that did not open."""
    for row in rows:
        reasons = format_reasons(row.failures) if row.kind != "flow" else ""
        if reasons and not (is_aggregate(row) and len(rows) > 1):
            yield f"{name_row(folder, row)}: {reasons} (of {name_calls(row.count)})"
    for row in openings:
        reasons = format_reasons(row.failures)
        if reasons:
            what = name_row(folder, row) if scenario in LADDERS else f"{name_unit(folder)}s"
            yield f"opening {what}: {reasons} (of {format_count(row.count)})"
    yield from describe_details(folder, scenario)


def build_legend(folder: RunFolder, tables: Sequence[ReportTable]) -> Iterator[str]:
    """Yield the lines that explain the columns; each medium explains its marks itself."""
    headers = {column.header for table in tables for column in table.columns if table.rows}
    cells = [cell for table in tables for row in table.rows for cell in row]
    how = ". call: counted from sending"
    if "p50 ms" in headers:
        how = f", counted from {_describe_start(folder)}"
    elif "due p50" in headers:
        how += "; due: counted from the scheduled time"
    yield f"Latency in ms (s where marked) of successful calls{how}."
    if "calls/s" in headers:
        yield "calls/s: successful calls per second."
    if any(row.kind == "flow" for row in folder.rows):
        yield "(flow): the calls of its steps together, without the pauses between them."
    if any(count_refused(row) for row in folder.rows if row.kind not in ASIDE):
        yield "failed: includes calls that were refused by a cap or a quota."
    if any(cell.text.startswith(THIN) for cell in cells):
        p50, p95, p99 = (f"{MIN_SAMPLES[name]:,}" for name in PERCENTILES)
        yield (f"{THIN} too few calls for a steady value (p50 needs {p50}, p95 {p95}, p99 {p99}).")
    is_ladder = bool(pick_stages(folder.rows)) and folder.run.capacity is None
    if "due p50" in headers and is_ladder:
        yield (
            "A stage is sustained if at least 90 % of its offered calls succeed, failures stay "
            "within the profile's limit, its due p95 is below twice that of the smallest stage, "
            "and nothing is refused."
        )
        pace = find_pace(folder.run)
        if pace.text != DEFAULT_PACE and pace.kind == "interval":
            yield f"Half of its calls must also be answered within the pace of {pace.text} s."


def _describe_start(folder: RunFolder) -> str:
    """Return from when latency is counted, by scenario if they differ."""
    measured = [row for row in folder.rows if row.ok and row.kind not in ASIDE]
    scheduled = {row.scenario for row in measured if row.response}
    sent = [name for name in TITLES if name in {row.scenario for row in measured} - scheduled]
    if not scheduled:
        return "sending"
    names = " and ".join(map(name_scenario, sent))
    return f"their scheduled time{f' ({names}: from sending)' if sent else ''}"
