"""The figures of runners, summed up as if one k6 had seen them all."""

from typing import Any

import pytest

from loadtest.k6.distributed.merge import merge
from loadtest.k6.snapshots import Snapshots
from loadtest.k6.summary import build_rows, find_crossed
from loadtest.results.histogram import Histograms
from loadtest.results.run import Percentiles
from tests.k6.distributed.fleet_lines import print_snapshot
from tests.k6.distributed.fleet_summaries import build_summary


def read(*lines: bytes) -> Histograms:
    snapshots = Snapshots()
    for line in lines:
        snapshots.read_line(line)
    return snapshots.whole


def test_the_rows_of_a_mix_add_up_to_the_row_of_all() -> None:
    histograms = read(
        print_snapshot({"mcp_duration{tool:look}": [10.0] * 4, "mcp_opening": [3.0]}, vu=1),
        print_snapshot(
            {"mcp_duration{tool:find}": [20.0] * 2},
            {"mcp_failures{tool:find,reason:timeout}": 3},
            vu=2,
        ),
        print_snapshot({}, {"mcp_open_failures{reason:capacity}": 5}, vu=3),
    )
    summaries = [build_summary("tools", {"mcp_failed": {"rate": 0.0}}) for _ in range(2)]
    rows = {(row.kind, row.name): row for row in build_rows(merge(summaries, histograms, 0.01))}
    assert (rows["tool", "look"].ok, rows["tool", "look"].failures) == (4, {})
    assert (rows["tool", "find"].ok, rows["tool", "find"].failures) == (2, {"timeout": 3})
    assert (rows["tool", "all"].count, rows["tool", "all"].failures) == (9, {"timeout": 3})
    assert rows["tool", "all"].duration is not None
    assert rows["tool", "all"].duration.max == 20.0
    assert rows["opening", "all"].failures == {"capacity": 5}
    assert rows["opening", "all"].ok == 1


@pytest.mark.parametrize(("scenario", "selector"), [("sessions", "{stage:10}"), ("tools", "")])
def test_the_lives_of_lost_sessions_are_those_of_all_runners(scenario: str, selector: str) -> None:
    def lose(calls: list[float], ages_ms: list[float], at_ms: list[float], vu: int) -> bytes:
        samples = {"mcp_lost_calls": calls, "mcp_lost_age": ages_ms, "mcp_lost_at": at_ms}
        return print_snapshot({name + selector: found for name, found in samples.items()}, vu=vu)

    histograms = read(
        lose([0, 3, 3], [1000.0, 3000.0, 4000.0], [1500.0, 3500.0, 4500.0], 1),
        lose([2, 9], [2000.0, 9000.0], [2500.0, 9500.0], 2),
    )
    rows = build_rows(merge([build_summary(scenario)] * 2, histograms, 0.01))
    (lost,) = [row.lost for row in rows if row.lost is not None]
    assert lost.count == 5
    assert (lost.calls, lost.least_calls) == pytest.approx((3, 0), rel=0.01, abs=0.01)
    assert lost.ages_seconds == pytest.approx((1, 9), rel=0.01)
    assert lost.moments_seconds == pytest.approx((1.5, 9.5), rel=0.01)


def test_the_control_is_that_of_the_runner_that_asked() -> None:
    values = {"p(50)": 2.0, "p(90)": 3.0, "p(95)": 4.0, "p(99)": 5.0, "max": 6.0, "count": 7}
    asked: dict[str, dict[str, Any]] = {
        "mcp_control": values,
        "mcp_control_connect": {**values, "count": 8},
        "mcp_control_failures{reason:http_404}": {"count": 1},
        "http_reqs{rpc:control}": {"count": 8},
    }
    none: dict[str, dict[str, Any]] = {"http_reqs{rpc:control}": {"count": 0}}
    summaries = [build_summary("tools", metrics) for metrics in (none, asked, none)]
    rows = {(row.kind, row.name): row for row in build_rows(merge(summaries, read(), 0.01))}
    document, connect = rows["control", "document"], rows["control", "connect"]
    assert (document.count, document.ok, document.failures) == (8, 7, {"http_404": 1})
    assert document.duration == connect.duration == Percentiles(2, 3, 4, 5, 6)
    assert (connect.count, connect.failures) == (8, {})


def test_a_threshold_applies_to_all_runners_together() -> None:
    histograms = read(
        print_snapshot(
            {"mcp_duration{stage:10}": [5.0] * 990, "mcp_opening{stage:10}": [1.0] * 10}
        ),
        print_snapshot({}, {"mcp_failures{stage:10,reason:timeout}": 5}, vu=2),
        print_snapshot({}, {"mcp_open_failures{stage:10,reason:capacity}": 500}, vu=3),
    )
    crossed = {"mcp_failed{stage:10}": {"rate": 1.0, "thresholds": {"rate<=0.01": True}}}
    whole = merge([build_summary(metrics=crossed), build_summary()], histograms, 0.01)
    assert find_crossed(whole) == ()
    assert whole.metrics["mcp_failed{stage:10}"]["passes"] == 5
    assert whole.metrics["mcp_failed{stage:10}"]["fails"] == 1000
    strict = merge([build_summary(metrics=crossed)], histograms, 0.001)
    assert find_crossed(strict) == ("mcp_failed{stage:10}: rate<=0.001",)


def test_the_scenario_lasts_as_long_as_its_longest_runner() -> None:
    summaries = [
        build_summary("cold-start", {"mcp_ended": {"count": 3, "max": 4000.0}}, began=900),
        build_summary("cold-start", {"mcp_ended": {"count": 4, "max": 6000.0}}, elapsed_ms=12_000),
    ]
    histograms = read(print_snapshot({"mcp_duration{frame:connect}": [1.0] * 7}))
    whole = merge(summaries, histograms, 0.01)
    assert (whole.loadtest.began, whole.loadtest.elapsed_ms) == (1_000_000.0, 12_000)
    [connect, *_] = build_rows(whole)
    assert (connect.name, connect.count, connect.seconds) == ("connect", 7, 6.0)
    assert connect.achieved_rate == pytest.approx(7 / 6)


def test_sessions_opened_and_closed_are_added_up() -> None:
    counts = {"mcp_sessions_opened{stage:10}": {"count": 5}, "mcp_sessions_closed": {"count": 4}}
    whole = merge(
        [build_summary(metrics=counts), build_summary(metrics=counts)], Histograms(), 0.01
    )
    assert whole.count("mcp_sessions_opened{stage:10}") == 10
    assert whole.count("mcp_sessions_closed") == 8


def test_the_rates_of_stages_are_those_of_a_runner_that_knows_how_long_a_round_takes() -> None:
    knows = build_summary()
    (piece,) = knows.loadtest.slices
    unknown = piece.model_copy(update={"rate": None})
    lacks = knows.model_copy(
        update={"loadtest": knows.loadtest.model_copy(update={"slices": (unknown,)})}
    )
    whole = merge([lacks, knows], Histograms(), 0.01)
    assert [each.rate for each in whole.loadtest.slices] == [10]
    assert merge([lacks], Histograms(), 0.01).loadtest.slices == (unknown,)
