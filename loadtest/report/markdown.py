"""A report as `report.md` in the run folder."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from loadtest.common.files import write_text
from loadtest.common.redaction import redact
from loadtest.compare.changes import Status
from loadtest.compare.comparison import Comparison
from loadtest.errors import ReportError
from loadtest.report.content.formatting import describe_marks
from loadtest.report.content.report import build_report
from loadtest.report.content.tables import ReportTable, TableCell
from loadtest.report.content.trend import Trend
from loadtest.report.content.verdict import Level
from loadtest.report.content.wording import is_address
from loadtest.results.history import Entry
from loadtest.results.run_folder import RunFolder

MOST_TITLE = 48
MOST_PHRASE = 45
# A colour that is visible on white and on black; Mermaid's default is nearly white.
_CHART_STYLE = (
    '%%{init: {"xyChart": {"width": 720, "height": 260, "titleFontSize": 16}, '
    '"themeVariables": {"xyChart": {"plotColorPalette": "#2f81f7"}}}}%%'
)
SIGNS: Mapping[Level, str] = {
    "failed": "⛔",
    "missed": "❌",
    "bad": "❌",
    "warning": "⚠️",
    "watch": "👀",
    "good": "✅",
}
MARKS: Mapping[Status | None, str] = {
    "confirmed": "❌",
    "suspected": "👀",
    "accepted": "☑️",
    "better": "✅",
}
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
    parts = [f"# {SIGNS[report.verdict.level]} {escape(report.verdict.headline)}"]
    parts.append(f"Load test {escape(report.run_id)}")
    parts += [escape(line.text) for line in [report.compared_with] if line]
    parts += [render_table(report.findings)] if report.findings else []
    parts += [f"> {escape(problem)}" for problem in report.verdict.problems]
    parts.append(escape(" ".join(report.verdict.sentences)))
    parts += [render_accept(report.accept_command)] if report.accept_command else []
    parts += [render_remedy(report.verdict.remedy)] if report.verdict.remedy else []
    if report.objectives:
        parts += [f"## {report.objectives.title}", render_table(report.objectives)]
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
    for table in filter(None, (report.replies, report.slowest)):
        parts += [f"## {table.title}", escape(table.note or ""), render_table(table)]
    if report.trend:
        parts += ["## Trend", render_chart(report.trend)]
    legend = [escape(line) for line in report.legend]
    legend += [MARKS_LEGEND] if report.is_compared() else []
    parts.append("\n".join(f"- {line}" for line in legend))
    return "\n\n".join(filter(None, parts)) + "\n"


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


def render_remedy(command: str) -> str:
    """Return the command that a failed run needs."""
    return f"What to do:\n\n```sh\n{command}\n```"


def render_table(
    table: ReportTable,
    show: Callable[[str], str] = escape,
    *,
    show_name: Callable[[str], str] | None = None,
    compact: bool = False,
) -> str:
    """Return a table with its marks: worse figures are bold, a finding has a sign.

    `show` escapes text, `show_name` a server's names. A compact table has no padding, and figures
    and short phrases do not break over lines, so that a phone scrolls sideways.
    """
    headers = [render_link(show(column.header), column.url) for column in table.columns]
    numeric = [column.numeric for column in table.columns]
    rows = [
        [
            _hold(text, whole=column.numeric or column.holds) if compact else text
            for text, column in zip(
                (_mark(cell, show, show_name or show) for cell in row), table.columns, strict=True
            )
        ]
        for row in table.rows
    ]
    return render_grid(headers, numeric, rows, compact=compact)


def _hold(text: str, *, whole: bool) -> str:
    """Return text that does not break before a per cent sign; `whole`: nor in a short phrase."""
    text = text.replace(" %", "\u00a0%")
    if not whole:
        return text
    return "; ".join(
        phrase.replace(" ", "\u00a0") if len(phrase) <= MOST_PHRASE or "](" in phrase else phrase
        for phrase in text.split("; ")
    )


def _mark(cell: TableCell, show: Callable[[str], str], show_name: Callable[[str], str]) -> str:
    text = show(f"{cell.text} ({cell.change})" if cell.change else cell.text)
    text = render_link(f"**{text}**" if cell.worse else text, cell.url)
    sign = MARKS.get(cell.status, "") if cell.leads else ""
    name = show_name(cell.name) if cell.name else ""
    commits = render_link("commits", cell.commits_url) if cell.commits_url else ""
    return " ".join(filter(None, (sign, name, f"{text}, {commits}" if commits else text)))


def render_link(text: str, address: str | None) -> str:
    """Return a link, or only the text if the address is not valid."""
    return f"[{text}]({address})" if address and is_address(address) else text


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
        f"{_shorten(day)}.{days[:place].count(day) + 1}" if day in days[:place] else _shorten(day)
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


def _shorten(place: str) -> str:
    """Return a day without its year, and anything else as it is."""
    return place[5:] if re.match(r"\d{4}-", place) else place


def _quote(text: str) -> str:
    """Return a Mermaid string, which has no escapes: only harmless characters stay."""
    return f'"{re.sub(r"[^A-Za-z0-9 _.,:/()+-]", "?", text)}"'


def _write(value: float) -> str:
    """Return a Mermaid number, without an exponent."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _find_top(most: float) -> float:
    """Return a round end for an axis that contains `most`.

    Mermaid draws about ten ticks at round values; with these ends, one of them is the end.
    """
    power = 10.0 ** math.floor(math.log10(max(most, 0.01)))
    ends = (1, 1.1, 1.6, 1.8, 2, 2.2, 3.5, 4, 4.5, 5, 5.5, 8, 9, 10)
    return next(power * end for end in ends if power * end >= most * 0.9999)
