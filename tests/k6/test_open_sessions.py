"""Sessions that a run leaves on the server: named in a private log, closed by their ids."""

import _thread
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from loadtest.common.files import write_text
from loadtest.errors import K6Error
from loadtest.k6.binary import K6Binary
from loadtest.k6.command import build_command, build_environment, build_script_env
from loadtest.k6.open_sessions import (
    OpenSession,
    close_earlier,
    close_sessions,
    find_left,
    left_file,
    note_writer,
    open_log,
    settle_log,
)
from loadtest.k6.scenario import ScenarioRun
from loadtest.state.bearers import Bearer, read_bearers
from tests.k6 import running
from tests.k6.running import Endpoint, Interrupter, build_settings, kill_k6, plan_run

HEAD = 'time="2026-11-23T00:00:00Z" level='
URL = "http://127.0.0.1:1/mcp/ws"


def entry(text: str) -> str:
    """Return a line as k6's console.log writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{HEAD}info msg="session {escaped}" source=console\n'


def write_log(state_dir: Path, *lines: str) -> None:
    """Leave a log behind as a run does that died."""
    with open_log(state_dir, URL) as log:
        log.write("".join(lines).encode())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_log_shows_which_sessions_are_open_and_which_were_closed(tmp_path: Path) -> None:
    odd = 'a"b\\c'
    words = [f"{HEAD}warning msg=slow\n", f'{HEAD}info msg="a session opened x 0 y"\n']
    lines = [entry("opened one 0 2025-11-25"), entry(f"opened {odd} 3 2025-06-18"), words[0]]
    lines += [entry("opened two 1 2025-11-25"), entry("closed one"), words[1], entry("closed one")]
    write_log(tmp_path / "state", *lines, entry("opened half 0 2025-11-25")[:60])
    assert mode(tmp_path / "state" / "k6.log") == 0o600
    rest = tmp_path / "k6.log"
    left = settle_log(tmp_path / "state", rest)
    assert left == (
        OpenSession(odd, 3, "2025-06-18", URL),
        OpenSession("two", 1, "2025-11-25", URL),
    )
    assert rest.read_text(encoding="utf-8").startswith("".join(words))
    assert "two" not in rest.read_text(encoding="utf-8")
    assert not (tmp_path / "state" / "k6.log").exists()
    assert mode(left_file(tmp_path / "state")) == 0o600
    assert find_left(tmp_path / "state") == left


@pytest.mark.parametrize("text", ["opened", "opened a", "opened a b 2025-11-25", "opened \x01 0 v"])
def test_an_entry_that_no_server_can_have_caused_is_ignored(text: str, tmp_path: Path) -> None:
    write_log(tmp_path, entry(text), f'{HEAD}info msg="session opened \\x 0 v" source=console\n')
    assert settle_log(tmp_path) == ()
    assert not left_file(tmp_path).exists()


def test_a_new_log_keeps_the_open_sessions_of_the_last_one(tmp_path: Path) -> None:
    write_log(tmp_path, entry("opened one 0 2025-11-25"))
    write_log(tmp_path, entry("opened two 0 2025-11-25"))
    assert [session.id for session in find_left(tmp_path)] == ["one", "two"]
    assert [session.id for session in settle_log(tmp_path)] == ["two"]


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    left_file(tmp_path).write_text('{"version": 1, "sessions": [{"id": 1}]}', encoding="utf-8")
    with pytest.raises(K6Error, match=r"sessions\.json is damaged"):
        find_left(tmp_path)


def open_sessions(endpoint: Endpoint, count: int) -> tuple[Bearer, list[OpenSession]]:
    """Open sessions as a client does that goes away."""
    (bearer,) = read_bearers(endpoint.bearer_file)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t"}}
    params["clientInfo"] = {"name": "test", "version": "1"}
    headers = {
        "Authorization": f"Bearer {bearer.access_token.get_secret_value()}",
        "Accept": "application/json, text/event-stream",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    sessions = []
    for _ in range(count):
        answer = httpx.post(endpoint.mcp_url, json=body, headers=headers).raise_for_status()
        session_id = answer.headers["mcp-session-id"]
        sessions.append(OpenSession(session_id, 0, "2025-11-25", endpoint.mcp_url))
    return bearer, sessions


def leave(state_dir: Path, sessions: list[OpenSession]) -> None:
    """Journal sessions as left by an earlier run."""
    lines = (entry(f"opened {one.id} {one.client} {one.protocol}") for one in sessions)
    with open_log(state_dir, sessions[0].mcp_url) as log:
        log.write("".join(lines).encode())


def test_left_sessions_are_closed_and_one_that_the_server_does_not_know_counts_as_closed(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    bearer, sessions = open_sessions(endpoint, 3)
    gone = OpenSession("gone", 7, "2025-11-25", endpoint.mcp_url)
    leave(tmp_path, [*sessions, gone])
    closing = close_earlier(tmp_path, [bearer])
    assert (closing.closed, closing.left) == (4, ())
    assert closing.describe(Path("x")) == ["closed 4 sessions that an earlier run left"]
    assert endpoint.target.open_sessions == 0
    assert (find_left(tmp_path), list(tmp_path.glob("*.*"))) == ((), [])


def test_a_session_that_cannot_be_closed_stays_in_the_file(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    bearer, sessions = open_sessions(endpoint, 1)
    elsewhere = OpenSession("far", 0, "2025-11-25", URL)
    leave(tmp_path, [elsewhere])
    leave(tmp_path, sessions)
    closing = close_earlier(tmp_path, [bearer])
    assert (closing.closed, closing.left) == (1, (elsewhere,))
    assert closing.describe(Path("x"))[1] == (
        "1 session that an earlier run left could not be closed: see x"
    )
    assert find_left(tmp_path) == (elsewhere,)
    assert close_earlier(tmp_path, [bearer], lasting=False).left == ()
    assert find_left(tmp_path) == ()


def test_closing_has_a_time_limit_even_with_a_slow_server(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = open_endpoint(stall_seconds=60.0, stall_at_seconds=0.0)
    (bearer,) = read_bearers(endpoint.bearer_file)
    sessions = [OpenSession("any", 0, "2025-11-25", endpoint.mcp_url)]
    monkeypatch.setattr("loadtest.k6.open_sessions.CLOSE_ALL_SECONDS", 0.3)
    assert close_sessions(tmp_path, sessions, [bearer]).left == tuple(sessions)


def test_an_interruption_while_closing_loses_no_session(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint = open_endpoint(stall_seconds=60.0, stall_at_seconds=0.0)
    (bearer,) = read_bearers(endpoint.bearer_file)
    sessions = [OpenSession("any", 0, "2025-11-25", endpoint.mcp_url)]
    leave(tmp_path, sessions)
    interruption = threading.Timer(0.5, _thread.interrupt_main)
    interruption.start()
    with pytest.raises(KeyboardInterrupt):
        close_earlier(tmp_path, [bearer])
    interruption.join()
    assert find_left(tmp_path) == tuple(sessions)


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_session_and_no_session_id(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    seen = []

    def interrupt() -> None:
        seen.append(endpoint.target.open_sessions)
        raise KeyboardInterrupt

    run = measure("sessions", endpoint, Interrupter(interrupt), STAGES="7", STAGE_SECONDS="100")
    assert (run.result.outcome, run.result.sessions_left) == ("interrupted", 0)
    assert (seen, endpoint.target.open_sessions) == ([7], 0)
    assert_no_entry(tmp_path)


@pytest.mark.slow
def test_a_killed_k6_leaves_no_session_and_no_session_id(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    seen = []

    def kill() -> None:
        seen.append(endpoint.target.open_sessions)
        kill_k6()

    run = measure("sessions", endpoint, Interrupter(kill), STAGES="7", STAGE_SECONDS="100")
    assert (run.result.outcome, run.result.sessions_left) == ("failed", 0)
    assert (seen, endpoint.target.open_sessions) == ([7], 0)
    assert_no_entry(tmp_path)


@pytest.mark.slow
def test_a_k6_that_still_runs_without_its_run_is_stopped_before_its_sessions_are_closed(
    open_endpoint: Callable[..., Endpoint], binary: K6Binary, tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    settings = build_settings(STAGES="4", STAGE_SECONDS="100")
    plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file)
    environment = build_environment(
        settings.variables,
        build_script_env(plan, "sessions"),
        mcp_url=endpoint.mcp_url,
        bearer_file=endpoint.bearer_file,
        out_dir=tmp_path,
    )
    write_text(tmp_path / "tools.json", settings.tools.render())
    with open_log(tmp_path, endpoint.mcp_url) as log:
        command = build_command(binary, "sessions")
        orphan = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        note_writer(log, orphan.pid)
    with orphan:
        deadline = time.monotonic() + 60
        while len(find_left(tmp_path)) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        closing = close_earlier(tmp_path, read_bearers(endpoint.bearer_file))
        assert orphan.poll() is not None
    assert (closing.closed, closing.left) == (4, ())
    assert endpoint.target.open_sessions == 0


def assert_no_entry(folder: Path) -> None:
    """Assert that no session is named in the files of a run, nor known to be open."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert "k6.log" in {path.name for path in files}
    for path in files:
        assert b"session opened" not in path.read_bytes(), path
    assert find_left(running.state_root / ".loadtest" / "local") == ()


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_thousands_of_sessions_are_opened_and_closed(
    open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    run = measure("cold-start", endpoint, ITERATIONS="3000")
    opened = next(row for row in run.rows if row.name == "initialize")
    assert (opened.count, opened.ok) == (3000, 3000)
    assert (run.result.outcome, run.result.sessions_left) == ("ok", 0)
    assert endpoint.target.open_sessions == 0
    assert_no_entry(tmp_path)
