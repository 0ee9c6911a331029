"""What is made in a cluster for one scenario, and how all of it goes again."""

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
# What a TestRun of ours owns, by the same name; removed in this order, after it.
OWNED = (Secret, ConfigMap, RoleBinding, Role, ServiceAccount)

# Stages of a TestRun: its runners were told to go; it has nothing left to do.
STARTED_STAGES = frozenset({"started", "stopped", "finished"})
ENDED_STAGES = frozenset({"stopped", "finished", "error"})


@dataclass(frozen=True)
class Bounds:
    """How long things in a cluster may take, in seconds."""

    poll: float = 1.0
    operator: float = 30.0  # to take up a TestRun, and then from each runner to the next
    stuck: float = 15.0  # an image is pulled once more before that
    silence: float = 60.0  # of the cluster, while a fleet runs
    drain: float = 15.0  # a log, once its runner has ended
    stop: float = 60.0  # a pod has 30 s from SIGTERM on, and then its log is read
    close: float = 90.0
    making: float = 60.0  # what a TestRun needs, and then the TestRun


class Objects:
    """One scenario's objects: made, and removed, all or none."""

    def __init__(self, cluster: Cluster, manifests: Manifests, bounds: Bounds) -> None:
        self.name: str = manifests.test_run["metadata"]["name"]
        self.asked = datetime.now(UTC)
        self._cluster = cluster
        self._manifests = manifests
        self._bounds = bounds
        self._made: list[Any] = []

    def make(self) -> None:
        """Create everything; the TestRun comes last, and then owns the rest."""
        with self._cluster.explaining():
            for manifest in self._manifests.list():
                made = self._create(manifest)
            _check_accepted(self._manifests.test_run, made)
            # By the cluster's clock, which its events have too.
            self.asked = made.metadata.creationTimestamp
            owner = {"apiVersion": made.apiVersion, "kind": made.kind, "name": self.name}
            owners = [owner | {"uid": made.metadata.uid}]
            patch = {"metadata": {"ownerReferences": owners}}
            for kind in self._made[:-1]:
                self._cluster.client.patch(kind, self.name, patch, patch_type=PatchType.MERGE)

    def remove(self) -> str | None:
        """Delete what was made and wait until no pod is left; return which are slow to go, if any.

        K6Error names what could not be deleted.
        """
        if not self._made:
            return None
        failure: K6Error | None = None
        for kind in reversed(self._made):
            try:
                with self._cluster.explaining():
                    delete(self._cluster, kind, self.name)
            except K6Error as refusal:
                failure = failure or refusal
        if failure is not None:
            remedy = self._cluster.kubectl_for(
                f"delete testrun,secret,configmap,rolebinding,role,serviceaccount {self.name}"
            )
            raise K6Error(f"{self.name} could not be removed ({failure}): use `{remedy}`")
        self._made.clear()
        try:
            slow = await_pods(self._cluster, self.name, self._bounds)
        except K6Error as silent:
            slow = str(silent)
        return f"{self.name} is deleted, but {slow}" if slow else None

    def _create(self, manifest: Manifest) -> Any:
        wanted = codecs.from_dict(manifest)
        kind = type(wanted)
        self._made.append(kind)  # before it is known: an answer may be lost
        try:
            return self._cluster.client.create(wanted)
        except ApiError as refusal:
            self._made.pop()
            if find_status(refusal) != httpx2.codes.CONFLICT:
                raise
        # A run that died before its TestRun was there has left it, or another begins just now.
        found: Any = self._cluster.client.get(kind, self.name)
        age = datetime.now(UTC) - found.metadata.creationTimestamp
        if age < timedelta(seconds=self._bounds.making):
            raise K6Error(_describe_other_run(self._cluster, self.name, "since just now"))
        self._made.append(kind)
        delete(self._cluster, kind, self.name)
        return self._cluster.client.create(wanted)


def remove_leftovers(
    cluster: Cluster, name: str, labels: Mapping[str, str], start_seconds: float, bounds: Bounds
) -> None:
    """Remove what runs of an environment left that died, and see that `name` is free.

    K6Error when a run is under way, or pods of an earlier one do not go.
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
    """Raise K6Error where the cluster knows no TestRuns, or does not let us see ours."""
    with cluster.explaining():
        _list_runs(cluster, {})


def delete(cluster: Cluster, kind: Any, name: str) -> None:
    """Delete an object unless it is gone; what it owns is collected after it.

    Never before it: the operator makes the runners of a TestRun again for as long as there is one,
    even while it is being deleted.
    """
    try:
        cluster.client.delete(kind, name, cascade=CascadeType.BACKGROUND)
    except httpx2.HTTPStatusError as refusal:
        if find_status(refusal) != httpx2.codes.NOT_FOUND:
            raise


def await_pods(cluster: Cluster, name: str, bounds: Bounds) -> str | None:
    """Wait until no pod of a deleted TestRun is left; return how many are slow to go, in words."""
    deadline = time.monotonic() + bounds.close
    while True:
        with cluster.explaining():
            count = len(list(cluster.client.list(Pod, labels={"k6_cr": name})))
        if count == 0:
            return None
        if time.monotonic() > deadline:
            see = cluster.kubectl_for(f"get pods -l k6_cr={name}")
            pods = "pod is" if count == 1 else "pods are"
            return f"{count} {pods} still there after {bounds.close:.0f} s: see `{see}`"
        time.sleep(bounds.poll)


def _list_runs(cluster: Cluster, labels: Mapping[str, str]) -> list[Any]:
    try:
        return list(cluster.client.list(TestRun, labels=dict(labels)))
    except httpx2.HTTPStatusError as refusal:
        if find_status(refusal) != httpx2.codes.NOT_FOUND:
            raise
    raise K6Error(
        f"{cluster.name} has no k6-operator: install it (`helm install k6-operator "
        "grafana/k6-operator`), or have it installed"
    )


def _is_under_way(cluster: Cluster, run: Any, start: timedelta) -> bool:
    """Tell whether somebody still waits for a TestRun, as far as that can be seen."""
    stage = (run.status or {}).get("stage", "")
    if stage in ENDED_STAGES:
        return False
    if stage not in STARTED_STAGES:
        # Whoever asked for it has given up by then.
        return bool(datetime.now(UTC) - run.metadata.creationTimestamp < start)
    pods = cluster.client.list(Pod, labels={"k6_cr": run.metadata.name, "runner": "true"})
    return any(read_pod(pod).phase in {"Pending", "Running"} for pod in pods)


def _describe_other_run(cluster: Cluster, name: str, since: str) -> str:
    return (
        f"a run of this environment is under way in {cluster.name}, {since}: wait for its end, or "
        f"remove it by `{cluster.kubectl_for(f'delete testrun {name}')}`"
    )


def _check_accepted(wanted: Manifest, made: Any) -> None:
    """Raise K6Error when an older operator's TestRun has dropped what it does not know."""
    asked, got = wanted["spec"], made["spec"]
    dropped = [key for key in asked if key not in got]
    dropped += [f"runner.{key}" for key in asked["runner"] if key not in got.get("runner", {})]
    if dropped:
        raise K6Error(
            f"the k6-operator of this cluster does not know {', '.join(dropped)} of a TestRun: "
            "have it updated to 1.6 or later"
        )
