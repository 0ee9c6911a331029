"""The runners of one TestRun: created, watched, their logs copied, and removed."""

import base64
import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import Pod, Secret
from lightkube.types import PatchType

from loadtest.config.models import Kubernetes
from loadtest.errors import K6Error
from loadtest.k6.distributed.protocol import RunnerState, ScenarioRequest
from loadtest.k6.kubernetes.client import CLUSTER_ERRORS, Cluster, find_status
from loadtest.k6.kubernetes.manifests import build_labels, build_manifests
from loadtest.k6.kubernetes.objects import (
    STARTED_STAGES,
    Bounds,
    Objects,
    TestRun,
    delete,
    remove_leftovers,
)
from loadtest.k6.kubernetes.pod_log import PodLog
from loadtest.k6.kubernetes.pods import End, PodState, read_pod
from loadtest.k6.kubernetes.startup import StartCheck, find_starter
from loadtest.k6.process import find_error
from loadtest.k6.scenario import EXIT_INTERRUPTED
from loadtest.state.bearers import BEARER_FILE, Bearer, render_bearers


@dataclass
class _Runner:
    """The state of a runner.

    Its log file began with `head` bytes of something else. `followed` is set when a stream of its
    log is open, `over` when no new lines can come, `drained` when the whole log was copied.
    """

    number: int
    log: Path
    head: int
    pod: PodState | None = None
    disruption: str | None = None
    region: str | None = None
    end: End | None = None
    ended_at: float = 0.0
    followed: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    drained: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


def launch_fleet(
    request: ScenarioRequest,
    *,
    cluster: Cluster,
    environment_name: str,
    where: Kubernetes,
    bounds: Bounds | None = None,
) -> "ClusterFleet":
    """Remove what an earlier run left in the cluster, then create the runners.

    Raises K6Error if another run of the environment is in progress or the cluster refuses; then
    nothing stays in the cluster.
    """
    bounds = bounds or Bounds()
    manifests = build_manifests(request, environment_name, where)
    objects = Objects(cluster, manifests, bounds)
    labels = build_labels(environment_name)
    remove_leftovers(cluster, objects.name, labels, where.start_seconds, bounds)
    try:
        objects.create()
    except BaseException as failure:
        try:
            slow = objects.remove()
        except K6Error as error:
            raise K6Error(f"{failure}; and then {error}") from None
        if slow is not None and isinstance(failure, K6Error):
            raise K6Error(f"{failure}; {slow}") from None
        raise
    return ClusterFleet(cluster, objects, request.logs, where.start_seconds, bounds)


class ClusterFleet:
    """The runners of one TestRun: a thread polls the pods, one per runner copies its log."""

    def __init__(
        self,
        cluster: Cluster,
        objects: Objects,
        logs: Sequence[Path],
        start_seconds: float,
        bounds: Bounds,
    ) -> None:
        self._cluster = cluster
        self._objects = objects
        self._start_seconds = start_seconds
        self._bounds = bounds
        self._runners = tuple(
            _Runner(number, log, _measure(log)) for number, log in enumerate(logs, 1)
        )
        self._start = StartCheck(cluster, objects.name, len(logs), start_seconds, bounds)
        self._begun_at: float | None = None
        self._serial = 0
        self._fault: str | None = None
        self._polling = threading.Lock()
        self._ending = threading.Event()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def look(self) -> tuple[RunnerState, ...]:
        """Return the runners as of the last poll."""
        if self._fault is not None:
            raise K6Error(self._fault)
        assert self._watcher.is_alive() or self._over.is_set(), "nobody watches the pods"
        return tuple(self._describe(runner) for runner in self._runners)

    def update_bearers(self, bearers: Iterable[Bearer]) -> None:
        """Put fresh bearers into the Secret, unless the runners are being removed."""
        if self._ending.is_set():
            return
        self._serial += 1
        text = render_bearers(bearers, self._serial)
        patch = {"data": {BEARER_FILE: base64.b64encode(text.encode()).decode()}}
        with self._cluster.explaining():
            self._cluster.client.patch(
                Secret, self._objects.name, patch, patch_type=PatchType.MERGE
            )

    def stop(self) -> None:
        """Delete the TestRun: its pods get SIGTERM, and k6 ends as after Ctrl-C, with a summary."""
        # Read a runner's log even when its pod is about to be deleted.
        with contextlib.suppress(K6Error, *CLUSTER_ERRORS):
            self._poll()
        for runner in self._runners:
            if runner.thread is not None:
                runner.followed.wait(self._bounds.poll)
        self._ending.set()
        with contextlib.suppress(*CLUSTER_ERRORS):  # `close` tries again and reports it
            delete(self._cluster, TestRun, self._objects.name)
        deadline = time.monotonic() + self._bounds.stop
        for runner in self._runners:
            runner.drained.wait(max(0.0, deadline - time.monotonic()))

    def close(self) -> str | None:
        """Remove all objects; return which pods remain; raise K6Error if objects remain."""
        self._ending.set()
        try:
            return self._objects.remove()
        finally:
            self._over.set()
            for runner in self._runners:
                runner.over.set()
            self._join()

    def _join(self) -> None:
        deadline = time.monotonic() + self._bounds.drain
        followers = [runner.thread for runner in self._runners if runner.thread is not None]
        for thread in (self._watcher, *followers):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _watch(self) -> None:
        answered_at = time.monotonic()
        while not self._over.wait(self._bounds.poll):
            try:
                self._poll()
                answered_at = time.monotonic()
            except K6Error as fault:
                self._fault = self._fault or str(fault)
            except CLUSTER_ERRORS as failure:
                silent = time.monotonic() - answered_at > self._bounds.silence
                if silent or find_status(failure) == httpx2.codes.FORBIDDEN:
                    self._fault = self._fault or self._cluster.explain(failure)

    def _poll(self) -> None:
        with self._polling:
            found = self._cluster.client.list(Pod, labels={"k6_cr": self._objects.name})
            pods = sorted((read_pod(pod) for pod in found), key=lambda pod: pod.created)
            ending = self._ending.is_set()
            # Read after the pods: a runner that ended before this stage was never started.
            stage = "" if ending or self._begun_at is not None else self._find_stage()
            for runner in self._runners:
                self._update(runner, pods)
            if ending:
                return
            if self._begun_at is None:
                if self._is_started(stage, pods):
                    self._begun_at = time.monotonic()
            elif time.monotonic() - self._begun_at > self._start_seconds and not self._has_output():
                raise K6Error(self._start.describe_paused(pods))

    def _find_stage(self) -> str:
        try:
            found = self._cluster.client.get(TestRun, self._objects.name)
        except ApiError as refusal:
            if find_status(refusal) != httpx2.codes.NOT_FOUND or self._ending.is_set():
                raise
            raise K6Error(f"{self._objects.name} was deleted while it started") from None
        return str((found.status or {}).get("stage", ""))

    def _has_output(self) -> bool:
        return any(_measure(runner.log) > runner.head for runner in self._runners)

    def _is_started(self, stage: str, pods: Sequence[PodState]) -> bool:
        """Return whether the starter has reached every runner; K6Error if it cannot.

        The stage of the TestRun shows only that the starter was created, and the starter's exit
        code shows only the result of its last call.
        """
        if stage not in STARTED_STAGES and not self._check_alive(self._runners):
            return False
        starter = find_starter(pods)
        if starter is None or not starter.has_ended():
            # A short scenario may end while the starter is still calling other runners.
            fault = self._start.find_fault(stage, pods, self._objects.created_at)
            if fault is not None:
                raise K6Error(fault)
            return False
        unreached = self._start.find_unreached(starter)
        if not unreached and starter.phase == "Succeeded":
            return True
        numbers = {each.number for each in unreached}
        named = [runner for runner in self._runners if runner.number in numbers]
        if self._check_alive(named or self._runners):
            found = self._start.describe_unreached(unreached) if unreached else None
            raise K6Error(found or self._start.describe_paused(pods))
        return False

    def _check_alive(self, runners: Iterable[_Runner]) -> bool:
        """Return whether all of these runners, which were not started, are still alive.

        Raises K6Error if one has ended, as soon as its log was copied: the error quotes it.
        """
        ended = [runner for runner in runners if runner.end is not None]
        for runner in ended:
            if self._is_read(runner):
                raise K6Error(self._describe_early_end(runner))
        return not ended

    def _describe_early_end(self, runner: _Runner) -> str:
        assert runner.end is not None
        log = runner.log.read_text(encoding="utf-8", errors="replace") if runner.thread else ""
        why = runner.end.reason or f"k6 ended with {runner.end.exit_code}"
        error = find_error(log)
        return (
            f"runner {runner.number} of {len(self._runners)} ended before the start ({why})"
            f"{f': {error}' if error else ''}; the others cannot start without it"
        )

    def _update(self, runner: _Runner, pods: Sequence[PodState]) -> None:
        if runner.end is not None:
            return
        job = f"{self._objects.name}-{runner.number}"
        # Keep to the first pod of a runner: a second one would never be started.
        uid = runner.pod.uid if runner.pod else None
        pod = next((pod for pod in pods if pod.job == job and uid in (None, pod.uid)), None)
        if pod is None:
            if runner.pod is not None or self._ending.is_set():
                self._end(runner, self._find_removed_end(runner))
            return
        runner.pod = pod
        runner.disruption = pod.disruption or runner.disruption
        runner.region = runner.region or pod.region
        if pod.has_run and runner.thread is None:
            runner.thread = threading.Thread(
                target=self._copy_log, args=(runner, pod.name), daemon=True
            )
            runner.thread.start()
        if pod.end is not None:
            # k6 was asked to end because somebody deleted its pod.
            was_asked = pod.is_going and pod.end == End(EXIT_INTERRUPTED)
            self._end(runner, self._find_removed_end(runner) if was_asked else pod.end)

    def _end(self, runner: _Runner, end: End) -> None:
        runner.end, runner.ended_at = end, time.monotonic()
        runner.over.set()
        if runner.thread is None:
            runner.drained.set()

    def _find_removed_end(self, runner: _Runner) -> End:
        if not self._ending.is_set():
            return End(reason=runner.disruption or "its pod was deleted")
        # We removed the pod, so its exit code is gone: it is that of a k6 that was asked to end.
        return End(EXIT_INTERRUPTED) if runner.thread else End(reason="removed before it started")

    def _describe(self, runner: _Runner) -> RunnerState:
        has_begun = self._begun_at is not None
        # A runner that ends before the start is reported by `look`, unless we removed it.
        if runner.end is None or not (has_begun or self._ending.is_set()):
            return RunnerState(
                runner.number, "running" if has_begun else "pending", region=runner.region
            )
        if not self._is_read(runner):
            return RunnerState(runner.number, "running", region=runner.region)
        code, reason = runner.end.exit_code, runner.end.reason
        return RunnerState(
            runner.number, "ended" if reason is None else "lost", code, reason, runner.region
        )

    def _is_read(self, runner: _Runner) -> bool:
        """Return whether the log of an ended runner was copied, or is overdue."""
        return runner.drained.is_set() or self._is_late(runner)

    def _is_late(self, runner: _Runner) -> bool:
        return time.monotonic() - runner.ended_at > self._bounds.drain

    def _copy_log(self, runner: _Runner, pod_name: str) -> None:
        """Copy a runner's log until it is complete."""
        try:
            with PodLog(runner.log) as log:
                while not self._copy_once(runner, pod_name, log):
                    late = runner.over.is_set() and self._is_late(runner)
                    if late or self._over.wait(self._bounds.poll):
                        return
        except K6Error as fault:
            self._fault = self._fault or str(fault)
        finally:
            runner.drained.set()

    def _copy_once(self, runner: _Runner, pod_name: str, log: PodLog) -> bool:
        """Copy the lines of one stream; return whether the log is complete."""
        over = runner.over.is_set()
        try:
            with self._cluster.follow_log(pod_name, log.stamp) as chunks:
                runner.followed.set()
                # A cut stream can look complete. The log is complete if a stream has no new line.
                return not log.append(chunks) and over
        except CLUSTER_ERRORS as failure:
            return over and find_status(failure) in {400, 404}


def _measure(log: Path) -> int:
    """Return the size of a log in bytes."""
    return log.stat().st_size if log.exists() else 0
