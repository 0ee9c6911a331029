"""A whole run in a cluster with the commands of a user: real k6, real sign-in, loopback cluster."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from loadtest.config.project import CONFIG_FILE
from loadtest.context import GENERATOR_EXIT_CODE
from loadtest.reference.server import ReferenceTarget
from loadtest.results.run_folder import RunFolder, read_run_folder
from tests.k6.kubernetes.kubernetes_server import CONTEXT, NAMESPACE, KubernetesServer
from tests.k6.kubernetes.operator_stand_in import Operator
from tests.support.waiting import HANG_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EMAIL = "loadtest@novamart.example"
SMALL = ("--iterations", "4", "--stages", "1,3", "--stage-seconds", "2", "--vus", "2")
FLEET = ("--engine", "kubernetes", "--parallelism", "2")

Inv = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def target(serve: Callable[..., ReferenceTarget]) -> ReferenceTarget:
    """Serve a hosted target whose bearers expire within a minute."""
    return serve(tool_quota=False, account_limits=False, access_token_seconds=40)


@pytest.fixture(autouse=True)
def _scripts(operator: Operator) -> None:
    """Let the runners run the real scripts."""
    operator.scripts.clear()


@pytest.fixture
def start(checkout: Path, kubernetes: KubernetesServer, target: ReferenceTarget) -> Iterator[Start]:
    """Return a function that starts a task for staging, which has a cluster."""
    config = checkout / CONFIG_FILE
    text = config.read_text(encoding="utf-8")
    config.unlink()
    where = f'namespace = "{NAMESPACE}"\ncontext = "{CONTEXT}"\nstart_seconds = 60\n'
    config.write_text(f"{text}\n[environment.staging.kubernetes]\n{where}", encoding="utf-8")
    variables = {
        **{name: os.environ[name] for name in ("PATH", "K6_BIN") if name in os.environ},
        "COLUMNS": "120",
        "KUBECONFIG": str(kubernetes.write_config(checkout / "kubeconfig")),
        "LOADTEST_BASE_URL": target.api_url,
        "LOADTEST_EMAIL": EMAIL,
    }

    with ExitStack() as running:

        def begin(*arguments: str) -> "subprocess.Popen[str]":
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "invoke", *arguments, "--env", "staging"],
                    cwd=checkout,
                    env=variables,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            running.callback(process.kill)
            return process

        yield begin


@pytest.fixture
def inv(start: Start) -> Inv:
    """Return a function that runs such a task and waits for it."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        process = start(*arguments)
        output, errors = process.communicate(timeout=HANG_SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    return run


def read_run(checkout: Path) -> RunFolder:
    (path,) = (checkout / ".loadtest" / "runs").iterdir()
    return read_run_folder(path)


def read_bearers(checkout: Path) -> list[str]:
    text = (checkout / ".loadtest" / "staging" / "bearer.json").read_text(encoding="utf-8")
    return [entry["access_token"] for entry in json.loads(text)["bearers"]]


def test_a_run_in_a_cluster_writes_what_a_local_run_writes_and_leaves_the_cluster_empty(
    inv: Inv, checkout: Path, target: ReferenceTarget
) -> None:
    done = inv("k6", *FLEET, *SMALL, "--duration", "2")
    # On a busy machine the load generator may be the bottleneck: that is said, and is no failure.
    assert done.returncode in {0, GENERATOR_EXIT_CODE}, done.stdout + done.stderr
    assert "2 k6 (kubernetes)" in done.stdout
    folder = read_run(checkout)
    run = folder.run
    assert (run.engine, run.generators, run.k6_version) == ("kubernetes", 2, "grafana/k6:1.1.0")
    assert run.regions == ("eu-west-1", "us-east-1")
    assert [(each.outcome, each.faults, each.sessions_left) for each in run.scenarios] == [
        ("ok", (), 0)
    ] * 4
    rows = {(row.scenario, row.kind, row.name): row for row in folder.rows}
    assert rows["cold-start", "frame", "first dispatch"].ok == 4
    assert rows["sessions", "stage", "1"].ok == 2
    assert rows["sessions", "stage", "3"].ok == 6
    assert rows["tools", "tool", "all"].ok > 10
    assert target.open_sessions == 0
    (token,) = read_bearers(checkout)
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert not [path for path in files if token.encode() in path.read_bytes()]
    assert token not in done.stdout + done.stderr


def test_a_bearer_that_expires_during_a_run_is_renewed_in_the_cluster(
    inv: Inv, checkout: Path, kubernetes: KubernetesServer, operator: Operator
) -> None:
    seen: list[str] = []
    take_up = kubernetes.on_create

    def keep(thing: dict[str, Any]) -> None:
        if thing["kind"] == "Secret":
            seen.append(thing["data"]["bearer.json"])
        take_up(thing)

    kubernetes.on_create = keep
    ladder = ("--scenarios", "sessions", "--stages", "2", "--stage-seconds", "60")
    done = inv("k6", *FLEET, *ladder)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = read_run(checkout).run.scenarios
    assert (result.outcome, result.faults) == ("ok", ())
    (file,) = seen
    first = json.loads(base64.b64decode(file))["bearers"]
    assert [entry["access_token"] for entry in first] != read_bearers(checkout)
    assert len(operator.commands) == 2
    assert not [word for command in operator.commands for word in command if "eyJ" in word]


def test_an_interrupted_run_keeps_its_figures_and_leaves_the_cluster_empty(
    start: Start, checkout: Path, operator: Operator, target: ReferenceTarget
) -> None:
    # On one processor k6 stops a script late: what it does meanwhile must not count.
    operator.environment = {"GOMAXPROCS": "1"}
    ladder = ("--scenarios", "sessions", "--stages", "1,2", "--stage-seconds", "60")
    process = start("k6", *FLEET, *ladder)
    deadline = time.monotonic() + 120
    called = None
    while called is None or target.tool_calls < called + 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        if called is None and len(operator.runners) == 2:
            called = target.tool_calls
        Event().wait(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130, errors
    folder = read_run(checkout)
    (result,) = folder.run.scenarios
    assert (result.outcome, result.faults) == ("interrupted", ())
    # A call in flight when k6 stopped is in no row.
    counted = sum(row.count for row in folder.rows if row.kind == "stage")
    assert target.tool_calls - called - 2 <= counted <= target.tool_calls - called
    assert operator.server.list_left() == []
    assert target.open_sessions == 0


def test_a_run_without_a_kubeconfig_ends_before_it_creates_anything(
    inv: Inv, checkout: Path, target: ReferenceTarget
) -> None:
    (checkout / "kubeconfig").unlink()
    done = inv("k6", *FLEET, *SMALL)
    assert done.returncode == 15
    assert "no kubeconfig" in done.stderr
    assert target.users() == []
    assert target.registrations == 0
    assert not (checkout / ".loadtest" / "runs").exists()


def test_render_prints_the_objects_of_a_run_without_any_request(
    inv: Inv, checkout: Path, target: ReferenceTarget, kubernetes: KubernetesServer
) -> None:
    (checkout / "kubeconfig").unlink()
    done = inv("k6", *FLEET, *SMALL, "--render")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kind: TestRun") == 4
    assert "name: mcp-loadtest-staging-client" in done.stdout
    assert target.api_url not in done.stdout
    assert target.users() == []
    assert kubernetes.list_left() == []


def test_the_doctor_checks_the_cluster(inv: Inv, kubernetes: KubernetesServer) -> None:
    assert "namespace load-tests: has the k6-operator" in flatten(inv("doctor").stdout)
    kubernetes.has_operator = False
    assert "has no k6-operator" in flatten(inv("doctor").stdout)


def flatten(table: str) -> str:
    return " ".join(table.split())
