"""`python -m loadtest.reference` as another program meets it."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.errors import TargetError
from loadtest.reference import novamart
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from tests.reference.visitor import Launch, Visitor
from tests.support.waiting import HANG_SECONDS

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, data_file: Path) -> Iterator[Start]:
    """Start the process with extra arguments, in a state directory of the test's own."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / novamart.FILE_NAME).write_bytes(data_file.read_bytes())
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "loadtest.reference", "--state-dir", str(folder)]
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate(timeout=HANG_SECONDS)


def ready_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The first line on standard output."""
    assert process.stdout is not None
    facts: dict[str, Any] = json.loads(process.stdout.readline())
    return facts


@pytest.mark.slow
def test_it_prints_when_it_is_ready_and_ends_with_its_input(start: Start) -> None:
    process = start("--exit-with-stdin")
    facts = ready_line(process)
    assert set(facts) == {"version", "api_url", "web_url", "pid"}
    assert facts["pid"] == process.pid
    with httpx.Client(base_url=facts["api_url"]) as http:
        assert http.get("/api/health").status_code == 200
        # The connection is kept alive, and still the process ends at once.
        out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0
    counts = json.loads(out)
    assert counts.pop("version") == counts.pop("requests") == 1
    assert set(counts) == {
        "open_sessions", "tool_calls", "scans", "quota_refusals", "registrations", "refreshes",
        "refresh_reuses", "revocations",
    }  # fmt: skip
    assert set(counts.values()) == {0}
    assert err == ""


@pytest.mark.slow
def test_sigterm_ends_it_even_with_sessions_and_streams_open(start: Start) -> None:
    process = start()
    facts = ready_line(process)

    class Remote:
        api_url = facts["api_url"]
        web_url = facts["web_url"]

    visitor = Visitor(Remote())  # type: ignore[arg-type]
    client = visitor.mcp().open()
    host, port = facts["api_url"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=HANG_SECONDS) as stream:
        lines = [f"GET {client.path} HTTP/1.1", "Host: x", "Accept: text/event-stream"]
        lines += [f"{name}: {client.headers[name]}" for name in ("Authorization", "Mcp-Session-Id")]
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=HANG_SECONDS)
    visitor.http.close()
    assert process.returncode == 0
    assert json.loads(out)["open_sessions"] == 1
    assert err == ""


@pytest.mark.slow
def test_a_busy_port_is_one_line_and_exit_code_11(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--port", str(port))
        out, err = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 11
        assert out == ""
        assert err.count("\n") == 1
        assert f"port {port}" in err


def test_a_preferred_port_is_used_if_it_is_free(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        elsewhere = launch(preferred_port=port)
        assert not elsewhere.api_url.endswith(f":{port}")
        elsewhere.stop()
    assert launch(preferred_port=port).api_url.endswith(f":{port}")


@pytest.mark.slow
def test_a_bad_knob_is_one_line_and_exit_code_2(start: Start) -> None:
    process = start("--error-share", "2")
    _, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 2
    assert err == "--error-share must be a share from 0 to 1, not 2.0\n"


@pytest.mark.slow
def test_knobs_are_flags(start: Start) -> None:
    process = start("--resource-metadata", "root", "--no-issuer-path", "--clock-skew-seconds", "-5")
    api_url = ready_line(process)["api_url"]
    metadata = httpx.get(f"{api_url}/.well-known/oauth-protected-resource").json()
    assert metadata["resource"] == api_url
    assert metadata["authorization_servers"] == [api_url]


@pytest.mark.slow
def test_nothing_secret_reaches_its_output_and_sigint_ends_it(start: Start) -> None:
    process = start("--drop-share", "0.5")
    facts = ready_line(process)

    class Remote:
        api_url = facts["api_url"]
        web_url = facts["web_url"]

    visitor = Visitor(Remote())  # type: ignore[arg-type]
    bearer = visitor.mint()
    client = visitor.mcp(bearer)
    client.initialize()
    client.headers["Accept"] = "text/plain"
    client.initialize()
    visitor.http.close()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0
    assert not any(secret in out + err for secret in (visitor.token, bearer, visitor.email))


def test_a_second_target_on_one_state_directory_is_refused(launch: Launch, tmp_path: Path) -> None:
    launch()
    with pytest.raises(TargetError, match="in use by another reference target"):
        ReferenceTarget(state_dir=tmp_path / "state").start()


def test_state_is_private(tmp_path: Path, launch: Launch) -> None:
    launch()
    folder = tmp_path / "state"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "accounts.sqlite").stat().st_mode & 0o777 == 0o600


def test_half_written_demo_data_are_built_again(tmp_path: Path) -> None:
    data = tmp_path / novamart.FILE_NAME
    data.write_bytes(b"half")
    with ReferenceTarget(Knobs(), state_dir=tmp_path):
        pass
    assert data.stat().st_size > 1_000_000
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "content"), [("accounts.sqlite", "not a database" * 99), ("ports.json", "{")]
)
def test_damaged_state_is_refused_by_name(
    tmp_path: Path, data_file: Path, name: str, content: str
) -> None:
    (tmp_path / novamart.FILE_NAME).write_bytes(data_file.read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(TargetError, match=name):
        ReferenceTarget(state_dir=tmp_path).start()


def test_state_of_the_first_version_is_upgraded(
    launch: Launch, join: type[Visitor], tmp_path: Path
) -> None:
    first = launch()
    visitor = join(first)
    client_id = visitor.register()["client_id"]
    first.stop()
    with closing(sqlite3.connect(tmp_path / "state" / "accounts.sqlite")) as database:
        for column in ("locked", "email_verified", "totp_secret", "totp_enabled"):
            database.execute(f"ALTER TABLE users DROP COLUMN {column}")
        for column in ("jwks", "application_type", "management_hash"):
            database.execute(f"ALTER TABLE clients DROP COLUMN {column}")
        database.execute("PRAGMA user_version=1")
        database.commit()
    second = launch(port=int(first.api_url.rpartition(":")[2]))
    assert [(user.locked, user.email_verified) for user in second.users()] == [(False, True)]
    assert visitor.redeem(client_id, visitor.code(client_id)).status_code == 200


def test_state_of_a_newer_version_is_refused(launch: Launch, tmp_path: Path) -> None:
    launch().stop()
    with closing(sqlite3.connect(tmp_path / "state" / "accounts.sqlite")) as database:
        database.execute("PRAGMA user_version=99")
        database.commit()
    with pytest.raises(TargetError, match="has version 99"):
        launch()


def test_a_stopped_target_releases_everything(launch: Launch, join: type[Visitor]) -> None:
    target = launch()
    join(target).mcp().open()
    target.stop()
    target.stop()
    assert target.open_sessions == 1
    host, port = target.api_url.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
