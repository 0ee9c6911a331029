"""Sessions and cold starts keep their pace: the real k6 against slow tools."""

from collections.abc import Callable

import pytest

from loadtest.k6.scenario import ScenarioRun
from tests.k6.running import Endpoint, pick

pytestmark = pytest.mark.slow

SLOW = {"tool_latency": "constant:1500"}
LADDER = {"STAGES": "1,3", "STAGE_SECONDS": "4", "TOOL": "listEntities"}

Open = Callable[..., Endpoint]
Measure = Callable[..., ScenarioRun]


def test_a_tool_that_is_slower_than_a_second_holds_a_stage_of_its_own_pace(
    open_endpoint: Open, measure: Measure
) -> None:
    run = measure("sessions", open_endpoint(**SLOW), **LADDER, PACE_SECONDS="2")
    assert run.result.outcome == "ok"
    for sessions in (1, 3):
        row = pick(run, "stage", str(sessions))
        assert row.offered_rate == sessions / 2
        # The last call of a session, at half of the stage or later, ends after its stage.
        assert sessions < row.ok <= 2 * sessions
        assert row.failures == {}


def test_think_time_offers_what_sessions_reach_with_the_answers_of_the_smallest_stage(
    open_endpoint: Open, measure: Measure
) -> None:
    run = measure("sessions", open_endpoint(**SLOW), **LADDER, PACE_SECONDS="exponential:0.5")
    small, large = (pick(run, "stage", name) for name in ("1", "3"))
    assert small.offered_rate is not None
    assert large.offered_rate is not None
    # A round takes 1.5 s and the think time; so a session makes at most 3 calls in 4 s.
    assert 1 / 4 <= small.offered_rate <= 3 / 4
    assert small.offered_rate < large.offered_rate <= 9 / 4
    assert large.ok >= 3
    assert run.result.outcome == "ok"


def test_the_calls_of_a_burst_are_made_in_parallel(open_endpoint: Open, measure: Measure) -> None:
    endpoint = open_endpoint(tool_latency="constant:400", tool_workers=1)
    knobs = {"STAGES": "1", "STAGE_SECONDS": "3", "TOOL": "listEntities"}
    row = pick(measure("sessions", endpoint, **knobs, PACE_SECONDS="burst:3,2"), "stage", "1")
    assert row.ok % 3 == 0
    assert row.duration is not None
    assert row.duration.max >= 3 * 400  # the last one waits for the worker behind the others


def test_sessions_of_the_mix_think_between_their_calls(
    open_endpoint: Open, measure: Measure
) -> None:
    knobs = {"VUS": "2", "DURATION": "4", "MIX_PACE_SECONDS": "uniform:1,2"}
    row = pick(measure("tools", open_endpoint(), **knobs), "tool", "all")
    assert row.failures == {}
    assert row.offered_rate is None
    assert 2 <= row.ok <= 2 * 4  # they pause for 1 s at least


def test_a_call_that_reaches_its_own_time_limit_is_a_timeout_and_not_cut_off(
    open_endpoint: Open, measure: Measure
) -> None:
    endpoint = open_endpoint(tool_latency="constant:60000")
    knobs = {"STAGES": "1", "STAGE_SECONDS": "2", "TIMEOUT_SECONDS": "1"}
    row = pick(measure("sessions", endpoint, **knobs), "stage", "1")
    assert row.failures.keys() == {"timeout"}
    mix = pick(measure("tools", endpoint, VUS="1", TIMEOUT_SECONDS="3"), "tool", "all")
    assert mix.failures == {"timeout": 1}


def test_cold_starts_begin_at_even_distances(open_endpoint: Open, measure: Measure) -> None:
    knobs = {"ITERATIONS": "7", "VUS": "7", "STARTS_PER_SECOND": "4"}
    run = measure("cold-start", open_endpoint(), **knobs)
    row = pick(run, "frame", "first dispatch")
    assert row.ok == 7
    assert row.seconds >= 6 / 4


def test_a_call_of_more_than_a_minute_is_measured_whole_and_counted_by_itself(
    open_endpoint: Open, measure: Measure
) -> None:
    knobs = {"VUS": "1", "DURATION": "1", "TIMEOUT_SECONDS": "90"}
    endpoint = open_endpoint(tool_latency="constant:61000")
    row = pick(measure("tools", endpoint, **knobs), "tool", "all")
    assert (row.ok, row.beyond, row.failures) == (1, {"60_s": 1}, {})
    assert row.duration is not None
    assert row.duration.p50 >= 61_000
