"""A runner's log as it grows, and what keeps a runner from being whole."""

from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import ResultsError
from loadtest.k6.distributed.protocol import RunnerState
from loadtest.k6.distributed.runner_log import RunnerLog, fill_gaps, find_faults, is_kept_elsewhere
from loadtest.k6.snapshots import Snapshots
from loadtest.k6.summary import Summary
from loadtest.results.histogram import Histograms
from tests.k6.distributed.fleet_lines import print_snapshot, wrap
from tests.k6.distributed.fleet_summaries import build_summary, print_summary

SERIES = "mcp_duration{stage:10}"
TEN = {"mcp_duration{stage:10}": {"count": 10}}


def read(count: int) -> Histograms:
    snapshots = Snapshots()
    if count:
        snapshots.read_line(print_snapshot({SERIES: [5.0] * count}))
    return snapshots.whole


def find(
    *runners: tuple[RunnerState, int, Summary | None],
) -> list[str]:
    states, counts, summaries = zip(*runners, strict=True)
    faults = find_faults(states, [read(count) for count in counts], summaries)
    return [fault.describe() for fault in faults]


def ended(number: int) -> RunnerState:
    return RunnerState(number, "ended", exit_code=0)


def test_runners_that_did_their_share_have_no_fault() -> None:
    assert find((ended(1), 10, build_summary(metrics=TEN)), (ended(2), 0, build_summary())) == []


def test_a_runner_is_lost_late_or_partial() -> None:
    gone = RunnerState(2, "lost", reason="OOMKilled")
    assert find(
        (ended(1), 10, build_summary(metrics=TEN)),
        (gone, 3, None),
        (ended(3), 10, build_summary(metrics=TEN, began=7300)),
        (ended(4), 9, build_summary(metrics=TEN)),
        (ended(5), 10, None),
    ) == [
        "runner 2 lost: OOMKilled",
        "runner 3 late: it began 7.3 s after the first",
        "runner 4 partial: 1 of its 10 samples are lost",
        "runner 5 lost: its log has no summary",
    ]


def test_a_runner_can_be_late_and_partial() -> None:
    late = build_summary(metrics=TEN, began=2100)
    words = find((ended(1), 10, build_summary(metrics=TEN)), (ended(2), 0, late))
    assert [word.split(":")[0] for word in words] == ["runner 2 late", "runner 2 partial"]


@pytest.mark.parametrize(
    ("scenario", "expected", "others"),
    [
        (
            "tools",
            ["mcp_duration{tool:look}", "mcp_failures{tool:look,reason:timeout}", "mcp_lost_age"],
            ["mcp_duration", "mcp_failures", "mcp_failures{reason:timeout}", "mcp_open_failures"],
        ),
        (
            "sessions",
            ["mcp_lost_calls{stage:10}", "mcp_open_failures{stage:10,reason:capacity}"],
            ["mcp_lost_at", "mcp_opening", "http_req_duration{stage:10}", "mcp_ended{stage:10}"],
        ),
        (
            "cold-start",
            ["mcp_duration{frame:connect}", "mcp_failures{frame:connect,reason:timeout}"],
            ["mcp_duration", "mcp_sessions_opened"],
        ),
    ],
)
def test_each_sample_is_expected_in_one_series(
    scenario: str, expected: list[str], others: list[str]
) -> None:
    names = (*expected, *others)
    body = build_summary(scenario).model_copy(update={"metrics": {n: {"count": 1} for n in names}})
    [words] = find((ended(1), 0, body))
    assert words == f"runner 1 partial: {len(expected)} of its {len(expected)} samples are lost"


def test_series_that_lack_samples_come_from_the_runners_own_summary() -> None:
    samples = [float(ms) for ms in range(1, 1001)]
    failures = "mcp_failures{stage:10,reason:timeout}"
    trend = {"count": 1000, "min": 1.0, "max": 1000.0, "scale": [100.9, 500.5, 900.1, 990.01]}
    metrics: dict[str, dict[str, Any]] = {
        SERIES: trend,
        failures: {"count": 7},
        "mcp_ended": {"count": 2, "max": 1.0},
    }
    summary = build_summary(metrics=metrics)
    own = summary.loadtest.model_copy(update={"scale": (10, 50, 90, 99)})
    snapshots = Snapshots()
    snapshots.read_line(print_snapshot({SERIES: samples[:400]}, {failures: 2}))
    histograms = snapshots.whole
    fill_gaps(histograms, summary.model_copy(update={"loadtest": own}))
    histogram = histograms.trends[SERIES]
    assert (histogram.count(), histogram.most, histograms.counts) == (1000, 1000.0, {failures: 7})
    assert histogram.percentiles((0.1, 0.25, 0.5, 0.9, 0.99)) == pytest.approx(
        [100.9, 250.75, 500.5, 900.1, 990.01], rel=0.006
    )


def test_histograms_without_gaps_are_not_changed() -> None:
    histograms, before = read(10), read(10)
    fill_gaps(histograms, build_summary(metrics={SERIES: {"count": 10, "max": 9.0, "scale": []}}))
    assert histograms.trends[SERIES].buckets == before.trends[SERIES].buckets


def test_a_growing_log_is_read_by_complete_lines(tmp_path: Path) -> None:
    path = tmp_path / "k6-1.log"
    line, summary = print_snapshot({SERIES: [5.0]}), print_summary(build_summary(metrics=TEN))
    log = RunnerLog(path)
    with path.open("ab", buffering=0) as writer:
        writer.write(line[:50])
        log.read_on()
        assert log.histograms.count(SERIES) == 0
        writer.write(line[50:] + wrap("something else") + summary[:-1])
        log.read_on()
        assert (log.histograms.count(SERIES), log.summary) == (1, None)
        writer.write(b"\n")
        log.read_on()
        log.read_on()
    assert log.histograms.count(SERIES) == 1
    kept = log.parse_summary(tmp_path / "1" / "summary.json", "sessions")
    assert kept == build_summary(metrics=TEN)
    assert (tmp_path / "1" / "summary.json").read_bytes() == summary
    with pytest.raises(ResultsError, match="of scenario sessions"):
        log.parse_summary(tmp_path / "1" / "summary.json", "tools")


def test_a_log_without_a_summary_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "k6-1.log"
    path.write_bytes(b"")
    log = RunnerLog(path)
    log.read_on()
    with pytest.raises(ResultsError, match="log has no summary"):
        log.parse_summary(tmp_path / "summary.json", "sessions")


def test_lines_that_another_file_has_are_not_kept_in_the_log() -> None:
    lines = (
        print_snapshot({SERIES: [1.0]}),
        print_summary(build_summary()),
        wrap("session closed 1"),
        b"x",
    )
    assert [is_kept_elsewhere(line) for line in lines] == [True, True, False, False]
