"""A real Kubernetes API server with etcd, both built with Go, on loopback and without a node."""

import json
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from loadtest.common.files import write_text

READY_SECONDS = 90.0
STOP_SECONDS = 30.0
PAUSE_SECONDS = 0.1
# Relative to the folder that both run in: a socket's path must be short, and needs no port.
ETCD_AT = "unix://etcd.sock"
AUTHORITY = "apiserver.crt"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

ETCD_FLAGS = (
    *("--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn"),
    *(f"--listen-client-urls={ETCD_AT}", f"--advertise-client-urls={ETCD_AT}"),
    "--listen-peer-urls=unix://peers.sock",
)
SERVER_FLAGS = (
    *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--permit-port-sharing"),
    *("--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24"),
    *("--cert-dir=.", f"--etcd-servers={ETCD_AT}"),
    *("--token-auth-file=tokens.csv", "--authorization-mode=RBAC"),
    # As in OpenShift: who changes the owners of an object needs the right to delete it.
    "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
    *("--audit-policy-file=audit.yaml", "--audit-log-path=audit.log"),
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-account-key-file=accounts.pem",
    "--service-account-signing-key-file=accounts.pem",
)
# Logs who requested what, without the bodies.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}],
}
CONTROLLERS = (
    "garbage-collector-controller",
    "job-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
CONTROLLER_FLAGS = (
    *("--kubeconfig=admin.kubeconfig", "--secure-port=0", "--leader-elect=false"),
    *(f"--controllers={','.join(CONTROLLERS)}", f"--root-ca-file={AUTHORITY}"),
)

PLURALS = {
    "ConfigMap": "configmaps",
    "Job": "jobs",
    "LimitRange": "limitranges",
    "Namespace": "namespaces",
    "Node": "nodes",
    "Pod": "pods",
    "ResourceQuota": "resourcequotas",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "TestRun": "testruns",
}

Manifest = dict[str, Any]


class Request(NamedTuple):
    """A request in the terms of a Role: verb, API group, resource, and the object if any."""

    verb: str
    group: str
    resource: str
    name: str


@dataclass(frozen=True)
class KubeApi:
    """A server that is ready; its folder has its certificate and is removed with it."""

    url: str
    folder: Path
    admin_token: str = field(repr=False)

    def connect(self, token: str | None = None) -> httpx.Client:
        """Return a connection for a token; without one, for an administrator."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token or self.admin_token}"},
            verify=ssl.create_default_context(cafile=self.folder / AUTHORITY),
            trust_env=False,
        )

    def await_answer(self, place: str, has: Callable[[Any], bool] = lambda _: True) -> Any:
        """Request an object until it exists and meets the condition."""
        with self.connect() as http:
            deadline = time.monotonic() + READY_SECONDS
            while not ((answer := http.get(place)).is_success and has(answer.json())):
                assert time.monotonic() < deadline, answer.text
                time.sleep(PAUSE_SECONDS)
        return answer.json()

    def mint(self, namespace: str, account: str) -> str:
        """Return a token of a service account."""
        place = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        with self.connect() as http:
            answer = http.post(place, json=request)
            assert answer.is_success, answer.text
        return str(answer.json()["status"]["token"])

    def read_audit(self, namespace: str, account: str) -> set[Request]:
        """Return the requests of a service account in its namespace."""
        user = f"system:serviceaccount:{namespace}:{account}"
        lines = (self.folder / "audit.log").read_text(encoding="utf-8").splitlines()
        requests = set()
        for event in map(json.loads, lines):
            of = event.get("objectRef", {})
            if event["user"]["username"] == user and of.get("namespace") == namespace:
                parts = (of["resource"], of.get("subresource"))
                resource = "/".join(part for part in parts if part)
                # Rights to create objects, and rights to a Job's objects, have no names.
                nameless = event["verb"] == "create" or of["resource"] == "pods"
                name = "" if nameless else of.get("name", "")
                requests.add(Request(event["verb"], of.get("apiGroup", ""), resource, name))
        return requests

    def write_kubeconfig(self, user: str, token: str) -> Path:
        """Write a kubeconfig for a user."""
        cluster = {"server": self.url, "certificate-authority": AUTHORITY}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "loopback", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "loopback", "context": {"cluster": "loopback", "user": user}}],
            "current-context": "loopback",
        }
        path = self.folder / f"{user}.kubeconfig"
        write_text(path, yaml.safe_dump(config), private=True)
        return path


def find_place(manifest: Manifest) -> str:
    """Return the path of the collection of an object."""
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{group}{within}/{PLURALS[manifest['kind']]}"


def create(http: httpx.Client, manifest: Manifest, **query: str) -> Any:
    """Create an object; the server must know every field and give no warning."""
    query = {"fieldValidation": "Strict", **query}
    answer = http.post(find_place(manifest), json=manifest, params=query)
    assert answer.is_success, answer.text
    assert "warning" not in answer.headers, answer.headers["warning"]
    return answer.json()


@contextmanager
def serve_kube_api(binaries: Path, *definitions: Manifest) -> Iterator[KubeApi]:
    """Serve a cluster with these custom resources; nothing of it is left afterwards."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="kube-api-")))
        # Reserves the port for the server, which shares it, so that nobody else can take it.
        held = running.enter_context(socket.socket())
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        api = KubeApi(f"https://127.0.0.1:{port}", folder, secrets.token_hex())
        admin = f"{api.admin_token},admin,admin,system:masters\n"
        write_text(folder / "tokens.csv", admin, private=True)
        write_text(folder / "audit.yaml", yaml.safe_dump(AUDIT))
        write_text(folder / "accounts.pem", _generate_key(), private=True)
        running.enter_context(_run([binaries / "server", *ETCD_FLAGS], folder))
        server = [binaries / "kube-apiserver", f"--secure-port={port}", *SERVER_FLAGS]
        process = running.enter_context(_run(server, folder))
        _await_ready(api, process)
        with api.connect() as http:
            for definition in definitions:
                http.post(DEFINITIONS, json=definition).raise_for_status()
                api.await_answer(f"{DEFINITIONS}/{definition['metadata']['name']}", _is_established)
        api.write_kubeconfig("admin", api.admin_token)
        # Started after the definitions: later ones would be collected half a minute later.
        controllers = [binaries / "kube-controller-manager", *CONTROLLER_FLAGS]
        running.enter_context(_run(controllers, folder))
        yield api


@contextmanager
def _run(command: list[Any], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process in the folder inside the block, with a log next to its files."""
    log = folder / f"{Path(command[0]).name}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            finally:
                process.kill()


def _await_ready(api: KubeApi, server: "subprocess.Popen[bytes]") -> None:
    """Wait for the server; raise AssertionError with the logs if it is late or dead."""
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(api):
        with suppress(subprocess.TimeoutExpired):
            server.wait(PAUSE_SECONDS)
        if server.returncode is not None or time.monotonic() > deadline:
            logs = (path.read_text(encoding="utf-8") for path in api.folder.glob("*.log"))
            raise AssertionError("\n".join(log[-2000:] for log in logs))


def _is_ready(api: KubeApi) -> bool:
    if not (api.folder / AUTHORITY).exists():
        return False
    try:
        with api.connect() as http:
            return http.get("/readyz").is_success
    except httpx.TransportError:
        return False


def _is_established(definition: Any) -> bool:
    conditions = definition["status"]["conditions"] or ()
    return ("Established", "True") in {(each["type"], each["status"]) for each in conditions}


def _generate_key() -> str:
    """Return the key for the tokens of service accounts."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.TraditionalOpenSSL
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return pem.decode()
