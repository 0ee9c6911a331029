"""What acts in the loopback cluster: the k6-operator's part, and a node that runs the real k6."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .kubernetes_server import RUNNER_TOKEN, Container, KubernetesServer, Thing
from .operated_jobs import build_command
from .pod_process import WAIT_SECONDS, Runner, build_environment, build_status, mount, stamp

TICK_SECONDS = 0.02


class Operator:
    """Takes up TestRuns as the k6-operator does; its knobs are what goes wrong on the way."""

    def __init__(self, server: KubernetesServer, k6: Path, folder: Path) -> None:
        self.server = server
        self.k6 = k6
        self.folder = folder
        self.runners: dict[int, Runner] = {}
        self.commands: list[list[str]] = []
        self.asleep = False
        self.gives_up = False
        self.is_cut_off = False  # from the runners' ports
        self.starter_fails: str | None = None
        self.starter_is_idle = False
        self.starter_says = '{"http_code":200}'
        self.refuses_pods: str | None = None
        self.waiting: dict[str, tuple[str, str]] = {}  # by the end of a pod's job
        self.unplaced: str | None = None
        self.scripts: dict[str, str] = {}  # instead of the ConfigMap's, by path
        self.has_started = threading.Event()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        server.on_create = self._take_up

    def close(self) -> None:
        """End every process and thread."""
        self._ending.set()
        for runner in self.runners.values():
            runner.process.kill()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)

    def kill(self, number: int, reason: str) -> None:
        """Kill a runner as the kernel or the kubelet does; its pod says why."""
        self.runners[number].killed_for = reason
        self.runners[number].process.kill()

    def lose_node(self, number: int) -> None:
        """Take a runner's node away: its pod stays as it was, but for what is said of the node."""
        runner = self.runners[number]
        runner.lost = True
        runner.process.kill()
        self._change_status(self._find_pod(number), {"reason": "NodeLost"})

    def delete_pod(self, number: int) -> None:
        """Have somebody else delete a runner's pod."""
        self.server.delete("pods", self._find_pod(number))

    def resume(self, number: int) -> bool:
        """Start a paused runner by its API, as the starter does."""
        return self.runners[number].resume()

    def _take_up(self, thing: Thing) -> None:
        if thing["kind"] == "TestRun" and not self.asleep:
            self._spawn(self._operate, thing["metadata"]["name"], thing["spec"], thing["metadata"])

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _operate(self, name: str, spec: Thing, metadata: Thing) -> None:
        if self.gives_up:
            self._set_stage(name, "error")
            return
        self._set_stage(name, "initialized")
        numbers = range(1, spec["parallelism"] + 1)
        for number in numbers:
            if not self._make_job(name, str(number), spec["runner"], metadata):
                continue
            self._run_pod(name, number, spec)
        self._set_stage(name, "created")
        if not self._wait(name, lambda: all(self._is_up(number) for number in numbers)):
            return
        self._make_job(name, "starter", spec["starter"], metadata)
        self._set_stage(name, "started")
        if "starter" not in self.waiting and self.starter_fails is None:
            reached = [self.starter_is_idle or self.resume(number) for number in numbers]
            self.has_started.set()
            self._end_starter(name, "Succeeded" if all(reached) else "Failed", self.starter_says)
        elif self.starter_fails is not None:
            self._end_starter(name, "Failed", self.starter_fails)
        if self._wait(name, lambda: all(not r.container.running for r in self.runners.values())):
            self._set_stage(name, "stopped")
            self._set_stage(name, "finished")

    def _wait(self, name: str, done: Any) -> bool:
        """Wait until it is done; False once the TestRun goes."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and not self._ending.wait(TICK_SECONDS):
            found = self.server.find("testruns", name)
            if found is None or "deletionTimestamp" in found["metadata"]:
                return False
            if done():
                return True
        return False

    def _set_stage(self, name: str, stage: str) -> None:
        self.server.change("testruns", name, {"status": {"stage": stage}})

    def _make_job(self, name: str, end: str, part: Thing, metadata: Thing) -> bool:
        """Make a job and its pod; False when the namespace takes no pod or nothing may run."""
        with self.server.lock:
            owner = self.server.find("testruns", name)
            if owner is None or "deletionTimestamp" in owner["metadata"]:
                return False
            job = f"{name}-{end}"
            labels = {"app": "k6", "k6_cr": name, **part.get("metadata", {}).get("labels", {})}
            labels |= {"runner": "true"} if end != "starter" else {}
            made = self.server.add(
                "jobs",
                {
                    "kind": "Job",
                    "metadata": {
                        "name": job,
                        "labels": labels,
                        "ownerReferences": [_own("TestRun", metadata)],
                    },
                },
            )
            if self.refuses_pods is not None and end != "starter":
                self._tell_refused(job, self.refuses_pods)
                return False
            node = f"node-{end}"
            self.server.add(
                "pods",
                {
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{job}-abcde",
                        "labels": {**labels, "job-name": job},
                        "ownerReferences": [_own("Job", made["metadata"])],
                    },
                    "spec": {"containers": []} | ({} if self.unplaced else {"nodeName": node}),
                    "status": self._build_status(end),
                },
            )
        return end not in self.waiting and self.unplaced is None

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

    def _end_starter(self, name: str, phase: str, said: str) -> None:
        pod = self.server.find("pods", f"{name}-starter-abcde")
        if pod is not None:
            container = self.server.containers[pod["metadata"]["uid"]] = Container()
            container.say(stamp(), said.encode())
            container.end()
            code = 0 if phase == "Succeeded" else 7
            terminated = {
                "terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}
            }
            self._change_status(
                pod["metadata"]["name"],
                {"phase": phase, "containerStatuses": [build_status(terminated, "k6-curl")]},
            )

    def _run_pod(self, name: str, number: int, spec: Thing) -> None:
        """Run a runner's k6 as the operator has it run, in folders instead of mounts."""
        pod_name = f"{name}-{number}-abcde"
        pod = self.server.find("pods", pod_name)
        if pod is None:  # removed again already
            return
        places = mount(
            spec["runner"],
            self.folder / f"{name}-{number}",
            self._read,
            {"token": RUNNER_TOKEN, "ca.crt": ""},
            self.scripts,
        )
        own = {"k6": str(self.k6), "--address=0.0.0.0:6565": "--address=127.0.0.1:0"}
        test_run = {"metadata": {"name": name}, "spec": spec}
        command = [own.get(word, word) for word in build_command(test_run, number)]
        self.commands.append(command)
        environment = build_environment(spec["runner"], self._read, self.server.url)
        runner = self.runners[number] = Runner(command, environment, places)
        self.server.containers[pod["metadata"]["uid"]] = runner.container
        running = {"phase": "Running", "containerStatuses": [build_status({"running": {}})]}
        self._change_status(pod_name, running)
        self._spawn(self._await_end, pod_name, runner)

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
            pod = self.server.find("pods", pod_name)
            if pod is not None and "deletionTimestamp" in pod["metadata"]:
                self.server.remove_pod(pod_name)

    def _read(self, plural: str, name: str) -> dict[str, str]:
        found = self.server.find(plural, name)
        assert found is not None
        data = found["data"]
        assert isinstance(data, dict)
        return data

    def _is_up(self, number: int) -> bool:
        return number in self.runners and not self.is_cut_off and self.runners[number].ask("GET")

    def _find_pod(self, number: int) -> str:
        (found,) = (
            pod["metadata"]["name"]
            for pod in self.server.list_things("pods")
            if pod["metadata"]["labels"]["job-name"].endswith(f"-{number}")
        )
        return str(found)

    def _change_status(self, pod_name: str, status: Thing) -> None:
        self.server.change("pods", pod_name, {"status": status})


def _own(kind: str, metadata: Thing) -> Thing:
    version = {"Job": "batch/v1", "TestRun": "k6.io/v1alpha1"}[kind]
    owner = {"apiVersion": version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
    return owner | {"controller": True, "blockOwnerDeletion": True}


@contextmanager
def run_operator(server: KubernetesServer, k6: Path, folder: Path) -> Iterator[Operator]:
    """Have TestRuns taken up for the length of the block."""
    operator = Operator(server, k6, folder)
    try:
        yield operator
    finally:
        operator.close()
