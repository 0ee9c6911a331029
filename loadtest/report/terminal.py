"""A report for a terminal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loadtest.compare.changes import Status
from loadtest.compare.comparison import Comparison
from loadtest.report.content.formatting import NO_DATA, describe_marks
from loadtest.report.content.report import build_report
from loadtest.report.content.tables import ReportTable, TableCell
from loadtest.results.run_folder import RunFolder

TERMINAL_WIDTH = 80
_LEVEL_STYLES = {"good": "bold green", "warning": "bold yellow", "bad": "bold red"}
_MARKS: Mapping[Status | None, str] = {
    "worse": "!",
    "suspected": "?",
    "confirmed": "!!",
    "accepted": "=",
}
_MARK_STYLES = {
    "worse": "bold yellow",
    "suspected": "bold yellow",
    "confirmed": "bold red",
    "better": "green",
}
MARKS_LEGEND = describe_marks("Below a figure", _MARKS["worse"], _MARKS)


def render_terminal(folder: RunFolder, comparison: Comparison | None = None) -> Group:
    """Return verdict, facts and tables for a terminal of 80 columns or more."""
    report = build_report(folder, comparison)
    facts = Table.grid(padding=(0, 2))
    for name, value in report.facts:
        facts.add_row(Text(name, style="dim"), Text(value))
    parts: list[RenderableType] = [
        Text(report.verdict.text, style=_LEVEL_STYLES[report.verdict.level]),
        Padding(facts, (1, 0, 0, 0)),
    ]
    parts += [Text(caveat, style="yellow") for caveat in report.caveats]
    if report.compared_with:
        parts.append(Text(f"\n{report.compared_with.text}"))
    parts += [
        Text(line.text, _MARK_STYLES.get(line.status or "", "")) for line in report.regressions
    ]
    if report.accept_command:
        parts.append(Text(f"Intended? Make it the new baseline: {report.accept_command}"))
    for table in report.tables:
        parts += _render_scenario(table)
    marks = [MARKS_LEGEND] if report.is_compared() else []
    parts.append(Text("\n".join(["", *report.legend, *marks]), style="dim"))
    return Group(*parts)


def _render_scenario(table: ReportTable) -> Iterator[RenderableType]:
    yield Text(f"\n{table.title}", style="bold")
    if table.note:
        yield Text(table.note, style="yellow")
    if table.compared_with:
        yield Text(table.compared_with.text)
    if table.rows:
        yield _render_table(table)
    for detail in table.details:
        yield Text(detail)


def _render_table(table: ReportTable) -> Table:
    """Return a table for a terminal; narrower and without changes if 80 columns are too few."""
    headers = tuple(column.short for column in table.columns)
    lines = [tuple(_write(cell) for cell in row) for row in table.rows]
    if _measure(headers, lines) + len(headers) > TERMINAL_WIDTH:
        lines = [tuple(_write(cell, marks_only=True) for cell in row) for row in table.rows]
    gap = 1 if _measure(headers, lines) + 2 * len(headers) <= TERMINAL_WIDTH else 0
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    for column in table.columns:
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        grid.add_column(Text(column.short), justify=justify, vertical="bottom")
    for row, line in zip(table.rows, lines, strict=True):
        height = max(cell.count("\n") for cell in line)
        texts = (cell + "\n " * (height - cell.count("\n")) for cell in line)
        styles = (_MARK_STYLES.get(cell.status or "", "") for cell in row)
        grid.add_row(*map(Text, texts, styles))
    return grid


def _write(cell: TableCell, *, marks_only: bool = False) -> str:
    """Return a cell on two lines: its text, and the change below it."""
    text = cell.text.replace(" ", "\n") if cell.text == NO_DATA else cell.text
    change = "" if marks_only else cell.change.replace(" %", "%").replace(" pp", "pp")
    below = change + _MARKS.get(cell.status, "")
    return f"{text}\n{below}" if below else text


def _measure(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> int:
    columns = zip(headers, *lines, strict=True)
    return sum(max(len(part) for cell in column for part in cell.split("\n")) for column in columns)
