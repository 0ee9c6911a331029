"""A run with intervals, for its charts: a stall, failures, refusals and renewed bearers."""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.intervals import Intervals, write_intervals
from loadtest.results.run import Row, ScenarioResult
from loadtest.results.run_folder import RunFolder
from tests.report.report_runs import COLD_START, LADDER, TOOLS, folder, row

SOAK = (
    row("soak", "tool", "executeSQL", 36000, 60.0),
    row("soak", "frame", "first dispatch", 1200, 40.0),
    row("soak", "tool", "all", 36000, 60.0),
)
ROWS: tuple[tuple[Row, ...], ...] = (COLD_START, LADDER, TOOLS, SOAK)
STALL = range(40, 46)


def draw(rng: random.Random, median: float, count: int) -> Histogram:
    """Return latencies; a tenth are of a slower kind, as with a cache that misses."""
    histogram = Histogram()
    for _ in range(count):
        slow = 4 if rng.random() < 0.1 else 1
        ms = rng.lognormvariate(math.log(median * slow), 0.25)
        histogram.add(ms, [(math.floor(math.log(ms) / math.log(1.01)), 1)])
    return histogram


def build_intervals(
    series: Mapping[str, float], *, seconds: float = 1.0, count: int = 100, stages: int = 0
) -> Intervals:
    """Return intervals of series with these medians in ms; a ladder's stages follow each other."""
    rng = random.Random(7)  # noqa: S311
    intervals = Intervals(seconds)
    names = list(series)
    for number in range(count):
        if number in STALL and number != STALL[0]:
            continue
        part = intervals.parts.setdefault(number, Histograms())
        shown = names if not stages else [names[number * stages // count]]
        for name in shown:
            slower = 60.0 if number == STALL[0] else 1 + number / count
            part.trends[name] = draw(rng, series[name] * slower, 40)
        if number > 70:
            part.counts["mcp_open_failures{reason:capacity}"] = number - 70
        if 10 < number < 20:
            part.counts["mcp_failures{tool:executeSQL,reason:http_500}"] = 3
        if number in {30, 60, 90}:
            part.counts["mcp_renewals"] = 4
    return intervals


def timed(path: Path) -> RunFolder:
    """Return a run of all scenarios with the intervals of each in a folder."""
    rows = tuple(each for rows in ROWS for each in rows)
    made = folder(COLD_START, LADDER, TOOLS, SOAK)
    stages = [each.name for each in LADDER if each.kind == "stage"]
    medians = {each.name: each.duration.p50 for each in rows if each.duration}
    shown: dict[str, Intervals] = {
        "cold-start": build_intervals(
            {f"mcp_duration{{frame:{each.name}}}": medians[each.name] for each in COLD_START}
        ),
        "sessions": build_intervals(
            {f"mcp_response{{stage:{name}}}": medians[name] for name in stages},
            stages=len(stages),
            seconds=3.0,
        ),
        "tools": build_intervals(
            {
                f"mcp_duration{{tool:{each.name}}}": medians[each.name]
                for each in TOOLS
                if each.name != "all"
            }
        ),
        "soak": build_intervals(
            {"mcp_duration{tool:executeSQL}": 60.0, "mcp_first_dispatch": 40.0}, seconds=72.0
        ),
    }
    for scenario, intervals in shown.items():
        scenario_dir = path / scenario
        scenario_dir.mkdir(parents=True, exist_ok=True)
        write_intervals(scenario_dir, intervals)
    results = tuple(ScenarioResult(name, "ok", 0) for name in shown)
    return replace(made, path=path, run=replace(made.run, scenarios=results))
