"""A fleet from its launch to its end: real k6 processes behind a loopback Kubernetes."""

import json
import stat
from collections.abc import Callable

import pytest
from kubernetes_server import KubernetesServer
from launched import are, watch
from operator_stand_in import Operator

from loadtest.cluster.fleet import ClusterFleet
from loadtest.fleet.engine import Order, RunnerState

pytestmark = pytest.mark.slow


def test_the_runners_of_a_fleet_start_run_and_end(
    launch: Callable[..., ClusterFleet], order: Order, operator: Operator
) -> None:
    fleet = launch()
    assert fleet.look() == (RunnerState(1, "pending"), RunnerState(2, "pending"))
    watch(fleet, are("running", "running"))
    states = watch(fleet, are("ended", "ended"))
    assert states == (
        RunnerState(1, "ended", 0, region="eu-west-1"),
        RunnerState(2, "ended", 0, region="us-east-1"),
    )
    for log in order.logs:
        lines = log.read_text(encoding="utf-8").splitlines()
        assert "begins" in lines[0]
        assert json.loads(lines[-1])["loadtest"] == "x" * 50000
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert [command[8] for command in operator.commands] == [
        "--execution-segment=0:1/2",
        "--execution-segment=1/2:1",
    ]


def test_nothing_of_a_fleet_stays(
    launch: Callable[..., ClusterFleet], kubernetes: KubernetesServer, operator: Operator
) -> None:
    operator.asleep = True
    fleet = launch()
    made = kubernetes.list_left()
    assert {name.partition("/")[2] for name in made} >= {"mcp-loadtest-staging-sessions"}
    fleet.close()
    assert kubernetes.list_left() == []
    fleet.close()
