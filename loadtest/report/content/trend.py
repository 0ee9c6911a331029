"""A figure over the last comparable runs, or over the stages of a ladder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.compare.baselines import find_peers
from loadtest.compare.comparison import Comparison
from loadtest.compare.knee import find_knee, pick_stages
from loadtest.report.content.tables import MOST_STAGES
from loadtest.report.content.wording import name_cell, name_unit
from loadtest.results.history import Cell, Entry, find_capacity_cell, pick_latency
from loadtest.results.run_folder import RunFolder

MOST_RUNS = 12
UNITS = {"rate": "calls/s", "failed": "%"}


@dataclass(frozen=True)
class Trend:
    """One figure over some runs, oldest first and this one last, or over stages.

    `points` are a place, such as a day, and a value.
    """

    title: str
    unit: str
    points: tuple[tuple[str, float], ...]


def build_trend(
    folder: RunFolder, comparison: Comparison, earlier: Sequence[Entry]
) -> Trend | None:
    """Return the trend of the worst finding, else of the run's leading figure."""
    findings = comparison.findings
    cell = findings[0].lead if findings else pick_leading(folder)
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


def build_ladder_trend(folder: RunFolder) -> Trend | None:
    """Return the p95 of some of the stages of a ladder that has too many for a table."""
    stages = [
        (stage.name, latency.p95)
        for stage in pick_stages(folder.rows)
        if (latency := pick_latency(stage))
    ]
    if len(stages) <= MOST_STAGES:
        return None
    places = {round(place * (len(stages) - 1) / (MOST_RUNS - 1)) for place in range(MOST_RUNS)}
    points = tuple(stages[place] for place in sorted(places))
    return Trend(f"p95 by {name_unit(folder)}s", "ms", points)


def pick_leading(folder: RunFolder) -> Cell:
    """Return the figure that represents the run.

    That is the capacity that was searched for, the p95 of the knee, or that of all tools together.
    """
    if (capacity := find_capacity_cell(folder.run)) is not None:
        return capacity
    knee = find_knee(folder.run, folder.rows)
    if knee is not None and knee.sustained is not None:
        return Cell("sessions", "stage", knee.sustained.name, "p95")
    return Cell("tools", "tool", "all", "p95")
