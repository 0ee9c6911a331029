"""One scenario as a table of text, and the legend to all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.compare import MIN_SAMPLES, pick_stages
from loadtest.report.figures import (
    NO_DATA,
    PERCENTILES,
    THIN,
    format_cell,
    format_count,
    format_rate,
)
from loadtest.report.words import (
    TITLES,
    clean,
    end_sentence,
    format_reasons,
    is_aggregate,
    name_calls,
    name_unit,
    name_units,
)
from loadtest.results import Row, RunFolder, ScenarioResult


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


def build_sheet(folder: RunFolder, scenario: str) -> Sheet:
    """Build the table of one scenario."""
    rows = [row for row in folder.rows if row.scenario == scenario and row.kind != "opening"]
    others = sorted((row for row in rows if row.kind != "stage"), key=is_aggregate)
    rows = [*pick_stages(rows), *others]
    openings = [row for row in folder.rows if row.scenario == scenario and row.kind == "opening"]
    result = next((item for item in folder.run.scenarios if item.name == scenario), None)
    offered = scenario == "sessions" or any(row.offered_rate is not None for row in rows)
    response = scenario == "sessions" or any(row.response is not None for row in rows)
    rates = scenario != "cold-start"
    first = {"cold-start": "step", "tools": "tool"}.get(scenario, f"{name_unit(folder)}s")
    title = TITLES[scenario]
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
            clean(row.name),
            *([format_rate(row.offered_rate)] if offered else []),
            *(
                [format_rate(row.achieved_rate) if row.count and row.seconds else NO_DATA]
                if rates
                else []
            ),
            format_count(row.ok) if row.count else NO_DATA,
            format_count(row.count - row.ok) if row.count else NO_DATA,
            *(format_cell(row, row.duration, name) for name in PERCENTILES),
            *(format_cell(row, row.response, name) for name in PERCENTILES if response),
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
    reason = f": {clean(result.reason)}" if result.reason else ""
    words = {
        "ok": "" if has_rows else "No data.",
        "thresholds crossed": f"Thresholds crossed: {clean(', '.join(result.crossed))}.",
        "interrupted": end_sentence(f"Interrupted{reason}") + " The numbers are partial.",
        "aborted": end_sentence(f"Aborted{reason}") + " The numbers are partial.",
        "failed": end_sentence(f"Failed{reason}"),
        "not run": end_sentence(f"Not run{reason}"),
    }[result.outcome]
    return words or None


def _describe_details(
    folder: RunFolder, scenario: str, rows: Sequence[Row], openings: Sequence[Row]
) -> Iterator[str]:
    """Yield, per line of the table, what was not ok by reason; then sessions that did not open."""
    for row in rows:
        reasons = format_reasons(row.failures)
        if reasons and not (is_aggregate(row) and len(rows) > 1):
            numbered = scenario == "sessions" and row.name.isdecimal()
            name = name_units(folder, int(row.name)) if numbered else clean(row.name)
            yield f"{name}: {reasons}, of {name_calls(row.count)}"
    for row in openings:
        reasons = format_reasons(row.failures)
        if reasons:
            where = f" at stage {clean(row.name)}" if scenario == "sessions" else ""
            yield f"{name_unit(folder)}s opened{where}: {reasons}, of {format_count(row.count)}"


def build_legend(sheets: Sequence[Sheet]) -> Iterator[str]:
    """Yield the lines that explain the marks and columns in use."""
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
