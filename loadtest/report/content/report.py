"""What every rendering of a run shows."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadtest.compare.judgement import Judgement
from loadtest.report.content.changes import (
    Remark,
    describe_comparisons,
    describe_news,
    list_gone,
    rank_cells,
)
from loadtest.report.content.facts import build_caveats, build_facts
from loadtest.report.content.formatting import NO_DATA
from loadtest.report.content.tables import Sheet, build_legend, build_sheet
from loadtest.report.content.trend import Trend, build_trend
from loadtest.report.content.verdict import Verdict, build_verdict
from loadtest.report.content.wording import clean, flatten
from loadtest.results.history import Entry
from loadtest.results.run import SCENARIOS
from loadtest.results.run_folder import RunFolder


@dataclass(frozen=True)
class Report:
    """Everything a rendering shows; plain text, not yet escaped for any medium.

    `comparison`, `news` (regressions) and `accept_command` exist only for a run that was compared.
    """

    run_id: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...]
    knobs: str
    caveats: tuple[str, ...]
    sheets: tuple[Sheet, ...]
    legend: tuple[str, ...]
    comparison: Remark | None = None
    news: tuple[Remark, ...] = ()
    accept_command: str = ""
    trend: Trend | None = None

    def is_compared(self) -> bool:
        """Return whether any cell says how it changed."""
        return any(cell.change for sheet in self.sheets for row in sheet.rows for cell in row)


def build_report(
    folder: RunFolder,
    judgement: Judgement | None = None,
    earlier: Sequence[Entry] = (),
    *,
    brief: bool = False,
) -> Report:
    """Put a run into words and cells, the same for every medium; in brief, in fewer columns.

    Without a judgement nothing is said of earlier runs; an empty one is that of a first run.
    `earlier` are the runs that it was judged by, oldest first: for the trend.
    """
    run = folder.run
    judged = judgement or Judgement()
    comparison, others = describe_comparisons(folder, judged)
    sheets = []
    for scenario in SCENARIOS:
        sheet = build_sheet(folder, scenario, judged.changes, brief=brief)
        gone = ", ".join(list_gone(folder, judged, scenario))
        lost = f"No longer measured: {gone}." if gone else None
        sheets.append(
            replace(
                sheet,
                remark=" ".join(filter(None, (sheet.remark, lost))) or None,
                comparison=others.get(scenario) if sheet.rows else None,
            )
        )
    run_id = clean(run.run_id)
    command = shlex.join(["inv", "history", "--env", clean(run.environment), "--accept", run_id])
    return Report(
        run_id=run_id,
        verdict=build_verdict(folder, judged),
        facts=tuple((name, clean(value)) for name, value in build_facts(folder)),
        knobs=clean(", ".join(flatten(run.knobs)) or NO_DATA),
        caveats=tuple(build_caveats(folder)),
        sheets=tuple(sheets),
        legend=tuple(build_legend(folder, sheets)),
        comparison=None if judgement is None else comparison,
        news=tuple(describe_news(folder, judged)),
        accept_command=command if rank_cells(judged, "confirmed") else "",
        trend=build_trend(folder, judged, earlier),
    )
