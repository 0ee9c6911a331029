"""Runners in a real Kubernetes: objects, rights, removal and refusals."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.common.redaction import SecretStr
from loadtest.config.models import Kubernetes
from loadtest.errors import K6Error
from loadtest.k6.binary import find_k6
from loadtest.k6.distributed.protocol import RunnerState, ScenarioRequest
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.kubernetes.client import Cluster, open_cluster
from loadtest.k6.kubernetes.engine import KubernetesEngine
from loadtest.k6.kubernetes.manifests import build_client_access, build_manifests
from loadtest.k6.kubernetes.objects import Bounds
from loadtest.k6.kubernetes.test_run import ClusterFleet, launch_fleet
from loadtest.k6.plan import Runners
from loadtest.k6.scenario import EXIT_INTERRUPTED
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import Bearer, read_bearers
from tests.interop.kube_api import KubeApi, Manifest, Request, create, find_place, serve_kube_api
from tests.interop.kube_worker import Worker, run_worker, set_status, take_up
from tests.k6.kubernetes.cluster_requests import FULL, build_request, load_profiles
from tests.k6.kubernetes.launched import READER, are, find_fault, watch
from tests.k6.kubernetes.pod_process import build_status
from tests.k6.running import build_settings, mint_by_session, plan_run
from tests.support.waiting import HANG_SECONDS

BOUNDS = Bounds(poll=0.1, close=30.0, create=0.0)
NAME = "mcp-loadtest-prod-sessions"
# The objects of a scenario; its TestRun comes last.
COLLECTIONS = (
    *("api/v1/configmaps", "api/v1/secrets", "api/v1/serviceaccounts", "api/v1/pods"),
    "api/v1/services",
    *("apis/rbac.authorization.k8s.io/v1/roles", "apis/rbac.authorization.k8s.io/v1/rolebindings"),
    *("apis/batch/v1/jobs", "apis/k6.io/v1alpha1/testruns"),
)


@pytest.fixture
def where(namespace: str) -> Kubernetes:
    """Return where the runners run."""
    update = {"namespace": namespace, "context": "loopback", "start_seconds": 30}
    return FULL.model_copy(update=update)


@pytest.fixture
def rights(admin: httpx.Client, where: Kubernetes) -> Manifest:
    """Create the client's account with its Role; return the Role."""
    account, role, binding = build_client_access("prod", where)
    for manifest in (account, role, binding):
        create(admin, manifest)
    return role


@pytest.fixture
def cluster(kube_api: KubeApi, where: Kubernetes, rights: Manifest) -> Iterator[Cluster]:
    """Open the cluster with the rights of the client's account, and with no others."""
    with open_as(kube_api, where, rights["metadata"]["name"]) as opened:
        yield opened


@pytest.fixture
def scenario_request(tmp_path: Path) -> ScenarioRequest:
    """Return a request for two runners of one scenario."""
    logs = tuple(tmp_path / f"k6-{number}.log" for number in (1, 2))
    profile = load_profiles()["smoke"]
    return build_request(tmp_path, "sessions", profile, parallelism=2, logs=logs)


Launch = Callable[..., ClusterFleet]


@pytest.fixture
def launch(
    cluster: Cluster, where: Kubernetes, scenario_request: ScenarioRequest
) -> Iterator[Launch]:
    """Return a function that starts runners; they end with the test."""
    with ExitStack() as running:

        def start(
            cluster: Cluster = cluster, where: Kubernetes = where, **changes: Any
        ) -> ClusterFleet:
            changed = replace(scenario_request, **changes)
            fleet = launch_fleet(
                changed, cluster=cluster, environment_name="prod", where=where, bounds=BOUNDS
            )
            running.callback(fleet.close)
            return fleet

        yield start


@pytest.fixture
def worker(kube_api: KubeApi, where: Kubernetes, tmp_path: Path) -> Iterator[Worker]:
    """Run the operator and a node of a cluster."""
    k6 = find_k6(os.environ).path
    with run_worker(kube_api, where.namespace, k6, tmp_path / "pods") as running:
        yield running


def list_ours(admin: httpx.Client, namespace: str) -> list[Any]:
    """Return the objects of a scenario."""
    found = []
    for collection in COLLECTIONS:
        version, _, plural = collection.rpartition("/")
        items = admin.get(f"/{version}/namespaces/{namespace}/{plural}").json()["items"]
        found += [each for each in items if each["metadata"]["name"].startswith(NAME)]
    return found


def find_test_run(admin: httpx.Client, namespace: str) -> Any:
    return list_ours(admin, namespace)[-1]


def await_true(is_so: Callable[[], bool]) -> None:
    """Wait until the controllers have done their work."""
    deadline = time.monotonic() + HANG_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(BOUNDS.poll)


def list_pods(admin: httpx.Client, namespace: str) -> list[Any]:
    return list(admin.get(f"/api/v1/namespaces/{namespace}/pods").json()["items"])


def let_run(admin: httpx.Client, namespace: str, parallelism: int) -> None:
    """Mark every pod as running, once all exist."""
    await_true(lambda: len(list_pods(admin, namespace)) == parallelism)
    status = {"phase": "Running", "containerStatuses": [build_status({"running": {}})]}
    for pod in list_pods(admin, namespace):
        kind = {"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"]}
        set_status(admin, kind, status)


def set_quota(admin: httpx.Client, namespace: str, **hard: str) -> None:
    """Set a quota of a namespace, and wait until it is in force."""
    metadata = {"name": "small", "namespace": namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata}
    create(admin, {**quota, "spec": {"hard": hard}})
    place = f"{find_place(quota)}/small"
    await_true(lambda: admin.get(place).json()["status"].get("hard") == hard)


def open_as(kube_api: KubeApi, where: Kubernetes, account: str) -> Cluster:
    """Open the cluster as a service account of the namespace."""
    token = kube_api.mint(where.namespace, account)
    config = kube_api.write_kubeconfig(f"{where.namespace}-{account}", token)
    return open_cluster(where, {"KUBECONFIG": str(config)})


def test_all_objects_are_owned_by_the_test_run_and_deleted_with_it(
    admin: httpx.Client, launch: Launch, where: Kubernetes
) -> None:
    launch()
    *owned, test_run = list_ours(admin, where.namespace)
    assert len(owned) == 5
    for each in owned:
        (owner,) = each["metadata"]["ownerReferences"]
        assert owner["uid"] == test_run["metadata"]["uid"]
    admin.delete(f"/apis/k6.io/v1alpha1/namespaces/{where.namespace}/testruns/{NAME}")
    await_true(lambda: not list_ours(admin, where.namespace))


def test_no_object_remains_after_a_run(
    admin: httpx.Client, launch: Launch, where: Kubernetes
) -> None:
    fleet = launch()
    take_up(admin, find_test_run(admin, where.namespace))
    await_true(lambda: len(list_pods(admin, where.namespace)) == 2)
    assert fleet.close() is None
    assert list_pods(admin, where.namespace) == []
    await_true(lambda: not list_ours(admin, where.namespace))


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
def test_an_operator_that_creates_runners_again_does_not_keep_its_test_run(
    admin: httpx.Client, launch: Launch, where: Kubernetes
) -> None:
    set_quota(admin, where.namespace, services="1")
    fleet = launch()
    await_true(lambda: len(list_pods(admin, where.namespace)) == 2)
    assert fleet.close() is None
    await_true(lambda: not list_ours(admin, where.namespace))


def test_objects_of_a_run_that_died_are_removed_by_the_next(
    admin: httpx.Client, launch: Launch, where: Kubernetes, scenario_request: ScenarioRequest
) -> None:
    for manifest in build_manifests(scenario_request, "prod", where).list():
        create(admin, manifest)
    take_up(admin, find_test_run(admin, where.namespace), stage="finished")
    *_, left = list_ours(admin, where.namespace)
    launch()
    *owned, test_run = list_ours(admin, where.namespace)
    assert test_run["metadata"]["uid"] != left["metadata"]["uid"]
    assert len(owned) == 5


def test_objects_of_a_run_that_died_before_its_test_run_are_replaced(
    admin: httpx.Client, launch: Launch, where: Kubernetes, scenario_request: ScenarioRequest
) -> None:
    *others, _ = build_manifests(scenario_request, "prod", where).list()
    left = {create(admin, manifest)["metadata"]["uid"] for manifest in others}
    launch()
    made = {each["metadata"]["uid"] for each in list_ours(admin, where.namespace)}
    assert len(made) == 6
    assert not made & left


def test_a_run_in_progress_is_not_disturbed(
    admin: httpx.Client, launch: Launch, where: Kubernetes
) -> None:
    launch()
    before = list_ours(admin, where.namespace)
    with pytest.raises(K6Error, match=r"a run of this environment is in progress in context loop"):
        launch()
    assert list_ours(admin, where.namespace) == before


def list_rights(role: Manifest) -> set[Request]:
    """Return the rights of a Role for the objects of this scenario."""
    return {
        Request(verb, group, resource, name)
        for rule in role["rules"]
        for verb, group, resource, name in product(
            rule["verbs"], rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""])
        )
        if name in {"", NAME}
    }


def test_the_client_has_the_rights_that_a_run_needs_and_no_others(
    kube_api: KubeApi,
    admin: httpx.Client,
    launch: Launch,
    where: Kubernetes,
    scenario_request: ScenarioRequest,
    rights: Manifest,
) -> None:
    *others, _ = build_manifests(scenario_request, "prod", where).list()
    for manifest in others:
        create(admin, manifest)
    fleet = launch()
    requests = partial(kube_api.read_audit, where.namespace, rights["metadata"]["name"])
    await_true(lambda: Request("list", "", "events", "") in requests())
    take_up(admin, find_test_run(admin, where.namespace))
    let_run(admin, where.namespace, scenario_request.parallelism)
    await_true(lambda: Request("get", "", "pods/log", "") in requests())
    assert scenario_request.bearer_file is not None
    fleet.update_bearers(read_bearers(scenario_request.bearer_file))
    fleet.close()
    # Services are listed only if a runner was not started, to find it by its address.
    assert requests() | {Request("list", "", "services", "")} == list_rights(rights)


def test_a_right_that_is_withdrawn_is_reported(
    admin: httpx.Client, launch: Launch, rights: Manifest
) -> None:
    rights["rules"] = [rule for rule in rights["rules"] if "pods" not in rule["resources"]]
    admin.put(f"{find_place(rights)}/{rights['metadata']['name']}", json=rights).raise_for_status()
    with pytest.raises(K6Error, match=r"^context loopback does not let you list pods in names"):
        launch()


def test_a_quota_that_leaves_no_room_for_runners_is_named(
    admin: httpx.Client, launch: Launch, where: Kubernetes
) -> None:
    set_quota(admin, where.namespace, pods="1")
    fleet = launch()
    take_up(admin, find_test_run(admin, where.namespace))
    fault = find_fault(fleet)
    assert fault.startswith(
        f"namespace {where.namespace} has no quota left (quota: small, requested: pods=1, used: "
        "pods=1, limited: pods=1): check `kubectl --context loopback describe quota"
    )


def test_a_quota_that_leaves_no_room_for_our_objects_is_named_and_nothing_remains(
    admin: httpx.Client, launch: Launch, where: Kubernetes
) -> None:
    set_quota(admin, where.namespace, secrets="0")
    with pytest.raises(K6Error) as caught:
        launch()
    assert "has no quota left (quota: small, requested: secrets=1" in str(caught.value)
    await_true(lambda: not list_ours(admin, where.namespace))


def test_a_namespace_that_refuses_the_pods_is_named_with_its_reason(
    admin: httpx.Client, launch: Launch, where: Kubernetes
) -> None:
    limit = {"type": "Container", "max": {"memory": "1Gi"}}
    metadata = {"name": "small", "namespace": where.namespace}
    kind = {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata}
    create(admin, {**kind, "spec": {"limits": [limit]}})
    fleet = launch()
    take_up(admin, find_test_run(admin, where.namespace))
    assert find_fault(fleet) == (
        f"namespace {where.namespace} does not accept the runners (maximum memory usage per "
        "Container is 1Gi, but limit is 4Gi): have this changed, or use another namespace"
    )


def test_the_error_of_a_user_without_rights_names_the_missing_permission(
    kube_api: KubeApi, launch: Launch, where: Kubernetes
) -> None:
    with open_as(kube_api, where, "default") as stranger, pytest.raises(K6Error) as caught:
        launch(stranger)
    assert str(caught.value) == (
        "context loopback does not let you list testruns in namespace "
        f"{where.namespace}: ask for this permission, then check it with `kubectl --context "
        f"loopback auth can-i list testruns.k6.io -n {where.namespace}`"
    )


def test_unknown_credentials_are_reported(
    kube_api: KubeApi, launch: Launch, where: Kubernetes
) -> None:
    config = kube_api.write_kubeconfig("nobody", "no such token")
    variables = {"KUBECONFIG": str(config)}
    with open_cluster(where, variables) as unknown, pytest.raises(K6Error) as caught:
        launch(unknown)
    assert str(caught.value).startswith("context loopback refuses the credentials")


def test_a_missing_namespace_is_reported(
    kube_api: KubeApi, launch: Launch, where: Kubernetes
) -> None:
    config = kube_api.folder / "admin.kubeconfig"
    nowhere = where.model_copy(update={"namespace": "nowhere"})
    variables = {"KUBECONFIG": str(config)}
    with open_cluster(nowhere, variables) as cluster, pytest.raises(K6Error) as caught:
        launch(cluster, nowhere)
    assert str(caught.value) == (
        "context loopback has no namespace nowhere: create it with `kubectl --context loopback "
        "create namespace nowhere`, or configure another one"
    )


def test_a_cluster_without_the_operator_is_reported(
    binaries: Path, launch: Launch, where: Kubernetes
) -> None:
    with serve_kube_api(binaries) as bare:
        variables = {"KUBECONFIG": str(bare.folder / "admin.kubeconfig")}
        with open_cluster(where, variables) as cluster, pytest.raises(K6Error) as caught:
            launch(cluster)
    assert str(caught.value).startswith("context loopback has no k6-operator: install it (`helm")


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
def test_a_scenario_in_a_real_kubernetes_has_complete_results(
    serve: Callable[..., ReferenceTarget],
    cluster: Cluster,
    admin: httpx.Client,
    where: Kubernetes,
    tmp_path: Path,
) -> None:
    target = serve(tool_quota=False)
    bearer_file = tmp_path / "bearer" / "bearer.json"
    mcp_url = mint_by_session(target.api_url, bearer_file)
    settings = replace(build_settings(STAGES="2,4"), root=tmp_path)
    engine = KubernetesEngine(cluster, "prod", where)
    run = run_fleet(
        plan_run(settings, mcp_url, bearer_file, runners=Runners("kubernetes", 2)),
        "sessions",
        out_dir=tmp_path / "sessions",
        launch=engine.launch,
    )
    assert (run.result.outcome, run.result.reason, run.result.faults) == ("ok", None, ())
    assert run.rows
    assert all(row.ok == row.count > 0 for row in run.rows)
    await_true(lambda: not list_ours(admin, where.namespace))


@pytest.mark.slow
def test_a_runner_that_is_not_started_is_named_by_its_service(
    launch: Launch, worker: Worker
) -> None:
    worker.unreached = {f"{NAME}-2"}
    assert find_fault(launch()).startswith("runner 2 of 2 was not started (Timed out): let the ")


@pytest.mark.slow
def test_a_runner_may_read_the_fresh_bearer_and_no_other_secret(
    launch: Launch, worker: Worker, scenario_request: ScenarioRequest
) -> None:
    worker.scripts["sessions.js"] = READER
    log = scenario_request.logs[0]
    fleet = launch(parallelism=1, logs=(log,))
    watch(fleet, are("running"))
    watch(fleet, lambda _: "serial 0, expires at" in log.read_text(encoding="utf-8"))
    fresh = Bearer(SecretStr("fresh-canary"), 4102444800, "http://127.0.0.1/mcp", "", "session")
    fleet.update_bearers([fresh])
    expected = "serial 1, expires at 4102444800"
    watch(fleet, lambda _: expected in log.read_text(encoding="utf-8"))
    fleet.stop()
    assert fleet.look() == (RunnerState(1, "ended", EXIT_INTERRUPTED),)
    text = log.read_text(encoding="utf-8")
    assert "another: 403" in text
    assert "canary" not in text
