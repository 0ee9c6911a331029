"""What comparing a run with earlier ones says, in words."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.history import Cell, Entry
from loadtest.judging import Change, Comparison, Drift, Judgement, Status
from loadtest.report.figures import WORSE, format_change, format_figure
from loadtest.report.words import clean, name_cell
from loadtest.results import RunFolder

FIRST_RUN = "First run: nothing to compare it with."
MOST_NAMED = 3
MOST_TOLD = 10


@dataclass(frozen=True)
class Remark:
    """Something said of an earlier run; `url` is where that one was reported."""

    text: str
    url: str | None = None


def describe_comparisons(judgement: Judgement) -> tuple[Remark, dict[str, Remark]]:
    """Return what most scenarios are compared with, if any, and what is said of the others."""
    remarks = {each.scenario: _describe(each) for each in judgement.comparisons}
    if not remarks:
        return Remark(FIRST_RUN), {}
    compared = [remarks[each.scenario] for each in judgement.comparisons if each.previous]
    usual = Counter(compared or remarks.values()).most_common(1)[0][0]
    return usual, {name: remark for name, remark in remarks.items() if remark != usual}


def list_gone(folder: RunFolder, judgement: Judgement, scenario: str) -> tuple[str, ...]:
    """Return the names of the rows that were there in the run compared with, and are no more."""
    there = {(row.kind, row.name) for row in folder.rows if row.scenario == scenario}
    return tuple(
        clean(row.name)
        for each in judgement.comparisons
        if each.scenario == scenario and each.previous is not None
        for row in each.previous.rows
        if row.scenario == scenario and row.count and row.kind != "opening"
        if (row.kind, row.name) not in there
    )


def _describe(comparison: Comparison) -> Remark:
    if comparison.previous is not None:
        text = f"Compared with {_name_run(comparison.previous)}."
        return Remark(text, comparison.previous.url)
    if comparison.reason == "first run":
        return Remark(FIRST_RUN)
    return Remark(f"Not comparable: {clean(comparison.reason or 'no reason given')}.")


def rank_cells(judgement: Judgement, status: Status) -> list[tuple[Cell, Change]]:
    """Return the cells of a status, the worst first: failures, then by how many times worse."""
    found = [item for item in judgement.changes.items() if item[1].status == status]
    return sorted(found, key=lambda item: (-(item[1].ratio or math.inf), item[0]))


def describe_confirmed(folder: RunFolder, judgement: Judgement) -> str | None:
    """Return one sentence that counts the confirmed regressions and names the worst."""
    cells = rank_cells(judgement, "confirmed")
    plural = "s" * (len(cells) != 1)
    return _count(folder, cells, f"confirmed regression{plural}")


def describe_worse(folder: RunFolder, judgement: Judgement) -> str | None:
    """Return one sentence that counts what is bold and not confirmed, and names the worst."""
    cells = rank_cells(judgement, "worse")
    figures = "figure is" if len(cells) == 1 else "figures are"
    return _count(folder, cells, f"{figures} more than {WORSE} worse than before, not confirmed")


def _count(folder: RunFolder, cells: Sequence[tuple[Cell, Change]], what: str) -> str | None:
    if not cells:
        return None
    names = ", ".join(name_cell(folder, cell) for cell, _ in cells[:MOST_NAMED])
    more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
    return f"{len(cells)} {what}: {names}{more}."


def describe_news(folder: RunFolder, judgement: Judgement) -> Iterator[Remark]:
    """Yield the worst regressions and drifts that are confirmed, with the figures around them."""
    drifts = {drift.cell: drift for drift in judgement.drifts}
    confirmed = rank_cells(judgement, "confirmed")
    for cell, change in confirmed[:MOST_TOLD]:
        if cell in drifts:
            yield _describe_drift(folder, drifts[cell])
        else:
            yield Remark(_describe_sudden(folder, cell, change))
    if len(confirmed) > MOST_TOLD:
        yield Remark(f"And {len(confirmed) - MOST_TOLD} more.")


def _describe_sudden(folder: RunFolder, cell: Cell, change: Change) -> str:
    now = format_figure(cell.figure, change.value)
    before = format_figure(cell.figure, change.before or 0.0)
    by = format_change(cell.figure, change)
    how = f", confirmed {change.evidence}" if change.evidence else ""
    return f"{name_cell(folder, cell)}: {now}, usually {before} ({by}){how}."


def _describe_drift(folder: RunFolder, drift: Drift) -> Remark:
    figure = drift.cell.figure
    before, after = format_figure(figure, drift.before), format_figure(figure, drift.after)
    by = format_change(figure, Change(drift.after, "confirmed", drift.before))
    return Remark(
        f"{name_cell(folder, drift.cell)} drifted from about {before} to about {after} ({by}) "
        f"since {_name_run(drift.since)}.",
        drift.since.url,
    )


def _name_run(entry: Entry) -> str:
    """Return a run's id, with its day and commit where they are no part of it."""
    run = entry.run
    day = "" if run.started[:10].replace("-", "") in run.run_id else f" of {run.started[:10]}"
    sha = (run.git_sha or "")[:7]
    return clean(f"run {run.run_id}{day}{f', {sha}' if sha and sha not in run.run_id else ''}")
