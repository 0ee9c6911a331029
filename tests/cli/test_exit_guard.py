"""The whole line by `inv` on the reference target: what it leaves, how it holds when broken."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest.config.project import CONFIG_FILE
from loadtest.reference.server import ReferenceTarget
from loadtest.results.run_folder import read_run_folder
from tests.support.waiting import HANG_SECONDS

pytestmark = pytest.mark.slow

Serve = Callable[..., ReferenceTarget]

SMALL = (
    *("--iterations", "4", "--stages", "1,3", "--stage-seconds", "2"),
    *("--vus", "2", "--duration", "2", "--stream-stages", "2", "--stream-seconds", "1"),
)
# As a shell does, make the process group the terminal's foreground group.
IN_A_TERMINAL = """
import fcntl, sys, termios
from invoke.main import program
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
program.run(["inv", *sys.argv[1:]])
"""
LONG = ("--iterations", "2", "--stages", "2", "--stage-seconds", "60")


@pytest.fixture
def mints_by_session(checkout: Path) -> None:
    """Have the checkout mint without a browser, for tests of what comes after the mint."""
    config = checkout / CONFIG_FILE
    text = config.read_text(encoding="utf-8")
    config.unlink()
    config.write_text(f'{text}\n[environment.local]\nvia = "session"\n', encoding="utf-8")


@contextmanager
def start_inv(
    checkout: Path, *arguments: str, **variables: str
) -> Iterator[tuple["subprocess.Popen[str]", Callable[[str], str]]]:
    """Start a task; yield its process and a function that reads its output up to a word."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "invoke", *arguments],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "COLUMNS": "120"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []

    def read_to(word: str) -> str:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if word in line:
                return line
        raise AssertionError(f"'{word}' never came:\n{''.join(lines)}")

    try:
        yield process, read_to
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run_inv(checkout: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    with start_inv(checkout, *arguments, **variables) as (process, _):
        output, _ = process.communicate(timeout=HANG_SECONDS)
        return process.returncode, output


def newest_run(checkout: Path) -> Path:
    return max((checkout / ".loadtest" / "runs").iterdir())


def read_secrets(checkout: Path) -> list[str]:
    """Return every secret value that the local environment has on disk."""
    state = checkout / ".loadtest" / "local"
    bearer = json.loads((state / "bearer.json").read_text())
    lines = (state / "credentials.env").read_text().splitlines()
    password = dict(line.split("=", 1) for line in lines)["LOADTEST_PASSWORD"]
    clients = json.loads((state / "clients.json").read_text())["clients"]
    bearers = [entry["access_token"] for entry in bearer["bearers"]]
    return [*bearers, *(entry["refresh_token"] for entry in clients), password]


def assert_all_gone(family: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(family, timeout=HANG_SECONDS)
    assert alive == []


def test_the_chain_ends_with_tables_and_a_second_run_skips_what_is_still_valid(
    checkout: Path,
) -> None:
    code, output = run_inv(checkout, "loadtest", *SMALL)
    assert code == 0, output
    for made in ("user", "workspace", "NovaMart data (13 entities)"):
        assert f"made: {made}" in output
    assert "minted by browser in" in output
    assert "executeSQL" in output

    path = newest_run(checkout)
    folder = read_run_folder(path)
    assert [scenario.outcome for scenario in folder.run.scenarios] == ["ok"] * 4
    assert [scenario.sessions_left for scenario in folder.run.scenarios] == [0] * 4
    assert folder.run.target.server_name
    stages = [(row.scenario, row.name) for row in folder.rows if row.kind == "stage"]
    assert stages == [("sessions", "1"), ("sessions", "3"), ("streams", "2")]
    assert (path / "report.md").read_text().count("|") > 20
    assert "TBD" not in (path / "docs-preview" / "mcp-performance.mdx").read_text()
    assert "TBD" in (checkout / "docs" / "mcp-performance.mdx").read_text()

    for secret in read_secrets(checkout):
        assert secret not in output
        for file in (file for file in path.rglob("*") if file.is_file()):
            assert secret.encode() not in file.read_bytes(), file

    code, output = run_inv(checkout, "mint")
    assert code == 0, output
    assert "provision   already there" in output
    assert "mint        already there" in output
    assert "target" not in output


@pytest.mark.usefixtures("mints_by_session")
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_during_k6_keeps_what_was_measured_and_marks_it(
    checkout: Path, sent: signal.Signals, code: int
) -> None:
    with start_inv(checkout, "k6", *LONG) as (process, read_to):
        read_to("sessions: 2 sessions")
        read_to("sessions: 2 sessions")  # the next line comes with calls made
        family = psutil.Process(process.pid).children(recursive=True)
        assert {"k6"} <= {child.name() for child in family}
        process.send_signal(sent)
        assert process.wait(HANG_SECONDS) == code
        assert_all_gone(family)
    folder = read_run_folder(newest_run(checkout))
    outcomes = {scenario.name: scenario.outcome for scenario in folder.run.scenarios}
    later = dict.fromkeys(("tools", "streams"), "not run")
    assert outcomes == {"cold-start": "ok", "sessions": "interrupted", **later}
    assert any(row.kind == "stage" and row.ok for row in folder.rows)


def test_a_signal_during_the_sign_in_leaves_no_browser(checkout: Path) -> None:
    with start_inv(checkout, "mint") as (process, read_to):
        read_to("signing in with")
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 143
        assert_all_gone(family)
    assert not (checkout / ".loadtest" / "local" / "bearer.json").exists()


@pytest.mark.usefixtures("mints_by_session")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGQUIT])
def test_nothing_outlives_a_task_that_was_killed_and_its_run_is_not_ok(
    checkout: Path, sent: signal.Signals
) -> None:
    with start_inv(checkout, "k6", *LONG) as (process, read_to):
        read_to("sessions: 2 sessions")
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(sent)
        assert_all_gone(family)
    run = read_run_folder(newest_run(checkout)).run
    outcomes = {scenario.name: scenario.outcome for scenario in run.scenarios}
    later = dict.fromkeys(("tools", "streams"), "not run")
    assert outcomes == {"cold-start": "ok", "sessions": "interrupted", **later}
    code, output = run_inv(checkout, "report")
    assert code == 130, output
    assert "Interrupted: " in output
    code, output = run_inv(checkout, "k6", *SMALL)
    assert code == 0, output


def test_a_closed_terminal_stops_k6_closes_the_sessions_and_keeps_what_was_measured(
    checkout: Path, serve: Serve
) -> None:
    target = serve(tool_quota=False)
    chosen = ("--env", "staging", "--scenarios", "sessions", *LONG)
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, "k6", *chosen],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "COLUMNS": "120", "TERM": "xterm"} | hosted(target),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said = b""
        while b"p95 " not in said:  # calls are answered
            said += os.read(ours, 4096)
        family = psutil.Process(process.pid).children(recursive=True)
        assert {"k6"} <= {child.name() for child in family}
        os.close(ours)
        assert process.wait(HANG_SECONDS) == 129
        assert_all_gone(family)
    assert target.open_sessions == 0
    folder = read_run_folder(newest_run(checkout))
    assert [scenario.outcome for scenario in folder.run.scenarios] == ["interrupted"]
    assert any(row.kind == "stage" and row.ok for row in folder.rows)
    assert not (checkout / ".loadtest" / "staging" / "holder.json").exists()


def run_json(checkout: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run a task; return its exit code, the document it printed, and its other output."""
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *arguments, "--json"],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "GITHUB_ACTIONS": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return done.returncode, document, done.stderr


def test_json_output_is_one_document_and_k6_writes_its_other_outputs(
    checkout: Path,
) -> None:
    chosen = ("--scenarios", "cold-start,tools", "--out", "csv={scenario}.csv")
    code, document, said = run_json(checkout, "k6", *SMALL, *chosen)
    assert (code, document["exit_code"], document["outcome"]) == (0, 0, "ok"), said
    assert "minted by browser in" in said
    folder = read_run_folder(Path(document["folder"]))
    assert document["run"]["run_id"] == folder.run.run_id
    assert [(row["kind"], row["name"]) for row in document["rows"]] == [
        (row.kind, row.name) for row in folder.rows
    ]
    for name in ("cold-start", "tools"):
        assert (checkout / f"{name}.csv").read_text().startswith("metric_name,")
    code, again, said = run_json(checkout, "report", "--run-id", folder.run.run_id)
    assert (code, again) == (0, document)
    assert "written to" in said


@pytest.mark.usefixtures("mints_by_session")
def test_the_json_output_of_an_interrupted_run_is_a_document_too(checkout: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "invoke", "k6", *LONG, "--json"],
        cwd=checkout,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = (line for line in process.stderr if "sessions: 2 sessions" in line)
        next(lines), next(lines)  # the second comes with calls made
        process.terminate()
        document = json.loads(process.communicate(timeout=HANG_SECONDS)[0])
        assert process.returncode == document["exit_code"] == 143
    assert document["outcome"] == "interrupted"
    assert any(row["kind"] == "stage" and row["ok"] for row in document["rows"])


def make_history(run_dir: Path, count: int) -> None:
    """Make a history of earlier runs like this one, which goes, with one tool 4 times as fast."""
    for day in range(1, 1 + count):
        name = f"2020010{day}T000000Z-aaaaaaa"
        shutil.copytree(run_dir, run_dir.with_name(name))
        for file in run_dir.with_name(name).rglob("*.json"):
            body = json.loads(file.read_text(encoding="utf-8"))
            if file.name == "run.json":
                body |= {"run_id": name, "started": f"2020-01-0{day}T00:00:00Z"}
            for row in body["rows"] if file.name == "rows.json" else ():
                if row["name"] == "executeSQL":
                    row["duration"] = {key: ms / 4 for key, ms in row["duration"].items()}
            file.write_text(json.dumps(body), encoding="utf-8")
    shutil.rmtree(run_dir)


@pytest.mark.usefixtures("mints_by_session")
def test_a_suspicious_run_is_measured_again_unless_an_option_says_not_to(checkout: Path) -> None:
    with (checkout / CONFIG_FILE).open("a", encoding="utf-8") as config:
        config.write("remeasure_minutes = 1\n")
    chosen = ("k6", "--scenarios", "tools", "--vus", "2", "--duration", "5")
    code, output = run_inv(checkout, *chosen)
    assert (code, "suspicious" in output) == (0, False), output
    make_history(newest_run(checkout), 6)

    code, output = run_inv(checkout, *chosen, "--no-remeasure")
    assert (code, "suspicious" in output) == (0, False), output
    assert not (newest_run(checkout) / "repeats").exists()

    code, output = run_inv(checkout, *chosen)
    assert code == 0, output
    assert "suspicious: tools; measured again, round 1 of at most 3, about " in output
    path = newest_run(checkout)
    folder = read_run_folder(path)
    assert folder.run.outcome() == "ok"
    assert {row.scenario for rows in folder.repeats for row in rows} == {"tools"}
    (bearer,) = json.loads((checkout / ".loadtest/local/bearer.json").read_text())["bearers"]
    for file in (file for file in (path / "repeats").rglob("*") if file.is_file()):
        assert bearer["access_token"].encode() not in file.read_bytes(), file


@pytest.mark.usefixtures("mints_by_session")
def test_a_second_run_is_refused_during_the_first(checkout: Path) -> None:
    with start_inv(checkout, "k6", *LONG) as (process, read_to):
        read_to("sessions: 2 sessions")
        read_to("sessions: 2 sessions")  # k6 has its bearer by now
        family = psutil.Process(process.pid).children(recursive=True)
        (checkout / ".loadtest" / "local" / "bearer.json").unlink()
        code, output = run_inv(checkout, "k6", *SMALL)
        assert code == 19, output
        assert "mint" not in output
        (line,) = (line for line in output.splitlines() if line.startswith("loadtest: "))
        assert f"environment local is in use by process {process.pid}, since 20" in line
        assert process.poll() is None
        process.terminate()
        assert process.wait(HANG_SECONDS) == 143
        assert_all_gone(family)
    assert not (checkout / ".loadtest" / "local" / "holder.json").exists()


def hosted(target: ReferenceTarget) -> dict[str, str]:
    return {
        "LOADTEST_BASE_URL": target.api_url,
        "LOADTEST_EMAIL": "loadtest@example.com",
        "LOADTEST_PASSWORD": "a password canary",
    }


def test_crossed_thresholds_are_a_result_and_still_reported(
    checkout: Path, tmp_path: Path, serve: Serve
) -> None:
    target = serve(tmp_path / "target")
    variables = hosted(target)
    code, output = run_inv(checkout, "mint", "--env", "staging", **variables)
    assert code == 0, output
    target.stop()
    target = serve(tmp_path / "target", error_share=0.1, tool_quota=False)

    chosen = ("--env", "staging", "--scenarios", "tools")
    code, output = run_inv(checkout, "loadtest", *chosen, *SMALL, **variables)
    assert code == 99, output
    assert "thresholds crossed" in output
    assert "report      written to" in output
    assert target.open_sessions == 0
    folder = read_run_folder(newest_run(checkout))
    row = next(row for row in folder.rows if row.name == "all" and row.kind == "tool")
    assert row.failures["tool_error:internal_error"] + row.ok == row.count
    assert variables["LOADTEST_PASSWORD"] not in output
    for file in (file for file in (checkout / ".loadtest").rglob("*") if file.is_file()):
        assert variables["LOADTEST_PASSWORD"].encode() not in file.read_bytes(), file


def test_sessions_that_a_killed_run_left_are_closed_by_the_doctor_or_the_next_run(
    checkout: Path, serve: Serve
) -> None:
    target = serve(tool_quota=False)
    chosen, variables = ("--env", "staging", "--scenarios", "sessions"), hosted(target)

    def leave_sessions() -> None:
        long = ("--stages", "5", "--stage-seconds", "60")
        with start_inv(checkout, "k6", *chosen, *long, **variables) as (process, read_to):
            read_to("sessions: 5 sessions")
            read_to("sessions: 5 sessions")
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            assert_all_gone(family)
        assert target.open_sessions == 5

    leave_sessions()
    _, output = run_inv(checkout, "doctor", "--env", "staging", **variables)
    assert "5 left open by an earlier run" in output
    _, output = run_inv(checkout, "doctor", "--env", "staging", "--close", **variables)
    assert "closed 5 sessions that an earlier run left" in output
    assert "none left open by an earlier run" in output
    assert target.open_sessions == 0

    leave_sessions()
    code, output = run_inv(checkout, "k6", *chosen, *SMALL, **variables)
    assert code == 0, output
    assert "closed 5 sessions that an earlier run left" in output
    assert target.open_sessions == 0


def test_a_wrong_password_ends_provisioning_in_one_line(checkout: Path, serve: Serve) -> None:
    variables = hosted(serve())
    code, output = run_inv(checkout, "provision", "--env", "staging", **variables)
    assert code == 0, output
    variables["LOADTEST_PASSWORD"] = "a wrong canary"
    code, output = run_inv(checkout, "provision", "--env", "staging", "--verify", **variables)
    assert code == 12
    assert "wrong password for" in output.splitlines()[-1]
    assert "a wrong canary" not in output


def test_denied_consent_is_one_line_with_its_own_exit_code(checkout: Path, serve: Serve) -> None:
    variables = hosted(serve(deny_consent=True))
    code, output = run_inv(checkout, "mint", "--env", "staging", **variables)
    assert code == 14
    assert "mint failed at callback" in output.splitlines()[-1]
    assert "access_denied" in output.splitlines()[-1]
