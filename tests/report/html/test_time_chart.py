"""Charts over time: what they show, and that they stay small however long a run was."""

import re
from pathlib import Path

import pytest

from loadtest.compare.comparison import Comparison
from loadtest.report.html.page import render_page
from loadtest.report.html.time_chart import MOST_COLUMNS, build_time_chart
from loadtest.report.html.vega import Chart
from loadtest.results.histogram import Histograms
from loadtest.results.intervals import Intervals, write_intervals
from tests.report.html.timed_runs import STALL, build_intervals, timed
from tests.report.report_runs import TOOLS, folder

SQL = "mcp_duration{tool:executeSQL}"


def build(intervals: Intervals, scenario: str = "tools") -> Chart:
    chart = build_time_chart(scenario, intervals)
    assert chart is not None
    return chart


def count(chart: Chart, color: str) -> int:
    """Return how many marks a chart has in a colour."""
    return len(re.findall(rf'<path [^>]*fill="var\(--{color}\)"', chart.picture.body))


def test_a_chart_says_what_failed_what_was_refused_and_which_bearers_were_renewed() -> None:
    chart = build(build_intervals({SQL: 40.0}))
    assert "Marks above: 27 failed, 435 refused, 12 bearers renewed." in chart.description
    # Each column has two intervals.
    assert (count(chart, "bad"), count(chart, "warning"), count(chart, "quiet")) == (5, 15, 3)


def test_a_stall_is_a_tall_column_and_then_a_gap() -> None:
    chart = build(build_intervals({SQL: 40.0}))
    assert "Shaded: none was sent." in chart.description
    assert count(chart, "shade") == len(STALL) // 2 - 1
    slowest = max(row[4].text for row in chart.data.rows if row[4].text.endswith("s"))
    assert float(slowest.removesuffix("s")) > 10


def test_nothing_is_marked_in_a_run_without_trouble() -> None:
    parts = build_intervals({SQL: 40.0}).parts
    chart = build(Intervals(1.0, {number: parts[number] for number in range(10)}))
    assert "Marks" not in chart.description
    assert "Shaded" not in chart.description
    assert [row[0].text for row in chart.data.rows] == [str(second) for second in range(10)]


def test_a_ladder_is_counted_from_when_calls_were_due_and_names_its_stages() -> None:
    series = {f"mcp_{what}{{stage:{n}}}": 40.0 for n in (1, 50) for what in ("response",)}
    chart = build(build_intervals(series, stages=2), "sessions")
    assert "from when they were due" in chart.description
    assert {"1", "50"} <= set(re.findall(r">(\d+)</text>", chart.picture.body))


def test_a_scenario_without_intervals_has_no_chart() -> None:
    assert build_time_chart("tools", None) is None
    assert build_time_chart("tools", Intervals(1.0)) is None
    assert build_time_chart("tools", Intervals(1.0, {0: Histograms(), 5: Histograms()})) is None


def test_the_page_of_an_old_run_has_its_percentiles_only() -> None:
    page = render_page(folder(TOOLS), Comparison())
    assert "Latency over time" not in page
    assert "Hill" not in page


@pytest.mark.parametrize("count", [100, 4000])
def test_a_page_stays_small_however_many_intervals_a_run_has(tmp_path: Path, count: int) -> None:
    run = timed(tmp_path)
    series = {f"mcp_duration{{tool:t{n}}}": 10.0 * 2**n for n in range(8)}
    write_intervals(run.scenario_dir("tools"), build_intervals(series, count=count))
    page = render_page(run, Comparison())
    assert len(page) < 900_000
    chart = build(build_intervals(series, count=count))
    assert len(chart.data.rows) <= MOST_COLUMNS
