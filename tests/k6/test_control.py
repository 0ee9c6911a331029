"""Tests of the control: a static document of the same origin, asked for beside every scenario."""

from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from loadtest.config.models import Environment, Limits
from loadtest.k6.binary import K6Binary
from loadtest.k6.control import Control, describe_lack, find_control, find_rate
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.distributed.segments import open_segments
from loadtest.k6.plan import Runners, build_plan
from loadtest.k6.progress import Live, NoWatcher
from loadtest.k6.run_facts import build_run
from loadtest.k6.scenario import ScenarioRun
from loadtest.k6.summary import parse_summary
from loadtest.results.run import Target
from tests.k6.running import Endpoint, build_settings, pick, plan_run, run_alone
from tests.support.loopback import serve_loopback

METADATA = "/.well-known/oauth-protected-resource"


def build_environment(**more: Any) -> Environment:
    limits = Limits(max_vus=9, max_rps=99, max_duration_seconds=99)
    return Environment(target="hosted", default_profile="smoke", limits=limits, **more)


def run_with_control(
    endpoint: Endpoint, scenario: str, binary: K6Binary, out_dir: Path, **knobs: str
) -> ScenarioRun:
    settings = build_settings(**knobs)
    control = find_control(settings.environment, endpoint.mcp_url).control
    plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file, control=control)
    return run_alone(plan, scenario, binary, out_dir)


def serve_paths(*found: str) -> Any:
    """Serve these paths; every other one is 404."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in found else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return serve_loopback(Pages)


def test_the_document_is_the_metadata_of_the_endpoint_and_its_name_has_no_workspace() -> None:
    with serve_paths(f"{METADATA}/mcp/w-1/sse", METADATA) as origin:
        environment = build_environment(mcp_path="/mcp/{workspace_id}/sse")
        search = find_control(environment, f"{origin}/mcp/w-1/sse")
    name = METADATA + "/mcp/{workspace_id}/sse"
    assert search.control == Control(f"{METADATA}/mcp/w-1/sse", name)


def test_else_it_is_the_metadata_of_the_origin() -> None:
    with serve_paths(METADATA) as origin:
        search = find_control(build_environment(mcp_path="/mcp"), f"{origin}/mcp")
    assert search.control == Control(METADATA, METADATA)


def test_a_setting_names_another_document_of_the_same_origin() -> None:
    with serve_paths("/health", METADATA) as origin:
        environment = build_environment(mcp_path="/mcp", control_path="/health")
        search = find_control(environment, f"{origin}/mcp")
    assert search.control == Control("/health", "/health")


def test_without_a_document_one_line_says_what_was_asked_and_what_to_do() -> None:
    with serve_paths() as origin:
        nothing = find_control(build_environment(mcp_path="/mcp"), f"{origin}/mcp")
        wrong = find_control(build_environment(control_path="/gone"), f"{origin}/mcp/w-1")
    unreachable = find_control(build_environment(mcp_path="/mcp"), f"{origin}/mcp")
    assert nothing.control is wrong.control is unreachable.control is None
    assert nothing.missing == (
        "no control, so a slow network looks like a slow target: name a static document with "
        f"control_path ({METADATA}/mcp: HTTP 404; {METADATA}: HTTP 404)"
    )
    assert wrong.missing == (
        "no control, so a slow network looks like a slow target: correct control_path "
        "(/gone: HTTP 404)"
    )
    assert unreachable.missing is not None
    assert f"{METADATA}/mcp: ConnectError" in unreachable.missing


@pytest.mark.parametrize(
    "path", ["health", "//other.example/", "https://other.example/", "/a b", "/a#b", "/\\other"]
)
def test_a_path_that_is_not_on_the_origin_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="a path on the origin of the target"):
        build_environment(control_path=path)


def test_the_control_keeps_the_limits_or_is_left_out() -> None:
    settings = build_settings(ITERATIONS="6", STAGES="1,8", VUS="8", STARTS_PER_SECOND="1")
    profile, limits = settings.profile, settings.environment.limits
    tight = limits.model_copy(update={"max_vus": 8, "max_rps": 20})
    assert find_rate("sessions", profile, limits) == 2
    assert find_rate("cold-start", profile, tight) == 1
    assert find_rate("sessions", profile, tight) is None
    scenarios = ("cold-start", "sessions", "tools")
    assert describe_lack(scenarios, profile, limits) is None
    assert describe_lack(scenarios, profile, tight) == (
        "no control in sessions, tools: it needs a VU and 2 requests/s more than max_vus 8 and "
        "max_rps 20 leave"
    )
    full = limits.model_copy(update={"max_rps": 8})
    assert find_rate("sessions", profile, full) is None


def test_the_facts_of_a_run_name_the_document_without_its_workspace() -> None:
    settings = build_settings()
    control = Control("/mcp/w-1.json", "/mcp/{workspace_id}.json")
    plan = build_plan(settings, ("tools",), "http://127.0.0.1/mcp/w-1", control=control)
    assert plan.private_variables == {"CONTROL_PATH": "/mcp/w-1.json"}
    facts = [
        build_run(settings, each, Target("127.0.0.1"), "1").knobs["control"]
        for each in (plan, replace(plan, control=None))
    ]
    assert facts == ["/mcp/{workspace_id}.json", None]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["cold-start", "sessions", "tools"])
def test_its_rows_are_beside_those_of_the_calls(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path, scenario: str
) -> None:
    endpoint = open_endpoint()
    run = run_with_control(endpoint, scenario, binary, tmp_path)
    alone = run_alone(
        plan_run(build_settings(), endpoint.mcp_url, endpoint.bearer_file),
        scenario,
        binary,
        tmp_path,
    )
    document, connect = (pick(run, "control", name) for name in ("document", "connect"))
    assert run.result.outcome == "ok"
    assert document.count == document.ok == connect.count >= 1
    assert document.duration is not None
    assert connect.duration is not None
    assert connect.duration.p50 > 0
    others = [row for row in run.rows if row.kind != "control"]
    assert [(row.kind, row.name) for row in others] == [(row.kind, row.name) for row in alone.rows]
    if scenario == "cold-start":
        assert {row.count for row in others} == {6}


@pytest.mark.slow
def test_its_requests_are_not_among_those_of_which_too_many_must_not_fail(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    seen: list[int] = []

    class Count(NoWatcher):
        def tick(self, live: Live | None) -> None:
            seen.append(live.requests if live else 0)

    endpoint = open_endpoint()
    settings = build_settings(STAGES="1", STAGE_SECONDS="4", PACE_SECONDS="4")
    control = find_control(settings.environment, endpoint.mcp_url).control
    plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file, control=control)
    run = run_alone(plan, "sessions", binary, tmp_path, watcher=Count())
    metrics = parse_summary(tmp_path / "summary.json", "sessions")
    asked = pick(run, "control", "document").count
    assert metrics.count("http_reqs{rpc:control}") == asked > 3
    assert 0 < max(seen) <= metrics.count("http_reqs") - asked


@pytest.mark.slow
def test_one_of_several_runners_asks(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    settings = build_settings(VUS="4", DURATION="2")
    control = find_control(settings.environment, endpoint.mcp_url).control
    plan = plan_run(
        settings,
        endpoint.mcp_url,
        endpoint.bearer_file,
        runners=Runners("segments", 3),
        control=control,
    )
    launch = open_segments(binary, settings.variables)
    run = run_fleet(plan, "tools", out_dir=tmp_path, launch=launch)
    assert run.result.outcome == "ok"
    assert run.result.faults == ()
    document, connect = (pick(run, "control", name) for name in ("document", "connect"))
    # Three runners would ask three times as often.
    assert 1 <= document.ok == connect.ok <= 2 * (2 + 1) + 1
    assert document.duration is not None


@pytest.mark.slow
def test_its_failures_are_counted_by_reason_and_cross_no_threshold(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    plan = plan_run(
        build_settings(),
        endpoint.mcp_url,
        endpoint.bearer_file,
        control=Control("/nothing-is-here", "/nothing-is-here"),
    )
    run = run_alone(plan, "tools", binary, tmp_path)
    document = pick(run, "control", "document")
    assert (run.result.outcome, run.result.crossed) == ("ok", ())
    assert document.failures == {"http_404": document.count}
    assert document.duration is None
    assert pick(run, "tool", "all").failures == pick(run, "opening", "all").failures == {}
