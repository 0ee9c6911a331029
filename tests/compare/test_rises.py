"""What rose within a soak: leaks are found, noise is not."""

import math
import random
from collections.abc import Callable

import pytest

from loadtest.compare.rises import find_rises
from loadtest.report.content.rises import describe_rise
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.intervals import Intervals

INTERVALS, SECONDS = 100, 6.0  # ten minutes
SQL = "mcp_duration{tool:executeSQL}"
At = Callable[[float], float]


def steady(_share: float) -> float:
    return 1.0


def never(_share: float) -> float:
    return 0.0


def draw(rng: random.Random, median: float, count: int) -> Histogram:
    """Return latencies around a median, as servers have them."""
    histogram = Histogram()
    for _ in range(count):
        ms = rng.lognormvariate(math.log(median), 0.5)
        histogram.add(ms, [(math.floor(math.log(ms) / math.log(1.01)), 1)])
    return histogram


def soak(
    seed: int = 1,
    *,
    latency: At = steady,
    refused: At = never,
    streams: At = never,
    failed: At = never,
    control: At = steady,
) -> Intervals:
    """Return a soak; functions of the share of its time say how many times slower it became."""
    rng = random.Random(seed)  # noqa: S311
    intervals = Intervals(SECONDS)
    common = 0.0  # neighbouring intervals are alike
    for number in range(INTERVALS):
        share = number / INTERVALS
        common = 0.7 * common + rng.gauss(0, 0.05)
        slower = latency(share) * math.exp(common)
        part = intervals.parts.setdefault(number, Histograms())
        part.trends[SQL] = draw(rng, 40 * slower, 36)
        part.trends["mcp_duration{tool:runMetric}"] = draw(rng, 60 * slower, 6)
        part.trends["mcp_opening"] = draw(rng, 20 * slower, 10)
        part.trends["mcp_first_dispatch"] = draw(rng, 30 * slower, 10)
        part.trends["mcp_control"] = draw(rng, 5 * control(share) * math.exp(common), 12)
        part.trends["mcp_stream_held"] = draw(rng, 6000, 10)
        part.counts["mcp_open_failures{reason:capacity}"] = round(10 * refused(share))
        part.counts["mcp_stream_failures{reason:capacity}"] = round(10 * streams(share))
        part.counts["mcp_failures{tool:executeSQL,reason:http_500}"] = round(40 * failed(share))
    return intervals


def name(intervals: Intervals) -> list[tuple[str, str]]:
    return [(rise.name, rise.figure) for rise in find_rises(intervals)]


def test_nothing_rises_on_a_sound_server() -> None:
    assert [found for seed in range(60) if (found := name(soak(seed)))] == []


def test_latency_that_grows_is_found_with_its_error() -> None:
    rises = {rise.name: rise for rise in find_rises(soak(latency=lambda share: 1 + share))}
    assert set(rises) == {"executeSQL", "runMetric", "first dispatch"}
    sql = rises["executeSQL"]
    # The p95 is 91 ms at the start, and grows by as much in ten minutes.
    assert (sql.kind, sql.figure, sql.is_explained) == ("tool", "p95", False)
    assert sql.start == pytest.approx(91, rel=0.2)
    assert sql.end == pytest.approx(182, rel=0.2)
    assert abs(sql.per_hour - 6 * 91) < 4 * sql.error
    assert 0 < sql.error < sql.per_hour / 4


def test_a_small_rise_does_not_matter() -> None:
    assert name(soak(latency=lambda share: 1 + 0.1 * share)) == []


def test_latency_that_falls_is_fine() -> None:
    assert name(soak(latency=lambda share: 2 - share)) == []


def test_a_stall_is_not_a_rise() -> None:
    assert name(soak(latency=lambda share: 50.0 if 0.8 < share < 0.9 else 1.0)) == []


@pytest.mark.parametrize("begin", [0.4, 0.7])
@pytest.mark.parametrize(("kind", "what"), [("opening", "openings"), ("stream", "streams")])
def test_what_is_refused_from_some_time_on_is_found(kind: str, what: str, begin: float) -> None:
    full = lambda share: 3.0 if share > begin else 0.0  # noqa: E731
    (rise,) = find_rises(soak(refused=full) if kind == "opening" else soak(streams=full))
    assert (rise.kind, rise.name, rise.figure) == (kind, "all", "refused")
    assert describe_rise(rise).startswith(f"the share of refused {what} rose by ")
    assert rise.per_hour > 4 * rise.error > 0
    assert 0 <= rise.start < rise.end <= 1


def test_calls_that_fail_more_and_more_are_found() -> None:
    (rise,) = find_rises(soak(failed=lambda share: max(0.0, share - 0.3)))
    assert (rise.kind, rise.figure) == ("tool", "failed")


def test_failures_at_a_steady_rate_are_no_rise() -> None:
    assert name(soak(failed=lambda _: 0.1)) == []


def test_the_control_explains_a_rise_if_it_rose_as_well() -> None:
    slower = lambda share: 1 + share  # noqa: E731
    rises = find_rises(soak(latency=slower, control=slower))
    assert {rise.is_explained for rise in rises} == {True}


def test_too_short_a_soak_shows_nothing() -> None:
    intervals = soak(latency=lambda share: 1 + 9 * share)
    short = Intervals(SECONDS, {n: part for n, part in intervals.parts.items() if n < 12})
    assert find_rises(short) == ()
    assert find_rises(Intervals(SECONDS)) == ()
