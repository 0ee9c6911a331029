"""The client beside k6 that measures the silences within replies."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from loadtest.config.loading import load_settings
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError
from loadtest.k6.binary import K6Binary
from loadtest.k6.command import build_script_env
from loadtest.k6.plan import RunPlan
from loadtest.k6.scenario import ScenarioRun, run_scenario
from loadtest.k6.stream_observer import StreamObserver, add_silences, observe_streams
from loadtest.results.run import Percentiles, Replies, Row, Spread
from tests.k6.running import Endpoint, build_settings, pick, plan_run


def observe(settings: Settings, every_seconds: float) -> Settings:
    """Return settings whose mix is observed."""
    profile = settings.profile
    tools = profile.tools.model_copy(update={"observe_seconds": every_seconds})
    return replace(settings, profile=profile.model_copy(update={"tools": tools}))


@pytest.mark.slow
@pytest.mark.parametrize("era", ["handshake", "stateless"])
def test_the_silence_within_a_stream_is_measured_and_its_session_is_closed(
    era: str, open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint(reply_pauses=3, reply_pause_seconds=0.2, eras=era)
    settings = observe(build_settings(VUS="1", DURATION="6"), 0.1)
    plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file)
    run = observe_streams(partial(run_scenario, binary=binary, variables=os.environ))
    finished = run(plan, "tools", out_dir=tmp_path, watcher=None, renewal_url=None)
    replies = pick(finished, "tool", "all").replies
    assert replies is not None
    assert replies.silence is not None
    assert replies.streamed >= 4
    # The three pauses together are the upper bound that k6 gives.
    assert 190 <= replies.silence.p50 < 590 <= replies.receiving.p50
    assert endpoint.target.open_sessions == 0


@pytest.mark.slow
def test_the_longest_silence_of_a_held_stream_is_measured(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint(keep_alive_seconds=0.4)
    settings = observe(build_settings(VUS="1", DURATION="6"), 0.1)
    plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file)
    run = observe_streams(partial(run_scenario, binary=binary, variables=os.environ))
    finished = run(plan, "tools", out_dir=tmp_path, watcher=None, renewal_url=None)
    streams = pick(finished, "stream", "all").streams
    assert streams is not None
    assert streams.longest_silence_seconds is not None
    assert 0.3 < streams.longest_silence_seconds < 2
    assert endpoint.target.open_streams == 0


@pytest.mark.slow
def test_a_run_goes_on_if_nothing_can_be_observed(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    settings = observe(build_settings(), 0.1)
    plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file)

    def run_with_bearer(plan: RunPlan, scenario: str, **more: Any) -> ScenarioRun:
        plan = replace(plan, bearer_file=endpoint.bearer_file)
        return run_scenario(plan, scenario, binary=binary, variables=os.environ, **more)

    without = replace(plan, bearer_file=tmp_path / "missing.json")
    run = observe_streams(run_with_bearer)
    finished = run(without, "tools", out_dir=tmp_path, watcher=None, renewal_url=None)
    replies = pick(finished, "tool", "all").replies
    assert replies is not None
    assert (replies.silence, replies.streamed) == (None, 0)


def test_a_table_without_tools_has_nothing_to_observe(tmp_path: Path) -> None:
    plan = plan_run(build_settings(), "http://127.0.0.1:1/mcp", tmp_path / "bearer.json")
    with StreamObserver(replace(plan, tools=plan.tools.pick_first([])), 0.1) as observer:
        pass
    assert observer.silences_ms == {}


def build_row(name: str, kind: str) -> Row:
    times = Spread(1.0, 2.0, 3.0)
    replies = Replies(10, Spread(100, 200, 300), times, times)
    duration = Percentiles(1, 1, 1, 1, 1)
    return Row("tools", kind, name, 10, 10, {}, 1.0, None, 10.0, duration, replies=replies)  # type: ignore[arg-type]


def test_silences_are_added_to_their_tool_and_to_all_tools() -> None:
    kinds = {"all": "tool", "look": "tool", "find": "tool", "opened": "opening"}
    rows = [build_row(name, kind) for name, kind in kinds.items()]
    silences = {"look": [float(each) for each in range(1, 101)], "gone": [500.0]}
    found = [row.replies for row in add_silences(rows, silences)]
    assert [(each.silence, each.streamed) for each in found if each] == [
        (Spread(51.0, 96.0, 500.0), 101),
        (Spread(50.0, 95.0, 100.0), 100),
        (None, 0),
        (None, 0),
    ]


def test_the_observer_is_within_the_limits_of_the_environment(tmp_path: Path) -> None:
    plan = plan_run(observe(build_settings(), 4.0), "http://127.0.0.1:1/mcp", tmp_path)
    full = float(build_script_env(plan, "sessions")["LIMIT_RPS"])
    assert float(build_script_env(plan, "tools")["LIMIT_RPS"]) == full - 0.25
    (tmp_path / "loadtest.toml").write_text(
        "[profile.smoke]\ntools = { vus = 5, duration_seconds = 10, observe_seconds = 10 }\n",
        encoding="utf-8",
    )
    load = partial(load_settings, tmp_path, "local", "smoke", process_env={})
    most = load().environment.limits.max_vus
    assert load().profile.tools.observe_seconds == 10
    with pytest.raises(ConfigError, match=f"max_vus is {most}, requested {most + 1}"):
        load(knobs={"vus": str(most)})
