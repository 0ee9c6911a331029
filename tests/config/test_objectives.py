"""Objectives as an environment sets them: names, figures and contradictions."""

from pathlib import Path

import pytest

from loadtest.config.loading import load_settings
from loadtest.config.objectives import Objective
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError

CONFIG = """
[environment.own]
target = "hosted"
default_profile = "smoke"
limits = {{ max_vus = 100, max_rps = 100, max_duration_seconds = 600 }}

[environment.own.slo]
{slo}

{more}
[environment.own.tools.search]
weight = 1
arguments = [{{}}]
[environment.own.tools.connect]
weight = 1
arguments = [{{}}]
"""
FLOW = """
[environment.own.flows.buy]
weight = 1
steps = [{ tool = "search", arguments = [{}] }, { tool = "order", arguments = [{}] }]
"""


def load(root: Path, slo: str, *, more: str = "", **given: object) -> Settings:
    (root / CONFIG_FILE).write_text(CONFIG.format(slo=slo, more=more))
    return load_settings(root, "own", process_env={}, **given)  # type: ignore[arg-type]


def refuse(root: Path, slo: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(root, slo)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_environment_without_objectives_has_none(tmp_path: Path) -> None:
    assert load(tmp_path, "").objectives == ()


def test_objectives_are_of_tools_frames_scenarios_and_what_is_held(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "search = { p95_ms = 800, failed = 0.005 }\n"
        "first_dispatch = { p95_ms = 1500 }\n"
        "'tools/list' = { p50_ms = 90 }\n"
        "sessions = { p99_ms = 2000 }\n"
        "tools = { failed = 0 }\n"
        "soak = { failed = 0.1 }\n"
        "holds = 10\n"
        "holds_streams = 2",
    )
    assert settings.objectives == (
        Objective("tools", "tool", "search", "p95", 800),
        Objective("soak", "tool", "search", "p95", 800),
        Objective("tools", "tool", "search", "failed", 0.005),
        Objective("soak", "tool", "search", "failed", 0.005),
        Objective("cold-start", "frame", "first dispatch", "p95", 1500),
        Objective("soak", "frame", "first dispatch", "p95", 1500),
        Objective("cold-start", "frame", "tools/list", "p50", 90),
        Objective("sessions", "stage", "all", "p99", 2000),
        Objective("tools", "tool", "all", "failed", 0),
        Objective("soak", "tool", "all", "failed", 0.1),
        Objective("sessions", "stage", "all", "holds", 10),
        Objective("streams", "stream", "all", "holds", 2),
    )


def test_objectives_are_of_flows_and_their_steps_too(tmp_path: Path) -> None:
    slo = "buy = { p95_ms = 3000 }\n'buy/order' = { p95_ms = 900 }"
    assert load(tmp_path, slo, more=FLOW).objectives == (
        Objective("tools", "flow", "buy", "p95", 3000),
        Objective("soak", "flow", "buy", "p95", 3000),
        Objective("tools", "step", "buy/order", "p95", 900),
        Objective("soak", "step", "buy/order", "p95", 900),
    )


@pytest.mark.parametrize(
    ("slo", "words"),
    [
        ("serch = { p95_ms = 1 }", "slo: serch names no tool, frame or scenario: the table has"),
        ("search = { p96_ms = 1 }", "environment.own.slo.search.p96_ms"),
        ("search = {}", "at least one of p50_ms, p95_ms, p99_ms and failed"),
        ("search = { p95_ms = 0 }", "slo.search.p95_ms"),
        ("search = { failed = 1.5 }", "slo.search.failed"),
        ("search = 800", "environment.own.slo.search"),
        ("search = { p50_ms = 900, p95_ms = 800 }", "p95_ms = 800 contradicts p50_ms = 900"),
        ("search = { p50_ms = 900, p99_ms = 800 }", "p99_ms = 800 contradicts p50_ms = 900"),
        ("holds = 0", "environment.own.slo.holds"),
        ("holds = 11", "holds = 11, but the ladder of sessions ends at 10 in profile smoke"),
        ("holds_streams = 999", "holds_streams = 999, but the ladder of streams ends at "),
        ("connect = { p95_ms = 1 }", 'is a frame and a tool: write "frame:connect" or "tool:con'),
        (
            "cold-start = { p95_ms = 1 }\nfirst_dispatch = { p95_ms = 2 }",
            "first_dispatch sets p95 of first dispatch a second time",
        ),
        ('"a\\nb" = { p95_ms = 1 }', "slo: a?b names no tool"),
    ],
)
def test_a_wrong_objective_is_one_line(tmp_path: Path, slo: str, words: str) -> None:
    assert words in refuse(tmp_path, slo)


def test_a_name_of_two_things_is_written_with_its_kind(tmp_path: Path) -> None:
    slo = '"tool:connect" = { p95_ms = 1 }\n"frame:connect" = { p95_ms = 2 }'
    assert {each.kind for each in load(tmp_path, slo).objectives} == {"tool", "frame"}


def test_a_smaller_load_that_was_typed_may_not_reach_what_is_to_be_held(tmp_path: Path) -> None:
    assert load(tmp_path, "holds = 10", knobs={"stages": "1,2"}).objectives


def test_objectives_of_another_tool_table_are_left_out(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"tools": {"ask": {"weight": 1, "arguments": [{}]}}}')
    slo = "search = { p95_ms = 800 }\ntools = { p95_ms = 900 }"
    settings = load(tmp_path, slo, knobs={"tools": str(other)})
    assert [each.name for each in settings.objectives] == ["all"]
