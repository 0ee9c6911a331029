"""Stand-ins for the k6-operator and for a node that runs k6, in a real Kubernetes."""

import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.interop.kube_api import AUTHORITY, KubeApi, Manifest, create, find_place
from tests.k6.kubernetes.kubernetes_server import Container
from tests.k6.kubernetes.operated_jobs import (
    build_owner,
    build_runner_job,
    build_runner_service,
    build_starter_job,
    tell_answer,
)
from tests.k6.kubernetes.pod_process import Runner, build_environment, build_status, mount, stamp

MERGE = {"content-type": "application/merge-patch+json"}
TICK_SECONDS = 0.1
STOP_SECONDS = 30.0
ENDED = {"Succeeded", "Failed"}


def take_up(admin: httpx.Client, test_run: Any, stage: str = "created") -> None:
    """Create the runners' Jobs and Services like the operator; Kubernetes creates their pods."""
    for number in range(1, test_run["spec"]["parallelism"] + 1):
        for manifest in (build_runner_job, build_runner_service):
            if not _make(admin, test_run, manifest(test_run, number)):
                return  # and try again, as after any error
    set_status(admin, test_run, {"stage": stage})


def set_status(admin: httpx.Client, of: Manifest, status: Manifest) -> None:
    """Merge a patch into an object's status."""
    place = f"{find_place(of)}/{of['metadata']['name']}/status"
    admin.patch(place, json={"status": status}, headers=MERGE).raise_for_status()


def _make(admin: httpx.Client, test_run: Any, manifest: Manifest) -> bool:
    """Create an object; return False if a quota forbids it."""
    manifest["metadata"]["ownerReferences"] = [build_owner(test_run)]
    answer = admin.post(find_place(manifest), json=manifest, params={"fieldValidation": "Strict"})
    assert answer.is_success or answer.status_code in {403, 409}, answer.text
    return answer.status_code != httpx.codes.FORBIDDEN


class Worker:
    """Runs the pods of a namespace as processes, and acts on its TestRuns."""

    def __init__(self, api: KubeApi, namespace: str, k6: Path, folder: Path) -> None:
        self.scripts: dict[str, str] = {}  # by path, in place of those in the ConfigMap
        self.unreached: set[str] = set()  # Jobs of runners that the starter cannot reach
        self._api = api
        self._namespace = namespace
        self._k6 = k6
        self._folder = folder
        self._name = f"worker-of-{namespace}"
        self._runners: dict[str, Runner] = {}  # by pod
        self._starters: dict[str, Container] = {}  # by pod
        self._ending = threading.Event()
        self._kubelet = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())
        self._kubelet.daemon_threads = True
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(api.folder / AUTHORITY, api.folder / "apiserver.key")
        self._kubelet.socket = tls.wrap_socket(self._kubelet.socket, server_side=True)
        self._threads = [
            threading.Thread(target=self._kubelet.serve_forever, args=(TICK_SECONDS,)),
            threading.Thread(target=self._act),
        ]

    def start(self) -> None:
        """Join the cluster as a node."""
        with self._api.connect() as admin:
            status = {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self._kubelet.server_port}},
            }
            kind = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name}}
            create(admin, {**kind, "status": status})
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End all processes and threads."""
        self._ending.set()
        self._kubelet.shutdown()
        self._kubelet.server_close()
        for runner in self._runners.values():
            runner.kill()
            runner.wait()
            runner.container.end()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def _act(self) -> None:
        with self._api.connect() as admin:
            while not self._ending.wait(TICK_SECONDS):
                try:
                    self._look(admin)
                except httpx.HTTPStatusError as refusal:
                    # Deleted or changed meanwhile: the next round reads it again.
                    if refusal.response.status_code not in {404, 409}:
                        raise

    def _look(self, admin: httpx.Client) -> None:
        pods = self._list(admin, "api/v1", "pods")
        for test_run in self._list(admin, "apis/k6.io/v1alpha1", "testruns"):
            self._operate(admin, test_run, pods)
        for pod in pods:
            self._care(admin, pod)

    def _operate(self, admin: httpx.Client, test_run: Any, pods: list[Any]) -> None:
        """Act on the stage of a TestRun, even while it is being deleted."""
        stage = test_run.get("status", {}).get("stage", "")
        runners = [pod for pod in pods if _is_runner(pod)]
        if stage == "":
            set_status(admin, test_run, {"stage": "initialized"})
        elif stage == "initialized":
            take_up(admin, test_run)
        elif stage == "created" and len(runners) == test_run["spec"]["parallelism"]:
            if all(_is_ready(pod) for pod in runners):
                _make(admin, test_run, build_starter_job(test_run))
                set_status(admin, test_run, {"stage": "started"})
        elif stage == "started" and {pod["status"]["phase"] for pod in runners} <= ENDED:
            set_status(admin, test_run, {"stage": "stopped"})
        elif stage == "stopped":
            set_status(admin, test_run, {"stage": "finished"})

    def _care(self, admin: httpx.Client, pod: Any) -> None:
        """Do the next step for a pod."""
        name, place = pod["metadata"]["name"], self._place("api/v1", "pods")
        runner = self._runners.get(name)
        if runner is not None and runner.process.poll() is not None and runner.container.running:
            self._tell_end(admin, pod, runner)
        elif "deletionTimestamp" in pod["metadata"]:
            if runner is None or not runner.container.running:
                admin.request("DELETE", f"{place}/{name}", json={"gracePeriodSeconds": 0})
            else:
                runner.container.terminate()
        elif "nodeName" not in pod["spec"]:
            target = {"apiVersion": "v1", "kind": "Node", "name": self._name}
            kind = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
            admin.post(f"{place}/{name}/binding", json={**kind, "target": target})
        elif pod["status"]["phase"] == "Pending":
            self._run(admin, pod)
        elif runner is not None and not _is_ready(pod) and runner.ask("GET"):
            self._tell(admin, pod, "Running", build_status({"running": {}}, ready=True))

    def _run(self, admin: httpx.Client, pod: Any) -> None:
        if not _is_runner(pod):
            self._run_starter(admin, pod)
            return
        (container,) = pod["spec"]["containers"]
        account = pod["spec"]["serviceAccountName"]
        projected = {"token": self._api.mint(self._namespace, account)}

        def read(plural: str, name: str) -> dict[str, str]:
            answer = admin.get(f"{self._place('api/v1', plural)}/{name}")
            return dict(answer.raise_for_status().json()["data"])

        projected |= read("configmaps", "kube-root-ca.crt")
        folder = self._folder / pod["metadata"]["name"]
        places = mount({**pod["spec"], **container}, folder, read, projected, self.scripts)
        environment = build_environment(container, read, self._api.url)
        self._runners[pod["metadata"]["name"]] = Runner(
            container["command"], environment, places, self._k6
        )
        self._tell(admin, pod, "Running", build_status({"running": {}}))

    def _run_starter(self, admin: httpx.Client, pod: Any) -> None:
        """Call each runner at the address of its Service; the last call's exit code counts."""
        container = self._starters[pod["metadata"]["name"]] = Container()
        output, code = "", 0
        for service in self._list(admin, "api/v1", "services"):
            job = service["spec"]["selector"]["job-name"]
            (runner,) = (each for name, each in self._runners.items() if name.startswith(f"{job}-"))
            is_reached = job not in self.unreached and runner.resume()
            address, error = service["spec"]["clusterIP"], "" if is_reached else "Timed out"
            output += tell_answer(address, 200 if is_reached else 0, error)
            code = 0 if is_reached else 28
        for line in output.encode().split(b"\n"):
            container.write(stamp(), line)
        container.end()
        ended = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
        phase = "Failed" if code else "Succeeded"
        self._tell(admin, pod, phase, build_status(ended, "k6-curl"))

    def _tell_end(self, admin: httpx.Client, pod: Any, runner: Runner) -> None:
        code = runner.wait()
        ended = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
        self._tell(admin, pod, "Failed" if code else "Succeeded", build_status(ended))
        runner.container.end()

    def _tell(self, admin: httpx.Client, pod: Any, phase: str, status: Manifest) -> None:
        kind = {"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"]}
        set_status(admin, kind, {"phase": phase, "containerStatuses": [status]})

    def _list(self, admin: httpx.Client, version: str, plural: str) -> list[Any]:
        items = admin.get(self._place(version, plural)).raise_for_status().json()["items"]
        kind = {"testruns": "TestRun", "services": "Service"}.get(plural, "Pod")
        return [
            {"apiVersion": version.removeprefix("apis/"), "kind": kind, **each} for each in items
        ]

    def _place(self, version: str, plural: str) -> str:
        return f"/{version}/namespaces/{self._namespace}/{plural}"

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        runners, starters = self._runners, self._starters

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Return a container's log, which the API server passes on."""
                parts = urlsplit(self.path)
                *_, pod, container = parts.path.split("/")
                query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
                pieces: Iterable[bytes]
                if container == "k6":
                    assert query["follow"] == query["timestamps"] == "true"
                    pieces = runners[pod].container.follow(query.get("sinceTime", ""))
                else:
                    pieces = (text + b"\n" for _, text, _ in starters[pod].lines)
                self.send_response_only(200)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


def _is_runner(pod: Any) -> bool:
    return bool(pod["metadata"]["labels"].get("runner") == "true")


def _is_ready(pod: Any) -> bool:
    return any(status["ready"] for status in pod["status"].get("containerStatuses", ()))


@contextmanager
def run_worker(api: KubeApi, namespace: str, k6: Path, folder: Path) -> Iterator[Worker]:
    """Run the pods of a namespace inside the block."""
    worker = Worker(api, namespace, k6, folder)
    worker.start()
    try:
        yield worker
    finally:
        worker.close()
