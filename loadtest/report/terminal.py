"""A report for a terminal."""

from collections.abc import Iterator
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loadtest.report.contents import build_report
from loadtest.report.figures import NO_DATA
from loadtest.report.sheets import Sheet
from loadtest.results import RunFolder

TERMINAL_WIDTH = 80
_LEVEL_STYLES = {"good": "bold green", "warning": "bold yellow", "bad": "bold red"}


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
