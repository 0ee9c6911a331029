"""The state of a runner's pod: whether it runs, what it waits for, how it ended."""

from dataclasses import dataclass
from datetime import datetime

from lightkube.models.core_v1 import ContainerState, ContainerStatus, PodStatus
from lightkube.resources.core_v1 import Pod

from loadtest.k6.kubernetes.client import CONTAINER

# A higher exit code is this number plus the number of the signal that killed the container.
SIGNAL_BASE = 128
# Reasons of a pod whose node is gone: nobody reports how its containers ended.
NODE_LOST_REASONS = frozenset({"NodeLost", "DeletionByTaintManager"})
# Kubernetes 1.35 and later copies this label from the node to its pods.
REGION_LABEL = "topology.kubernetes.io/region"


@dataclass(frozen=True)
class End:
    """How a runner ended: k6's exit code if known, and why the runner was lost, if it was."""

    exit_code: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class PodState:
    """The state of a pod; `job` is the Job that created it, `is_going` means it is being deleted.

    `is_ready` means that k6 answers the probe; before that, its Service does not reach it.
    `disruption` is the reason that Kubernetes gives for removing the pod (`Evicted`, `NodeLost`);
    `waiting` is the reason and message of a container that waits; `unplaced` is the message of the
    scheduler if there is no node for the pod.
    """

    name: str
    uid: str
    job: str
    created: datetime
    region: str | None
    phase: str
    is_going: bool
    has_run: bool
    is_ready: bool
    disruption: str | None
    end: End | None
    waiting: tuple[str, str] | None
    unplaced: str | None

    def is_starter(self) -> bool:
        """Return whether this pod is the starter, not a runner."""
        return self.job.endswith("-starter")

    def has_ended(self) -> bool:
        """Return whether all containers have ended."""
        return self.phase in {"Succeeded", "Failed"}


def read_pod(pod: Pod) -> PodState:
    """Return the state of a pod."""
    metadata, status = pod.metadata, pod.status or PodStatus()
    assert metadata is not None
    assert metadata.creationTimestamp is not None
    labels = metadata.labels or {}
    container = _find_container(status)
    state = container.state if container and container.state else ContainerState()
    disrupted = _find_condition(status, "DisruptionTarget", "True")
    disruption = status.reason or (disrupted[0] if disrupted else None)
    unplaced = _find_condition(status, "PodScheduled", "False")
    return PodState(
        name=metadata.name or "",
        uid=metadata.uid or "",
        job=labels.get("job-name", ""),
        created=metadata.creationTimestamp,
        region=labels.get(REGION_LABEL),
        phase=status.phase or "Pending",
        is_going=metadata.deletionTimestamp is not None,
        has_run=state.running is not None or state.terminated is not None,
        is_ready=container is not None and container.ready,
        disruption=disruption,
        end=_find_end(state, status.phase, disruption),
        waiting=_find_waiting(status),
        unplaced=unplaced[1] if unplaced else None,
    )


def join_lines(message: str | None) -> str:
    """Return a message in one line."""
    return " ".join((message or "no reason given").split())


def _find_end(state: ContainerState, phase: str | None, disruption: str | None) -> End | None:
    ended = state.terminated
    if ended is not None:
        code = ended.exitCode
        killed = f"killed by signal {code - SIGNAL_BASE}" if code > SIGNAL_BASE else None
        return End(code, disruption or ("OOMKilled" if ended.reason == "OOMKilled" else killed))
    if phase in {"Failed", "Succeeded"}:
        return End(reason=disruption or "the exit code of k6 is unknown")
    return End(reason="NodeLost") if disruption in NODE_LOST_REASONS else None


def _find_container(status: PodStatus) -> ContainerStatus | None:
    return next((each for each in status.containerStatuses or () if each.name == CONTAINER), None)


def _find_waiting(status: PodStatus) -> tuple[str, str] | None:
    every: list[ContainerStatus] = [
        *(status.initContainerStatuses or ()),
        *(status.containerStatuses or ()),
    ]
    waiting = (each.state.waiting for each in every if each.state and each.state.waiting)
    first = next(waiting, None)
    return (first.reason or "", join_lines(first.message)) if first else None


def _find_condition(status: PodStatus, kind: str, value: str) -> tuple[str, str] | None:
    for each in status.conditions or ():
        if (each.type, each.status) == (kind, value):
            return each.reason or "", join_lines(each.message)
    return None
