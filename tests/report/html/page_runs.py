"""Pages to look at: of the runs that the reports show, and of names that no layout expects."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.compare.comparison import Comparison
from loadtest.report.html.page import render_history_page, render_page
from loadtest.results.history import Entry
from tests.report.compared_runs import (
    COMPARED,
    ComparedRun,
    compared,
    entry,
    good,
    hostile_history,
    regressed,
)
from tests.report.html.timed_runs import timed
from tests.report.report_runs import COLD_START, LADDER, RUNS, TOOLS, folder, row

NASTY = (
    *("a | b \\| c", "\"double\" 'single'", "<img src=x onerror=alert(1)>", "x" * 300),
    *("</svg></style><script>alert(1)</script>", "🚀🔥 tool 工具ツール", "أداة البحث", "new\nline"),
    *("datum.value", "{{ 7 * 7 }}", "]]> &lt;b&gt;", "url(https://evil.example/)"),
)


def nasty() -> ComparedRun:
    """A run whose every name is what a server should not send."""
    tools = (
        row("tools", "tool", name, 1500, 20.0 + 9 * place, failures={f"tool_error:{name}": 12})
        for place, name in enumerate(NASTY)
    )
    return compared(folder(COLD_START, LADDER, tuple(tools), environment=NASTY[4]))


def moved() -> ComparedRun:
    """A run after thirty others, the last half of which stand higher."""
    rows = (*COLD_START, *LADDER, *TOOLS)
    weeks = range(30, 0, -1)
    return compared(
        folder(rows), [entry(rows, each, factor=0.7 if each > 15 else 1) for each in weeks]
    )


def render(case: ComparedRun) -> str:
    return render_page(case.folder, case.comparison, case.earlier)


def over_time() -> str:
    """The page of a run with intervals."""
    with TemporaryDirectory() as name:
        return render_page(timed(Path(name)), Comparison()).replace(name, "/home/user/run")


def first(name: str) -> ComparedRun:
    return ComparedRun(RUNS[name](), (), Comparison())


CASES: Mapping[str, Callable[[], ComparedRun]] = {
    **COMPARED,
    "failed": lambda: first("failed"),
    "empty": lambda: first("empty"),
    "interrupted": lambda: first("interrupted"),
    "rate-limited": lambda: first("rate-limited"),
    "broken-ladder": lambda: first("broken-ladder"),
    "moved": moved,
    "nasty": nasty,
}
PAGES: Mapping[str, Callable[[], str]] = {
    name: lambda case=case: render(case()) for name, case in CASES.items()
} | {"over-time": over_time}


def history() -> str:
    """All runs of two environments; one has a confirmed regression, another hostile names."""
    runs: list[Entry] = []
    for case in (regressed(), hostile_history(), good()):
        run = replace(case.folder.run, run_id=f"{case.folder.run.run_id}-{len(runs)}")
        runs += [*case.earlier, Entry(run, case.folder.rows, case.comparison.confirmed)]
    return render_history_page(runs)
