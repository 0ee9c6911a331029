"""The tasks as they are typed: their help, their chain, and how errors end."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke.tasks import Call, Task

import tasks
from loadtest.cli.executor import ChainExecutor
from loadtest.config.project import CONFIG_FILE
from tests.support.waiting import HANG_SECONDS

Inv = Callable[..., subprocess.CompletedProcess[str]]

UNREACHABLE = {"LOADTEST_BASE_URL": "http://127.0.0.1:9", "LOADTEST_EMAIL": "a@example.com"}
NAMES = [str(name) for name in tasks.namespace.task_names]


@pytest.fixture
def inv(checkout: Path) -> Inv:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=checkout,
            env={"PATH": os.environ["PATH"], "COLUMNS": "200"} | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )

    return run


def expand(name: str, **options: str) -> list[Call]:
    call = Call(tasks.namespace[name], kwargs=options)
    executor = ChainExecutor(tasks.namespace)
    return executor.dedupe(executor.expand_calls([call]))


def name_of(call: Call) -> str:
    return str(call.task.name)


def test_the_list_is_a_table_of_contents(inv: Inv) -> None:
    listed = inv("--list").stdout
    for name in NAMES:
        assert f"  {name} " in listed
    assert "Default task: loadtest" in listed


@pytest.mark.parametrize("name", NAMES)
def test_every_task_and_every_option_has_help(name: str) -> None:
    task: Task[Callable[..., None]] = tasks.namespace[name]
    assert task.__doc__ is not None
    assert len(task.__doc__.splitlines()[0]) < 60
    for option in task.get_arguments():
        assert option.help, option.name


def test_the_chain_runs_every_stage_once_and_in_order() -> None:
    names = [name_of(call) for call in expand("loadtest")]
    assert names == ["provision", "mint", "k6", "report", "docs-update", "loadtest"]


def test_shared_options_reach_every_pre_task() -> None:
    calls = expand("k6", env="staging", profile="full", stages="1,2")
    assert [name_of(call) for call in calls] == ["provision", "mint", "k6"]
    assert {call.kwargs["env"] for call in calls} == {"staging"}
    assert calls[1].kwargs["profile"] == "full"
    assert calls[1].kwargs["stages"] == "1,2"


def test_the_report_of_a_chain_gets_the_path_of_its_junit_file() -> None:
    (report,) = [call for call in expand("loadtest", junit="out.xml") if name_of(call) == "report"]
    assert report.kwargs["junit"] == "out.xml"


def test_a_typed_task_and_the_same_task_as_a_pre_task_run_once() -> None:
    executor = ChainExecutor(tasks.namespace)
    typed = [Call(tasks.namespace[name], kwargs={"env": "staging"}) for name in ("mint", "k6")]
    calls = executor.dedupe(executor.expand_calls(typed))
    assert [name_of(call) for call in calls] == ["provision", "mint", "k6"]


def test_a_run_for_one_environment_never_touches_another(inv: Inv, checkout: Path) -> None:
    done = inv("k6", "--env", "staging")
    assert done.returncode == 10
    assert "environment staging lacks LOADTEST_BASE_URL, LOADTEST_EMAIL" in done.stderr
    assert done.stderr.count("set them as variables") == 1
    done = inv("k6", "--env", "staging", LOADTEST_EMAIL="a@example.com")
    assert "environment staging lacks LOADTEST_BASE_URL: set it as a variable" in done.stderr
    assert not (checkout / ".loadtest").exists()


def test_without_an_issue_the_message_about_tbd_cells_says_what_to_set(
    inv: Inv,
) -> None:
    done = inv("docs-update", "--check")
    assert done.returncode == 18
    words = "left: set LOADTEST_TRACKING_ISSUE and GITHUB_REPOSITORY, then run `inv docs-update`"
    assert words in done.stderr
    done = inv("docs-update", "--check", LOADTEST_TRACKING_ISSUE="1", GITHUB_REPOSITORY="o/r")
    assert "left: run `inv docs-update`" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("k6", "--nope"), 1, "--nope"),
        (("k6", "--env", "mars"), 10, "unknown environment 'mars'"),
        (("k6", "--profile", "mars"), 10, "unknown profile 'mars'"),
        (("k6", "--stages", "0"), 10, "--stages (LOADTEST_STAGES)"),
        (("k6", "--tools", "mine.json"), 10, "mine.json, the tool table, does not exist"),
        (("k6", "--tool", "drop"), 10, "--tool (LOADTEST_TOOL): novamart has only executeSQL"),
        (("k6", "--protocol", "2024-11-05"), 10, "(LOADTEST_PROTOCOL) must be one of auto"),
        (("k6", "--vus", "5000"), 10, "max_vus is"),
        (("k6", "--scenarios", "sql"), 2, "unknown scenario 'sql'"),
        (("capacity", "--find", "users"), 2, "--find users: there are sessions, calls"),
        (("capacity", "--start", "501"), 10, "--start 501 is above max_vus of environment local"),
        (("capacity", "--env", "prod"), 10, 'set allow = ["capacity"] in its table'),
        (("leaks", "--env", "prod"), 10, 'set allow = ["leaks"] in its table'),
        (("leaks", "--sessions", "501"), 2, "--sessions 501 is above max_vus, which is 500"),
        (("report",), 16, "no run of environment local yet"),
        (("report", "--run-id", "../x"), 16, "no run '../x'"),
        (("docs-update",), 16, "no run of environment local yet"),
    ],
)
def test_a_wrong_input_is_one_line_with_its_own_exit_code_before_anything_is_made(
    inv: Inv, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = inv(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert code == 1 or done.stderr.endswith(f" (docs/reference/exit-codes.md#exit-{code})\n")
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_a_dead_target_is_one_line(inv: Inv) -> None:
    # Port 9 (discard) is privileged: no test server can listen on it.
    done = inv(
        *("provision", "--env", "staging"),
        LOADTEST_BASE_URL="http://127.0.0.1:9",
        LOADTEST_EMAIL="a@example.com",
    )
    assert done.returncode == 11
    assert "http://127.0.0.1:9 does not answer" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def start(checkout: Path, *arguments: str, stdout: int, **options: Any) -> tuple[int, str]:
    """Run a task with a given standard output; return its exit code and its errors."""
    variables = {"PATH": os.environ["PATH"], "COLUMNS": "200", **options.pop("variables", {})}
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=checkout,
        env=variables,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=HANG_SECONDS,
        **options,
    )
    return done.returncode, done.stderr.decode(errors="backslashreplace")


def test_an_output_that_is_full_is_one_line(checkout: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        for arguments in (("history",), ("history", "--csv")):
            code, said = start(checkout, *arguments, stdout=full.fileno())
            assert code == 74, said
            words = "loadtest: standard output cannot be written: No space left on device; "
            assert said.startswith(words)
            assert said.count("\n") == 1


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize(
    "arguments",
    [
        *(("history",), ("history", "--csv"), ("doctor",)),
        *(("--list",), ("--help", "loadtest"), ("loadtest", "--help")),
    ],
)
def test_a_closed_pipe_ends_a_task_or_a_listing_silently(
    checkout: Path, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        assert start(checkout, *arguments, stdout=theirs, variables=variables) == (141, "")
    finally:
        os.close(theirs)


@pytest.mark.parametrize(
    "variables",
    [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
)
def test_characters_that_a_console_cannot_show_are_escaped(
    checkout: Path, variables: dict[str, str]
) -> None:
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "variables": variables}
    code, said = start(checkout, "history", "--env", "m\u00e4rz", **options)
    # Without UTF-8 an argument is not even text.
    assert code in {2, 10}, said
    assert said.count("\n") == 1
    name = "m\u00e4rz"
    text = (checkout / CONFIG_FILE).read_text(encoding="utf-8")
    (checkout / CONFIG_FILE).unlink()
    text += f'\n[environment.local]\ndefault_profile = "{name}"\n'
    text += f"""[profile."{name}"]
cold_start = {{ iterations = 1, vus = 1 }}
sessions = {{ stages = [1], stage_seconds = 1 }}
tools = {{ vus = 1, duration_seconds = 1 }}
"""
    (checkout / CONFIG_FILE).write_text(text, encoding="utf-8")
    with (checkout / "said").open("wb") as output:
        options["stdout"] = output.fileno()
        assert start(checkout, "doctor", **options)[0] in {0, 10}
    assert b"profile m" in (checkout / "said").read_bytes()


def test_something_else_in_the_place_of_a_file_is_one_line(inv: Inv, checkout: Path) -> None:
    (checkout / ".loadtest" / "staging" / "holder.json").mkdir(parents=True)
    done = inv("k6", "--env", "staging", **UNREACHABLE)
    assert done.returncode == 74
    assert "holder.json: Is a directory: move away what is in its place" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    shutil.rmtree(checkout / ".loadtest")
    (checkout / ".loadtest").write_text("")
    done = inv("k6", "--env", "staging", **UNREACHABLE)
    assert done.returncode == 10
    assert "credentials.env cannot be read: NotADirectoryError" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_cannot_grow_as_on_a_full_disk_is_one_line(checkout: Path) -> None:
    def keep_files_small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

    options = {"variables": UNREACHABLE, "preexec_fn": keep_files_small}
    arguments = ("k6", "--env", "staging")
    code, said = start(checkout, *arguments, stdout=subprocess.DEVNULL, **options)
    assert code == 74, said
    assert "/.loadtest/staging/holder.json: File too large: allow larger files" in said
    assert said.count("\n") == 1


def test_a_busy_port_is_one_line(inv: Inv, serve: Callable[..., object]) -> None:
    target = serve()
    port = getattr(target, "api_url", "").rpartition(":")[2]
    done = inv("target", "--port", port)
    assert done.returncode == 11
    assert port in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_doctor_names_what_a_hosted_environment_lacks(inv: Inv) -> None:
    done = inv("doctor", "--env", "staging")
    assert done.returncode == 10
    assert "LOADTEST_BASE_URL" in done.stdout
    assert "missing before a run: target, credentials" in done.stderr


def test_the_doctor_finds_nothing_missing_for_the_reference_target(inv: Inv) -> None:
    done = inv("doctor")
    assert done.returncode == 0, done.stdout
    assert "k6 1." in done.stdout
