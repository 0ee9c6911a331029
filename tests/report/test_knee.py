"""The knee: which stage holds, and what the others broke."""

from dataclasses import replace

import pytest
from report_runs import LADDER, TOOLS, opening, stage

from loadtest.compare import Break, Knee, find_knee
from loadtest.results import Percentiles, Row


def with_p95(row: Row, p95_ms: float) -> Row:
    return replace(row, response=Percentiles(1, 1, p95_ms, p95_ms, p95_ms))


def test_the_highest_stage_holds_when_no_rule_is_broken() -> None:
    assert find_knee((*TOOLS, *reversed(LADDER))) == Knee(LADDER[3])


def test_without_a_stage_there_is_no_knee() -> None:
    assert find_knee(()) is None
    assert find_knee(TOOLS) is None


@pytest.mark.parametrize(("share", "holds"), [(0.9, True), (0.89, False)])
def test_a_stage_below_90_per_cent_of_its_rate_breaks(share: float, holds: bool) -> None:
    low, high = stage(1, 9.0), stage(100, 9.0, share=share)
    knee = find_knee((low, high))
    assert knee == (Knee(high) if holds else Knee(low, (Break(high, share, None, 0, 5340),)))


@pytest.mark.parametrize(("p95_ms", "holds"), [(19.9, True), (20.0, False)])
def test_twice_the_p95_of_the_smallest_stage_breaks(p95_ms: float, holds: bool) -> None:
    low, high = with_p95(stage(1, 9.0), 10.0), with_p95(stage(10, 9.0), p95_ms)
    knee = find_knee((low, high))
    assert knee is not None
    assert (knee.holds == high) is holds
    assert [fault.slowdown for fault in knee.breaks] == ([] if holds else [2.0])


@pytest.mark.parametrize("thin_stage", [0, 1])
def test_a_p95_of_too_few_calls_breaks_no_stage(thin_stage: int) -> None:
    stages = [with_p95(stage(1, 9.0), 10.0), with_p95(stage(10, 9.0), 90.0)]
    stages[thin_stage] = replace(stages[thin_stage], ok=29)
    assert find_knee(stages) == Knee(stages[1], unjudged=(stages[1],))


def test_the_response_from_the_schedule_decides_and_not_the_duration() -> None:
    low, high = with_p95(stage(1, 9.0), 10.0), stage(10, 9.0)
    stalled = replace(high, response=Percentiles(1, 1, 500.0, 900.0, 900.0))
    knee = find_knee((low, stalled))
    assert knee is not None
    assert knee.holds == low


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
    assert knee.holds is None
    assert [fault.stage for fault in knee.breaks] == [low, high]


@pytest.mark.parametrize("empty", [stage(1, None), replace(stage(1, 9.0), count=0, ok=0)])
def test_without_data_of_the_smallest_stage_none_holds(empty: Row) -> None:
    assert find_knee((empty, stage(10, 9.0))) == Knee(None, (Break(empty, no_data=True),))


def test_a_stage_without_a_call_breaks_for_want_of_data_and_not_of_rate() -> None:
    empty = stage(10, None)
    assert find_knee((stage(1, 9.0), empty)) == Knee(stage(1, 9.0), (Break(empty, no_data=True),))


def test_stages_are_ordered_by_number() -> None:
    knee = find_knee((stage(100, 9.0), stage(20, 9.0), stage(3, 9.0)))
    assert knee is not None
    assert knee.holds == stage(100, 9.0)
