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
from loadtest.report.content.wording import clean
from loadtest.results.history import Entry
from loadtest.results.run_folder import RunFolder

TERMINAL_WIDTH = 80
_LEVEL_STYLES = {
    "good": "bold green",
    "watch": "bold yellow",
    "warning": "bold yellow",
    "missed": "bold red",
    "bad": "bold red",
    "failed": "bold red",
}
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


def render_terminal(
    folder: RunFolder, comparison: Comparison | None = None, earlier: Sequence[Entry] = ()
) -> Group:
    """Return verdict, findings, facts and tables for a terminal of 80 columns or more."""
    report = build_report(folder, comparison, earlier)
    facts = Table.grid(padding=(0, 2))
    for name, value in report.facts:
        facts.add_row(Text(name, style="dim"), Text(value))
    verdict = report.verdict
    parts: list[RenderableType] = [Text(verdict.headline, style=_LEVEL_STYLES[verdict.level])]
    parts += [Text(line.text, style="dim") for line in [report.compared_with] if line]
    parts += [_render_findings(report.findings)] if report.findings else []
    parts += [Text(problem, style="yellow") for problem in verdict.problems]
    parts += [Text(" ".join(verdict.sentences))] if verdict.sentences else []
    if report.accept_command:
        parts.append(Text(f"Intended? Make it the new baseline: {report.accept_command}"))
    if verdict.remedy:
        parts.append(Text(f"What to do: {verdict.remedy}"))
    parts += [*_render_scenario(report.objectives)] if report.objectives else []
    parts.append(Padding(facts, (1, 0, 0, 0)))
    parts += [Text(caveat, style="yellow") for caveat in report.caveats]
    for table in report.tables:
        parts += _render_scenario(table)
    marks = [MARKS_LEGEND] if report.is_compared() else []
    parts.append(Text("\n".join(["", *report.legend, *marks]), style="dim"))
    return Group(*parts)


def _render_findings(table: ReportTable) -> Padding:
    """Return what moved: a line each, and below it what speaks for it."""
    grid = Table.grid(padding=(0, 1))
    for moved, before, now, change, since, why in table.rows:
        style = _MARK_STYLES.get(moved.status or "", "")
        mark = _MARKS.get(moved.status, "+")
        figures = f"{before.text} → {now.text} ({change.text}), since {since.text}"
        grid.add_row(Text(mark, style), Text(clean(moved.words), style))
        grid.add_row("", Text(f"{figures}\n{why.text}", style="dim"))
    return Padding(grid, (1, 0))


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
    text = cell.text.replace(" ", "\n") if cell.text == NO_DATA else cell.words
    change = "" if marks_only else cell.change.replace(" %", "%").replace(" pp", "pp")
    below = change + _MARKS.get(cell.status, "")
    return f"{text}\n{below}" if below else text


def _measure(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> int:
    columns = zip(headers, *lines, strict=True)
    return sum(max(len(part) for cell in column for part in cell.split("\n")) for column in columns)
