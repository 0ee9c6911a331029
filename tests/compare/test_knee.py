"""The knee: which stage holds, and what the others broke."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from loadtest.compare.knee import Break, Knee
from loadtest.compare.knee import find_knee as find_knee_of
from loadtest.config.pace import parse_pace
from loadtest.results.run import Outcome, Percentiles, Row, Run, ScenarioResult
from tests.report.report_runs import LADDER, RUN, TOOLS, opening, stage


def find_knee(rows: Iterable[Row], run: Run = RUN) -> Knee | None:
    return find_knee_of(run, rows)


def with_p95(row: Row, p95_ms: float) -> Row:
    return replace(row, response=Percentiles(1, 1, p95_ms, p95_ms, p95_ms))


def test_the_highest_stage_is_sustained_if_no_rule_is_broken() -> None:
    assert find_knee((*TOOLS, *reversed(LADDER))) == Knee(LADDER[3])


def test_without_a_stage_there_is_no_knee() -> None:
    assert find_knee(()) is None
    assert find_knee(TOOLS) is None


@pytest.mark.parametrize(("share", "holds"), [(0.9, True), (0.89, False)])
def test_a_stage_below_90_per_cent_of_its_rate_breaks(share: float, holds: bool) -> None:
    low, high = stage(1, 9.0), stage(100, 9.0, share=share)
    knee = find_knee((low, high))
    assert knee == (Knee(high) if holds else Knee(low, (Break(high, share),)))


@pytest.mark.parametrize(("p95_ms", "holds"), [(19.9, True), (20.0, False)])
def test_twice_the_p95_of_the_smallest_stage_breaks(p95_ms: float, holds: bool) -> None:
    low, high = with_p95(stage(1, 9.0), 10.0), with_p95(stage(10, 9.0), p95_ms)
    knee = find_knee((low, high))
    assert knee is not None
    assert (knee.sustained == high) is holds
    assert [fault.slowdown for fault in knee.breaks] == ([] if holds else [2.0])


@pytest.mark.parametrize("thin_stage", [0, 1])
def test_a_p95_of_too_few_calls_breaks_no_stage(thin_stage: int) -> None:
    stages = [with_p95(stage(1, 9.0), 10.0), with_p95(stage(10, 9.0), 90.0)]
    thin = {"count": 29, "ok": 29, "seconds": 29 / (1, 10)[thin_stage]}
    stages[thin_stage] = replace(stages[thin_stage], **thin)  # type: ignore[arg-type]
    assert find_knee(stages) == Knee(stages[1], uncompared=(stages[1],))


def slow_stage(sessions: int, pace: float, p50_ms: float) -> Row:
    """Return a stage of sessions that call every `pace` seconds, with few calls."""
    made = stage(sessions, 9.0, share=1 / pace)
    response = Percentiles(p50_ms, p50_ms, p50_ms, p50_ms, p50_ms)
    return replace(made, offered_rate=sessions / pace, response=response)


def with_pace(pace: object) -> Run:
    return replace(RUN, knobs={"sessions": {"stages": [1, 2], "pace_seconds": pace}})


def test_a_stage_holds_by_the_rate_of_its_own_pace() -> None:
    low, high = slow_stage(1, 30, 20_000), slow_stage(2, 30, 29_900)
    assert find_knee((low, high), with_pace("30")) == Knee(high, uncompared=(high,))
    assert find_knee((low, high), with_pace("exponential:20")) == Knee(high, uncompared=(high,))


def test_sessions_that_fall_behind_their_pace_break_a_stage_even_with_few_calls() -> None:
    low, high = slow_stage(1, 30, 20_000), slow_stage(2, 30, 30_100)
    knee = find_knee((low, high), with_pace("30"))
    assert knee == Knee(low, (Break(high, pace=parse_pace("30")),), uncompared=(high,))


def test_a_tool_of_3_s_breaks_a_stage_of_a_call_per_second() -> None:
    knee = find_knee((slow_stage(1, 1, 3000),))
    assert knee is not None
    assert knee.sustained is None
    assert knee.breaks[0].pace == parse_pace("1")


@pytest.mark.parametrize("pace", [None, 7, "often", [], ""])
def test_a_damaged_pace_of_a_run_is_a_call_per_second(pace: object) -> None:
    assert find_knee((stage(1, 9.0),), with_pace(pace)) == Knee(stage(1, 9.0))


def test_the_response_from_the_schedule_decides_and_not_the_duration() -> None:
    low, high = with_p95(stage(1, 9.0), 10.0), stage(10, 9.0)
    stalled = replace(high, response=Percentiles(1, 1, 500.0, 900.0, 900.0))
    knee = find_knee((low, stalled))
    assert knee is not None
    assert knee.sustained == low


def test_a_rejected_session_breaks_a_stage_whose_calls_are_all_fine() -> None:
    high = stage(100, 14.0)
    knee = find_knee((stage(1, 9.0), high, opening(100, 99, {"capacity": 1})))
    assert knee == Knee(stage(1, 9.0), (Break(high, rejected=1, attempts=100),))


def test_a_rejected_call_breaks_a_stage() -> None:
    high = stage(100, 14.0, failures={"capacity": 2})
    knee = find_knee((stage(1, 9.0), high))
    assert knee == Knee(stage(1, 9.0), (Break(high, rejected=2, attempts=6000),))


def test_the_smallest_stage_can_break_too() -> None:
    low, high = stage(1, 9.0, share=0.5), stage(10, 9.0, share=0.5)
    knee = find_knee((low, high))
    assert knee is not None
    assert knee.sustained is None
    assert [fault.stage for fault in knee.breaks] == [low, high]


@pytest.mark.parametrize("empty", [stage(1, None), replace(stage(1, 9.0), count=0, ok=0)])
def test_without_data_of_the_smallest_stage_none_is_sustained(empty: Row) -> None:
    assert find_knee((empty, stage(10, 9.0))) == Knee(None, (Break(empty, no_data=True),))


def test_a_stage_without_a_call_breaks_because_it_has_no_data() -> None:
    empty = stage(10, None)
    assert find_knee((stage(1, 9.0), empty)) == Knee(stage(1, 9.0), (Break(empty, no_data=True),))


def test_stages_are_ordered_by_number() -> None:
    knee = find_knee((stage(100, 9.0), stage(20, 9.0), stage(3, 9.0)))
    assert knee is not None
    assert knee.sustained == stage(100, 9.0)


@pytest.mark.parametrize(
    ("failed", "holds"), [(60, True), (61, False), (1200, False), (5940, False)]
)
def test_a_stage_is_sustained_by_its_ok_calls_within_the_failure_threshold(
    failed: int, holds: bool
) -> None:
    low, high = stage(1, 9.0), stage(100, 9.0, failures={"http_502": failed})
    knee = find_knee((low, high))
    assert knee is not None
    assert knee.sustained == (high if holds else low)
    assert [fault.failed for fault in knee.breaks] == ([] if holds else [failed])


def test_a_rate_is_that_of_ok_calls() -> None:
    knee = find_knee((stage(1, 9.0), stage(100, 9.0, failures={"timeout": 1200})))
    assert knee is not None
    assert knee.breaks[0].rate_share == pytest.approx(0.8)


def test_the_failure_threshold_is_that_of_the_profile() -> None:
    run = replace(RUN, knobs={**RUN.knobs, "max_failure_share": 0.05})
    high = stage(100, 9.0, failures={"timeout": 240})
    assert find_knee((stage(1, 9.0), high), run) == Knee(high)
    assert find_knee((stage(1, 9.0), high)) != Knee(high)


@pytest.mark.parametrize("place", ["call", "opening"])
def test_one_rate_limited_call_breaks_a_stage(place: str) -> None:
    limited = {"rate_limited": 1}
    high = stage(100, 14.0, failures=limited if place == "call" else None)
    rows = (stage(1, 9.0), high, opening(100, 99, limited if place == "opening" else None))
    assert find_knee(rows) == Knee(stage(1, 9.0), (Break(high, limited=1),))


def ended(outcome: Outcome) -> Run:
    return replace(RUN, scenarios=(ScenarioResult("sessions", outcome),))


@pytest.mark.parametrize("outcome", ["aborted", "interrupted", "failed", "not run"])
def test_the_stage_in_which_the_run_ended_is_not_sustained(outcome: Outcome) -> None:
    low, cut = stage(1, 9.0), stage(10, 9.0, seconds=20)
    knee = find_knee((low, cut), ended(outcome))
    assert knee == Knee(low, (Break(cut, unfinished=outcome),))


def test_a_run_that_was_aborted_at_the_end_of_a_stage_was_aborted_by_it() -> None:
    low, whole = stage(1, 9.0), stage(10, 9.0)
    assert find_knee((low, whole), ended("aborted")) == Knee(
        low, (Break(whole, unfinished="aborted"),)
    )
    assert find_knee((low, whole), ended("interrupted")) == Knee(whole)


def test_stages_are_under_way_in_the_order_of_the_profile() -> None:
    run = ended("aborted")
    run = replace(run, knobs={"sessions": {"stages": [50, 10, 1], "stage_seconds": 60}})
    knee = find_knee((stage(10, 9.0), stage(50, 9.0)), run)
    assert knee == Knee(stage(50, 9.0), (Break(stage(10, 9.0), unfinished="aborted"),))
