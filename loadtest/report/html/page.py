"""A run or a whole history as one self-contained HTML page."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from loadtest.compare.changes import BOLD, Status
from loadtest.compare.comparison import Comparison
from loadtest.compare.knee import find_knee
from loadtest.report.content.capacity import name_load
from loadtest.report.content.formatting import describe_marks, format_change, format_figure
from loadtest.report.content.report import Report, build_report
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.content.verdict import Level
from loadtest.report.content.wording import is_address, name_calls, name_cell, name_units
from loadtest.report.history_tables import (
    FIRST_NUMBER,
    RUN_COLUMNS,
    RUNS_LEGEND,
    as_folder,
    build_line,
    find_good_runs,
    group_runs,
)
from loadtest.report.html.capacity_chart import build_capacity
from loadtest.report.html.failure_table import build_failures
from loadtest.report.html.history_page import build_trends, draw_trends, find_series, pick_key_cells
from loadtest.report.html.ladder_chart import build_ladder
from loadtest.report.html.latency_chart import build_latency_chart
from loadtest.report.html.time_chart import build_time_chart
from loadtest.report.html.vega import Chart
from loadtest.report.markdown import write_readable
from loadtest.results.history import CONTROL, Entry
from loadtest.results.intervals import read_intervals
from loadtest.results.run_folder import RunFolder

MARKS: Mapping[Status | None, str] = {"confirmed": "▲", "suspected": "△", "accepted": "✓"}
_LEVELS: Mapping[Level, str] = {
    "failed": "Failed",
    "missed": "Objective missed",
    "bad": "Regressed",
    "warning": "Warning",
    "watch": "To watch",
    "good": "Good",
}
_ORDER = ("sessions", "tools", "cold-start", "streams", "soak")
_CHART_TITLES = {
    "cold-start": "Each step of a cold start",
    "tools": "Each tool of the mix",
    "soak": "Each tool of the soak",
}
MARKS_LEGEND = describe_marks("Beside a figure", "Bold", MARKS)
TREND_LEGEND = (
    "Grey band: the level of the runs. Dashed line: where the level changed. Red diamond: a "
    "confirmed regression."
)


@dataclass(frozen=True)
class Tile:
    """A key figure in large type."""

    name: str
    cell: TableCell


def render_page(folder: RunFolder, comparison: Comparison, earlier: Sequence[Entry] = ()) -> str:
    """Return `report.html`: the run as text, charts and tables, with trends over earlier runs."""
    report = build_report(folder, comparison, earlier, brief=True)
    full = {table.scenario: table for table in build_report(folder, comparison, earlier).tables}
    return _render(
        "report.html",
        report=report,
        level=_LEVELS[report.verdict.level],
        tiles=sorted(_build_tiles(folder, comparison), key=_rank_tile),
        capacity=build_capacity(folder),
        sections=list(_build_sections(folder, report, full)),
        trends=build_trends(folder, comparison, earlier),
        failures=build_failures(folder),
        no_failure=_describe_no_failure(folder),
        compared=report.is_compared(),
        legend=(*report.legend, *([MARKS_LEGEND] if report.is_compared() else ())),
    )


def render_history_page(entries: Sequence[Entry]) -> str:
    """Return all runs, of entries oldest first, as a page: by environment and profile."""
    return _render(
        "history.html",
        groups=[
            {"title": title, "table": _list_runs(runs), "trends": _trace(runs)}
            for title, runs in group_runs(entries)
        ],
        legend=RUNS_LEGEND,
    )


def _list_runs(runs: Sequence[Entry]) -> ReportTable:
    """Return a table of the runs, newest first."""
    columns = tuple(
        Column(name, name, numeric=place >= FIRST_NUMBER) for place, name in enumerate(RUN_COLUMNS)
    )
    rows = []
    for entry in reversed(runs):
        status: Status | None = "confirmed" if entry.has_regressed() else None
        named = zip(RUN_COLUMNS, build_line(entry), strict=True)
        first, *cells = (
            TableCell(text, status=status if name == "outcome" else None) for name, text in named
        )
        rows.append((replace(first, url=entry.url), *cells))
    return ReportTable("Runs, newest first", columns, tuple(rows))


def _trace(runs: Sequence[Entry]) -> tuple[Chart, ...]:
    """Return a trend of each key figure, up to the newest run that has it."""
    return tuple(
        chart
        for cell, good in find_good_runs(runs)
        for chart in draw_trends(as_folder(good[-1]), find_series([cell], good[-1], good))
    )


def write_page(folder: RunFolder, comparison: Comparison, earlier: Sequence[Entry] = ()) -> Path:
    """Write `report.html` into the run folder and return its path."""
    return write_readable(folder.path / "report.html", render_page(folder, comparison, earlier))


def _build_sections(
    folder: RunFolder, report: Report, full: dict[str, ReportTable]
) -> Iterator[dict[str, Any]]:
    """Yield the scenarios, the ladder first, because most readers look for it.

    `full` are the tables with all columns, by scenario.
    """
    tables = {table.scenario: table for table in report.tables}
    for scenario in filter(tables.__contains__, _ORDER):
        intervals = read_intervals(folder.scenario_dir(scenario))
        charts: list[Chart | None] = []
        if scenario == "sessions":
            charts = [*build_ladder(folder, full[scenario])]
        elif scenario in _CHART_TITLES:
            title = _CHART_TITLES[scenario]
            charts = [build_latency_chart(folder, scenario, title, intervals)]
        charts.append(build_time_chart(scenario, intervals))
        yield {"table": tables[scenario], "charts": [chart for chart in charts if chart]}


def _describe_no_failure(folder: RunFolder) -> str:
    """Return a sentence for a run without failures; one that was cut short proves little."""
    calls = sum(row.count for row in folder.rows if row.kind != CONTROL)
    if not calls:
        return "No call was made."
    if folder.run.outcome() in {"ok", "thresholds crossed"}:
        return "No call failed."
    return f"None of {name_calls(calls)} failed, but the run did not end as planned."


def _rank_tile(tile: Tile) -> int:
    """Return the rank of a tile: confirmed first, then suspected."""
    return BOLD.index(tile.cell.status) if tile.cell.status in BOLD else len(BOLD)


def _build_tiles(folder: RunFolder, comparison: Comparison) -> Iterator[Tile]:
    knee = find_knee(folder.run, folder.rows)
    found = folder.run.capacity
    if knee is not None and found is None:
        held = name_units(folder, int(knee.sustained.name)) if knee.sustained else "no stage"
        yield Tile("sustained", TableCell(held))
    figures = Entry(folder.run, folder.rows).figures
    for cell in pick_key_cells(folder):
        if cell in figures:
            change = comparison.changes.get(cell)
            said = format_change(cell.figure, change)
            name, text = name_cell(folder, cell), format_figure(cell.figure, figures[cell])
            if found is not None:
                name, text = "capacity", name_load(folder, found.most)
            yield Tile(name, TableCell(text, said, change.status if change else None))


def _render(template: str, **values: Any) -> str:
    style = files("loadtest.report.html").joinpath("style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = _find_templates().get_template(template)
    # The content security policy allows this style sheet and nothing else.
    values |= {"style": Markup(style), "digest": digest}  # noqa: S704
    values |= {"trend_legend": TREND_LEGEND}
    return page.render(values) + "\n"


@cache
def _find_templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("loadtest.report.html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.tests["address"] = is_address
    templates.globals["marks"] = MARKS
    return templates
