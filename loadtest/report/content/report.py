"""The report of a run, the same for every rendering."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadtest.compare.comparison import Comparison
from loadtest.report.content.changes import (
    ReportLine,
    describe_baselines,
    describe_regressed_figures,
    list_gone,
    rank_cells,
)
from loadtest.report.content.facts import build_caveats, build_facts
from loadtest.report.content.formatting import NO_DATA
from loadtest.report.content.replies import build_replies
from loadtest.report.content.tables import ReportTable, build_legend, build_table
from loadtest.report.content.trend import Trend, build_trend
from loadtest.report.content.verdict import Verdict, build_verdict
from loadtest.report.content.wording import clean, flatten
from loadtest.results.history import Entry
from loadtest.results.run import SCENARIOS
from loadtest.results.run_folder import RunFolder


@dataclass(frozen=True)
class Report:
    """Everything a rendering shows; plain text, not yet escaped for any medium.

    Only a run that was compared has `compared_with`, `regressions` and `accept_command`.
    """

    run_id: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...]
    knobs: str
    caveats: tuple[str, ...]
    tables: tuple[ReportTable, ...]
    legend: tuple[str, ...]
    compared_with: ReportLine | None = None
    regressions: tuple[ReportLine, ...] = ()
    accept_command: str = ""
    trend: Trend | None = None
    replies: ReportTable | None = None

    def is_compared(self) -> bool:
        """Return whether any cell has a change."""
        return any(cell.change for table in self.tables for row in table.rows for cell in row)


def build_report(
    folder: RunFolder,
    comparison: Comparison | None = None,
    earlier: Sequence[Entry] = (),
    *,
    brief: bool = False,
) -> Report:
    """Build the report of a run, the same for every medium; a brief one has fewer columns.

    Without a comparison the report does not mention earlier runs; an empty one means a first run.
    `earlier` are the runs that it was compared with, oldest first; the trend needs them.
    """
    run = folder.run
    known = comparison or Comparison()
    compared_with, others = describe_baselines(folder, known)
    tables = []
    for scenario in SCENARIOS:
        table = build_table(folder, scenario, known.changes, brief=brief)
        gone = ", ".join(list_gone(folder, known, scenario))
        lost = f"No longer measured: {gone}." if gone else None
        tables.append(
            replace(
                table,
                note=" ".join(filter(None, (table.note, lost))) or None,
                compared_with=others.get(scenario) if table.rows else None,
            )
        )
    run_id = clean(run.run_id)
    command = shlex.join(["inv", "history", "--env", clean(run.environment), "--accept", run_id])
    return Report(
        run_id=run_id,
        verdict=build_verdict(folder, known),
        facts=tuple((name, clean(value)) for name, value in build_facts(folder)),
        knobs=clean(", ".join(flatten(run.knobs)) or NO_DATA),
        caveats=tuple(build_caveats(folder)),
        tables=tuple(tables),
        legend=tuple(build_legend(folder, tables)),
        compared_with=None if comparison is None else compared_with,
        regressions=tuple(describe_regressed_figures(folder, known)),
        accept_command=command if rank_cells(known, "confirmed") else "",
        trend=build_trend(folder, known, earlier),
        replies=build_replies(folder, known),
    )
