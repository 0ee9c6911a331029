"""The objects of one scenario in a cluster: created, found again, removed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from lightkube import codecs
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.core_v1 import ConfigMap, Pod, Secret, ServiceAccount
from lightkube.resources.rbac_authorization_v1 import Role, RoleBinding
from lightkube.types import CascadeType, PatchType

from loadtest.errors import K6Error
from loadtest.k6.kubernetes.client import Cluster, find_status
from loadtest.k6.kubernetes.manifests import Manifest, Manifests
from loadtest.k6.kubernetes.pods import read_pod

TestRun: Any = create_namespaced_resource("k6.io", "v1alpha1", "TestRun", "testruns")
# What our TestRun owns. All have its name; they are removed after it, in this order.
OWNED = (Secret, ConfigMap, RoleBinding, Role, ServiceAccount)

# Stages of a TestRun: the starter was created; the TestRun has ended.
STARTED_STAGES = frozenset({"started", "stopped", "finished"})
ENDED_STAGES = frozenset({"stopped", "finished", "error"})


@dataclass(frozen=True)
class Bounds:
    """Time limits in a cluster, in seconds."""

    poll: float = 1.0
    operator: float = 30.0  # until the first reaction to a TestRun, and between two runners
    stuck: float = 15.0  # long enough for a second try to pull an image
    silence: float = 60.0  # of the cluster, while runners run
    drain: float = 15.0  # to read the rest of a log after its runner has ended
    stop: float = 60.0  # 30 s from SIGTERM until a pod is killed, and time to read its log
    close: float = 90.0  # until all deleted pods are gone
    create: float = 60.0  # to create all objects of a scenario


class Objects:
    """Creates and removes all objects of one scenario."""

    def __init__(self, cluster: Cluster, manifests: Manifests, bounds: Bounds) -> None:
        self.name: str = manifests.test_run["metadata"]["name"]
        self.created_at = datetime.now(UTC)
        self._cluster = cluster
        self._manifests = manifests
        self._bounds = bounds
        self._created: list[Any] = []

    def create(self) -> None:
        """Create everything. The TestRun comes last and then becomes the owner of the rest."""
        with self._cluster.explaining():
            for manifest in self._manifests.list():
                test_run = self._create(manifest)
            _check_accepted(self._manifests.test_run, test_run)
            # By the cluster's clock, to compare it with the times of events.
            self.created_at = test_run.metadata.creationTimestamp
            owner = {"apiVersion": test_run.apiVersion, "kind": test_run.kind, "name": self.name}
            owners = [owner | {"uid": test_run.metadata.uid}]
            patch = {"metadata": {"ownerReferences": owners}}
            for kind in self._created[:-1]:
                self._cluster.client.patch(kind, self.name, patch, patch_type=PatchType.MERGE)

    def remove(self) -> str | None:
        """Delete all objects, wait for the pods to go; return in one line which pods are left.

        Raises K6Error that names what could not be deleted.
        """
        if not self._created:
            return None
        failure: K6Error | None = None
        for kind in reversed(self._created):
            try:
                with self._cluster.explaining():
                    delete(self._cluster, kind, self.name)
            except K6Error as error:
                failure = failure or error
        if failure is not None:
            remedy = self._cluster.kubectl_for(
                f"delete testrun,secret,configmap,rolebinding,role,serviceaccount {self.name}"
            )
            raise K6Error(
                f"{self.name} could not be removed ({failure}): remove it with `{remedy}`"
            )
        self._created.clear()
        try:
            slow = await_pods(self._cluster, self.name, self._bounds)
        except K6Error as error:
            slow = str(error)
        return f"{self.name} is deleted, but {slow}" if slow else None

    def _create(self, manifest: Manifest) -> Any:
        wanted = codecs.from_dict(manifest)
        kind = type(wanted)
        self._created.append(kind)  # first, because the answer may be lost
        try:
            return self._cluster.client.create(wanted)
        except ApiError as refusal:
            self._created.pop()
            if find_status(refusal) != httpx2.codes.CONFLICT:
                raise
        # Left by a run that died before it had a TestRun, or created by a run that is starting.
        found: Any = self._cluster.client.get(kind, self.name)
        age = datetime.now(UTC) - found.metadata.creationTimestamp
        if age < timedelta(seconds=self._bounds.create):
            raise K6Error(_describe_other_run(self._cluster, self.name, "started just now"))
        self._created.append(kind)
        delete(self._cluster, kind, self.name)
        return self._cluster.client.create(wanted)


def remove_leftovers(
    cluster: Cluster, name: str, labels: Mapping[str, str], start_seconds: float, bounds: Bounds
) -> None:
    """Remove the objects of earlier runs of an environment that died, so that `name` is free.

    Raises K6Error if another run is in progress, or if pods of an earlier run do not end.
    """
    with cluster.explaining():
        runs = _list_runs(cluster, labels)
        for run in runs:
            if _is_under_way(cluster, run, timedelta(seconds=start_seconds)):
                since = f"since {run.metadata.creationTimestamp:%Y-%m-%d %H:%M} UTC"
                raise K6Error(_describe_other_run(cluster, run.metadata.name, since))
        for run in runs:
            for kind in (TestRun, *OWNED):
                delete(cluster, kind, run.metadata.name)
        for each in sorted({name, *(run.metadata.name for run in runs)}):
            slow = await_pods(cluster, each, bounds)
            if slow is not None:
                raise K6Error(f"an earlier run is still being removed: {slow}")


def check_operator(cluster: Cluster) -> None:
    """Raise K6Error if the cluster has no k6-operator, or does not let us list TestRuns."""
    with cluster.explaining():
        _list_runs(cluster, {})


def delete(cluster: Cluster, kind: Any, name: str) -> None:
    """Delete an object if it exists; the cluster deletes what the object owns afterwards.

    Never earlier: as long as a TestRun exists, even while it is being deleted, the operator
    creates its runners again.
    """
    try:
        cluster.client.delete(kind, name, cascade=CascadeType.BACKGROUND)
    except httpx2.HTTPStatusError as refusal:
        if find_status(refusal) != httpx2.codes.NOT_FOUND:
            raise


def await_pods(cluster: Cluster, name: str, bounds: Bounds) -> str | None:
    """Wait until no pod of a deleted TestRun is left; return in one line how many remain."""
    deadline = time.monotonic() + bounds.close
    while True:
        with cluster.explaining():
            count = len(list(cluster.client.list(Pod, labels={"k6_cr": name})))
        if count == 0:
            return None
        if time.monotonic() > deadline:
            check = cluster.kubectl_for(f"get pods -l k6_cr={name}")
            pods = "pod is" if count == 1 else "pods are"
            return f"{count} {pods} still there after {bounds.close:.0f} s: check `{check}`"
        time.sleep(bounds.poll)


def _list_runs(cluster: Cluster, labels: Mapping[str, str]) -> list[Any]:
    try:
        return list(cluster.client.list(TestRun, labels=dict(labels)))
    except httpx2.HTTPStatusError as refusal:
        if find_status(refusal) != httpx2.codes.NOT_FOUND:
            raise
    raise K6Error(
        f"{cluster.name} has no k6-operator: install it (`helm install k6-operator "
        "grafana/k6-operator`), or ask its administrator for it"
    )


def _is_under_way(cluster: Cluster, run: Any, start: timedelta) -> bool:
    """Tell whether the run of a TestRun is probably still in progress."""
    stage = (run.status or {}).get("stage", "")
    if stage in ENDED_STAGES:
        return False
    if stage not in STARTED_STAGES:
        # After that time, its run has given up.
        return bool(datetime.now(UTC) - run.metadata.creationTimestamp < start)
    pods = cluster.client.list(Pod, labels={"k6_cr": run.metadata.name, "runner": "true"})
    return any(read_pod(pod).phase in {"Pending", "Running"} for pod in pods)


def _describe_other_run(cluster: Cluster, name: str, since: str) -> str:
    return (
        f"a run of this environment is in progress in {cluster.name}, {since}: wait for its end, "
        f"or remove it with `{cluster.kubectl_for(f'delete testrun {name}')}`"
    )


def _check_accepted(wanted: Manifest, created: Any) -> None:
    """Raise K6Error if an older operator has dropped fields that it does not support."""
    sent, kept = wanted["spec"], created["spec"]
    dropped = [key for key in sent if key not in kept]
    dropped += [f"runner.{key}" for key in sent["runner"] if key not in kept.get("runner", {})]
    if dropped:
        raise K6Error(
            f"the k6-operator of this cluster does not support {', '.join(dropped)} in a "
            "TestRun: update it to 1.6 or later"
        )
