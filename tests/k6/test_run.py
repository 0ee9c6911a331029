"""The scenarios as they run: the real k6 against the real reference target."""

import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from loadtest.common.files import write_json
from loadtest.common.scripts import SCRIPTS
from loadtest.config.models import USUAL_SCENARIOS
from loadtest.errors import K6Error
from loadtest.k6.binary import K6Binary, find_k6
from loadtest.k6.health import ABORT_SECONDS, AbortRule
from loadtest.k6.progress import Live, NoWatcher
from loadtest.k6.scenario import ScenarioRun, run_scenario, run_scenarios
from loadtest.results.intervals import read_intervals
from loadtest.results.run_folder import RunFolder, read_run_folder
from tests.bench.k6_runs import serve_fixed
from tests.k6.any_server import AnyServer, AnyTool
from tests.k6.running import (
    Endpoint,
    Interrupter,
    build_settings,
    kill_k6,
    limit_rate,
    new_folder,
    pick,
    plan_run,
    run_alone,
)

pytestmark = pytest.mark.slow


@dataclass
class Whole:
    """One run of all three scenarios."""

    endpoint: Endpoint
    folder: RunFolder

    def summary(self, scenario: str) -> dict[str, dict[str, float]]:
        """Return a scenario's metrics as other people's tools read them."""
        text = (self.folder.scenario_dir(scenario) / "summary.json").read_text(encoding="utf-8")
        metrics = json.loads(text)["metrics"]
        assert isinstance(metrics, dict)
        return metrics


@pytest.fixture(scope="module")
def whole(
    open_endpoint: Callable[..., Endpoint],
    tmp_path_factory: pytest.TempPathFactory,
    binary: K6Binary,
) -> Whole:
    """Run all three scenarios once."""
    endpoint = open_endpoint()
    folder = new_folder(tmp_path_factory.mktemp("runs"), binary)
    folder = run_scenarios(
        plan_run(build_settings(), endpoint.mcp_url, endpoint.bearer_file),
        folder,
        run=partial(run_scenario, binary=binary, variables=os.environ),
    )
    return Whole(endpoint, folder)


def test_every_scenario_succeeds_and_the_files_have_what_was_returned(whole: Whole) -> None:
    assert [(result.name, result.outcome) for result in whole.folder.run.scenarios] == [
        (name, "ok") for name in USUAL_SCENARIOS
    ]
    assert read_run_folder(whole.folder.path) == whole.folder


def test_no_session_is_left_on_the_target(whole: Whole) -> None:
    assert whole.endpoint.target.open_sessions == 0
    assert [result.sessions_left for result in whole.folder.run.scenarios] == [0, 0, 0]


def test_a_run_names_the_server_and_the_protocol(whole: Whole) -> None:
    target = whole.folder.run.target
    assert (target.server_name, target.protocol_version) == ("novamart", "2025-11-25")
    assert (target.era, bool(target.server_version)) == ("handshake", True)


def test_a_cold_start_has_a_row_per_frame_and_uses_a_new_connection(whole: Whole) -> None:
    rows = {row.name: row for row in whole.folder.rows if row.scenario == "cold-start"}
    assert list(rows) == ["connect", "initialize", "tools/list", "first dispatch"]
    assert {(row.kind, row.count, row.ok) for row in rows.values()} == {("frame", 6, 6)}
    p50 = {name: row.duration.p50 for name, row in rows.items() if row.duration}
    assert p50["connect"] > 0.05
    assert p50["first dispatch"] > max(p50["initialize"], p50["tools/list"])


def test_a_stage_makes_only_the_calls_of_its_own_schedule(whole: Whole) -> None:
    rows = {row.name: row for row in whole.folder.rows if row.kind == "stage"}
    assert {name: (row.count, row.ok) for name, row in rows.items()} == {"1": (1, 1), "2": (2, 2)}
    assert [row.offered_rate for row in rows.values()] == [1, 2]
    assert [row.achieved_rate for row in rows.values()] == [1, 2]
    for row in rows.values():
        assert row.response is not None
        assert row.duration is not None
        assert row.response.p50 >= row.duration.p50


def test_sessions_opened_are_counted_per_stage(whole: Whole) -> None:
    opened = [row for row in whole.folder.rows if row.kind == "opening"]
    assert [(row.scenario, row.name, row.ok) for row in opened] == [
        ("sessions", "1", 1),
        ("sessions", "2", 2),
        ("tools", "all", 2),
    ]


def test_the_mix_has_a_row_for_each_tool_and_one_for_all(whole: Whole) -> None:
    rows = {row.name: row for row in whole.folder.rows if row.kind == "tool"}
    assert list(rows) == ["all", "executeSQL", "listEntities", "describeEntity", "runMetric"]
    assert rows["all"].count == sum(row.count for name, row in rows.items() if name != "all")
    assert rows["all"].offered_rate is rows["all"].held_rate is None
    assert not any(row.failures for row in rows.values())


def test_the_summary_keeps_the_shape_that_other_tools_read(whole: Whole) -> None:
    tools = whole.summary("tools")
    for key in ("http_req_duration{rpc:tools/call}", "http_req_duration{tool:executeSQL}"):
        assert {"p(50)", "p(90)", "p(95)", "p(99)", "avg", "min", "med", "max"} <= tools[key].keys()
        assert tools[key]["count"] > 0
    count = pick_count(whole, "all")
    assert tools["http_req_duration{rpc:tools/call}"]["count"] == count
    assert whole.summary("sessions")["http_req_duration{stage:2}"]["count"] > 0
    assert whole.summary("cold-start")["http_req_duration{rpc:initialize}"]["count"] == 6


def pick_count(whole: Whole, tool: str) -> int:
    """Return how many calls of the mix went to a tool."""
    return next(row.count for row in whole.folder.rows if (row.kind, row.name) == ("tool", tool))


def test_the_bearer_is_in_no_file_of_the_run(whole: Whole) -> None:
    (entry,) = json.loads(whole.endpoint.bearer_file.read_text(encoding="utf-8"))["bearers"]
    bearer = entry["access_token"]
    files = [path for path in whole.folder.path.rglob("*") if path.is_file()]
    assert {"run.json", "summary.json", "rows.json", "k6.log"} <= {path.name for path in files}
    parts = bearer.split(".")
    for path in files:
        content = path.read_bytes()
        assert not any(part.encode() in content for part in parts[1:]), path


def test_refusals_at_the_session_cap_are_counted_separately_and_cross_no_threshold(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    endpoint = open_endpoint(session_cap=1)
    run = measure("sessions", endpoint, STAGES="2")
    assert run.result.outcome == "ok"
    opened = pick(run, "opening", "2")
    assert (opened.count, opened.ok, opened.failures) == (2, 1, {"capacity": 1})
    stage = pick(run, "stage", "2")
    assert (stage.count, stage.offered_rate, stage.achieved_rate) == (1, 2, 1)
    assert endpoint.target.open_sessions == 0


def test_tool_errors_are_counted_by_code_and_crossed_thresholds_are_a_result(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    run = measure("tools", open_endpoint(error_share=1.0))
    assert run.result.outcome == "thresholds crossed"
    assert "mcp_failed{tool:executeSQL}: rate<=0.01" in run.result.crossed
    row = pick(run, "tool", "executeSQL")
    assert row.ok == 0
    assert row.failures == {"tool_error:internal_error": row.count}
    assert row.duration is None


def test_refusals_by_a_quota_are_counted_separately(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    run = measure("tools", open_endpoint(tool_quota=True, quota_units=10))
    row = pick(run, "tool", "all")
    assert row.failures.keys() == {"rate_limited"}
    assert row.ok > 0


class UntilRefused(NoWatcher):
    """Interrupts a run once k6 has counted refusals; keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Live] = []

    def tick(self, live: Live | None) -> None:
        """Interrupt when the numbers of a moment have a refusal."""
        if live is not None and live.failures:
            self.seen.append(live)
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("reason", "target"),
    [
        ("rate_limited", {"tool_quota": True, "quota_units": 5}),
        ("capacity", {"session_cap": 1}),
    ],
)
def test_refusals_during_a_ladder_do_not_count_as_failures(
    reason: str,
    target: dict[str, Any],
    open_endpoint: Callable[..., Endpoint],
    measure: Callable[..., ScenarioRun],
) -> None:
    watcher = UntilRefused()
    measure("sessions", open_endpoint(**target), watcher, STAGES="3", STAGE_SECONDS="60")
    (live,) = watcher.seen
    assert live.reasons.keys() == {reason}
    assert live.reasons[reason] >= live.failures
    rule = AbortRule()
    assert rule.find_reason(Live(0, 0, None), 0.0) is None
    assert rule.find_reason(replace(live, requests=live.failures), ABORT_SECONDS) is None


def test_a_stall_shows_in_response_times_that_are_counted_from_the_schedule(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    endpoint = open_endpoint(stall_seconds=2.0, stall_at_seconds=2.5)
    row = pick(measure("sessions", endpoint, STAGES="2", STAGE_SECONDS="6"), "stage", "2")
    assert row.duration is not None
    assert row.response is not None
    assert row.ok == 12
    assert row.response.p90 > row.duration.p50 + 500
    assert row.response.max >= row.duration.max


def test_calls_that_a_stall_cuts_off_are_counted_and_cross_the_threshold(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    endpoint = open_endpoint(stall_seconds=8.0, stall_at_seconds=2.0)
    run = measure("sessions", endpoint, STAGES="2", STAGE_SECONDS="2")
    row = pick(run, "stage", "2")
    assert row.failures == {"cut_off": 2}
    assert run.result.outcome == "thresholds crossed"


@pytest.mark.parametrize("sessions", ["1", "2"])
def test_an_open_loop_keeps_its_rate_with_any_number_of_sessions(
    sessions: str, open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    # A call a second: on a busy machine the last may be sent a second late, and still counts.
    run = measure("tools", open_endpoint(), VUS=sessions, TARGET_RPS="1", DURATION="3")
    row = pick(run, "tool", "all")
    assert (row.count, row.offered_rate, row.achieved_rate) == (3, 1, 1)
    assert row.response is not None


def test_a_closed_loop_keeps_the_limit_of_its_environment_and_its_row_shows_it(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, binary: K6Binary
) -> None:
    endpoint = open_endpoint()
    for scenario, name in (("tools", "all"), ("cold-start", "first dispatch")):
        settings = limit_rate(build_settings(VUS="4", DURATION="3", ITERATIONS="8"), 20)
        plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file)
        run = run_alone(plan, scenario, binary, tmp_path / scenario)
        assert run.result.outcome == "ok"
        held = {row.name: row for row in run.rows if row.held_rate is not None}
        assert held.keys() == {name}
        assert held[name].held_rate == 20
    mix = json.loads((tmp_path / "tools" / "summary.json").read_text(encoding="utf-8"))
    assert 0 < mix["metrics"]["mcp_duration"]["count"] <= 60
    # Four requests a start: what lies between two of a client's starts is four fifths of a second.
    assert held["first dispatch"].ok == 8
    assert held["first dispatch"].achieved_rate <= 20


def test_after_an_interruption_the_partial_rows_are_kept_and_marked(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, binary: K6Binary
) -> None:
    endpoint = open_endpoint()

    def interrupt() -> None:
        raise KeyboardInterrupt

    settings = build_settings(STAGES="1,2,3", STAGE_SECONDS="100")
    chosen = ("sessions", "tools")
    with pytest.raises(KeyboardInterrupt):
        run_scenarios(
            plan_run(settings, endpoint.mcp_url, endpoint.bearer_file, chosen),
            new_folder(tmp_path, binary, chosen),
            run=partial(run_scenario, binary=binary, variables=os.environ),
            watcher=Interrupter(interrupt),
        )
    folder = read_run_folder(tmp_path / "r1")
    assert [result.outcome for result in folder.run.scenarios] == ["interrupted", "not run"]
    assert {row.name for row in folder.rows} == {"1"}
    assert 0 < folder.rows[0].ok < 100
    assert folder.rows[0].seconds < 100


def test_a_killed_k6_is_a_failure_that_names_the_missing_summary(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    run = measure("tools", open_endpoint(), Interrupter(kill_k6), DURATION="100")
    assert run.result.outcome == "failed"
    assert "summary.json does not exist" in str(run.result.reason)
    assert run.rows == ()


def test_k6_listens_only_on_the_loopback_interface(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    addresses = set()

    def look() -> None:
        for child in psutil.Process().children():
            for connection in child.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    addresses.add(connection.laddr.ip)
        raise KeyboardInterrupt

    run = measure("tools", open_endpoint(), Interrupter(look), DURATION="100")
    assert (run.result.outcome, addresses) == ("interrupted", {"127.0.0.1"})


def test_an_exception_in_a_script_is_a_failure_with_its_message(
    open_endpoint: Callable[..., Endpoint],
    measure: Callable[..., ScenarioRun],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    script = scripts / "tools.js"
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace("  runSession(", "  null.runSession("), encoding="utf-8")
    monkeypatch.setattr("loadtest.k6.command.SCRIPTS", scripts)
    run = measure("tools", open_endpoint())
    assert run.result.outcome == "failed"
    assert "Cannot read property 'runSession' of undefined or null" in str(run.result.reason)


def test_a_dead_target_and_a_refused_bearer_are_failures_of_one_line(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, binary: K6Binary
) -> None:
    endpoint = open_endpoint()
    wrong = tmp_path / "bearer.json"
    wrong.write_text('{"version": 2, "bearers": [{"access_token": "nobody"}]}', encoding="utf-8")
    reasons = []
    for url, bearer in (
        ("http://127.0.0.1:9/mcp/ws", endpoint.bearer_file),
        (endpoint.mcp_url, wrong),
    ):
        out_dir = tmp_path / "out"
        run = run_alone(plan_run(build_settings(), url, bearer), "tools", binary, out_dir)
        assert (run.result.outcome, run.rows) == ("failed", ())
        reasons.append(run.result.reason)
    probe = "the probe of the target failed at server/discover: "
    assert reasons == [f"{probe}connection", f"{probe}unauthorized"]


def fake_k6(folder: Path, version: str) -> Path:
    """Make an executable that names a version of k6."""
    folder.mkdir()
    path = folder / "k6"
    path.write_text(f"#!/bin/sh\necho 'k6 v{version} (commit/abc, go1.24, linux/amd64)'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_newer_k6_is_used_unless_K6_BIN_is_set(tmp_path: Path) -> None:  # noqa: N802
    newer, older = fake_k6(tmp_path / "new", "99.1.0"), fake_k6(tmp_path / "old", "1.0.0")
    system = os.environ["PATH"]
    assert find_k6({"PATH": f"{newer.parent}:{system}"}).path == newer
    assert find_k6({"PATH": f"{older.parent}:{system}"}).path != older
    named = find_k6({"PATH": f"{newer.parent}:{system}", "K6_BIN": str(older)})
    assert (named.version, named.source) == ("1.0.0", "K6_BIN")


@pytest.mark.parametrize("version", ["0.57.0", "none"])
def test_a_k6_that_is_too_old_or_missing_is_refused(version: str, tmp_path: Path) -> None:
    path = fake_k6(tmp_path / "bin", version)
    with pytest.raises(K6Error, match="older than 1.0.0" if version != "none" else "is not k6"):
        find_k6({"K6_BIN": str(path)})


def test_clients_share_the_sessions_evenly_and_rows_have_their_number(
    tmp_path: Path, binary: K6Binary
) -> None:
    bearers = [{"access_token": name} for name in ("first", "second", "third")]
    write_json(tmp_path / "bearer.json", 2, {"bearers": bearers}, private=True)
    table = tmp_path / "tools.json"
    table.write_text('{"tools": {"look": {"weight": 1, "arguments": [{}]}}}', encoding="utf-8")
    settings = build_settings(STAGES="2,6", PROTOCOL="2025-11-25", TOOLS=str(table))
    with AnyServer({"look": AnyTool({"type": "object"})}) as server:
        for scenario, clients, sessions in (
            ("cold-start", [3, 3, 3, 3], 6),
            ("sessions", [2, 2, 2, 3, 3, 3], 8),
            ("tools", [2, 2, 2, 2], 2),
        ):
            server.openers.clear()
            plan = plan_run(settings, server.mcp_url, tmp_path / "bearer.json")
            run = run_alone(plan, scenario, binary, tmp_path / scenario)
            assert [row.clients for row in run.rows] == clients
            counts = Counter(server.openers[1:])  # the first looked which protocol is spoken
            assert sum(counts.values()) == sessions
            assert set(counts) <= {f"Bearer {bearer['access_token']}" for bearer in bearers}
            assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(("framing", "frame"), [("sse", 23), ("json", 0)])
def test_replies_are_measured_in_bytes_and_not_in_characters(framing: str, frame: int) -> None:
    result = json.dumps({"content": [{"type": "text", "text": "é漢😀" * 5000}]}, ensure_ascii=False)
    with serve_fixed(framing, result) as place:
        row = place.measure("sessions", "stage", "1", STAGES="1", STAGE_SECONDS="1")
    assert row.replies is not None
    envelope = len('{"result":,"jsonrpc":"2.0","id":2}')
    assert row.replies.size.max == frame + envelope + len(result.encode())


def test_the_first_byte_and_the_rest_of_a_slow_stream_are_measured_separately(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    knobs = {"tool_latency": "constant:100", "reply_pauses": 2, "reply_pause_seconds": 0.2}
    run = measure("sessions", open_endpoint(**knobs), STAGES="2", STAGE_SECONDS="2")
    replies = pick(run, "stage", "2").replies
    assert replies is not None
    assert 0 < replies.count <= pick(run, "stage", "2").ok
    assert replies.first_byte.p50 >= 100
    assert replies.receiving.p50 >= 390
    assert replies.silence is None
    assert pick(run, "opening", "2").replies is None


def test_the_replies_of_a_cold_start_are_measured_where_there_is_one(whole: Whole) -> None:
    rows = {row.name: row for row in whole.folder.rows if row.scenario == "cold-start"}
    assert {name for name, row in rows.items() if row.replies} == {"initialize", "tools/list"}
    listed = rows["tools/list"].replies
    assert listed is not None
    assert listed.count == 6
    assert listed.size.p50 == listed.size.max > 1000


def test_of_fast_calls_only_some_replies_are_measured(whole: Whole) -> None:
    mix = next(row for row in whole.folder.rows if (row.kind, row.name) == ("tool", "all"))
    assert mix.replies is not None
    # Of two sessions, in a second; on a busy machine, a session may call once.
    assert min(2, mix.ok) <= mix.replies.count <= min(60, mix.ok)


def test_the_intervals_of_a_run_have_every_call(whole: Whole) -> None:
    for row in whole.folder.rows:
        if row.kind not in {"frame", "stage", "tool"} or row.name == "all" or not row.ok:
            continue
        intervals = read_intervals(whole.folder.scenario_dir(row.scenario))
        assert intervals is not None
        assert intervals.seconds == 1
        series = f"mcp_duration{{{row.kind}:{row.name}}}"
        histogram = intervals.total().trends[series]
        assert histogram.count() == row.ok
        assert row.duration is not None
        assert histogram.most == row.duration.max


def test_the_log_that_is_kept_has_no_intervals(whole: Whole) -> None:
    for scenario in USUAL_SCENARIOS:
        log = (whole.folder.scenario_dir(scenario) / "k6.log").read_text(encoding="utf-8")
        assert "histograms" not in log


def test_the_intervals_of_a_ladder_are_those_of_its_stages(whole: Whole) -> None:
    intervals = read_intervals(whole.folder.scenario_dir("sessions"))
    assert intervals is not None
    of_stage = {
        stage: {
            n
            for n, part in intervals.parts.items()
            if f"mcp_duration{{stage:{stage}}}" in part.trends
        }
        for stage in "12"
    }
    assert max(of_stage["1"]) < min(of_stage["2"])


def test_the_intervals_before_a_kill_are_kept(
    measure: Callable[..., ScenarioRun], open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    run = measure("tools", open_endpoint(), Interrupter(kill_k6), DURATION="8")
    assert run.result.outcome == "failed"
    intervals = read_intervals(tmp_path / "tools")
    assert intervals is not None
    assert intervals.total().count("mcp_opening") > 0
