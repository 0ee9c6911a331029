"""Tests of trace contexts, of the time that the server says it worked, and of the slowest calls."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.redaction import SecretStr
from loadtest.config.tool_table import parse_table
from loadtest.k6.binary import K6Binary
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.distributed.segments import open_segments
from loadtest.k6.plan import Runners
from loadtest.k6.scenario import ScenarioRun
from loadtest.k6.slow_calls import read_slowest
from loadtest.results.run import SlowCall
from loadtest.state.bearers import Bearer, write_bearers
from tests.k6.any_server import AnyServer, AnyTool
from tests.k6.running import Endpoint, build_settings, pick, plan_run, run_alone

# W3C Trace Context, level 1, section 3.2.
TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01")
TABLE = parse_table(
    {
        "tools": {"look": {"weight": 1, "arguments": [{}]}},
        "resources": {"doc": {"weight": 1, "uri": "doc://1"}},
    },
    "t",
)


def note(tool: str, ms: float, **more: Any) -> dict[str, Any]:
    at = "2026-11-30T04:41:07.221Z"
    return {
        **{"tool": tool, "ms": ms, "server_ms": None, "at": at},
        **{"trace_id": None, "request_id": None},
        **more,
    }


def print_slow(*calls: Any) -> bytes:
    """Return the line that k6 writes for `slow calls`."""
    message = json.dumps(f"slow calls {json.dumps(calls)}")
    return f'time="2026-11-30T04:41:07Z" level=info msg={message} source=console\n'.encode()


def read(tmp_path: Path, *lines: bytes, scenario: str = "tools") -> tuple[SlowCall, ...]:
    log = tmp_path / "k6.log"
    log.write_bytes(b"".join(lines))
    return read_slowest((log,), scenario, TABLE)


def test_the_three_slowest_calls_of_each_tool_are_kept_slowest_first(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        print_slow(*(note("look", ms) for ms in (5, 40, 20))),
        b'time="x" level=info msg="session opened s-1 0 2025-11-25" source=console\n',
        print_slow(note("look", 30.12345), note("doc", 25)),
    )
    assert [(call.kind, call.name, call.ms) for call in found] == [
        ("tool", "look", 40),
        ("tool", "look", 30.123),
        ("resource", "doc", 25),
        ("tool", "look", 20),
    ]


def test_a_call_with_a_trace_id_is_kept_however_fast(tmp_path: Path) -> None:
    traced = [note("look", ms, trace_id="4b" * 16) for ms in (3, 5)]
    found = read(tmp_path, print_slow(*(note("look", ms) for ms in (9, 8, 7)), *traced))
    assert [(call.ms, call.trace_id) for call in found] == [(9, None), (8, None), (5, "4b" * 16)]


def test_of_equally_slow_calls_one_with_a_trace_id_is_kept(tmp_path: Path) -> None:
    traced = note("look", 7, trace_id="4b" * 16)
    found = read(tmp_path, print_slow(*[note("look", 7)] * 3, traced))
    assert [call.trace_id for call in found] == ["4b" * 16, None, None]


@pytest.mark.parametrize(
    "broken",
    [
        b'time="x" level=info msg="slow calls [{\\"tool\\": \\"look\\"" source=console\n',
        print_slow({"tool": "look"}),
        print_slow(note("look", -1)),
        print_slow(note("look", 1, trace_id="not a trace")),
        print_slow(note("look", 1, at="yesterday")),
        print_slow(note("a tool that is not in the table", 1)),
        print_slow("look"),
    ],
)
def test_a_damaged_line_is_skipped(tmp_path: Path, broken: bytes) -> None:
    found = read(tmp_path, broken, print_slow(note("look", 3)))
    assert [call.ms for call in found] == [3]


def test_the_calls_of_a_cold_start_are_its_requests(tmp_path: Path) -> None:
    notes = print_slow(note("initialize", 9), note("tools/list", 4), note("look", 50))
    found = read(tmp_path, notes, scenario="cold-start")
    assert [(call.kind, call.name) for call in found] == [
        ("frame", "initialize"),
        ("frame", "tools/list"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["2025-11-25", "2026-07-28"])
def test_one_call_a_second_carries_a_trace_in_its_header_and_its_meta(
    binary: K6Binary, tmp_path: Path, protocol: str
) -> None:
    with AnyServer({"look": AnyTool({"type": "object"})}) as server:
        bearer = Bearer(SecretStr("none"), 4e9, server.mcp_url, "", "given")
        write_bearers(tmp_path / "bearer.json", (bearer,))
        plan = plan_run(
            build_settings(VUS="1", DURATION="2"),
            server.mcp_url,
            tmp_path / "bearer.json",
            protocol=protocol,
            tools=parse_table({"tools": {"look": {"weight": 1, "arguments": [{}]}}}, "t"),
        )
        run = run_alone(plan, "tools", binary, tmp_path / "tools")
    assert pick(run, "tool", "look").failures == {}
    traced = [pair for pair in server.traces if pair != (None, None)]
    # One in each second of the clock, of which a run of two seconds touches three.
    assert 2 <= len(traced) <= 3 < len(server.traces)
    assert len(set(traced)) == len(traced)
    for header, in_meta in traced:
        assert header == in_meta
        assert TRACEPARENT.fullmatch(header or "")
    ids = {call.trace_id for call in run.slowest} - {None}
    assert ids
    assert ids <= {(header or "").split("-")[1] for header, _ in traced}


def check_slowest(run: ScenarioRun, kind: str, name: str, trace_ids: set[str]) -> None:
    """Check the slowest calls of a row that was measured on a server that names its requests."""
    row = pick(run, kind, name)
    calls = [call for call in run.slowest if call.name == name]
    assert row.server_time is not None
    assert row.duration is not None
    assert 0 < row.server_time.p50 <= row.duration.max
    assert calls[0].ms == pytest.approx(row.duration.max, abs=0.01)
    assert 1 <= len(calls) <= 3
    for call in calls:
        assert call.server_ms is not None
        assert 0 < call.server_ms <= call.ms
        assert call.request_id
    trace_ids |= {call.trace_id for call in calls if call.trace_id}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "kind", "name"),
    [
        ("cold-start", "frame", "initialize"),
        ("tools", "tool", "listEntities"),
    ],
)
def test_the_slowest_calls_name_what_finds_them_in_the_traces_of_the_server(
    open_endpoint: Callable[..., Endpoint],
    measure: Callable[..., ScenarioRun],
    scenario: str,
    kind: str,
    name: str,
) -> None:
    run = measure(scenario, open_endpoint(trace_headers=True))
    trace_ids: set[str] = set()
    check_slowest(run, kind, name, trace_ids)
    if scenario == "cold-start":  # each of its requests carries the trace of its start
        assert len(trace_ids) == 3
    assert list(run.slowest) == sorted(run.slowest, key=lambda call: -call.ms)


@pytest.mark.slow
def test_the_calls_of_a_ladder_that_calls_once_a_second_all_carry_a_trace(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    run = measure("sessions", open_endpoint())
    assert {(call.kind, call.name) for call in run.slowest} == {("tool", "executeSQL")}
    assert all(call.trace_id for call in run.slowest)
    assert {(call.server_ms, call.request_id) for call in run.slowest} == {(None, None)}
    assert all(row.server_time is None for row in run.rows)


@pytest.mark.slow
def test_the_slowest_calls_and_the_server_time_are_of_all_runners(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint(trace_headers=True)
    settings = build_settings(VUS="3")
    runners = Runners("segments", 3)
    plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file, runners=runners)
    launch = open_segments(binary, settings.variables)
    run = run_fleet(plan, "tools", out_dir=tmp_path, launch=launch)
    assert run.result.faults == ()
    check_slowest(run, "tool", "executeSQL", set())
