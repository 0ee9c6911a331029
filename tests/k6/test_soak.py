"""The soak as it runs: the real k6 against the real reference target."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.config.models import Soak
from loadtest.k6.binary import K6Binary
from loadtest.k6.scenario import ScenarioRun
from loadtest.results.intervals import read_intervals
from tests.k6.running import Endpoint, build_settings, pick, plan_run, run_alone

pytestmark = pytest.mark.slow

VUS, SECONDS, LIFE = 4, 6, 2
Measure = Callable[[Endpoint], ScenarioRun]


@pytest.fixture
def soak(tmp_path: Path, binary: K6Binary) -> Measure:
    """Run a soak of seconds; its files lie in `tmp_path`."""

    def run(endpoint: Endpoint) -> ScenarioRun:
        settings = build_settings()
        table = Soak(vus=VUS, duration_seconds=SECONDS, session_seconds=LIFE, pace_seconds="0.25")
        profile = settings.profile.model_copy(update={"soak": table})
        plan = plan_run(
            replace(settings, profile=profile), endpoint.mcp_url, endpoint.bearer_file, ("soak",)
        )
        return run_alone(plan, "soak", binary, tmp_path)

    return run


def test_sessions_follow_each_other_at_a_steady_load(
    soak: Measure, open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    run = soak(endpoint)
    assert run.result.outcome == "ok", run.result
    assert (run.result.sessions_left, endpoint.target.open_sessions) == (0, 0)
    opened = pick(run, "opening", "all")
    dispatched = pick(run, "frame", "first dispatch")
    # The first session of a VU has a part of a life, and so has the last.
    assert VUS * SECONDS / LIFE <= opened.ok <= VUS * (SECONDS / LIFE + 1)
    assert (dispatched.ok, dispatched.failures) == (opened.ok, {})
    assert opened.duration is not None
    assert dispatched.duration is not None
    assert dispatched.duration.p50 > opened.duration.p50
    calls = pick(run, "tool", "all")
    # Each session makes its first call at once.
    assert 0.7 * VUS * SECONDS * 4 <= calls.ok <= VUS * SECONDS * 4 + opened.ok
    assert calls.offered_rate is None
    intervals = read_intervals(tmp_path)
    assert intervals is not None
    assert intervals.total().count("mcp_first_dispatch") == opened.ok
    assert SECONDS <= intervals.count() <= SECONDS + 2


def test_refused_sessions_are_counted_and_the_others_go_on(
    soak: Measure, open_endpoint: Callable[..., Endpoint]
) -> None:
    run = soak(open_endpoint(session_cap=2))
    opened = pick(run, "opening", "all")
    assert opened.failures["capacity"] > 0
    assert opened.ok >= SECONDS / LIFE
    assert pick(run, "tool", "all").failures == {}
