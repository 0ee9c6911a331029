"""What every rendering of a run shows."""

from dataclasses import dataclass

from loadtest.report.facts import build_caveats, build_facts
from loadtest.report.figures import NO_DATA
from loadtest.report.sheets import Sheet, build_legend, build_sheet
from loadtest.report.verdict import Verdict, build_verdict
from loadtest.report.words import clean, flatten
from loadtest.results import SCENARIOS, RunFolder


@dataclass(frozen=True)
class Report:
    """Everything a rendering shows; plain text, not yet escaped for any medium."""

    run_id: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...]
    knobs: str
    caveats: tuple[str, ...]
    sheets: tuple[Sheet, ...]
    legend: tuple[str, ...]


def build_report(folder: RunFolder) -> Report:
    """Put a run into words and cells, the same for every medium."""
    run = folder.run
    sheets = tuple(build_sheet(folder, scenario) for scenario in SCENARIOS)
    return Report(
        run_id=clean(run.run_id),
        verdict=build_verdict(folder),
        facts=tuple((name, clean(value)) for name, value in build_facts(folder)),
        knobs=clean(", ".join(flatten(run.knobs)) or NO_DATA),
        caveats=tuple(build_caveats(folder)),
        sheets=sheets,
        legend=tuple(build_legend(sheets)),
    )
