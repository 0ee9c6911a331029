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
from loadtest.k6.preflight import Checked, check_target
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
    assert said == [f"novamart 1.0.0, {protocol}: 6 of 6 entries of the table answer"]
    settings = build_settings(PROTOCOL=protocol)
    plan = plan_run(
        settings,
        endpoint.mcp_url,
        endpoint.bearer_file,
        ("tools",),
        tools=found.tools,
    )
    run = run_alone(plan, "tools", binary, tmp_path / "tools")
    rows = {row.name: row for row in run.rows if row.kind != "opening"}
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
