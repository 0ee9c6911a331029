"""A loopback cluster with an operator, and runners that are started there."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.config.models import Kubernetes
from loadtest.k6.binary import find_k6
from loadtest.k6.distributed.protocol import ScenarioRequest
from loadtest.k6.kubernetes.client import Cluster, open_cluster
from loadtest.k6.kubernetes.objects import Bounds
from loadtest.k6.kubernetes.test_run import ClusterFleet, launch_fleet
from tests.k6.kubernetes.cluster_requests import build_request, load_profiles
from tests.k6.kubernetes.kubernetes_server import (
    CONTEXT,
    NAMESPACE,
    KubernetesServer,
    serve_kubernetes,
)
from tests.k6.kubernetes.launched import BOUNDS, SCRIPT
from tests.k6.kubernetes.operator_stand_in import Operator, run_operator


@pytest.fixture
def kubernetes() -> Iterator[KubernetesServer]:
    """Serve a cluster; after each test it must be empty."""
    with serve_kubernetes() as server:
        yield server
        assert server.list_left() == []


@pytest.fixture
def operator(kubernetes: KubernetesServer, tmp_path: Path) -> Iterator[Operator]:
    """Run the operator of that cluster; `sessions` is a script of one second."""
    with run_operator(kubernetes, find_k6(os.environ).path, tmp_path / "pods") as running:
        running.scripts["sessions.js"] = SCRIPT % 1
        yield running


@pytest.fixture
def where() -> Kubernetes:
    """Return where the runners of the environment run."""
    return Kubernetes(namespace=NAMESPACE, context=CONTEXT, start_seconds=60)


@pytest.fixture
def cluster(kubernetes: KubernetesServer, where: Kubernetes, tmp_path: Path) -> Iterator[Cluster]:
    """Open the cluster as a user with a kubeconfig does."""
    config = kubernetes.write_config(tmp_path / "kubeconfig")
    with open_cluster(where, {"KUBECONFIG": str(config)}) as opened:
        yield opened


@pytest.fixture
def scenario_request(tmp_path: Path) -> ScenarioRequest:
    """Return a request for two runners of one scenario."""
    logs = tuple(tmp_path / f"k6-{number}.log" for number in (1, 2))
    profile = load_profiles()["smoke"]
    folder = tmp_path / "bearer"
    return build_request(folder, "sessions", profile, parallelism=2, logs=logs, renewal_url=None)


@pytest.fixture
def launch(
    cluster: Cluster, scenario_request: ScenarioRequest, where: Kubernetes
) -> Iterator[Callable[..., ClusterFleet]]:
    """Return a function that starts runners with a changed request; they end with the test."""
    fleets: list[ClusterFleet] = []

    def build(bounds: Bounds = BOUNDS, start_seconds: int = 60, **changes: object) -> ClusterFleet:
        changed = replace(scenario_request, **changes)  # type: ignore[arg-type]
        there = where.model_copy(update={"start_seconds": start_seconds})
        fleet = launch_fleet(
            changed, cluster=cluster, environment_name="staging", where=there, bounds=bounds
        )
        fleets.append(fleet)
        return fleet

    yield build
    for fleet in fleets:
        fleet.close()
