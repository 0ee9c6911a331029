"""The latency distributions of two runs, one above the other, for a terminal of 80 columns."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from loadtest.report.content.formatting import add_ms, format_ms
from loadtest.report.content.wording import clean, name_scenario
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.intervals import read_intervals
from loadtest.results.run import SCENARIOS

BLOCKS = " ▁▂▃▄▅▆▇█"
COLUMNS = 40
MOST_NAME = 18
# A ladder may have many stages.
MOST_PAIRS = 16
_LATENCIES = ("mcp_duration{tool:", "mcp_duration{frame:first", "mcp_first_dispatch")
_STAGE = "mcp_response{stage:"


def render_distributions(runs_dir: Path, before: str, after: str) -> Iterator[Table]:
    """Yield a table for each scenario of which both runs have intervals on this machine.

    Both lines of a pair have one logarithmic axis. The highest block is the most frequent latency
    of its run.
    """
    for scenario in SCENARIOS:
        earlier, later = (_read(runs_dir, run_id, scenario) for run_id in (before, after))
        if earlier is None or later is None:
            continue
        names = [
            name
            for name in earlier.trends
            if name in later.trends and name.startswith((*_LATENCIES, _STAGE))
        ]
        if names:
            yield _render(scenario, names[:MOST_PAIRS], earlier, later)


def _read(runs_dir: Path, run_id: str, scenario: str) -> Histograms | None:
    """Return what a scenario measured in all; None if it is not on this machine."""
    if run_id != os.path.basename(run_id):  # noqa: PTH119
        return None
    intervals = read_intervals(runs_dir / run_id / scenario)
    return intervals.total() if intervals is not None else None


def _render(scenario: str, names: list[str], earlier: Histograms, later: Histograms) -> Table:
    pairs = [(name, earlier.trends[name], later.trends[name]) for name in sorted(names)]
    both = [histogram for _, *pair in pairs for histogram in pair]
    low = min(histogram.find_least() for histogram in both)
    high = max(low * 1.1, *(histogram.percentiles([0.999])[0] for histogram in both))
    axis = f"{add_ms(format_ms(low))} to {add_ms(format_ms(high))}, logarithmic"
    table = Table("", "", axis, "p50", "p95", box=None, padding=(0, 1, 0, 0))
    table.title = f"Distribution of latency: {name_scenario(scenario)}"
    table.title_justify = "left"
    for column in table.columns[3:]:
        column.justify = "right"
    for name, *pair in pairs:
        for label, histogram in zip(("before", "after"), pair, strict=True):
            shown = _name(name) if label == "before" else ""
            figures = map(format_ms, histogram.percentiles([0.5, 0.95]))
            blocks = draw_blocks(histogram, low, high)
            table.add_row(Text(shown), label, Text(blocks), *figures)
    return table


def draw_blocks(histogram: Histogram, low: float, high: float, columns: int = COLUMNS) -> str:
    """Return a distribution as blocks on a logarithmic axis; a call is never nothing."""
    bins = [0] * columns
    for ms, count in histogram.list_middles():
        place = int(math.log(max(ms, low) / low) / math.log(high / low) * columns)
        bins[min(place, columns - 1)] += count
    most = max(bins)
    return "".join(BLOCKS[math.ceil(count / most * (len(BLOCKS) - 1))] for count in bins)


def _name(series: str) -> str:
    """Return what a series is about, in few columns."""
    name = clean(series.partition(":")[2].removesuffix("}")) or "first dispatch"
    if series.startswith(_STAGE):
        name = f"{name} sessions"
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 1]}…"
