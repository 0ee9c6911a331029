"""Runners from creation to removal: real k6 processes behind a loopback cluster."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.k6.distributed.protocol import RunnerState, ScenarioRequest
from loadtest.k6.kubernetes.test_run import ClusterFleet
from loadtest.k6.scenario import EXIT_INTERRUPTED
from tests.k6.kubernetes.kubernetes_server import Cut, KubernetesServer
from tests.k6.kubernetes.launched import SCRIPT, are, find_fault, watch
from tests.k6.kubernetes.operator_stand_in import Operator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("operator")]

Launching = Callable[..., ClusterFleet]


def read_summary(log: Path) -> dict[str, str]:
    """Return the summary of a runner."""
    (line,) = (line for line in log.read_text(encoding="utf-8").splitlines() if line[0] == "{")
    summary: dict[str, str] = json.loads(line)
    return summary


def test_runners_start_run_and_end(
    launch: Launching, scenario_request: ScenarioRequest, operator: Operator
) -> None:
    fleet = launch()
    assert fleet.look() == (RunnerState(1, "pending"), RunnerState(2, "pending"))
    watch(fleet, are("running", "running"))
    states = watch(fleet, are("ended", "ended"))
    assert states == (
        RunnerState(1, "ended", 0, region="eu-west-1"),
        RunnerState(2, "ended", 0, region="us-east-1"),
    )
    for log in scenario_request.logs:
        assert "begins" in log.read_text(encoding="utf-8").splitlines()[0]
        assert read_summary(log)["loadtest"] == "x" * 50000
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert [command[8] for command in operator.commands] == [
        "--execution-segment=0:1/2",
        "--execution-segment=1/2:1",
    ]


def test_no_object_remains_after_a_run(
    launch: Launching, kubernetes: KubernetesServer, operator: Operator
) -> None:
    operator.dies_at = ""
    fleet = launch()
    made = kubernetes.list_left()
    assert {name.partition("/")[2] for name in made} >= {"mcp-loadtest-staging-sessions"}
    fleet.close()
    assert kubernetes.list_left() == []
    fleet.close()


def test_stopped_runners_still_print_their_summary(
    launch: Launching,
    scenario_request: ScenarioRequest,
    operator: Operator,
    kubernetes: KubernetesServer,
) -> None:
    operator.scripts["sessions.js"] = SCRIPT % 60
    fleet = launch()
    watch(fleet, are("running", "running"))
    watch(
        fleet, lambda _: all(log.exists() and log.stat().st_size for log in scenario_request.logs)
    )
    fleet.stop()
    assert fleet.look() == (
        RunnerState(1, "ended", EXIT_INTERRUPTED, region="eu-west-1"),
        RunnerState(2, "ended", EXIT_INTERRUPTED, region="us-east-1"),
    )
    for log in scenario_request.logs:
        assert read_summary(log)["loadtest"] == "x" * 50000
    fleet.close()
    assert kubernetes.list_left() == []


def test_runners_that_never_started_are_stopped_at_once(
    launch: Launching, operator: Operator
) -> None:
    operator.dies_at = ""
    fleet = launch()
    fleet.stop()
    assert {(state.phase, state.reason) for state in fleet.look()} == {
        ("lost", "removed before it started")
    }


@pytest.mark.parametrize("clean", [False, True])
def test_a_log_continues_where_its_stream_was_cut(
    launch: Launching,
    scenario_request: ScenarioRequest,
    operator: Operator,
    kubernetes: KubernetesServer,
    clean: bool,
) -> None:
    # Inside a line, at its end, and inside the summary.
    kubernetes.cuts += [Cut(after, clean) for after in (1, 150, 300, 301, 700, 20000, 40000)]
    fleet = launch(parallelism=1, logs=scenario_request.logs[:1])
    watch(fleet, are("ended"))
    assert kubernetes.cuts == []
    lines = operator.runners[1].container.lines
    expected = b"".join(text + b"\n" * whole for _, text, whole in lines)
    assert scenario_request.logs[0].read_bytes() == expected


def test_the_region_is_unknown_if_pods_have_no_label_for_it(
    launch: Launching, operator: Operator
) -> None:
    operator.regions.clear()
    states = watch(launch(), are("ended", "ended"))
    assert {state.region for state in states} == {None}


@pytest.mark.parametrize("reason", ["OOMKilled", "Evicted"])
def test_a_killed_runner_is_lost_and_the_others_continue(
    launch: Launching, scenario_request: ScenarioRequest, operator: Operator, reason: str
) -> None:
    operator.scripts["sessions.js"] = SCRIPT % 3
    fleet = launch()
    watch(fleet, are("running", "running"))
    operator.kill(1, reason)
    states = watch(fleet, are("lost", "ended"))
    assert states[0] == RunnerState(1, "lost", 137, reason, "eu-west-1")
    assert states[1].exit_code == 0
    assert "begins" in scenario_request.logs[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("strike", "exit_code", "reason"),
    [
        (lambda operator: operator.kill(2, "Error"), 137, "killed by signal 9"),
        (lambda operator: operator.lose_node(2), None, "NodeLost"),
        (lambda operator: operator.delete_pod(2), None, "its pod was deleted"),
    ],
    ids=["killed", "without a node", "deleted"],
)
def test_a_runner_without_a_summary_is_lost(
    launch: Launching,
    operator: Operator,
    strike: Callable[[Operator], None],
    exit_code: int | None,
    reason: str,
) -> None:
    operator.scripts["sessions.js"] = SCRIPT % 60
    fleet = launch()
    watch(fleet, are("running", "running"))
    strike(operator)
    states = watch(fleet, are("running", "lost"))
    assert states[1] == RunnerState(2, "lost", exit_code, reason, "us-east-1")


def test_a_log_that_cannot_be_written_ends_the_run(launch: Launching, tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "k6.log"
    fleet = launch(parallelism=1, logs=(gone,))
    assert find_fault(fleet) == f"{gone} cannot be written: No such file or directory"
