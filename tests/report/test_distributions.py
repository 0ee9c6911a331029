"""Two distributions in a terminal: on one axis, in 80 columns, only of runs that are here."""

import io
import random
from pathlib import Path

from rich.cells import cell_len

from loadtest.common.console import Console
from loadtest.report.distributions import draw_blocks, render_distributions
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.intervals import Intervals, write_intervals
from tests.report.html.timed_runs import draw

SERIES = {"mcp_duration{tool:executeSQL}": 40.0, "mcp_duration{tool:a_tool_with_a_long_name}": 80.0}


def write(runs_dir: Path, run_id: str, factor: float) -> None:
    rng = random.Random(run_id)  # noqa: S311
    part = Histograms()
    for name, median in SERIES.items():
        part.trends[name] = draw(rng, median * factor, 300)
    part.trends["mcp_reply_bytes{tool:executeSQL}"] = draw(rng, 900, 30)
    folder = runs_dir / run_id / "tools"
    folder.mkdir(parents=True)
    write_intervals(folder, Intervals(1.0, {0: part}))


def show(runs_dir: Path, *ids: str) -> list[str]:
    file = io.StringIO()
    for table in render_distributions(runs_dir, *ids):
        Console(file=file, width=80).print(table)
    return file.getvalue().splitlines()


def test_two_runs_lie_above_each_other_on_one_axis(tmp_path: Path) -> None:
    write(tmp_path, "a", 1)
    write(tmp_path, "b", 3)
    lines = show(tmp_path, "a", "b")
    assert max(map(cell_len, lines)) <= 80
    assert lines[0].startswith("Distribution of latency: tool-call mix")
    named = [line for line in lines if "before" in line or "after" in line]
    assert [line[:18].strip() for line in named] == ["a_tool_with_a_lon…", "", "executeSQL", ""]
    before, after = (line.index("█") for line in named[2:])
    assert after > before + 5


def test_a_run_that_is_elsewhere_has_no_distribution(tmp_path: Path) -> None:
    write(tmp_path / "runs", "a", 1)
    assert show(tmp_path / "runs", "a", "missing") == []
    write(tmp_path, "b", 1)
    assert show(tmp_path / "runs", "a", "../b") == []


def test_a_single_call_is_seen_beside_a_thousand() -> None:
    histogram = Histogram()
    histogram.add(100.0, [(231, 1000), (462, 1)])
    blocks = draw_blocks(histogram, 9.9, 101.0, 10)
    assert (blocks[0], blocks[-1], blocks[1:-1].strip()) == ("█", "▁", "")
