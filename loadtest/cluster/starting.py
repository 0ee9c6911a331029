"""Whether a fleet that was asked for will start: if not, why, in one line with its remedy."""

import time
from collections.abc import Sequence
from datetime import datetime

from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import Event

from loadtest.cluster.client import TROUBLE, Cluster
from loadtest.cluster.objects import GONE, Bounds
from loadtest.cluster.pods import SeenPod, flatten

# A container that waits for one of these waits for somebody to act.
UNPULLED = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
STUCK = UNPULLED | {"CreateContainerConfigError", "CreateContainerError"}


class Start:
    """Judges the start of one TestRun, from moment to moment."""

    def __init__(
        self, cluster: Cluster, name: str, parallelism: int, start_seconds: float, bounds: Bounds
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._parallelism = parallelism
        self._seconds = start_seconds
        self._bounds = bounds
        self._began = time.monotonic()
        self._stuck_since: dict[str, float] = {}

    def judge(self, stage: str, pods: Sequence[SeenPod], asked: datetime) -> str | None:
        """Return why the fleet does not start, once that is plain."""
        waited = time.monotonic() - self._began
        if stage == "error":
            return f"the k6-operator gave up on {self._name}: its log says why"
        faults = (self._judge_waiting(pod) for pod in pods)
        fault = next((fault for fault in faults if fault is not None), None)
        if fault is None and len(_pick_runners(pods)) < self._parallelism:
            fault = self._judge_refusals(asked)
        if fault is not None:
            return fault
        if stage == "" and waited > self._bounds.operator:
            return (
                f"the k6-operator does not act: {self._name} has no stage after {waited:.0f} s; "
                "see that its pod runs, and that it watches this namespace"
            )
        return self._tell_delay(stage, pods) if waited > self._seconds else None

    def tell_paused(self, pods: Sequence[SeenPod]) -> str:
        """Return what the starter says of runners that stay paused."""
        starter = next((pod for pod in pods if pod.is_starter()), None)
        if starter is None:
            return "the runners stay paused: their starter has no pod; the operator's log says why"
        try:
            lines = [*self._cluster.client.log(starter.name, newlines=False)]
        except TROUBLE:
            lines = []
        said = next((line for line in reversed(lines) if line.strip()), "nothing")
        return (
            f"the runners stay paused: their starter {starter.name} is {starter.phase} and says "
            f"{said}; see that it reaches their port 6565"
        )

    def _judge_waiting(self, pod: SeenPod) -> str | None:
        if pod.waiting is None or pod.waiting[0] not in STUCK:
            self._stuck_since.pop(pod.uid, None)
            return None
        now = time.monotonic()
        if now - self._stuck_since.setdefault(pod.uid, now) < self._bounds.stuck:
            return None
        reason, message = pod.waiting
        if reason in UNPULLED:
            key = "starter_image" if pod.is_starter() else "image"
            return (
                f"{self._call(pod)} has no image ({reason}: {message}): see to {key} and "
                "image_pull_secrets in the environment's kubernetes table"
            )
        return f"{self._call(pod)} cannot start ({reason}: {message}): see `{self._show(pod)}`"

    def _judge_refusals(self, asked: datetime) -> str | None:
        """Return why jobs may not make their pods."""
        jobs = {f"{self._name}-{number + 1}" for number in range(self._parallelism)}
        try:
            events = list(self._cluster.client.list(Event, fields={"reason": "FailedCreate"}))
        except ApiError:  # not everybody's to read; the delay is told in the end
            return None
        for event in events:
            at = event.lastTimestamp or event.eventTime
            # An earlier run's may still be there: names are the same from run to run.
            if event.involvedObject.name in jobs and at is not None and at >= asked:
                fault = self._judge_refusal(flatten(event.message))
                if fault is not None:
                    return fault
        return None

    def _judge_refusal(self, message: str) -> str | None:
        """Return what a refusal of pods means; None if it may be another one at the next try."""
        if "exceeded quota" in message:
            return self._cluster.explain_quota(message)
        why = message.partition("forbidden: ")[2]
        if not why and "denied the request" not in message:
            return None
        return (
            f"namespace {self._cluster.namespace} takes no runners ({why or message}): have it "
            "allow them, or use another one"
        )

    def _tell_delay(self, stage: str, pods: Sequence[SeenPod]) -> str:
        after = f"after {self._seconds:.0f} s"
        runners = _pick_runners(pods)
        for pod in runners:
            if pod.unplaced is not None:
                return (
                    f"{self._call(pod)} has no node {after} ({pod.unplaced}): add nodes, or see to "
                    "cpu, memory, node_selector and tolerations in the environment's kubernetes "
                    "table"
                )
        if len(runners) < self._parallelism:
            see = self._cluster.kubectl_for(f"describe jobs -l k6_cr={self._name}")
            return (
                f"{len(runners)} of {self._parallelism} runners have a pod {after}: see `{see}` "
                "and the operator's log"
            )
        for pod in runners:
            if pod.phase != "Running":
                return f"{self._call(pod)} does not run {after}: see `{self._show(pod)}`"
        if stage not in GONE:
            return (
                f"the runners wait to be started {after}: the k6-operator does not reach their "
                "port 6565, as when a NetworkPolicy forbids it; its log says more"
            )
        return self.tell_paused(pods)

    def _call(self, pod: SeenPod) -> str:
        if pod.is_starter():
            return "the starter"
        return f"runner {pod.job.rpartition('-')[2]} of {self._parallelism}"

    def _show(self, pod: SeenPod) -> str:
        return self._cluster.kubectl_for(f"describe pod {pod.name}")


def _pick_runners(pods: Sequence[SeenPod]) -> list[SeenPod]:
    return [pod for pod in pods if not pod.is_starter()]
