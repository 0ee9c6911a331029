"""A stand-in for the k6-operator, and a node that runs the real k6, in the loopback cluster."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.k6.kubernetes.kubernetes_server import RUNNER_TOKEN, Container, KubernetesServer, Thing
from tests.k6.kubernetes.operated_jobs import (
    build_command,
    build_owner,
    build_runner_service,
    tell_answer,
)
from tests.k6.kubernetes.pod_process import Runner, build_environment, build_status, mount, stamp
from tests.support.waiting import HANG_SECONDS

TICK_SECONDS = 0.02
ENDED = {"Succeeded", "Failed"}
REGION_LABEL = "topology.kubernetes.io/region"


class Operator:
    """Runs TestRuns like the k6-operator; its attributes make something fail."""

    def __init__(self, server: KubernetesServer, k6: Path, folder: Path) -> None:
        self.server = server
        self.k6 = k6
        self.folder = folder
        self.runners: dict[int, Runner] = {}
        self.commands: list[list[str]] = []
        self.dies_at: str | None = None  # the stage at which it stops acting
        self.gives_up = False
        self.is_cut_off = False  # cannot reach the runners' ports
        self.most_services: int | None = None
        self.unready: set[int] = set()  # runners that never become ready
        self.unreached: set[int] = set()  # runners that the starter cannot reach
        self.starter_is_idle = False
        self.starter_is_mute = False
        self.starter_waits = threading.Event()  # the starter waits for it before its first call
        self.starter_waits.set()
        self.kills: dict[int, str] = {}  # killed before the starter's first call, with the reason
        self.call_order: list[int] | None = None  # of the starter; random if None
        self.refuses_pods: str | None = None
        self.refuses_starter: str | None = None
        self.waiting: dict[str, tuple[str, str]] = {}  # by the end of a pod's job
        self.unplaced: str | None = None
        self.regions = {"1": "eu-west-1", "2": "us-east-1"}  # by the end of a pod's job
        self.environment: dict[str, str] = {}  # of every runner, beside that of its container
        self.scripts: dict[str, str] = {}  # by path, in place of those in the ConfigMap
        self.has_started = threading.Event()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        server.on_create = self._take_up

    def close(self) -> None:
        """End all processes and threads."""
        self._ending.set()
        self.starter_waits.set()
        for runner in self.runners.values():
            runner.kill()
        for thread in self._threads:
            thread.join(HANG_SECONDS)

    def kill(self, number: int, reason: str) -> None:
        """Kill a runner like the kernel or the kubelet; its pod has the reason."""
        self.runners[number].killed_for = reason
        self.runners[number].kill()

    def lose_node(self, number: int) -> None:
        """Remove a runner's node: its pod keeps its state, with the reason NodeLost."""
        runner = self.runners[number]
        runner.lost = True
        runner.kill()
        self._change_status(self._find_pod(number), {"reason": "NodeLost"})

    def delete_pod(self, number: int) -> None:
        """Delete a runner's pod, like another user."""
        self.server.delete("pods", self._find_pod(number))

    def resume(self, number: int) -> bool:
        """Start a paused runner with its API, like the starter."""
        return self.runners[number].resume()

    def _take_up(self, thing: Thing) -> None:
        if thing["kind"] == "TestRun":
            self._spawn(self._operate, thing)

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _operate(self, test_run: Thing) -> None:
        """Act on the stage as long as the TestRun exists, even while it is being deleted."""
        name, uid = test_run["metadata"]["name"], test_run["metadata"]["uid"]
        acts: dict[str, Callable[[Thing], None]] = {
            "": self._initialize,
            "initialized": self._create,
            "created": self._start,
            "started": self._await_jobs,
            "stopped": lambda of: self._set_stage(of, "finished"),
        }
        while not self._ending.wait(TICK_SECONDS):
            found = self.server.find("testruns", name)
            if found is None or found["metadata"]["uid"] != uid:
                return
            stage = found.get("status", {}).get("stage", "")
            if stage in acts and stage != self.dies_at:
                acts[stage](test_run)

    def _initialize(self, test_run: Thing) -> None:
        self._set_stage(test_run, "error" if self.gives_up else "initialized")

    def _create(self, test_run: Thing) -> None:
        name, spec = test_run["metadata"]["name"], test_run["spec"]
        for number in _list_numbers(test_run):
            if self.server.find("jobs", f"{name}-{number}") is None:
                self._make_job(test_run, str(number), spec["runner"])
                self._run_pod(test_run, number)
            if not self._make_service(test_run, number):
                return  # and try again, as after any error
        self._set_stage(test_run, "created")

    def _start(self, test_run: Thing) -> None:
        name = test_run["metadata"]["name"]
        numbers = _list_numbers(test_run)
        if self.is_cut_off or not all(self._is_ready(name, number) for number in numbers):
            return
        self._make_job(test_run, "starter", test_run["spec"]["starter"])
        self._set_stage(test_run, "started")
        pod = self.server.find("pods", f"{name}-starter-abcde")
        if pod is not None and "starter" not in self.waiting:
            scenario_request = self.call_order or random.sample(numbers, len(numbers))
            self._spawn(self._run_starter, pod, scenario_request)

    def _await_jobs(self, test_run: Thing) -> None:
        name = test_run["metadata"]["name"]
        pods = (self.server.find("pods", f"{name}-{n}-abcde") for n in _list_numbers(test_run))
        if all(pod is None or pod["status"]["phase"] in ENDED for pod in pods):
            self._set_stage(test_run, "stopped")

    def _set_stage(self, test_run: Thing, stage: str) -> None:
        self.server.change("testruns", test_run["metadata"]["name"], {"status": {"stage": stage}})

    def _make_job(self, test_run: Thing, end: str, part: Thing) -> None:
        """Create a Job and, like its controller, its pod if the namespace accepts it."""
        name = test_run["metadata"]["name"]
        job = f"{name}-{end}"
        labels = {**part.get("metadata", {}).get("labels", {}), "app": "k6", "k6_cr": name}
        labels |= {"runner": "true"} if end != "starter" else {}
        metadata = {"name": job, "labels": labels, "ownerReferences": [build_owner(test_run)]}
        refused = self.refuses_starter if end == "starter" else self.refuses_pods
        with self.server.lock:
            made = self.server.add(
                "jobs", {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
            )
            if refused is not None:
                self._tell_refused(job, refused)
                return
            node = {"nodeName": f"node-{end}"} if self.unplaced is None else {}
            region = {REGION_LABEL: self.regions[end]} if node and end in self.regions else {}
            self.server.add(
                "pods",
                {
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{job}-abcde",
                        "labels": {**labels, **region, "job-name": job},
                        "ownerReferences": [build_owner(made)],
                    },
                    "spec": {"containers": []} | node,
                    "status": self._build_status(end),
                },
            )

    def _make_service(self, test_run: Thing, number: int) -> bool:
        """Create a runner's Service; return False if a quota forbids it."""
        service = build_runner_service(test_run, number)
        service["metadata"]["ownerReferences"] = [build_owner(test_run)]
        service["spec"]["clusterIP"] = _find_address(number)
        with self.server.lock:
            if self.server.find("services", service["metadata"]["name"]) is not None:
                return True
            if len(self.server.list_things("services")) == self.most_services:
                return False
            self.server.add("services", service)
        return True

    def _build_status(self, end: str) -> Thing:
        if self.unplaced is not None:
            unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            return {"phase": "Pending", "conditions": [unplaced | {"message": self.unplaced}]}
        reason, message = self.waiting.get(end, ("ContainerCreating", ""))
        state = {"waiting": {"reason": reason, "message": message}}
        return {"phase": "Pending", "containerStatuses": [build_status(state)]}

    def _tell_refused(self, job: str, message: str) -> None:
        event = {
            "kind": "Event",
            "metadata": {"name": f"{job}.1"},
            "involvedObject": {"kind": "Job", "name": job},
            "reason": "FailedCreate",
            "lastTimestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "message": f"Error creating: {message}",
        }
        self.server.add("events", event)

    def _run_starter(self, pod: Thing, numbers: list[int]) -> None:
        """Call one runner after another; the exit code is that of the last call."""
        container = self.server.containers[pod["metadata"]["uid"]] = Container()
        self._change_status(pod["metadata"]["name"], {"phase": "Running"})
        for number, reason in self.kills.items():
            self.kill(number, reason)
        self.starter_waits.wait(HANG_SECONDS)
        output, code = "", 0
        for number in numbers:
            is_reached = number not in self.unreached
            if is_reached and not self.starter_is_idle:
                is_reached = self.resume(number)
            error = "" if is_reached else "Failed to connect: Connection timed out"
            output += tell_answer(_find_address(number), 200 if is_reached else 0, error)
            code = 0 if is_reached else 28
        self.has_started.set()
        for line in output.encode().split(b"\n") if not self.starter_is_mute else ():
            container.write(stamp(), line)
        container.end()
        ended = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
        self._change_status(
            pod["metadata"]["name"],
            {
                "phase": "Failed" if code else "Succeeded",
                "containerStatuses": [build_status(ended, "k6-curl")],
            },
        )

    def _run_pod(self, test_run: Thing, number: int) -> None:
        """Run a runner's k6 like the operator, with folders in place of mounts."""
        name, part = test_run["metadata"]["name"], test_run["spec"]["runner"]
        pod = self.server.find("pods", f"{name}-{number}-abcde")
        if pod is None or str(number) in self.waiting or self.unplaced is not None:
            return
        try:
            environment = self.environment | build_environment(part, self._read, self.server.url)
            places = mount(
                part,
                self.folder / f"{name}-{number}",
                self._read,
                {"token": RUNNER_TOKEN, "ca.crt": ""},
                self.scripts,
            )
        except LookupError:  # its ConfigMap or Secret was removed with its TestRun
            return
        command = build_command(test_run, number)
        self.commands.append(command)
        runner = self.runners[number] = Runner(command, environment, places, self.k6)
        self.server.containers[pod["metadata"]["uid"]] = runner.container
        running = {"phase": "Running", "containerStatuses": [build_status({"running": {}})]}
        self._change_status(pod["metadata"]["name"], running)
        self._spawn(self._probe, pod["metadata"]["name"], number, runner)
        self._spawn(self._await_end, pod["metadata"]["name"], runner)

    def _probe(self, pod_name: str, number: int, runner: Runner) -> None:
        """Mark a runner as ready once k6 answers, like a kubelet."""
        while runner.process.poll() is None and not self._ending.wait(TICK_SECONDS):
            if number not in self.unready and runner.ask("GET"):
                with self.server.lock:
                    if runner.process.poll() is None:
                        status = build_status({"running": {}}, ready=True)
                        self._change_status(pod_name, {"containerStatuses": [status]})
                return

    def _await_end(self, pod_name: str, runner: Runner) -> None:
        code = runner.wait()
        with self.server.lock:
            if not runner.lost:
                reason = "Completed" if code == 0 else "Error"
                if runner.killed_for == "OOMKilled":
                    reason = "OOMKilled"
                terminated = {"terminated": {"exitCode": code, "reason": reason}}
                status: Thing = {"containerStatuses": [build_status(terminated)]}
                status["phase"] = "Succeeded" if code == 0 else "Failed"
                if runner.killed_for == "Evicted":
                    status["reason"] = "Evicted"
                self._change_status(pod_name, status)
            runner.container.end()

    def _read(self, plural: str, name: str) -> dict[str, str]:
        found = self.server.find(plural, name)
        if found is None:
            raise LookupError(f"no {plural}/{name}")
        data = found["data"]
        assert isinstance(data, dict)
        return data

    def _is_ready(self, name: str, number: int) -> bool:
        pod = self.server.find("pods", f"{name}-{number}-abcde")
        return pod is not None and any(
            status["ready"] for status in pod["status"].get("containerStatuses", ())
        )

    def _find_pod(self, number: int) -> str:
        (found,) = (
            pod["metadata"]["name"]
            for pod in self.server.list_things("pods")
            if pod["metadata"]["labels"]["job-name"].endswith(f"-{number}")
        )
        return str(found)

    def _change_status(self, pod_name: str, status: Thing) -> None:
        self.server.change("pods", pod_name, {"status": status})


def _list_numbers(test_run: Thing) -> range:
    return range(1, test_run["spec"]["parallelism"] + 1)


def _find_address(number: int) -> str:
    """Return the address of a runner's Service."""
    return f"10.96.0.{100 + number}"


@contextmanager
def run_operator(server: KubernetesServer, k6: Path, folder: Path) -> Iterator[Operator]:
    """Run an operator inside the block."""
    operator = Operator(server, k6, folder)
    try:
        yield operator
    finally:
        operator.close()
