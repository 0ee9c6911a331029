"""Objectives against the rows of a run: met, missed, or nothing can be told."""

from dataclasses import replace

import pytest

from loadtest.compare.objectives import JudgedObjective, judge_objectives
from loadtest.config.objectives import Objective
from loadtest.results.history import Entry
from loadtest.results.run import HeldStreams, Outcome, Row, ScenarioResult
from tests.compare.plain_runs import RUN, build_row
from tests.report.report_runs import stage

SQL = ("tools", "tool", "executeSQL")
P95 = Objective(*SQL, "p95", 800)
FAILED = Objective(*SQL, "failed", 0.005)
HOLDS = Objective("sessions", "stage", "all", "holds", 50)
LADDER = (stage(10, 100), stage(50, 110), stage(100, 120))


def judge(
    *objectives: Objective, rows: tuple[Row, ...], outcome: Outcome = "ok"
) -> tuple[JudgedObjective, ...]:
    results = tuple(ScenarioResult(name, outcome, 0) for name in ("sessions", "tools"))
    run = replace(RUN, objectives=objectives, scenarios=results)
    return judge_objectives(Entry(run, rows))


def test_a_latency_below_its_limit_is_met_with_what_is_left() -> None:
    (found,) = judge(P95, rows=(build_row(SQL, 400),))  # its p95 is 720 ms
    assert (found.standing, found.value) == ("met", 720)
    assert found.margin == pytest.approx(0.1)


def test_a_latency_above_its_limit_is_missed_with_a_negative_margin() -> None:
    (found,) = judge(P95, rows=(build_row(SQL, 500),))
    assert (found.standing, found.value) == ("missed", 900)
    assert found.margin == pytest.approx(-0.125)


def test_too_few_calls_for_a_percentile_never_meet_it() -> None:
    (found,) = judge(P95, rows=(build_row(SQL, 100, calls=299),))
    assert (found.standing, found.margin) == ("cannot tell", None)
    assert found.reason == "299 ok calls, 300 needed"


def test_too_few_calls_miss_a_percentile_only_if_a_lower_one_is_over_it_too() -> None:
    (above,) = judge(P95, rows=(build_row(SQL, 500, calls=299),))
    assert above.standing == "cannot tell"
    (far,) = judge(P95, rows=(build_row(SQL, 900, calls=299),))
    assert far.standing == "missed"
    (few,) = judge(P95, rows=(build_row(SQL, 900, calls=29),))
    assert few.standing == "cannot tell"


@pytest.mark.parametrize(
    ("calls", "failed", "standing"),
    [
        (600, 0, "met"),
        (600, 3, "met"),
        (600, 4, "missed"),
        (599, 0, "cannot tell"),
        (599, 3, "cannot tell"),
        (599, 4, "missed"),
        (10, 10, "missed"),
        (10, 2, "cannot tell"),
    ],
)
def test_few_calls_miss_a_share_of_failures_only_if_more_calls_could_not_change_that(
    calls: int, failed: int, standing: str
) -> None:
    (found,) = judge(FAILED, rows=(build_row(SQL, 100, calls=calls, failed=failed),))
    assert found.standing == standing


def test_no_failure_at_all_needs_a_thousand_calls() -> None:
    none = replace(FAILED, limit=0)
    standings = [
        judge(none, rows=(build_row(SQL, 100, calls=calls, failed=failed),))[0].standing
        for calls, failed in ((999, 0), (1000, 0), (1000, 1))
    ]
    assert standings == ["cannot tell", "met", "missed"]


def test_what_was_not_measured_cannot_be_told() -> None:
    (missing,) = judge(P95, rows=())
    assert missing.standing == "cannot tell"
    (all_failed,) = judge(P95, rows=(build_row(SQL, 100, calls=400, failed=400),))
    assert (all_failed.standing, all_failed.reason) == ("cannot tell", "no call was ok")


@pytest.mark.parametrize("outcome", ["aborted", "interrupted", "failed"])
def test_a_scenario_that_did_not_end_as_planned_tells_nothing(outcome: Outcome) -> None:
    (found,) = judge(P95, rows=(build_row(SQL, 100),), outcome=outcome)
    assert found.standing == "cannot tell"


def test_a_ladder_is_judged_by_the_largest_stage_that_it_is_to_hold() -> None:
    limit = Objective("sessions", "stage", "all", "p95", 200)  # the p95 of 100 sessions is 208 ms
    (largest,) = judge(limit, rows=LADDER)
    assert (largest.standing, largest.stage) == ("missed", LADDER[2])
    held, _ = judge(limit, HOLDS, rows=LADDER)
    assert (held.standing, held.stage) == ("met", LADDER[1])


def test_a_ladder_holds_its_highest_sustained_stage() -> None:
    (met,) = judge(HOLDS, rows=LADDER)
    assert (met.standing, met.value, met.margin) == ("met", 100, 1.0)
    (missed,) = judge(HOLDS, rows=(LADDER[0], stage(50, 110, share=0.5)))
    assert (missed.standing, missed.value) == ("missed", 10)
    assert missed.margin == pytest.approx(-0.8)


def test_a_ladder_that_ends_below_what_it_is_to_hold_tells_nothing() -> None:
    (short,) = judge(HOLDS, rows=LADDER[:1])
    assert (short.standing, short.reason) == ("cannot tell", "the ladder ended at 10")
    thin = (stage(1, 100, seconds=5), stage(50, 110))
    (found,) = judge(HOLDS, rows=thin)
    assert found.standing == "cannot tell"


def hold_streams(count: int, ok: int, early: int = 0) -> Row:
    row = build_row(("streams", "stream", str(count)), 5.0, calls=count, failed=count - ok)
    return replace(row, streams=HeldStreams(early=early))


@pytest.mark.parametrize(
    ("rows", "standing", "value"),
    [
        ((hold_streams(100, 100), hold_streams(300, 300)), "met", 300),
        ((hold_streams(100, 100), hold_streams(300, 220)), "met", 220),
        ((hold_streams(300, 150),), "missed", 150),
        ((hold_streams(300, 300, early=250),), "missed", 50),
        ((hold_streams(100, 100),), "cannot tell", 100),
        ((), "cannot tell", None),
    ],
)
def test_streams_are_held_if_they_stay_open(
    rows: tuple[Row, ...], standing: str, value: int | None
) -> None:
    holds = Objective("streams", "stream", "all", "holds", 200)
    run = replace(RUN, objectives=(holds,), scenarios=(ScenarioResult("streams", "ok", 0),))
    (found,) = judge_objectives(Entry(run, rows))
    assert (found.standing, found.value) == (standing, value)
