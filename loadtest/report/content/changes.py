"""Describe the comparison of a run with earlier runs."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.compare.comparison import Baseline, Comparison
from loadtest.report.content.formatting import WORSE
from loadtest.report.content.wording import clean, name_cell
from loadtest.results.history import CONTROL, Cell, Entry
from loadtest.results.run import ASIDE, Run
from loadtest.results.run_folder import RunFolder

FIRST_RUN = "First run: there is nothing to compare it with."
GITHUB = "https://github.com"
MOST_NAMED = 3
SHA = re.compile(r"[0-9a-f]{7,64}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class ReportLine:
    """A line about an earlier run; `url` is the report of that run."""

    text: str
    url: str | None = None


def describe_baselines(
    folder: RunFolder, comparison: Comparison
) -> tuple[ReportLine, dict[str, ReportLine]]:
    """Return the line about the last good run, and by name those of scenarios with another one."""
    lines = {each.scenario: _describe(folder.run, each) for each in comparison.baselines}
    if not lines:
        return ReportLine(FIRST_RUN), {}
    previous = find_previous(comparison)
    compared = [lines[each.scenario] for each in comparison.baselines if each.previous == previous]
    usual = Counter(compared).most_common(1)[0][0]
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


def describe_worse(folder: RunFolder, comparison: Comparison) -> Iterator[str]:
    """Yield one sentence that counts the figures that are bold but within the usual spread."""
    found = [item for item in comparison.changes.items() if item[1].status == "worse"]
    found.sort(key=lambda item: (-(item[1].ratio or math.inf), item[0]))
    cells = [cell for cell, _ in found if cell.kind != CONTROL]
    are = "figure is" if len(cells) == 1 else "figures are"
    what = f"{are} over {WORSE} worse than in the last good run, within the usual spread"
    yield from _count(folder, cells, what)


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


def find_previous(comparison: Comparison) -> Entry | None:
    """Return the last good run: what the worst finding is compared with, else most scenarios."""
    entries = {each.scenario: each.previous for each in comparison.baselines if each.previous}
    for finding in comparison.findings:
        if finding.lead.scenario in entries:
            return entries[finding.lead.scenario]
    names = Counter(entry.run.run_id for entry in entries.values()).most_common(1)
    return next((each for each in entries.values() if each.run.run_id == names[0][0]), None)


def build_commits_url(before: Run, after: Run, repository_url: str | None) -> str | None:
    """Return the address of the commits between two runs: the target's, else our own."""
    repository = after.target.repository or ""
    target = f"{GITHUB}/{repository}" if _REPOSITORY.fullmatch(repository) else None
    for place, old, new in (
        (target, before.target.commit, after.target.commit),
        (repository_url, before.git_sha, after.git_sha),
    ):
        if place and old and new and SHA.fullmatch(old) and SHA.fullmatch(new):
            return f"{place}/compare/{old}...{new}" if old != new else None
    return None


def _name_run(entry: Entry) -> str:
    """Return a run's id, with its day and commit unless the id contains them."""
    run = entry.run
    day = "" if run.started[:10].replace("-", "") in run.run_id else run.started[:10]
    sha = (run.git_sha or "")[:7]
    facts = ", ".join(filter(None, (day, sha if sha not in run.run_id else "")))
    return clean(f"run {run.run_id}{f' ({facts})' if facts else ''}")
