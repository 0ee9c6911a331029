"""One run in words and tables: for the terminal, and as `report.md` in the run folder."""

from loadtest.report.changes import Remark
from loadtest.report.comment import CUTS, render_comment
from loadtest.report.contents import Report, build_report
from loadtest.report.figures import (
    NO_DATA,
    THIN,
    format_change,
    format_count,
    format_ms,
    format_rate,
    format_share,
)
from loadtest.report.markdown import render_markdown, write_readable, write_report
from loadtest.report.sheets import Column, Sheet, TableCell
from loadtest.report.terminal import render_terminal
from loadtest.report.verdict import Level, Verdict, build_verdict
from loadtest.report.words import format_reasons

__all__ = [
    "CUTS",
    "NO_DATA",
    "THIN",
    "Column",
    "Level",
    "Remark",
    "Report",
    "Sheet",
    "TableCell",
    "Verdict",
    "build_report",
    "build_verdict",
    "format_change",
    "format_count",
    "format_ms",
    "format_rate",
    "format_reasons",
    "format_share",
    "render_comment",
    "render_markdown",
    "render_terminal",
    "write_readable",
    "write_report",
]
