"""A session holds a stream beside its calls, in the real k6."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from loadtest.k6.binary import K6Binary
from loadtest.k6.command import build_script_env
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.distributed.segments import open_segments
from loadtest.k6.plan import Runners, build_plan
from loadtest.k6.scenario import ScenarioRun, run_scenario, run_scenarios
from loadtest.results.run import HeldStreams, Row
from loadtest.results.run_folder import read_run_folder
from tests.k6.running import (
    Endpoint,
    Interrupter,
    build_settings,
    new_folder,
    pick,
    plan_run,
    run_alone,
)

Open = Callable[..., Endpoint]
Measure = Callable[..., ScenarioRun]

SILENCE = 0.2  # before a keep-alive


def read_streams(row: Row) -> HeldStreams:
    """The figures of the streams of a row."""
    assert row.streams is not None
    return row.streams


@pytest.mark.parametrize("era", ["handshake", "stateless"])
def test_sessions_hold_a_stream_each(era: str, open_endpoint: Open, measure: Measure) -> None:
    endpoint = open_endpoint(eras=era, keep_alive_seconds=SILENCE)
    run = measure("sessions", endpoint, STAGES="3", STAGE_SECONDS="2")
    assert run.result.outcome == "ok", run.result
    row = pick(run, "stream", "3")
    assert (row.count, row.ok, row.failures) == (3, 3, {})
    assert row.duration is not None
    assert row.duration.max < 1000
    held = read_streams(row)
    assert (held.none, held.early, held.stays, held.quiet) == (0, 0, 0, 0)
    assert 3 * 2 / SILENCE / 2 < held.keep_alives <= 3 * 3.5 / SILENCE
    assert pick(run, "stage", "3").failures == {}
    assert endpoint.target.open_streams == endpoint.target.open_sessions == 0


@pytest.mark.parametrize("era", ["handshake", "stateless"])
def test_a_server_without_streams_fails_nothing(
    era: str, open_endpoint: Open, measure: Measure
) -> None:
    run = measure("sessions", open_endpoint(eras=era, streams=False), STAGES="2")
    assert run.result.outcome == "ok", run.result
    row = pick(run, "stream", "2")
    assert (row.count, row.failures) == (0, {})
    assert read_streams(row).none == 2


@pytest.mark.parametrize("era", ["handshake", "stateless"])
@pytest.mark.parametrize("style", ["503", "inside-200"])
def test_streams_above_a_cap_are_refused_and_their_sessions_go_on(
    style: str, era: str, open_endpoint: Open, measure: Measure
) -> None:
    endpoint = open_endpoint(
        eras=era, stream_cap=2, stream_refusal=style, keep_alive_seconds=SILENCE
    )
    run = measure("tools", endpoint, VUS="5")
    assert run.result.outcome == "ok", run.result
    row = pick(run, "stream", "all")
    assert (row.ok, row.failures) == (2, {"capacity": 3})
    assert pick(run, "tool", "all").failures == {}


@pytest.mark.parametrize("era", ["handshake", "stateless"])
def test_a_stream_that_ends_before_its_session_was_dropped(
    era: str, open_endpoint: Open, measure: Measure
) -> None:
    run = measure(
        "sessions", open_endpoint(eras=era, stream_seconds=0.5), STAGES="2", STAGE_SECONDS="2"
    )
    row = pick(run, "stream", "2")
    assert (run.result.outcome, row.ok) == ("ok", 2)
    held = read_streams(row)
    assert held.early == 2
    assert held.early_seconds is not None
    assert 0.4 < held.early_seconds[0] <= held.early_seconds[1] < 2


def test_streams_that_stay_after_their_session_are_counted(
    open_endpoint: Open, measure: Measure
) -> None:
    endpoint = open_endpoint(streams_stay=True, keep_alive_seconds=SILENCE)
    run = measure("sessions", endpoint, STAGES="1,2")
    assert run.result.outcome == "ok", run.result
    for name, count in (("1", 1), ("2", 2)):
        held = read_streams(pick(run, "stream", name))
        assert (held.stays, held.early) == (count, 0)
    assert endpoint.target.open_sessions == 0


def test_a_stream_without_headers_is_open_all_the_same(
    open_endpoint: Open, measure: Measure
) -> None:
    run = measure("sessions", open_endpoint(), STAGES="2")
    row = pick(run, "stream", "2")
    assert (row.ok, row.duration) == (2, None)
    held = read_streams(row)
    assert (held.quiet, held.early, held.keep_alives) == (2, 0, 0)
    assert held.silence_seconds is not None
    assert held.silence_seconds > 0.5


def test_streams_can_be_switched_off(open_endpoint: Open, binary: K6Binary, tmp_path: Path) -> None:
    endpoint = open_endpoint()
    plan = plan_run(build_settings(), endpoint.mcp_url, endpoint.bearer_file)
    run = run_alone(replace(plan, streams=False), "sessions", binary, tmp_path)
    assert run.result.outcome == "ok"
    assert not [row for row in run.rows if row.kind == "stream"]


def test_an_environment_switches_them_off_but_not_the_ladder_of_streams() -> None:
    settings = build_settings()
    environment = settings.environment.model_copy(update={"streams": False})
    plan = build_plan(replace(settings, environment=environment), ("sessions",), "http://x/mcp")
    asked = {
        scenario: build_script_env(plan, scenario).get("STREAMS")
        for scenario in ("cold-start", "sessions", "tools", "streams")
    }
    assert asked == {"cold-start": None, "sessions": "false", "tools": "false", "streams": "true"}


@pytest.mark.parametrize("holds", [True, False])
def test_a_run_says_whether_its_sessions_held_streams(
    holds: bool, open_endpoint: Open, binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint(streams=holds)
    plan = plan_run(build_settings(), endpoint.mcp_url, endpoint.bearer_file, ("sessions",))
    folder = run_scenarios(
        plan,
        new_folder(tmp_path, binary, ("sessions",)),
        run=partial(run_scenario, binary=binary, variables=os.environ),
    )
    assert bool(folder.run.streams) is holds
    assert read_run_folder(folder.path) == folder


@pytest.mark.parametrize("era", ["handshake", "stateless"])
def test_an_interruption_ends_streams_and_sessions(
    era: str, open_endpoint: Open, measure: Measure
) -> None:
    endpoint = open_endpoint(eras=era, streams_stay=True, keep_alive_seconds=SILENCE)

    def interrupt() -> None:
        assert endpoint.target.open_streams == 3
        raise KeyboardInterrupt

    run = measure("tools", endpoint, Interrupter(interrupt), VUS="3", DURATION="60")
    assert (run.result.outcome, run.result.sessions_left) == ("interrupted", 0)
    assert endpoint.target.open_sessions == 0


def test_a_lost_session_gets_another_with_a_stream_of_its_own(
    open_endpoint: Open, measure: Measure
) -> None:
    endpoint = open_endpoint(restart_at_seconds=1.5, keep_alive_seconds=SILENCE)
    run = measure("tools", endpoint, VUS="2", DURATION="3")
    opening, row = pick(run, "opening", "all"), pick(run, "stream", "all")
    assert opening.lost is not None
    assert (opening.lost.count, row.ok) == (2, 4)
    assert read_streams(row).early == 0  # the loss of its session explains the end of a stream


@pytest.mark.parametrize("scenario", ["sessions", "streams"])
def test_several_runners_measure_streams_like_one(
    scenario: str, open_endpoint: Open, binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint(stream_cap=3, keep_alive_seconds=SILENCE)
    settings = build_settings(STAGES="4", STREAM_STAGES="4", STREAM_SECONDS="2")
    plan = plan_run(
        settings, endpoint.mcp_url, endpoint.bearer_file, runners=Runners("segments", 2)
    )
    launch = open_segments(binary, settings.variables)
    run = run_fleet(plan, scenario, out_dir=tmp_path, watcher=None, launch=launch)
    assert (run.result.outcome, run.result.faults) == ("ok", ())
    row = pick(run, "stream", "4")
    assert (row.ok, row.failures) == (3, {"capacity": 1})
    held = read_streams(row)
    assert (held.quiet, held.early) == (0, 0)
    assert held.keep_alives >= 3 * 4
    calls = pick(run, "stage", "4")
    assert calls.ok == calls.count == (4 if scenario == "sessions" else 2)


@pytest.mark.parametrize("era", ["handshake", "stateless"])
def test_a_ladder_of_streams_shows_how_many_are_held_and_what_calls_cost_meanwhile(
    era: str, open_endpoint: Open, measure: Measure
) -> None:
    endpoint = open_endpoint(eras=era, stream_cap=4, keep_alive_seconds=SILENCE)
    run = measure("streams", endpoint, STREAM_STAGES="3,6", STREAM_SECONDS="2")
    assert run.result.outcome == "ok", run.result
    small, large = pick(run, "stream", "3"), pick(run, "stream", "6")
    assert (small.ok, small.failures) == (3, {})
    assert (large.ok, large.failures) == (4, {"capacity": 2})
    for name in ("3", "6"):
        calls = pick(run, "stage", name)
        assert (calls.count, calls.ok, calls.offered_rate, calls.clients) == (2, 2, 1, 1)
        assert pick(run, "opening", name).ok == int(name) + 1
    assert endpoint.target.open_streams == endpoint.target.open_sessions == 0
