"""Resources, prompts and completions: called, counted and reported like tools."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.config.tool_table import parse_table
from loadtest.errors import K6Error
from loadtest.k6.binary import K6Binary
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.distributed.segments import open_segments
from loadtest.k6.plan import Runners
from loadtest.k6.preflight import Checked, check_target
from loadtest.results.run import ASIDE, Row
from tests.k6.running import Endpoint, build_settings, plan_run, run_alone

pytestmark = pytest.mark.slow

TABLE: dict[str, Any] = {
    "tools": {"listEntities": {"weight": 1, "arguments": [{}]}},
    "resources": {
        "novamart://entities": {"weight": 1},
        "entity": {
            "weight": 2,
            "uri": "novamart://entities/{name}",
            "arguments": [{"name": "orders"}, {"name": "sellers"}],
        },
    },
    "prompts": {"explain_metric": {"weight": 1, "arguments": [{"id": "total_gmv"}]}},
    "completions": {
        "metric ids": {"weight": 1, "prompt": "explain_metric", "arguments": [{"id": "to"}]},
        "entity names": {
            "weight": 1,
            "resource": "novamart://entities/{name}",
            "arguments": [{"name": "o"}],
        },
    },
}
PROTOCOLS = ["2025-11-25", "2026-07-28"]


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    """Name each era's newest revision."""
    return str(request.param)


def check(
    endpoint: Endpoint, table: dict[str, Any], protocol: str, binary: K6Binary
) -> tuple[Checked, list[str]]:
    """Call each entry of a table once; return what was found and what was said."""
    settings = replace(build_settings(PROTOCOL=protocol), tools=parse_table(table, "t"))
    said: list[str] = []
    found = check_target(
        settings,
        endpoint.mcp_url,
        endpoint.bearer_file,
        ("tools",),
        binary=binary,
        tell=said.append,
    )
    return found, said


def test_each_kind_has_its_rows_in_both_eras(
    protocol: str,
    open_endpoint: Callable[..., Endpoint],
    binary: K6Binary,
    tmp_path: Path,
) -> None:
    endpoint = open_endpoint(eras="both")
    found, said = check(endpoint, TABLE, protocol, binary)
    assert said == [f"novamart 1.0.0, {protocol}: 6 of 6 calls of the table answer"]
    settings = build_settings(PROTOCOL=protocol)
    plan = plan_run(
        settings,
        endpoint.mcp_url,
        endpoint.bearer_file,
        ("tools",),
        tools=found.tools,
    )
    run = run_alone(plan, "tools", binary, tmp_path / "tools")
    rows = {row.name: row for row in run.rows if row.kind not in ASIDE}
    assert {name: row.kind for name, row in rows.items()} == {
        "all": "tool",
        "listEntities": "tool",
        "novamart://entities": "resource",
        "entity": "resource",
        "explain_metric": "prompt",
        "metric ids": "completion",
        "entity names": "completion",
    }
    assert all(row.ok == row.count > 0 for row in rows.values())
    total = rows.pop("all")
    assert sum(row.count for row in rows.values()) == total.count
    metrics = json.loads((tmp_path / "tools" / "summary.json").read_bytes())["metrics"]
    read = metrics["http_req_duration{rpc:resources/read}"]["count"]
    assert read == rows["entity"].count + rows["novamart://entities"].count
    assert metrics["http_req_duration{rpc:prompts/get}"]["count"] == rows["explain_metric"].count


def test_a_resource_can_be_what_the_ladder_calls(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    table = parse_table({"resources": TABLE["resources"]}, "t")
    settings = build_settings(STAGES="1")
    profile = settings.profile.model_copy(
        update={"sessions": settings.profile.sessions.model_copy(update={"tool": "entity"})}
    )
    plan = plan_run(
        replace(settings, profile=profile, tools=table),
        endpoint.mcp_url,
        endpoint.bearer_file,
    )
    run = run_alone(plan, "sessions", binary, tmp_path / "sessions")
    (stage,) = [row for row in run.rows if row.kind == "stage"]
    assert (stage.name, stage.ok) == ("1", stage.count)
    assert stage.ok


@pytest.mark.parametrize(
    ("section", "entry", "words"),
    [
        ("resources", {"uri": "novamart://entities/nothing"}, "resource x fails (rpc_error): "),
        ("prompts", {"prompt": "nothing"}, "prompt x fails (rpc_error): -32602 Unknown prompt"),
        (
            "completions",
            {"prompt": "nothing", "arguments": [{"id": ""}]},
            "completion x fails (rpc_error): -32602 Nothing to complete",
        ),
    ],
)
def test_an_entry_that_fails_ends_the_run_before_it_begins(
    section: str,
    entry: dict[str, Any],
    words: str,
    open_endpoint: Callable[..., Endpoint],
    binary: K6Binary,
) -> None:
    endpoint = open_endpoint()
    with pytest.raises(K6Error) as caught:
        check(endpoint, {section: {"x": {"weight": 1, **entry}}}, "2025-11-25", binary)
    assert f"preflight: {words}" in str(caught.value)
    assert "\n" not in str(caught.value)


FLOW: dict[str, Any] = {
    "weight": 2,
    "steps": [
        {"name": "list", "tool": "listEntities"},
        {
            "tool": "describeEntity",
            "arguments": [{"name": {"$step": "list", "path": "$.entities[*].name"}}],
        },
        {
            "name": "read",
            "resource": "novamart://entities/{name}",
            "arguments": [{"name": {"$step": "describeEntity", "path": "$.entity.name"}}],
        },
        {
            "name": "count",
            "tool": "executeSQL",
            "arguments": [
                {"sql": "SELECT 1", "explanation": {"$step": "read", "path": "$..grain"}}
            ],
        },
    ],
}
STEPS = ["look/list", "look/describeEntity", "look/read", "look/count"]


def measure(
    endpoint: Endpoint,
    table: dict[str, Any],
    protocol: str,
    binary: K6Binary,
    out_dir: Path,
    **knobs: str,
) -> dict[str, Row]:
    """Run the mix of a table; return its rows by name."""
    settings = build_settings(PROTOCOL=protocol, **knobs)
    plan = plan_run(
        settings,
        endpoint.mcp_url,
        endpoint.bearer_file,
        ("tools",),
        tools=parse_table(table, "t"),
    )
    run = run_alone(plan, "tools", binary, out_dir)
    return {row.name: row for row in run.rows if row.kind not in ASIDE}


def test_a_flow_takes_arguments_from_earlier_answers(
    protocol: str, open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint(eras="both")
    table = {"tools": TABLE["tools"], "flows": {"look": FLOW}}
    _, said = check(endpoint, table, protocol, binary)
    assert said == [f"novamart 1.0.0, {protocol}: 5 of 5 calls of the table answer"]
    rows = measure(endpoint, table, protocol, binary, tmp_path / "tools")
    assert {name: row.kind for name, row in rows.items()} == {
        "all": "tool",
        "listEntities": "tool",
        **dict.fromkeys(STEPS, "step"),
        "look": "flow",
    }
    assert all(row.ok == row.count > 0 for row in rows.values())
    steps = [rows[name] for name in STEPS]
    assert sum(row.count for row in steps) + rows["listEntities"].count == rows["all"].count
    flow = rows["look"]
    # The end of the slice cuts the flows of both sessions off.
    assert flow.count <= steps[-1].count <= steps[0].count <= flow.count + 2
    assert flow.duration
    assert all(step.duration for step in steps)
    assert flow.duration.p50 > max(step.duration.p50 for step in steps if step.duration)


def test_a_path_that_finds_nothing_ends_the_run_before_it_begins(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary
) -> None:
    reference = {"$step": "listEntities", "path": "$.entities[99].name"}
    steps = [
        {"tool": "listEntities"},
        {"tool": "describeEntity", "arguments": [{"name": reference}]},
    ]
    with pytest.raises(K6Error) as caught:
        check(
            open_endpoint(),
            {"flows": {"look": {"weight": 1, "steps": steps}}},
            "2025-11-25",
            binary,
        )
    message = str(caught.value)
    assert "\n" not in message
    assert "step look/describeEntity fails (no_argument): $.entities[99].name finds " in message
    assert 'nothing in the answer of step listEntities: {"count":13,"entities":[{"na' in message


def test_a_step_without_its_argument_is_counted_and_never_sent(
    protocol: str, open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint(eras="both")
    before = endpoint.target.tool_calls
    reference = {"$step": "listEntities", "path": "$.entities[99].name"}
    steps = [
        {"tool": "listEntities"},
        {"tool": "describeEntity", "arguments": [{"name": reference}]},
        {"tool": "runMetric", "arguments": [{"id": "total_gmv"}]},
    ]
    table = {"flows": {"look": {"weight": 1, "steps": steps}}}
    rows = measure(endpoint, table, protocol, binary, tmp_path / "tools", TARGET_RPS="20")
    failed = rows["look/describeEntity"]
    assert failed.failures == {"no_argument": failed.count}
    assert rows["look"].failures == {"no_argument": failed.count}
    assert rows["look/runMetric"].count == 0
    assert endpoint.target.tool_calls - before == rows["look/listEntities"].count > 0


def test_a_failed_step_ends_its_flow_with_its_reason(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    steps = [
        {"tool": "describeEntity", "arguments": [{"name": "nothing"}]},
        {"tool": "listEntities"},
    ]
    table = {"flows": {"look": {"weight": 1, "steps": steps}}}
    rows = measure(endpoint, table, "2025-11-25", binary, tmp_path / "tools")
    assert rows["look"].failures.keys() == {"tool_error:unknown_entity"}
    assert rows["look"].ok == rows["look/listEntities"].count == 0


ASKED: dict[str, Any] = {
    "tools": {"runMetric": {"weight": 1, "arguments": [{"id": "total_gmv"}]}},
}
ANSWERS: dict[str, Any] = {
    "elicitation": {"currency": "EUR", "size": 3},
    "sampling": "yes",
    "roots": ["file:///work"],
}


@pytest.mark.parametrize("asks", list(ANSWERS))
def test_what_a_server_asks_for_is_answered_from_the_table(
    asks: str,
    protocol: str,
    open_endpoint: Callable[..., Endpoint],
    binary: K6Binary,
    tmp_path: Path,
) -> None:
    endpoint = open_endpoint(eras="both", asks=asks)
    table = {**ASKED, "answers": {asks: ANSWERS[asks]}}
    _, said = check(endpoint, table, protocol, binary)
    assert said == [f"novamart 1.0.0, {protocol}: 1 of 1 tools answer"]
    rows = measure(endpoint, table, protocol, binary, tmp_path / "tools", TARGET_RPS="10")
    assert rows["runMetric"].ok == rows["runMetric"].count > 0
    metrics = json.loads((tmp_path / "tools" / "summary.json").read_bytes())["metrics"]
    # The duration of a call is that of all its requests together.
    assert rows["runMetric"].duration
    if protocol == "2026-07-28":
        single = metrics["http_req_duration{rpc:tools/call}"]["p(50)"]
        assert rows["runMetric"].duration.p50 > single


@pytest.mark.parametrize(
    "answers",
    [{}, {"sampling": "yes"}, {"elicitation": {"size": 3}}],
)
def test_what_the_table_does_not_answer_has_its_own_reason(
    answers: dict[str, Any],
    protocol: str,
    open_endpoint: Callable[..., Endpoint],
    binary: K6Binary,
    tmp_path: Path,
) -> None:
    endpoint = open_endpoint(eras="both", asks="elicitation")
    table = {**ASKED, "answers": answers}
    with pytest.raises(K6Error) as caught:
        check(endpoint, table, protocol, binary)
    assert "tool runMetric fails (input_required): the server asks for elicitation/create " in str(
        caught.value
    )
    rows = measure(endpoint, table, protocol, binary, tmp_path / "tools", TARGET_RPS="10")
    assert rows["runMetric"].failures == {"input_required": rows["runMetric"].count}


def test_a_stream_that_stays_open_for_the_answer_is_counted_not_unread(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint(asks="elicitation", asking_streams="open")
    table: dict[str, Any] = {**ASKED, "answers": {"elicitation": {"currency": "EUR"}}}
    table["tools"]["runMetric"]["timeout_seconds"] = 1
    rows = measure(
        endpoint, table, "2025-11-25", binary, tmp_path / "tools", TARGET_RPS="4", DURATION="3"
    )
    assert rows["runMetric"].failures.keys() == {"input_required"}


def test_several_runners_measure_flows_like_one(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    reference = {"$step": "listEntities", "path": "$.entities[99].name"}
    lost = [
        {"tool": "listEntities"},
        {"tool": "describeEntity", "arguments": [{"name": reference}]},
    ]
    table = {"flows": {"look": FLOW, "lose": {"weight": 1, "steps": lost}}}
    settings = build_settings(VUS="3", DURATION="2")
    plan = plan_run(
        settings,
        endpoint.mcp_url,
        endpoint.bearer_file,
        ("tools",),
        tools=parse_table(table, "t"),
        runners=Runners("segments", 3),
    )
    launch = open_segments(binary, settings.variables)
    run = run_fleet(plan, "tools", out_dir=tmp_path / "tools", launch=launch)
    rows = {row.name: row for row in run.rows if row.kind not in ASIDE}
    assert list(rows) == ["all", *STEPS, "look", "lose/listEntities", "lose/describeEntity", "lose"]
    assert rows["look"].ok == rows["look"].count > 0
    assert rows["lose"].failures == {"no_argument": rows["lose/describeEntity"].count}
    calls = sum(row.count for row in rows.values() if row.kind == "step")
    assert calls == rows["all"].count


def test_a_session_thinks_between_the_steps_of_a_flow(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    steps = [{"name": "one", "tool": "listEntities"}, {"name": "two", "tool": "listEntities"}]
    rows = measure(
        open_endpoint(),
        {"flows": {"look": {"weight": 1, "steps": steps}}},
        "2025-11-25",
        binary,
        tmp_path / "tools",
        VUS="1",
        DURATION="3",
        MIX_PACE_SECONDS="uniform:0.4,0.5",
    )
    # Without pauses there would be hundreds of calls.
    assert 2 <= rows["all"].count <= 8
    flow, first = rows["look"].duration, rows["look/one"].duration
    assert flow
    assert first
    assert first.p50 < flow.p50 < 400
