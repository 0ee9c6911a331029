"""A report as `report.md` in the run folder."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from loadtest.common.files import write_text
from loadtest.common.redaction import redact
from loadtest.compare.changes import BOLD, Status
from loadtest.compare.comparison import Comparison
from loadtest.errors import ReportError
from loadtest.report.content.formatting import describe_marks
from loadtest.report.content.report import build_report
from loadtest.report.content.tables import ReportTable, TableCell
from loadtest.report.content.trend import Trend
from loadtest.results.history import Entry
from loadtest.results.run_folder import RunFolder

MOST_TITLE = 48
# A colour that is visible on white and on black; Mermaid's default is nearly white.
_CHART_STYLE = (
    '%%{init: {"xyChart": {"width": 720, "height": 260, "titleFontSize": 16}, '
    '"themeVariables": {"xyChart": {"plotColorPalette": "#2f81f7"}}}}%%'
)
MARKS: Mapping[Status | None, str] = {"confirmed": "❗", "suspected": "👀", "accepted": "☑️"}
MARKS_LEGEND = describe_marks("In brackets", "**Bold**", MARKS)


def escape(text: str) -> str:
    """Return `text` escaped for Markdown, also inside a table cell."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$#!])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    return re.sub(r"^(\d*)([-+.)])(?=\s|$)", r"\1\\\2", text)  # would begin a list


def render_markdown(
    folder: RunFolder, comparison: Comparison | None = None, earlier: Sequence[Entry] = ()
) -> str:
    """Return `report.md`; text from a server is escaped and cannot become markup."""
    report = build_report(folder, comparison, earlier)
    parts = [f"# Load test {escape(report.run_id)}", f"**{escape(report.verdict.text)}**"]
    if report.regressions:
        parts.append("\n".join(f"- {escape(line.text)}" for line in report.regressions))
        parts += [render_accept(report.accept_command)] if report.accept_command else []
    if report.compared_with:
        parts.append(escape(report.compared_with.text))
    parts += [f"> {escape(caveat)}" for caveat in report.caveats]
    facts = [*report.facts, ("knobs", report.knobs)]
    cells = [[escape(text) for text in fact] for fact in facts]
    parts.append(render_grid(("Fact", "Value"), (False, False), cells))
    for table in report.tables:
        parts.append(f"## {table.title}")
        if table.note:
            parts.append(escape(table.note))
        if table.compared_with:
            parts.append(escape(table.compared_with.text))
        if table.rows:
            parts.append(render_table(table))
        if table.details:
            parts.append("\n".join(f"- {escape(detail)}" for detail in table.details))
    if report.replies:
        parts += [f"## {report.replies.title}", escape(report.replies.note or "")]
        parts.append(render_table(report.replies))
    if report.trend:
        parts += ["## Trend", render_chart(report.trend)]
    legend = [escape(line) for line in report.legend]
    legend += [MARKS_LEGEND] if report.is_compared() else []
    parts.append("\n".join(f"- {line}" for line in legend))
    return "\n\n".join(parts) + "\n"


def write_report(
    folder: RunFolder, comparison: Comparison | None = None, earlier: Sequence[Entry] = ()
) -> Path:
    """Write `report.md` into the run folder and return its path."""
    return write_readable(folder.path / "report.md", render_markdown(folder, comparison, earlier))


def write_readable(path: Path, text: str) -> Path:
    """Write a report atomically and return its path; raise ReportError."""
    try:
        write_text(path, redact(text))
    except OSError as failure:
        raise ReportError(f"{path} cannot be written: {failure.strerror}") from None
    return path


def render_accept(command: str) -> str:
    """Return the command that accepts a regression; it is one line, so it cannot end the block."""
    return f"Intended? Make it the new baseline:\n\n```sh\n{command}\n```"


def render_table(
    table: ReportTable, show: Callable[[str], str] = escape, *, compact: bool = False
) -> str:
    """Return a table with its marks: worse figures are bold, regressions have a sign.

    `show` escapes text. A compact table has no padding, and a figure does not break over lines.
    """
    headers = [show(column.header) for column in table.columns]
    numeric = [column.numeric for column in table.columns]
    rows = [[_mark(cell, show) for cell in row] for row in table.rows]
    if compact:
        rows = [[row[0], *(text.replace(" ", "\u00a0") for text in row[1:])] for row in rows]
    return render_grid(headers, numeric, rows, compact=compact)


def _mark(cell: TableCell, show: Callable[[str], str]) -> str:
    text = show(f"{cell.text} ({cell.change})" if cell.change else cell.text)
    text = f"{MARKS[cell.status]} {text}" if cell.status in MARKS else text
    return f"**{text}**" if cell.status in BOLD else text


def render_grid(
    headers: Sequence[str],
    numeric: Sequence[bool],
    rows: Iterable[Sequence[str]],
    *,
    compact: bool = False,
) -> str:
    """Return a table whose cells are Markdown already."""
    lines = [headers, *rows]
    widths = [
        3 if compact else max(3, *(len(cell) for cell in column))
        for column in zip(*lines, strict=True)
    ]
    rule = [
        "-" * (width - right) + ":" * right for width, right in zip(widths, numeric, strict=True)
    ]
    aligned = [
        [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]])


def render_chart(trend: Trend) -> str:
    """Return a trend as a Mermaid chart, in the syntax of GitHub's and newer versions."""
    days = [day for day, _ in trend.points]
    # Mermaid would draw two runs of the same name at one place.
    names = [
        f"{day[5:]}.{days[:place].count(day) + 1}" if day in days[:place] else day[5:]
        for place, day in enumerate(days)
    ]
    values = [value for _, value in trend.points]
    return "\n".join(
        (
            "```mermaid",
            _CHART_STYLE,
            "xychart-beta",
            f"  title {_quote(f'{trend.title[:MOST_TITLE]}, {days[0]} to {days[-1]}')}",
            f"  x-axis [{', '.join(map(_quote, names))}]",
            f'  y-axis "{trend.unit}" 0 --> {_write(_find_top(max(values)))}',
            f"  line [{', '.join(map(_write, values))}]",
            "```",
        )
    )


def _quote(text: str) -> str:
    """Return a Mermaid string, which has no escapes: only harmless characters stay."""
    return f'"{re.sub(r"[^A-Za-z0-9 _.,:/()+-]", "?", text)}"'


def _write(value: float) -> str:
    """Return a Mermaid number, without an exponent."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _find_top(most: float) -> float:
    """Return a round end for an axis that contains `most`."""
    power = 10.0 ** math.floor(math.log10(max(most, 0.01)))
    steps = (power * step for step in (1, 1.5, 2, 4, 5, 8, 10, 15))
    return next(step for step in steps if step >= most * 1.05)
