"""The trend of a figure over the last comparable runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.compare.baselines import find_peers
from loadtest.compare.changes import REGRESSED
from loadtest.compare.comparison import Comparison
from loadtest.compare.knee import find_knee
from loadtest.report.content.changes import rank_cells
from loadtest.report.content.wording import name_cell
from loadtest.results.history import Cell, Entry
from loadtest.results.run_folder import RunFolder

MOST_RUNS = 12
UNITS = {"rate": "calls/s", "failed": "%"}


@dataclass(frozen=True)
class Trend:
    """One figure over some runs, oldest first and this one last; `points` are day and value."""

    title: str
    unit: str
    points: tuple[tuple[str, float], ...]


def build_trend(
    folder: RunFolder, comparison: Comparison, earlier: Sequence[Entry]
) -> Trend | None:
    """Return the trend of the worst regression, else of the run's leading figure."""
    regressed = [cell for cell, _ in rank_cells(comparison, *REGRESSED)]
    cell = regressed[0] if regressed else pick_leading(folder)
    entry = Entry(folder.run, folder.rows)
    peers, *_ = find_peers(entry, earlier, cell.scenario)
    found = [
        (each.run.started[:10], each.figures[cell])
        for each in (*peers, entry)
        if math.isfinite(each.figures.get(cell, math.nan))
    ][-MOST_RUNS:]
    if len(found) < 2:
        return None
    factor = 100 if cell.figure == "failed" else 1
    return Trend(
        title=name_cell(folder, cell),
        unit=UNITS.get(cell.figure, "ms"),
        points=tuple((day, value * factor) for day, value in found),
    )


def pick_leading(folder: RunFolder) -> Cell:
    """Return the p95 that represents the run: that of the knee, else of all tools together."""
    knee = find_knee(folder.run, folder.rows)
    if knee is not None and knee.sustained is not None:
        return Cell("sessions", "stage", knee.sustained.name, "p95")
    return Cell("tools", "tool", "all", "p95")
