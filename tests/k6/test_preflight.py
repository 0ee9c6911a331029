"""Any server's tools: the table against what is listed, one call of each, and the run after."""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.files import write_json
from loadtest.common.redaction import SecretStr
from loadtest.config.models import USUAL_SCENARIOS
from loadtest.config.tool_table import BLANK, parse_table, read_table
from loadtest.errors import ConfigError, K6Error, LoadtestError
from loadtest.k6.binary import K6Binary
from loadtest.k6.plan import RunPlan
from loadtest.k6.preflight import check_target
from loadtest.state.bearers import Bearer, write_bearers
from tests.k6.any_server import AnyServer, AnyTool
from tests.k6.running import Endpoint, build_settings, plan_run, run_alone

pytestmark = pytest.mark.slow

SEARCH = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "what to look for\nin full"},
        "limit": {"type": "integer", "default": 5},
        "order": {"enum": ["newest", "best"]},
        "filter": {
            "type": "object",
            "properties": {"kind": {"const": "page"}, "depth": {"type": "integer"}},
            "required": ["kind", "depth"],
        },
        "more": {"type": "boolean"},
    },
    "required": ["query", "limit", "order", "filter"],
}
TOOLS = {
    "search": AnyTool(SEARCH, description="Search.\nAll of it.", read_only=True),
    "send": AnyTool({"type": "object"}),
}
FILLED = {"query": "a", "limit": 5, "order": "best", "filter": {"kind": "page", "depth": 1}}


def is_unlucky_once(seed: int) -> bool:
    """Return whether the first of the target's calls fails, and never two in a row."""
    rng = random.Random(seed)  # noqa: S311 (as the target draws)
    fails = [rng.random() < 0.4 for _ in range(8)]
    return fails[0] and (True, True) not in pairwise(fails)


Check = Callable[..., tuple[RunPlan, list[str]]]


@pytest.fixture
def check(tmp_path: Path, binary: K6Binary) -> Check:
    """Check a target with a table, or none; what was said comes back too."""
    bearer_file = tmp_path / "bearer.json"
    bearer = Bearer(SecretStr("none"), time.time() + 3600, "http://127.0.0.1", "", "given")
    write_bearers(bearer_file, (bearer,))

    def run(
        mcp_url: str,
        tools: Mapping[str, Any] | None = None,
        scenarios: tuple[str, ...] = USUAL_SCENARIOS,
        bearer: Path = bearer_file,
        pools: Mapping[str, Any] | None = None,
        **knobs: str,
    ) -> tuple[RunPlan, list[str]]:
        if tools is not None:
            path = tmp_path / "tools.json"
            body = {"tools": tools, "pools": pools or {}}
            path.write_text(json.dumps(body), encoding="utf-8")
            knobs["TOOLS"] = str(path)
        settings = replace(
            build_settings(**knobs), root=tmp_path, tools_assumed="TOOLS" not in knobs
        )
        said: list[str] = []
        found = check_target(settings, mcp_url, bearer, scenarios, binary=binary, tell=said.append)
        plan = plan_run(
            settings, mcp_url, bearer, scenarios, protocol=found.protocol, tools=found.tools
        )
        return plan, said

    return run


def refuse(kind: type[LoadtestError], check: Check, *arguments: Any, **knobs: Any) -> str:
    """Return the one line that a refused target or table gets."""
    with pytest.raises(kind) as caught:
        check(*arguments, **knobs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_novamart_needs_no_table(open_endpoint: Callable[..., Endpoint], check: Check) -> None:
    endpoint = open_endpoint()
    before = endpoint.target.tool_calls
    found, said = check(endpoint.mcp_url, bearer=endpoint.bearer_file)
    assert said == ["novamart 1.0.0, 2025-11-25: 4 of 4 tools answer"]
    assert found.protocol == "2025-11-25"
    assert endpoint.target.tool_calls - before == 4
    assert endpoint.target.open_sessions == 0


def test_only_the_tools_that_will_be_called_are_called(
    open_endpoint: Callable[..., Endpoint], check: Check
) -> None:
    endpoint = open_endpoint()
    for scenarios, calls in ((("cold-start",), 0), (("sessions",), 1), (("tools",), 4)):
        before = endpoint.target.tool_calls
        check(endpoint.mcp_url, scenarios=scenarios, bearer=endpoint.bearer_file)
        assert endpoint.target.tool_calls - before == calls


DRAFT = ".loadtest/local/tools-draft.json"
BOOK = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
MANY = {
    "search": TOOLS["search"],
    "broken": AnyTool(BOOK, "no such book:\n\x1b[31m1", fails=True, read_only=True),
    "odd": AnyTool({**BOOK, "properties": {"id": {"not": {}}}}, read_only=True),
    "send": AnyTool({"type": "object"}, description="Send\na letter."),
    "drop": AnyTool(BOOK, read_only=True, destructive=True),
    "a,b": AnyTool({"type": "object"}, read_only=True),
}
DRAFTED = {"limit": 5, "filter": {"kind": "page", "depth": 1}, "query": "test"}
SEARCHES = [{**DRAFTED, "order": order} for order in ("newest", "best")]


@pytest.mark.parametrize("json_response", [True, False])
def test_another_server_gets_a_draft_whose_calls_were_tried_once(
    json_response: bool, check: Check, tmp_path: Path
) -> None:
    with AnyServer(MANY, json_response) as server:
        message = refuse(ConfigError, check, server.mcp_url)
        assert server.called == [
            *(("search", arguments) for arguments in SEARCHES),
            *[("broken", {"id": 1})] * 2,  # a failure may be an accident
        ]
        assert server.open_sessions == 0
    assert "does not have NovaMart's tools" in message
    assert message.endswith(
        f"{DRAFT} is a draft: it calls search, tried once, and says why not broken, odd, "
        f"send, drop; read it, then run again with --tools {DRAFT}"
    )
    draft = json.loads((tmp_path / DRAFT).read_text(encoding="utf-8"))
    assert draft["tools"] == {
        "search": {"about": "Search.", "weight": 1, "arguments": SEARCHES, "tried": "ok"}
    }
    undeclared = "not tried: the server does not declare it read-only"
    assert {
        name: (tool["arguments"], tool["tried"]) for name, tool in draft["left_out"].items()
    } == {
        "broken": ([{"id": 1}], "tool_error:other: no such book: [31m1"),
        "odd": ([{"id": f"{BLANK}any value>"}], "not tried: fill in its arguments"),
        "send": ([{}], undeclared),
        "drop": ([{"id": 1}], "not tried: the server declares it destructive"),
    }
    assert draft["left_out"]["send"]["about"] == "Send"


def test_a_draft_runs_as_it_is(check: Check, tmp_path: Path, binary: K6Binary) -> None:
    with AnyServer(MANY) as server:
        refuse(ConfigError, check, server.mcp_url)
        server.called.clear()
        plan, said = check(server.mcp_url, TOOLS=str(tmp_path / DRAFT))
        assert said == ["any 7, 2026-07-28: 1 of 1 tools answer"]
        run = run_alone(plan, "tools", binary, tmp_path / "tools")
    assert run.result.outcome == "ok"
    assert {name for name, _ in server.called} == {"search"}


def test_a_tool_that_is_not_declared_read_only_is_called_if_it_is_named(
    check: Check, tmp_path: Path
) -> None:
    with AnyServer(MANY) as server:
        message = refuse(ConfigError, check, server.mcp_url, DRAFT_TOOLS="send,drop")
        assert {name for name, _ in server.called} == {"search", "broken", "send", "drop"}
    assert "it calls send, drop, search, tried once, and says why not broken, odd;" in message
    assert list(read_table(tmp_path / DRAFT).tools) == ["send", "drop", "search"]


def test_a_draft_that_is_asked_for_is_written_though_the_table_fits(
    check: Check, tmp_path: Path
) -> None:
    with AnyServer({"send": TOOLS["send"]}) as server:
        tools = {"send": {"weight": 1, "arguments": [{}]}}
        message = refuse(ConfigError, check, server.mcp_url, tools, DRAFT_TOOLS="send")
    assert message == (
        "--draft-tools (LOADTEST_DRAFT_TOOLS) asks for a draft instead of a run. "
        f"{DRAFT} is a draft: it calls send, tried once; read it, then run again with --tools "
        f"{DRAFT}"
    )
    assert list(read_table(tmp_path / DRAFT).tools) == ["send"]


def test_a_named_tool_that_the_target_lacks_is_refused(check: Check, tmp_path: Path) -> None:
    with AnyServer(TOOLS) as server:
        message = refuse(ConfigError, check, server.mcp_url, DRAFT_TOOLS="send,sned")
        assert server.called == []
    assert message == (
        "--draft-tools (LOADTEST_DRAFT_TOOLS): the target has no tool sned, only search, send"
    )
    assert not (tmp_path / DRAFT).exists()


def test_a_server_that_declares_nothing_read_only_is_not_called(
    check: Check, tmp_path: Path
) -> None:
    with AnyServer({"send": TOOLS["send"]}) as server:
        message = refuse(ConfigError, check, server.mcp_url)
        assert server.called == []
    assert f"{DRAFT} is a draft: it calls no tool and says why not send;" in message
    assert "--draft-tools" in message
    with pytest.raises(ConfigError, match="no tools"):
        read_table(tmp_path / DRAFT)


@pytest.mark.parametrize("protocol", ["auto", "2025-06-18"])
def test_any_server_can_be_measured_with_its_own_tool_table(
    protocol: str, check: Check, tmp_path: Path, binary: K6Binary
) -> None:
    tools = {
        "search": {"weight": 3, "arguments": [FILLED, {**FILLED, "more": True}]},
        "send": {"weight": 1, "arguments": [{}]},
    }
    with AnyServer(TOOLS) as server:
        plan, said = check(server.mcp_url, tools, PROTOCOL=protocol)
        spoken = "2026-07-28" if protocol == "auto" else protocol
        assert said == [f"any 7, {spoken}: 2 of 2 tools answer"]
        assert server.called == [("search", FILLED), ("send", {})]
        runs = {
            scenario: run_alone(plan, scenario, binary, tmp_path / scenario)
            for scenario in USUAL_SCENARIOS
        }
        assert server.open_sessions == 0
    assert {run.result.outcome for run in runs.values()} == {"ok"}
    assert {run.server.protocol for run in runs.values() if run.server} == {spoken}
    rows = {row.name: row for row in runs["tools"].rows if row.kind == "tool"}
    assert list(rows) == ["all", "search", "send"]
    assert rows["search"].ok > rows["send"].ok > 0


def test_a_table_of_other_tools_is_refused_before_one_of_its_calls(check: Check) -> None:
    tools = {
        "search": {"weight": 1, "arguments": [FILLED]},
        "delete": {"weight": 1, "arguments": [{}]},
    }
    with AnyServer(TOOLS) as server:
        message = refuse(ConfigError, check, server.mcp_url, tools)
        assert server.called == [("search", arguments) for arguments in SEARCHES]  # of the draft
    assert f"tools.json: the target has no tool delete. {DRAFT} is a draft:" in message


def test_a_server_without_tools_is_refused(check: Check) -> None:
    with AnyServer({}) as server:
        assert "lists no tool" in refuse(ConfigError, check, server.mcp_url)


def test_arguments_that_the_schema_refuses_end_the_run(check: Check) -> None:
    tools = {"search": {"weight": 1, "arguments": [FILLED, {**FILLED, "limit": "5"}]}}
    with AnyServer(TOOLS) as server:
        message = refuse(ConfigError, check, server.mcp_url, tools)
    assert "tool search, arguments[1] do not match the target's schema" in message
    assert "$.limit: '5' is not of type 'integer'" in message


@pytest.mark.parametrize(
    "schema",
    [{"$ref": "http://127.0.0.1:9/schema"}, {"type": 7}, {"$ref": "#"}, {"pattern": "("}],
)
def test_an_invalid_schema_refuses_no_arguments(schema: Mapping[str, Any], check: Check) -> None:
    tools = {"odd": {"weight": 1, "arguments": [{}]}}
    with AnyServer({"odd": AnyTool({"type": "object", "allOf": [schema]})}) as server:
        _, said = check(server.mcp_url, tools)
    assert said == ["any 7, 2026-07-28: 1 of 1 tools answer"]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("no such index:\n\x1b[31mbooks", "tool_error:other"),
        ('{"code": "forbidden", "message": "not you"}', "tool_error:forbidden"),
    ],
)
def test_a_tool_that_fails_ends_the_run_with_its_own_answer(
    answer: str, outcome: str, check: Check
) -> None:
    tools = {"broken": {"weight": 1, "arguments": [{}]}}
    with AnyServer({"broken": AnyTool({"type": "object"}, answer, fails=True)}) as server:
        message = refuse(K6Error, check, server.mcp_url, tools)
        assert server.open_sessions == 0
    assert f"tool broken fails ({outcome}): " in message
    assert " ".join(answer.replace("\x1b", " ").split()) in message
    assert "tools.json" in message


def test_a_server_that_fails_sometimes_is_still_measured(
    open_endpoint: Callable[..., Endpoint], check: Check
) -> None:
    seed = next(seed for seed in range(1000) if is_unlucky_once(seed))
    endpoint = open_endpoint(error_share=0.4, seed=seed)
    before = endpoint.target.tool_calls
    _, said = check(endpoint.mcp_url, bearer=endpoint.bearer_file)
    assert said[0].endswith("4 of 4 tools answer")
    assert endpoint.target.tool_calls - before > 4


def test_a_rate_limit_is_reported_and_does_not_end_the_run(
    open_endpoint: Callable[..., Endpoint], check: Check
) -> None:
    endpoint = open_endpoint(tool_quota=True, quota_units=5)
    _, said = check(endpoint.mcp_url, bearer=endpoint.bearer_file)
    assert said[0].startswith("listEntities, describeEntity, runMetric met a rate limit")
    assert said[1].endswith("1 of 4 tools answer")


def test_a_dead_target_is_an_error_of_one_line(check: Check) -> None:
    message = refuse(K6Error, check, "http://127.0.0.1:9/mcp")
    assert message == ("preflight: the probe of the target failed at server/discover: connection")


def test_values_that_the_schema_refuses_end_the_run_wherever_they_are_in_a_pool(
    check: Check,
) -> None:
    tools = {"search": {"weight": 1, "arguments": [{**FILLED, "limit": {"$pool": "limits"}}]}}
    for pool, fault in (
        ({"list": [1, 2, "5"]}, "$.limit: '5' is not of type 'integer'"),
        ({"template": "${n}"}, "$.limit: '1' is not of type 'integer'"),
    ):
        pools = {"limits": pool, "n": {"range": [1, 10**6]}}
        with AnyServer(TOOLS) as server:
            message = refuse(ConfigError, check, server.mcp_url, tools, pools=pools)
            assert len(server.called) == 1
        assert "tool search, arguments[0] do not match the target's schema" in message
        assert fault in message


def test_arguments_from_pools_vary_in_every_session_and_stage(
    check: Check, tmp_path: Path, binary: K6Binary
) -> None:
    schema = {
        "type": "object",
        "properties": {"number": {"type": "integer", "x-mcp-header": "Number"}},
        "required": ["number"],
    }
    tools = {"get": {"weight": 1, "arguments": [{"number": {"$pool": "number"}}]}}
    pools = {"number": {"range": [1, 10**9]}}
    with AnyServer({"get": AnyTool(schema)}) as server:
        plan, said = check(server.mcp_url, tools, pools=pools, STAGES="1,3")
        assert said == ["any 7, 2026-07-28: 1 of 1 tools answer"]
        calls = []
        for scenario in ("sessions", "tools", "sessions"):
            server.called.clear()
            run = run_alone(plan, scenario, binary, tmp_path / scenario)
            assert run.result.outcome == "ok"
            calls.append([arguments["number"] for _, arguments in server.called])
    first, mix, again = calls
    assert len(set(first + mix)) == len(first + mix)
    assert set(first) == set(again)  # the seed is the same in every run


def test_an_argument_that_a_header_must_repeat_is_repeated(
    check: Check, tmp_path: Path, binary: K6Binary
) -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "page": {
                "type": "object",
                "properties": {"size": {"type": "integer", "x-mcp-header": "Size"}},
            },
        },
    }
    pool = [{"region": "Zürich", "page": {"size": 3}}, {"region": "us-west1"}, {}]
    tools = {"look": {"weight": 1, "arguments": pool}}
    with AnyServer({"look": AnyTool(schema)}) as server:
        plan, _ = check(server.mcp_url, tools)
        run = run_alone(plan, "tools", binary, tmp_path / "tools")
        called = [arguments for _, arguments in server.called]
    assert plan.protocol == "2026-07-28"
    assert (run.result.outcome, sum(len(row.failures) for row in run.rows)) == ("ok", 0)
    assert all(arguments in called for arguments in pool)


def test_calls_fail_without_the_headers_that_repeat_arguments(
    tmp_path: Path, binary: K6Binary
) -> None:
    schema = {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    table = parse_table({"tools": {"look": {"weight": 1, "arguments": [{"region": "a"}]}}}, "t")
    with AnyServer({"look": AnyTool({"type": "object", **schema})}) as server:
        settings = replace(build_settings(PROTOCOL="2026-07-28"), tools=table)
        write_json(tmp_path / "bearer.json", 2, {"bearers": [{"access_token": "none"}]})
        plan = plan_run(settings, server.mcp_url, tmp_path / "bearer.json")
        run = run_alone(plan, "tools", binary, tmp_path / "tools")
    assert {reason for row in run.rows for reason in row.failures} == {"rpc_error"}


def test_a_server_whose_name_is_long_and_full_of_escapes_is_named_in_200_printable_characters(
    check: Check,
) -> None:
    long = "\x1b[2J\u202e" + "n" * 1_000_000
    with AnyServer(TOOLS, name=long, version=long) as server:
        _, said = check(server.mcp_url, {"send": {"weight": 1, "arguments": [{}]}})
    (line,) = said
    assert line.isprintable()
    assert line.startswith("[2J nnn")
    assert len(line) < 500
