"""Describe the comparison of a run with earlier runs."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtest.compare.changes import REGRESSED, Change, Status
from loadtest.compare.comparison import Baseline, Comparison
from loadtest.compare.regressions import Evidence
from loadtest.report.content.formatting import WORSE, format_change, format_figure
from loadtest.report.content.wording import clean, name_cell
from loadtest.results.history import Cell, Entry
from loadtest.results.run import ASIDE, Run
from loadtest.results.run_folder import RunFolder

FIRST_RUN = "First run: there is nothing to compare it with."
_EVIDENCE: Mapping[Evidence | None, str] = {
    "two runs in a row": "second run in a row",
    "repeats": "third run in a row",
    "drift": "the level has changed",
    None: "outside the usual spread",
}
MOST_NAMED = 3
MOST_DETAILED = 10


@dataclass(frozen=True)
class ReportLine:
    """A line about an earlier run; `url` is the report of that run.

    `status` is that of the figure that the line is about.
    """

    text: str
    url: str | None = None
    status: Status | None = None


def describe_baselines(
    folder: RunFolder, comparison: Comparison
) -> tuple[ReportLine, dict[str, ReportLine]]:
    """Return the line about the baseline of most scenarios, and the lines of the others by name."""
    lines = {each.scenario: _describe(folder.run, each) for each in comparison.baselines}
    if not lines:
        return ReportLine(FIRST_RUN), {}
    compared = [lines[each.scenario] for each in comparison.baselines if each.previous]
    usual = Counter(compared or lines.values()).most_common(1)[0][0]
    return usual, {name: line for name, line in lines.items() if line != usual}


def list_gone(folder: RunFolder, comparison: Comparison, scenario: str) -> tuple[str, ...]:
    """Return the names of the rows of the baseline that this run does not have."""
    there = {(row.kind, row.name) for row in folder.rows if row.scenario == scenario}
    return tuple(
        clean(row.name)
        for each in comparison.baselines
        if each.scenario == scenario and each.previous is not None
        for row in each.previous.rows
        if row.scenario == scenario and row.count and row.kind not in ASIDE
        if (row.kind, row.name) not in there
    )


def _describe(run: Run, baseline: Baseline) -> ReportLine:
    if baseline.previous is not None:
        text = f"Compared with {_name_run(baseline.previous)}."
        server = describe_server(baseline.previous.run, run)
        return ReportLine(f"{text} {server}".strip(), baseline.previous.url)
    if baseline.reason == "first run":
        return ReportLine(FIRST_RUN)
    return ReportLine(f"Not comparable: {clean(baseline.reason or 'no reason given')}.")


def describe_server(before: Run, after: Run) -> str:
    """Return a sentence if the server or its version has changed, else an empty text."""
    names = [
        clean(" ".join(filter(None, (run.target.server_name, run.target.server_version))))
        for run in (before, after)
    ]
    changed = names[0] != names[1] and all(names)
    return f"The server is now {names[1]} (was {names[0]})." if changed else ""


def rank_cells(comparison: Comparison, *statuses: Status) -> list[tuple[Cell, Change]]:
    """Return the cells with these statuses in this order, the worst first within each status.

    Failures come first, because they have no ratio.
    """
    found = [item for item in comparison.changes.items() if item[1].status in statuses]

    def rank(item: tuple[Cell, Change]) -> tuple[int, float, Cell]:
        cell, change = item
        return statuses.index(change.status), -(change.ratio or math.inf), cell

    return sorted(found, key=rank)


def describe_regressions(
    folder: RunFolder, comparison: Comparison, status: Status
) -> Iterator[str]:
    """Yield one sentence that counts the regressions of a status and names the worst."""
    cells = [cell for cell, _ in rank_cells(comparison, status)]
    after = " (the next run decides)" if status == "suspected" else ""
    yield from _count(folder, cells, f"{status} regression{'s' * (len(cells) != 1)}{after}")


def describe_worse(folder: RunFolder, comparison: Comparison) -> Iterator[str]:
    """Yield one sentence that counts the figures that are bold but within the usual spread."""
    cells = [cell for cell, _ in rank_cells(comparison, "worse")]
    are = "figure is" if len(cells) == 1 else "figures are"
    what = f"{are} over {WORSE} worse than in the last run; that may be noise"
    yield from _count(folder, cells, what)


def describe_better(folder: RunFolder, comparison: Comparison) -> Iterator[str]:
    """Yield one sentence that counts the improved figures and names the most improved."""
    cells = [cell for cell, _ in rank_cells(comparison, "better")[::-1]]
    are = "figure is" if len(cells) == 1 else "figures are"
    yield from _count(folder, cells, f"{are} over {WORSE} better than in the last run")


def describe_gone(folder: RunFolder, comparison: Comparison) -> Iterator[str]:
    """Yield one sentence that counts the regressions that are gone."""
    cells = sorted(comparison.gone)
    what = "regression is gone" if len(cells) == 1 else "regressions are gone"
    yield from _count(folder, cells, what)


def _count(folder: RunFolder, cells: Sequence[Cell], what: str) -> Iterator[str]:
    if cells:
        names = ", ".join(name_cell(folder, cell) for cell in cells[:MOST_NAMED])
        more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
        yield f"{len(cells)} {what}: {names}{more}."


def describe_regressed_figures(folder: RunFolder, comparison: Comparison) -> Iterator[ReportLine]:
    """Yield a line for each of the worst regressions, the confirmed ones first."""
    regressed = rank_cells(comparison, *REGRESSED)
    for cell, change in regressed[:MOST_DETAILED]:
        yield _describe_regression(folder, cell, change)
    if len(regressed) > MOST_DETAILED:
        yield ReportLine(
            f"{len(regressed) - MOST_DETAILED} more regressions are marked in the tables."
        )


def _describe_regression(folder: RunFolder, cell: Cell, change: Change) -> ReportLine:
    """Return a regression's figures now and before, since which run, and its evidence."""
    regression, figure = change.regression, cell.figure
    now, before = (format_figure(figure, each) for each in (change.value, change.before or 0.0))
    moved = f"{name_cell(folder, cell)}: {now} ({format_change(figure, change)})"
    since = regression.since if regression else None
    run = f" since {_name_run(since)}" if since else ""
    if regression and regression.evidence == "drift":
        moved += f", at about {format_figure(figure, regression.after)}{run}; before that, {before}"
    else:
        moved += f", usually {before}{f',{run}' if run else ''}"
    shown = _EVIDENCE[regression.evidence if regression else None]
    label = "suspected" if change.status == "suspected" else "confirmed"
    after = "; accepted" if change.status == "accepted" else ""
    text = f"{moved}. {label.capitalize()}: {shown}{after}."
    return ReportLine(text, since.url if since else None, change.status)


def _name_run(entry: Entry) -> str:
    """Return a run's id, with its day and commit unless the id contains them."""
    run = entry.run
    day = "" if run.started[:10].replace("-", "") in run.run_id else run.started[:10]
    sha = (run.git_sha or "")[:7]
    facts = ", ".join(filter(None, (day, sha if sha not in run.run_id else "")))
    return clean(f"run {run.run_id}{f' ({facts})' if facts else ''}")
