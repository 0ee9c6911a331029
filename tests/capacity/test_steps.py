"""How one step is judged: by objectives, by the usual limits, and by refusals."""

import math
from dataclasses import replace

import pytest

from loadtest.capacity.steps import (
    Criteria,
    MeasuredStep,
    build_profile,
    choose_criteria,
    choose_seconds,
    find_harm,
    judge_steps,
)
from loadtest.config.objectives import Objective
from loadtest.results.run import MOST_STRAIN, CapacityStep, Row
from tests.k6.running import build_settings
from tests.report.report_runs import opening, row, stage

USUAL = Criteria("sessions", "executeSQL", (), 0.01, 1.0, 1.0)
P95 = Objective("tools", "tool", "executeSQL", "p95", 20)
FAILED = Objective("sessions", "stage", "all", "failed", 0.1)


def judge(*rows: Row, criteria: Criteria = USUAL, load: int = 50) -> CapacityStep:
    base = MeasuredStep(10, (stage(10, 10.0), opening(10, 10)))
    _, judged = judge_steps([base, MeasuredStep(load, rows)], criteria)
    return judged


def test_a_step_that_keeps_its_rate_and_latency_is_borne() -> None:
    found = judge(stage(50, 12.0), opening(50, 50))
    assert found.is_borne
    assert found.strain == pytest.approx(0.6)  # 1.2 times the p95 of the smallest step, of 2


@pytest.mark.parametrize(
    ("rows", "reason", "bore"),
    [
        (
            (stage(50, 10.0), opening(50, 40, {"capacity": 10})),
            "the session cap refuses (10 of 50 were refused)",
            40,
        ),
        ((stage(50, 10.0, failures={"rate_limited": 5}),), "the quota refuses calls", None),
        (
            (stage(50, 10.0, failures={"capacity": 5}),),
            "a full server refuses 5 of 3,000 calls",
            None,
        ),
        ((), "no call was made", None),
    ],
)
def test_what_is_refused_is_never_borne(rows: tuple[Row, ...], reason: str, bore: int) -> None:
    assert judge(*rows) == CapacityStep(50, MOST_STRAIN, bore, reason)


def test_a_rate_that_is_not_kept_shows_how_much_is_borne() -> None:
    found = judge(stage(50, 10.0, share=0.5))
    assert (found.strain, found.bore) == (5.0, 25)
    assert found.reason == "50 % of the offered calls succeed"


def test_a_latency_is_compared_with_that_of_the_smallest_step() -> None:
    found = judge(stage(50, 25.0))
    assert found.strain == pytest.approx(1.25)
    assert found.reason == "p95 is 2.5 times that of the smallest step"


def test_an_objective_replaces_the_usual_limit_of_a_latency() -> None:
    criteria = replace(USUAL, objectives=(P95,))
    found = judge(stage(50, 25.0), criteria=criteria)
    assert found.strain == pytest.approx(25.0 * 1.02 * 1.7 / 20, rel=1e-3)
    assert found.reason == "p95 is 43 ms"


def test_an_objective_replaces_the_usual_limit_of_failures() -> None:
    failing = stage(50, 10.0, failures={"timeout": 90})
    assert judge(failing).strain == pytest.approx(3.0)
    assert judge(failing, criteria=replace(USUAL, objectives=(FAILED,))).is_borne


def test_sessions_that_fall_behind_their_pace_are_too_much() -> None:
    found = judge(stage(50, 1100.0), criteria=replace(USUAL, objectives=(replace(P95, limit=1e6),)))
    assert not found.is_borne
    assert found.reason == "half of the calls take longer than the pace of a session"


def test_the_mix_is_judged_by_the_row_of_each_tool() -> None:
    criteria = Criteria("calls", "executeSQL", (P95,), 0.01, 1.0)
    rows = (
        row("tools", "tool", "all", 500, 5.0, seconds=10, offered=50),
        row("tools", "tool", "executeSQL", 300, 30.0, seconds=10, offered=30),
    )
    (found,) = judge_steps([MeasuredStep(50, rows)], criteria)
    assert found.reason == "p95 is 52 ms"


def test_most_calls_that_fail_harm_a_target_but_refusals_do_not() -> None:
    failing = stage(50, 10.0, failures={"http_500": 1501})
    assert find_harm(MeasuredStep(50, (failing,)), USUAL) == "50 % of the calls failed"
    refused = stage(50, 10.0, failures={"capacity": 2000})
    assert find_harm(MeasuredStep(50, (refused,)), USUAL) is None


def test_a_step_is_long_enough_for_its_percentile() -> None:
    profile = build_settings().profile
    assert choose_seconds(USUAL, profile, 10, 5, 0.1) == 30  # 300 calls for a p95
    assert choose_seconds(USUAL, profile, 100, 5, 0.1) == 5
    p99 = replace(USUAL, objectives=(replace(P95, figure="p99"),))
    assert choose_seconds(p99, profile, 10, 5, 0.1) == 100
    p50 = replace(USUAL, objectives=(replace(P95, figure="p50"), FAILED))
    assert choose_seconds(p50, profile, 10, 1, 0.1) == 3


def test_a_step_of_the_mix_is_long_enough_for_its_rarest_tool() -> None:
    settings = build_settings()
    rare = replace(settings, objectives=(replace(P95, name="runMetric", limit=500),))
    criteria = choose_criteria(rare, settings.profile, "calls")
    assert criteria.shares["runMetric"] == pytest.approx(0.1)
    assert choose_seconds(criteria, settings.profile, 100, 5, 0.1) == 30  # 3,000 calls


def test_a_step_is_long_enough_for_a_queue_to_show() -> None:
    slow = replace(USUAL, objectives=(replace(P95, limit=1900),))
    assert choose_seconds(slow, build_settings().profile, 1000, 5, 0.1) == 20


def test_a_step_is_a_ladder_of_one_stage_or_the_mix_as_an_open_loop() -> None:
    profile = build_settings().profile
    ladder = build_profile(profile, "sessions", 40, 12).sessions
    assert (ladder.stages, ladder.stage_seconds) == ((40,), 12)
    mix = build_profile(profile, "calls", 40, 12).tools
    assert (mix.target_rps, mix.duration_seconds, mix.vus) == (40, 12, 40)


def test_only_objectives_that_a_step_can_show_judge_it() -> None:
    settings = build_settings()
    dispatch = Objective("cold-start", "frame", "first dispatch", "p95", 1500)
    holds = Objective("sessions", "stage", "all", "holds", 10)
    other = replace(P95, name="runMetric")
    given = replace(settings, objectives=(dispatch, holds, P95, FAILED, other))
    sessions = choose_criteria(given, given.profile, "sessions")
    assert sessions.objectives == (FAILED, P95)
    assert choose_criteria(given, given.profile, "calls").objectives == (P95, other)
    assert [*sessions.list_limits()] == [
        "all calls: failures at most 10 %",
        "executeSQL: p95 at most 20 ms",
        "90 % of the offered calls ok",
        "nothing refused",
    ]
    usual = choose_criteria(settings, settings.profile, "sessions")
    assert math.isclose(usual.pace_seconds, 1.0)
    assert next(usual.list_limits()) == "p95 at most 2 times that of the smallest step"
