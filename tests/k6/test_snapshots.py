"""Histograms that are added up, and the lines that bring them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.k6.snapshots import Snapshots, is_snapshot
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.intervals import Intervals
from tests.bench.raw_samples import take_percentile
from tests.k6.distributed.fleet_lines import list_buckets, print_snapshot, wrap

SHARES = (0.5, 0.9, 0.95, 0.99)
SERIES = "mcp_duration{stage:10}"


def read(*lines: bytes) -> Histograms:
    snapshots = Snapshots()
    for line in lines:
        assert snapshots.read_line(line)
    return snapshots.whole


@given(
    runners=st.lists(
        st.lists(st.floats(0.001, 100_000), min_size=1, max_size=60), min_size=1, max_size=5
    )
)
def test_merged_percentiles_are_within_half_a_percent_of_those_of_all_samples(
    runners: list[list[float]],
) -> None:
    merged = Histograms()
    for samples in runners:
        merged.add(read(print_snapshot({SERIES: samples})))
    whole = [ms for samples in runners for ms in samples]
    found = merged.trends[SERIES].percentiles(SHARES)
    assert merged.count(SERIES) == len(whole)
    assert merged.trends[SERIES].most == max(whole)
    for share, value in zip(SHARES, found, strict=True):
        assert value == pytest.approx(take_percentile(whole, share), rel=0.005)


def test_an_average_of_percentiles_would_be_far_off() -> None:
    chance = random.Random(1)  # noqa: S311
    fast = [chance.lognormvariate(2, 0.2) for _ in range(900)]
    slow = [chance.lognormvariate(5, 0.2) for _ in range(100)]
    histogram = read(print_snapshot({SERIES: fast}), print_snapshot({SERIES: slow}, vu=2)).trends[
        SERIES
    ]
    exact = take_percentile(fast + slow, 0.95)
    averaged = (take_percentile(fast, 0.95) + take_percentile(slow, 0.95)) / 2
    assert histogram.percentiles([0.95])[0] == pytest.approx(exact, rel=0.005)
    assert abs(averaged / exact - 1) > 0.3


def test_durations_of_zero_are_valid() -> None:
    histogram = read(print_snapshot({SERIES: [0.0, 0.0, 4.0]})).trends[SERIES]
    assert histogram.percentiles([0.5])[0] == pytest.approx(0.001, rel=0.01)
    assert histogram.percentiles([1.0]) == [pytest.approx(4.0, rel=0.005)]


def test_no_percentile_exceeds_the_longest_duration() -> None:
    histogram = Histogram()
    histogram.add(100.0, [(462, 1), (463, 1)])
    assert histogram.percentiles([1.0]) == [100.0]


def test_the_order_of_runners_does_not_matter() -> None:
    parts = [
        read(print_snapshot({SERIES: [ms, ms * 3]}, {"mcp_failures": 1})) for ms in (1.0, 7.0, 80.0)
    ]
    one, other = Histograms(), Histograms()
    for part in parts:
        one.add(part)
    for part in reversed(parts):
        other.add(part)
    assert one.trends[SERIES].buckets == other.trends[SERIES].buckets
    assert one.counts == other.counts == {"mcp_failures": 3}


def test_a_line_that_is_read_twice_counts_once() -> None:
    lines = [
        print_snapshot({SERIES: [5.0]}, {"mcp_failures": 2}, serial=serial) for serial in (1, 2)
    ]
    histograms = read(*lines, *lines, print_snapshot({SERIES: [6.0]}, vu=2))
    assert histograms.count(SERIES) == 3
    assert histograms.count("mcp_failures") == 4
    assert histograms.count("mcp_response") == 0


@pytest.mark.parametrize(
    "body",
    [
        "nonsense",
        '{"vu": 1, "serial": 1}',
        '{"vu": 1, "serial": 1, "trends": {"a": []}, "counts": {}}',
        '{"vu": 1, "serial": 1, "trends": {"a": [5.0, 3]}, "counts": {}}',
        '{"vu": 1, "serial": 1, "trends": {"a": [5.0, 3, 0]}, "counts": {}}',
        '{"vu": 1, "serial": 1, "trends": {"a": [5.0, 3, -2]}, "counts": {}}',
        '{"vu": 1, "serial": 1, "trends": {}, "counts": {"a": -1}}',
        '{"vu": 1, "serial": 1, "interval": -1, "trends": {}, "counts": {"a": 1}}',
        '{"vu": 1, "serial": 1, "interval": 1e9, "trends": {}, "counts": {"a": 1}}',
    ],
)
def test_a_damaged_snapshot_does_not_count(body: str) -> None:
    histograms = read(wrap(f"histograms {body}"))
    assert (histograms.trends, histograms.counts) == ({}, {})


def test_the_intervals_add_up_to_the_whole() -> None:
    snapshots = Snapshots()
    for serial, (interval, ms) in enumerate([(0, 5.0), (0, 6.0), (7, 50.0)], 1):
        counts = {"mcp_failures": 1}
        snapshots.read_line(
            print_snapshot({SERIES: [ms]}, counts, serial=serial, interval=interval)
        )
    assert {number: part.count(SERIES) for number, part in snapshots.intervals.items()} == {
        0: 2,
        7: 1,
    }
    whole = Intervals(1.0, snapshots.intervals).total()
    assert whole.trends[SERIES].export() == snapshots.whole.trends[SERIES].export()
    assert whole.counts == snapshots.whole.counts == {"mcp_failures": 3}


def test_other_lines_are_not_snapshots() -> None:
    whole = print_snapshot({SERIES: [1.0]})
    others = (
        b"histograms",
        wrap("session opened 1 0 2025-11-25"),
        whole[:40],
        b'{"loadtest":{}}\n',
    )
    assert [is_snapshot(line) for line in (whole, *others)] == [True, *[False] * 4]


def test_a_series_can_have_the_name_of_any_tool() -> None:
    series = 'mcp_duration{tool:größe "\\a"}'
    assert read(print_snapshot({series: [2.0]})).count(series) == 1
    assert list_buckets([2.0])[1:] == [69, 1]
