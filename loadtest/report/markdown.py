"""A report as `report.md` in the run folder."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from loadtest.errors import ReportError
from loadtest.files import write_text
from loadtest.report.contents import build_report
from loadtest.results import RunFolder


def render_markdown(folder: RunFolder) -> str:
    """Return `report.md`: whatever a server sent is escaped and cannot become markup."""
    report = build_report(folder)
    parts = [f"# Load test {escape(report.run_id)}", f"**{escape(report.verdict.text)}**"]
    parts += [f"> {escape(caveat)}" for caveat in report.caveats]
    facts = [*report.facts, ("knobs", report.knobs)]
    parts.append(_render_grid(("Fact", "Value"), (False, False), facts))
    for sheet in report.sheets:
        parts.append(f"## {sheet.title}")
        if sheet.remark:
            parts.append(escape(sheet.remark))
        if sheet.rows:
            headers = [column.header for column in sheet.columns]
            numeric = [column.numeric for column in sheet.columns]
            parts.append(_render_grid(headers, numeric, sheet.rows))
        if sheet.details:
            parts.append("\n".join(f"- {escape(detail)}" for detail in sheet.details))
    parts.append("\n".join(f"- {escape(line)}" for line in report.legend))
    return "\n\n".join(parts) + "\n"


def write_report(folder: RunFolder) -> Path:
    """Write `report.md` into the run folder and return its path."""
    path = folder.path / "report.md"
    try:
        write_text(path, render_markdown(folder))
    except OSError as failure:
        raise ReportError(f"{path} cannot be written: {failure.strerror}") from None
    return path


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it stands, in a table cell too."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$#!])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _render_grid(
    headers: Sequence[str], numeric: Sequence[bool], rows: Iterable[Sequence[str]]
) -> str:
    lines = [[escape(cell) for cell in row] for row in (headers, *rows)]
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
