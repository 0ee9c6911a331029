"""What is made of k6's files without running it."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.console import Console
from loadtest.config.models import USUAL_SCENARIOS
from loadtest.errors import ResultsError
from loadtest.k6.binary import K6Binary
from loadtest.k6.command import build_command, build_environment, build_knobs
from loadtest.k6.health import MEMORY_SHARE, find_memory_bytes
from loadtest.k6.progress import Live, Phase, ProgressDisplay
from loadtest.k6.summary import build_rows, find_crossed, parse_summary
from loadtest.results.run import ScenarioResult
from loadtest.results.run_folder import create_run_folder, read_run_folder
from tests.k6.running import build_settings, new_folder

BINARY = K6Binary(Path("/opt/k6"), "1.1.0", "K6_BIN")


def summary(**changes: Any) -> dict[str, Any]:
    """Return the least summary of a ladder of one stage."""
    piece = {"name": "2", "vus": 2, "seconds": 5, "rate": 2, "begins": 1}
    server = {"name": "novamart", "version": None, "protocol": "2025-11-25", "era": "handshake"}
    own = {"version": 1, "scenario": "sessions", "slices": [piece], "tools": [], "server": server}
    return {"loadtest": {**own, "clients": 1, "elapsed_ms": 9000, **changes}, "metrics": {}}


@pytest.mark.parametrize(
    "content",
    [
        "",
        json.dumps(summary())[:-9],
        '{"root_group": {}, "metrics": {}}',
        "[]",
        json.dumps(summary(version=2)),
        json.dumps(summary(scenario="tools")),
    ],
)
def test_an_empty_truncated_or_foreign_summary_is_an_error_that_names_the_file(
    content: str, tmp_path: Path
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ResultsError, match=r"summary\.json"):
        parse_summary(path, "sessions")


def parse(body: dict[str, Any], folder: Path) -> Any:
    """Write a summary and read it back."""
    path = folder / "summary.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    return parse_summary(path, "sessions")


def test_a_series_without_a_sample_has_no_percentiles(tmp_path: Path) -> None:
    body = summary()
    body["metrics"]["mcp_duration{stage:2}"] = {"count": 0, "p(99)": 0, "max": 0}
    row = build_rows(parse(body, tmp_path))[0]
    assert (row.count, row.duration, row.response) == (0, None, None)


def test_a_stage_that_never_began_has_no_row_and_one_that_was_cut_short_has_its_real_length(
    tmp_path: Path,
) -> None:
    assert build_rows(parse(summary(elapsed_ms=900), tmp_path)) == ()
    assert build_rows(parse(summary(elapsed_ms=None, server=None), tmp_path)) == ()
    assert build_rows(parse(summary(elapsed_ms=3500), tmp_path))[0].seconds == 2.5


def test_failures_are_read_by_reason_and_only_if_there_are_any(tmp_path: Path) -> None:
    body = summary()
    for reason, count in (("tool_error:forbidden", 2), ("timeout", 0), ("http_500", 1)):
        body["metrics"][f"mcp_failures{{stage:2,reason:{reason}}}"] = {"count": count}
        body["metrics"][f"mcp_failures{{stage:22,reason:{reason}}}"] = {"count": 7}
    row = build_rows(parse(body, tmp_path))[0]
    assert (row.count, row.failures) == (3, {"tool_error:forbidden": 2, "http_500": 1})


def test_calls_that_took_longer_than_others_wait_are_read(tmp_path: Path) -> None:
    body = summary()
    for name, count in (("60_s", 3), ("120_s", 1)):
        body["metrics"][f"mcp_beyond{{stage:2,reason:{name}}}"] = {"count": count}
    assert build_rows(parse(body, tmp_path))[0].beyond == {"60_s": 3, "120_s": 1}
    assert build_rows(parse(summary(), tmp_path))[0].beyond == {}


def test_a_threshold_is_crossed_if_k6_wrote_true(tmp_path: Path) -> None:
    body = summary()
    body["metrics"]["mcp_failed{stage:2}"] = {"rate": 0.5, "thresholds": {"rate<=0.01": True}}
    body["metrics"]["http_req_duration"] = {"thresholds": {"max>=0": False}}
    assert find_crossed(parse(body, tmp_path)) == ("mcp_failed{stage:2}: rate<=0.01",)


@pytest.mark.parametrize("scenario", USUAL_SCENARIOS)
def test_the_environment_of_k6_has_no_bearer_and_no_other_secret(
    scenario: str, tmp_path: Path
) -> None:
    secrets = {"LOADTEST_PASSWORD": "s3cret", "GITHUB_TOKEN": "s3cret", "K6_CLOUD_TOKEN": "s3cret"}
    settings = build_settings()
    environment = build_environment(
        {"PATH": "/usr/bin", **secrets},
        build_knobs(scenario, settings.profile, settings.tools),
        mcp_url="http://127.0.0.1:1/mcp/ws",
        bearer_file=tmp_path / "bearer.json",
        out_dir=tmp_path,
    )
    assert not secrets.keys() & environment.keys()
    assert "s3cret" not in str(environment)
    command = build_command(BINARY, scenario)
    assert "-e" not in command
    assert "--env" not in command
    assert not any("bearer" in part for part in command)


def test_several_k6_share_the_memory_that_go_fills_with_garbage(tmp_path: Path) -> None:
    def find_limit(processes: int) -> int:
        environment = build_environment(
            {},
            {},
            mcp_url="http://127.0.0.1:1/mcp/ws",
            bearer_file=None,
            out_dir=tmp_path,
            processes=processes,
        )
        return int(environment["GOMEMLIMIT"])

    assert find_limit(1) < MEMORY_SHARE * find_memory_bytes()
    assert find_limit(4) == pytest.approx(find_limit(1) / 4, abs=1)


def test_k6_gets_only_flags_that_it_has() -> None:
    known = frozenset({"--quiet", "--address", "--summary-mode"})
    command = build_command(replace(BINARY, flags=known), "tools")
    assert command[1:-1] == ["run", "--quiet", "--address=127.0.0.1:0"]


PHASES = (Phase("1 session", 600.0), Phase("5 sessions", 600.0))


@pytest.fixture(autouse=True)
def _same_terminal_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_plain_progress_is_a_line_per_stage_and_not_one_per_tick() -> None:
    file = io.StringIO()
    with ProgressDisplay(Console(file=file, force_terminal=False)) as display:
        display.begin("sessions", PHASES)
        for _ in range(20):
            display.tick(Live(10, 0, 12.0))
        display.end(ScenarioResult("sessions", "ok"))
    assert file.getvalue().splitlines() == [
        "k6          sessions 1/2: 1 session, 1200 s left",
        "k6          sessions: ok",
    ]


@pytest.mark.parametrize("width", [20, 200])
def test_progress_works_on_a_narrow_terminal_without_unicode(width: int) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    console = Console(file=file, force_terminal=True, width=width, legacy_windows=False)
    with ProgressDisplay(console) as display:
        display.begin("sessions", PHASES)
        for live in (Live(1, 0, None), None, Live(9, 2, 3.5, {"timeout": 1})):
            display.tick(live)
        display.end(ScenarioResult("sessions", "failed", reason="a \u2192 b"))
    file.flush()
    assert b"sessions" in raw.getvalue()


def test_runs_that_begin_in_the_same_second_have_different_folders(tmp_path: Path) -> None:
    first = new_folder(tmp_path, BINARY)
    other = create_run_folder(tmp_path, replace(first.run, environment="another"))
    third = create_run_folder(tmp_path, first.run)
    assert [each.run.run_id for each in (first, other, third)] == [
        first.run.run_id,
        f"{first.run.run_id}-2",
        f"{first.run.run_id}-3",
    ]
    assert read_run_folder(first.path).run == first.run
    assert read_run_folder(other.path).run.environment == "another"


def test_a_run_folder_that_cannot_be_created_is_an_error_of_one_line(tmp_path: Path) -> None:
    run = new_folder(tmp_path / "runs", BINARY).run
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at-all")
    with pytest.raises(ResultsError, match="cannot be made"):
        create_run_folder(tmp_path / "dangling", run)


@pytest.mark.parametrize(
    ("reasons", "note"),
    [
        ({}, "3 failed"),
        ({"timeout": 2}, "3 failed: 2 timeout, 1 other"),
        ({"capacity": 2, "rate_limited": 1}, "0 failed, 3 refused: 2 capacity, 1 rate_limited"),
        ({"capacity": 1}, "2 failed: 2 other, 1 refused: 1 capacity"),
        ({"session_lost": 3}, "3 failed: 3 session_lost"),
    ],
)
def test_refusals_are_shown_apart_from_failures(reasons: dict[str, int], note: str) -> None:
    file = io.StringIO()
    with ProgressDisplay(Console(file=file, force_terminal=False)) as display:
        display._take(Live(9, 3, None, reasons))
        assert display._note == note
