"""Finds out why runners do not start: one line with its remedy."""

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlsplit

from lightkube.core.exceptions import ApiError
from lightkube.models.core_v1 import ServiceSpec
from lightkube.resources.core_v1 import Event, Service

from loadtest.k6.kubernetes.client import CLUSTER_ERRORS, Cluster, find_status
from loadtest.k6.kubernetes.objects import STARTED_STAGES, Bounds
from loadtest.k6.kubernetes.pods import PodState, join_lines

# Reasons of a waiting container that do not go away by themselves.
IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"}
)
STUCK_REASONS = IMAGE_REASONS | {"CreateContainerConfigError", "CreateContainerError"}
STARTER = "k6-curl"
# What the starter prints for each runner, several per line; 000 means no answer:
# {"http_code":000,…,"url":"http://10.96.0.12:6565/v1/status",…,"errormsg":"Connection refused"}
_ANSWER = re.compile(r'\{"http_code":(\d+),[^{}]*"url":"([^"]*)"[^{}]*"errormsg":"([^{}]*)"\}')


@dataclass(frozen=True)
class UnreachedRunner:
    """A runner that the starter did not reach; `number` is None if only its address is known."""

    number: int | None
    address: str
    why: str


class StartCheck:
    """Checks the start of one TestRun each time the pods were read."""

    def __init__(
        self, cluster: Cluster, name: str, parallelism: int, start_seconds: float, bounds: Bounds
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._parallelism = parallelism
        self._seconds = start_seconds
        self._bounds = bounds
        self._began = self._progressed = time.monotonic()
        self._progress: tuple[str, int] = ("", 0)
        self._stuck_since: dict[str, float] = {}

    def find_fault(self, stage: str, pods: Sequence[PodState], created_at: datetime) -> str | None:
        """Return why the runners do not start, once that is certain."""
        if stage == "error":
            return f"the k6-operator gave up on {self._name}: see the operator's log"
        faults = (self._find_container_fault(pod) for pod in pods)
        fault = next((fault for fault in faults if fault is not None), None)
        missing = self._list_missing(stage, pods)
        if fault is None and missing:
            fault = self._find_refusal(missing, created_at)
        fault = fault or self._find_operator_fault(stage, len(pods))
        if fault is not None or time.monotonic() - self._began <= self._seconds:
            return fault
        return self._describe_delay(stage, pods)

    def find_unreached(self, starter: PodState) -> tuple[UnreachedRunner, ...]:
        """Return the runners that the starter did not reach, according to its log; it has ended."""
        answers = map(_read_answer, _ANSWER.finditer(self._read_log(starter)))
        unreached = [answer for answer in answers if answer.why]
        numbers = self._find_runner_numbers() if unreached else {}
        return tuple(replace(each, number=numbers.get(each.address)) for each in unreached)

    def describe_unreached(self, unreached: Sequence[UnreachedRunner]) -> str:
        """Return which runners were not started, and why."""
        named = sorted(each.number for each in unreached if each.number is not None)
        others = [each.address for each in unreached if each.number is None]
        who = [f"runner{'s' * (len(named) > 1)} {', '.join(map(str, named))}"] if named else []
        who += [f"the runner{'s' * (len(others) > 1)} at {', '.join(others)}"] if others else []
        were = "was" if len(unreached) == 1 else "were"
        whys = ", ".join(sorted({each.why for each in unreached}))
        return (
            f"{' and '.join(who)} of {self._parallelism} {were} not started ({whys}): let "
            "the starter reach port 6565 of every runner; a NetworkPolicy may block it"
        )

    def describe_paused(self, pods: Sequence[PodState]) -> str:
        """Return why runners stay paused, with the last line of the starter's log."""
        starter = find_starter(pods)
        if starter is None:
            return "the runners stay paused: the starter has no pod; see the operator's log"
        lines = self._read_log(starter).splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        return (
            f"the runners stay paused: the starter {starter.name} is {starter.phase} and printed "
            f"{last}; let it reach port 6565 of every runner"
        )

    def _read_log(self, starter: PodState) -> str:
        try:
            return "".join(self._cluster.client.log(starter.name, container=STARTER))
        except CLUSTER_ERRORS as failure:
            if find_status(failure) in {400, 404}:  # there is no log yet, or no longer
                return ""
            raise

    def _find_runner_numbers(self) -> dict[str, int]:
        """Map Service addresses to runners; nothing if Services may not be listed."""
        try:
            services = list(self._cluster.client.list(Service, labels={"k6_cr": self._name}))
        except ApiError:
            return {}
        numbers = {}
        for service in services:
            spec = service.spec or ServiceSpec()
            job = (spec.selector or {}).get("job-name", "")
            if spec.clusterIP and job.startswith(f"{self._name}-"):
                numbers[spec.clusterIP] = int(job.rpartition("-")[2])
        return numbers

    def _list_missing(self, stage: str, pods: Sequence[PodState]) -> set[str]:
        """Return the Jobs that should have a pod by now but have none."""
        jobs = {f"{self._name}-{number + 1}" for number in range(self._parallelism)}
        jobs |= {f"{self._name}-starter"} if stage in STARTED_STAGES else set()
        return jobs - {pod.job for pod in pods}

    def _find_operator_fault(self, stage: str, pod_count: int) -> str | None:
        """Return that the operator makes no progress, if the next step is the operator's."""
        now = time.monotonic()
        if self._progress != (stage, pod_count):
            self._progress, self._progressed = (stage, pod_count), now
        waited = now - self._progressed
        if waited <= self._bounds.operator:
            return None
        if stage == "":
            return (
                f"the k6-operator does not act: {self._name} has no stage after {waited:.0f} s; "
                "check that its pod runs and that it watches this namespace"
            )
        if stage == "initialized":
            quota = self._cluster.kubectl_for("describe quota")
            return (
                f"the k6-operator is stuck: {self._name} has had {pod_count} pods for "
                f"{self._parallelism} runners, and the stage {stage}, for {waited:.0f} s; a quota "
                f"on jobs or services may forbid more (check `{quota}`), or the operator's pod is "
                "gone: see its log"
            )
        return None

    def _find_container_fault(self, pod: PodState) -> str | None:
        if pod.waiting is None or pod.waiting[0] not in STUCK_REASONS:
            self._stuck_since.pop(pod.uid, None)
            return None
        now = time.monotonic()
        if now - self._stuck_since.setdefault(pod.uid, now) < self._bounds.stuck:
            return None
        reason, message = pod.waiting
        if reason in IMAGE_REASONS:
            key = "starter_image" if pod.is_starter() else "image"
            return (
                f"{self._call(pod)} has no image ({reason}: {message}): correct {key} or "
                "image_pull_secrets in the environment's kubernetes table"
            )
        return f"{self._call(pod)} cannot start ({reason}: {message}): check `{self._show(pod)}`"

    def _find_refusal(self, jobs: Collection[str], created_at: datetime) -> str | None:
        """Return why Jobs cannot create their pods."""
        try:
            events = list(self._cluster.client.list(Event, fields={"reason": "FailedCreate"}))
        except ApiError:  # events may not be listed; then the delay is reported later
            return None
        for event in events:
            at = event.lastTimestamp or event.eventTime
            # Events of an earlier run may still exist, and names are the same in every run.
            if event.involvedObject.name in jobs and at is not None and at >= created_at:
                fault = self._explain_refusal(join_lines(event.message))
                if fault is not None:
                    return fault
        return None

    def _explain_refusal(self, message: str) -> str | None:
        """Return what a refusal of pods means; None if the next try may succeed."""
        if "exceeded quota" in message:
            return self._cluster.explain_quota(message)
        why = message.partition("forbidden: ")[2]
        if not why and "denied the request" not in message:
            return None
        return (
            f"namespace {self._cluster.namespace} does not accept the runners ({why or message}): "
            "have this changed, or use another namespace"
        )

    def _describe_delay(self, stage: str, pods: Sequence[PodState]) -> str:
        after = f"after {self._seconds:.0f} s"
        runners = _pick_runners(pods)
        for pod in runners:
            if pod.unplaced is not None:
                return (
                    f"{self._call(pod)} has no node {after} ({pod.unplaced}): add nodes, or change "
                    "cpu, memory, node_selector or tolerations in the environment's kubernetes "
                    "table"
                )
        if len(runners) < self._parallelism:
            check = self._cluster.kubectl_for(f"describe jobs -l k6_cr={self._name}")
            return (
                f"{len(runners)} of {self._parallelism} runners have a pod {after}: check "
                f"`{check}` and the operator's log"
            )
        for pod in runners:
            if pod.phase != "Running":
                return f"{self._call(pod)} does not run {after}: check `{self._show(pod)}`"
            if not pod.is_ready and stage not in STARTED_STAGES:
                return (
                    f"{self._call(pod)} runs but is not ready {after}: its k6 does not answer the "
                    f"probe; check `{self._show(pod)}`"
                )
        if stage not in STARTED_STAGES:
            return (
                f"the runners are ready but not started {after}: check that the k6-operator's "
                "pod runs and reaches their port 6565, which a NetworkPolicy may block; see its log"
            )
        return self.describe_paused(pods)

    def _call(self, pod: PodState) -> str:
        if pod.is_starter():
            return "the starter"
        return f"runner {pod.job.rpartition('-')[2]} of {self._parallelism}"

    def _show(self, pod: PodState) -> str:
        return self._cluster.kubectl_for(f"describe pod {pod.name}")


def find_starter(pods: Sequence[PodState]) -> PodState | None:
    """Return the pod that starts the runners; the first one, if there are several."""
    return next((pod for pod in pods if pod.is_starter()), None)


def _read_answer(match: re.Match[str]) -> UnreachedRunner:
    code, url, error = match.groups()
    why = "" if code == "200" else error or f"HTTP {code}"
    return UnreachedRunner(None, urlsplit(url).hostname or url, why)


def _pick_runners(pods: Sequence[PodState]) -> list[PodState]:
    return [pod for pod in pods if not pod.is_starter()]
