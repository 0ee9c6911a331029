"""The report of a run, the same for every rendering."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from loadtest.compare.changes import REGRESSED
from loadtest.compare.comparison import Comparison
from loadtest.compare.objectives import judge_objectives
from loadtest.config.models import USUAL_SCENARIOS
from loadtest.report.content.changes import (
    FIRST_RUN,
    ReportLine,
    build_commits_url,
    describe_baselines,
    find_previous,
    list_gone,
)
from loadtest.report.content.facts import build_caveats, build_facts
from loadtest.report.content.findings import build_findings, list_compared, list_counts
from loadtest.report.content.formatting import NO_DATA
from loadtest.report.content.objectives import build_objectives
from loadtest.report.content.replies import build_replies
from loadtest.report.content.slowest import build_slowest
from loadtest.report.content.tables import ReportTable, build_legend, build_table
from loadtest.report.content.trend import Trend, build_ladder_trend, build_trend
from loadtest.report.content.verdict import Verdict, build_verdict
from loadtest.report.content.wording import clean, flatten
from loadtest.results.history import Entry
from loadtest.results.run import SCENARIOS
from loadtest.results.run_folder import RunFolder

# A report names these scenarios even if they were not part of a run.
ALWAYS = ("cold-start", "sessions", "tools")


@dataclass(frozen=True)
class Report:
    """Everything a rendering shows; plain text, not yet escaped for any medium.

    Only a run that was compared has `compared_with`, `findings` and `accept_command`. `versions`
    are the last good run's version of the server and this one's, if they differ; `commits_url` is
    what was changed between them. `ladder` is a chart of a ladder that is shown as ranges.
    """

    run_id: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...]
    knobs: str
    caveats: tuple[str, ...]
    tables: tuple[ReportTable, ...]
    legend: tuple[str, ...]
    compared_with: ReportLine | None = None
    findings: ReportTable | None = None
    objectives: ReportTable | None = None
    versions: tuple[str, str] | None = None
    commits_url: str | None = None
    accept_command: str = ""
    trend: Trend | None = None
    ladder: Trend | None = None
    replies: ReportTable | None = None
    slowest: ReportTable | None = None

    def is_compared(self) -> bool:
        """Return whether any cell has a change."""
        return any(cell.change for table in self.tables for row in table.rows for cell in row)

    def has_regressed(self) -> bool:
        """Return whether something is worse, confirmed or not, accepted or not."""
        rows = self.findings.rows if self.findings else ()
        return any(row[0].status in REGRESSED for row in rows)


def build_report(
    folder: RunFolder,
    comparison: Comparison | None = None,
    earlier: Sequence[Entry] = (),
    *,
    brief: bool = False,
    repository_url: str | None = None,
) -> Report:
    """Build the report of a run, the same for every medium; a brief one has fewer columns.

    Without a comparison the report does not mention earlier runs; an empty one means a first run.
    `earlier` are the runs that it was compared with, oldest first; the trend needs them.
    `repository_url` is where our own commits are.
    """
    run = folder.run
    known = comparison or Comparison()
    compared_with, _ = describe_baselines(folder, known)
    tables = tuple(_build_tables(folder, known, brief=brief))
    run_id = clean(run.run_id)
    command = shlex.join(["inv", "history", "--env", clean(run.environment), "--accept", run_id])
    previous = find_previous(known)
    versions = None
    if previous is not None:
        before, after = previous.run.target.server_version, run.target.server_version
        versions = (clean(before), clean(after)) if before and after and before != after else None
    is_confirmed = any(finding.status == "confirmed" for finding in known.findings)
    return Report(
        run_id=run_id,
        verdict=build_verdict(folder, comparison),
        facts=tuple((name, clean(value)) for name, value in build_facts(folder, known)),
        knobs=clean(", ".join(flatten(run.knobs)) or NO_DATA),
        caveats=tuple(build_caveats(folder, known)),
        tables=tables,
        legend=tuple(build_legend(folder, tables)),
        # The headline of a first run says so.
        compared_with=None if compared_with.text == FIRST_RUN else compared_with,
        findings=build_findings(folder, known, earlier, repository_url),
        objectives=build_objectives(folder, judge_objectives(Entry(run, folder.rows))),
        versions=versions,
        commits_url=build_commits_url(previous.run, run, repository_url) if previous else None,
        accept_command=command if is_confirmed else "",
        trend=build_trend(folder, known, earlier),
        ladder=build_ladder_trend(folder) if brief else None,
        replies=build_replies(folder, known),
        slowest=build_slowest(folder),
    )


def list_scenarios(folder: RunFolder) -> tuple[str, ...]:
    """Return the scenarios that a report shows: those of the run; the usual ones all or none."""
    ran = {result.name for result in folder.run.scenarios} | {row.scenario for row in folder.rows}
    shown = ran if ran and ran.isdisjoint(USUAL_SCENARIOS) else ran | set(USUAL_SCENARIOS)
    return tuple(name for name in SCENARIOS if name in shown)


def _build_tables(
    folder: RunFolder, comparison: Comparison, *, brief: bool
) -> Iterator[ReportTable]:
    """Yield the scenarios; in a brief report, those in which something moved come first."""
    _, others = describe_baselines(folder, comparison)
    found = []
    for scenario in list_scenarios(folder):
        table = build_table(folder, scenario, comparison, brief=brief)
        gone = ", ".join(list_gone(folder, comparison, scenario))
        lost = f"No longer measured: {gone}." if gone else None
        findings = [
            finding
            for finding in comparison.findings
            if any(cell.scenario == scenario for cell in finding.cells)
        ]
        unchanged = "unchanged" if list_compared(comparison, scenario) else ""
        reasons = [each.reason for each in comparison.baselines if each.scenario == scenario]
        if table.rows and any(reason not in {None, "first run"} for reason in reasons):
            unchanged = "not comparable"
        table = replace(
            table,
            note=" ".join(filter(None, (table.note, lost))) or None,
            compared_with=others.get(scenario) if table.rows else None,
            news=", ".join(list_counts(findings)) or unchanged,
        )
        rank = min(map(comparison.findings.index, findings), default=len(comparison.findings))
        found.append((rank if brief else 0, table))
    yield from (table for _, table in sorted(found, key=lambda item: item[0]))
