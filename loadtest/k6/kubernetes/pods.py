"""What a pod tells of its runner: whether it runs, what it waits for, how it ended."""

from dataclasses import dataclass
from datetime import datetime

from lightkube.models.core_v1 import ContainerState, ContainerStatus, PodStatus
from lightkube.resources.core_v1 import Pod

from loadtest.k6.kubernetes.client import CONTAINER

# An exit code above it is 128 and the number of the signal that killed the container.
SIGNAL_BASE = 128
# A node that is gone does not tell how its pods ended.
NODE_LOST_REASONS = frozenset({"NodeLost", "DeletionByTaintManager"})
# Kubernetes 1.35 and later copies it from the node to each pod; before, a region is unknown.
REGION_LABEL = "topology.kubernetes.io/region"


@dataclass(frozen=True)
class End:
    """How a runner ended: k6's exit code, and why it is lost, each if there is one."""

    exit_code: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class PodState:
    """A pod as it was seen; `job` is the one that made it, `is_going` tells of its deletion.

    `is_ready` tells whether its k6 answers the probe, without which nobody reaches its Service.
    `disruption` is why it has to go, in Kubernetes' own words (`Evicted`, `NodeLost`); `waiting`
    is what a container waits for, as reason and message; `unplaced` is why no node takes it.
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
        """Tell whether it starts the runners, rather than being one."""
        return self.job.endswith("-starter")

    def has_ended(self) -> bool:
        """Tell whether none of its containers runs, or will."""
        return self.phase in {"Succeeded", "Failed"}


def read_pod(pod: Pod) -> PodState:
    """Return what a pod tells."""
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
        return End(reason=disruption or "its pod does not tell how k6 ended")
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
