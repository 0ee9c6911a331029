"""A report as `report.md` in the run folder."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from loadtest.errors import ReportError
from loadtest.files import write_text
from loadtest.judging import Judgement
from loadtest.report.contents import build_report
from loadtest.report.sheets import Sheet, TableCell
from loadtest.results import RunFolder

MARKS_LEGEND = (
    "In brackets: the change (pp: percentage points). **Bold**: more than 25 % worse than the "
    "previous comparable run. \u2757: a confirmed regression, more than the usual noise."
)


def render_markdown(folder: RunFolder, judgement: Judgement | None = None) -> str:
    """Return `report.md`: whatever a server sent is escaped and cannot become markup."""
    report = build_report(folder, judgement)
    parts = [f"# Load test {escape(report.run_id)}", f"**{escape(report.verdict.text)}**"]
    if report.news:
        parts.append("\n".join(f"- {escape(remark.text)}" for remark in report.news))
    if report.comparison:
        parts.append(escape(report.comparison.text))
    parts += [f"> {escape(caveat)}" for caveat in report.caveats]
    facts = [*report.facts, ("knobs", report.knobs)]
    cells = [[escape(text) for text in fact] for fact in facts]
    parts.append(_render_grid(("Fact", "Value"), (False, False), cells))
    for sheet in report.sheets:
        parts.append(f"## {sheet.title}")
        if sheet.remark:
            parts.append(escape(sheet.remark))
        if sheet.comparison:
            parts.append(escape(sheet.comparison.text))
        if sheet.rows:
            parts.append(render_sheet(sheet))
        if sheet.details:
            parts.append("\n".join(f"- {escape(detail)}" for detail in sheet.details))
    legend = [escape(line) for line in report.legend]
    legend += [MARKS_LEGEND] if report.is_compared() else []
    parts.append("\n".join(f"- {line}" for line in legend))
    return "\n\n".join(parts) + "\n"


def write_report(folder: RunFolder, judgement: Judgement | None = None) -> Path:
    """Write `report.md` into the run folder and return its path."""
    path = folder.path / "report.md"
    try:
        write_text(path, render_markdown(folder, judgement))
    except OSError as failure:
        raise ReportError(f"{path} cannot be written: {failure.strerror}") from None
    return path


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it stands, in a table cell too."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$#!])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    return re.sub(r"^(\d*)([-+.)])(?=\s|$)", r"\1\\\2", text)  # would begin a list


def render_sheet(sheet: Sheet) -> str:
    """Return a table with its marks: worse is bold, confirmed has a sign of its own."""
    headers = [escape(column.header) for column in sheet.columns]
    numeric = [column.numeric for column in sheet.columns]
    return _render_grid(headers, numeric, [[_mark(cell) for cell in row] for row in sheet.rows])


def _mark(cell: TableCell) -> str:
    text = escape(f"{cell.text} ({cell.change})" if cell.change else cell.text)
    text = f"\u2757 {text}" if cell.status == "confirmed" else text
    return f"**{text}**" if cell.status in {"worse", "confirmed"} else text


def _render_grid(
    headers: Sequence[str], numeric: Sequence[bool], rows: Iterable[Sequence[str]]
) -> str:
    lines = [headers, *rows]
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
