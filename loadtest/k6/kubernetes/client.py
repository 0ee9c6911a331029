"""The user's cluster: found in the kubeconfig, one client, and each failure as one line."""

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx2
import msgspec
import yaml
from lightkube import Client, KubeConfig
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ApiError, ConfigError

from loadtest.common.http import BodyError, Transport
from loadtest.common.network import find_proxy
from loadtest.common.redaction import learn, read_authorization
from loadtest.config.models import Kubernetes
from loadtest.errors import K6Error

TIMEOUT_SECONDS = 10.0
# A list of pods has about 10 KB per pod, and there may be a thousand runners.
MAX_RESPONSE_BYTES = 64 * 2**20
# A runner logs something every 30 s. A connection that is silent for longer is dead.
SILENCE_SECONDS = 60.0
CONTAINER = "k6"
# Credential plugins answer the same in both versions, but lightkube supports only the older one.
EXEC_V1 = "client.authentication.k8s.io/v1"

# How a request can fail: a refusal, no connection, a failing credential plugin, or an answer that
# does not come from Kubernetes.
CLUSTER_ERRORS = (
    httpx2.HTTPError,
    ConfigError,
    OSError,
    ValueError,
    LookupError,
    msgspec.MsgspecError,
)


@dataclass(frozen=True)
class Cluster:
    """A namespace of a cluster, and the connections to it; a context manager.

    `kubectl` is the command with which the user would reach the same cluster. Logs are followed
    with `http`, because lightkube's own function neither ends when the connection dies nor shows
    where a line was cut.
    """

    name: str
    server: str
    namespace: str
    kubectl: str
    client: Client
    http: httpx2.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.http.close()

    @contextmanager
    def follow_log(self, pod: str, since: str) -> Iterator[Iterator[bytes]]:
        """Yield what k6 prints in a pod, with timestamps, until it or the connection ends.

        `since` is the timestamp of an earlier line, or empty; lines of that second are sent again.
        """
        query = {"container": CONTAINER, "follow": "true", "timestamps": "true"}
        if since:
            query["sinceTime"] = since
        place = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        timeout = httpx2.Timeout(TIMEOUT_SECONDS, read=SILENCE_SECONDS)
        with self.http.stream("GET", place, params=query, timeout=timeout) as answer:
            answer.raise_for_status()
            yield answer.iter_bytes()

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn each failure of the cluster inside the block into a K6Error of one line."""
        try:
            yield
        except CLUSTER_ERRORS as failure:
            raise K6Error(self.explain(failure)) from None

    def explain(self, failure: Exception) -> str:
        """Return in one line what failed, and what to do about it."""
        if isinstance(failure, httpx2.HTTPStatusError):
            return self._explain_refusal(find_status(failure), find_message(failure))
        if isinstance(failure, httpx2.HTTPError) and not isinstance(failure, BodyError):
            return (
                f"{self.name} cannot be reached at {self.server} ({_flatten(failure)}): check "
                f"network, VPN and proxy, then try `{self.kubectl} version`"
            )
        if isinstance(failure, BodyError | msgspec.MsgspecError | LookupError):
            return (
                f"{self.server} does not answer like a cluster ({_flatten(failure)}): check "
                f"`{self.kubectl} version`"
            )
        return (
            f"no credentials for {self.name} ({type(failure).__name__}): sign in to the cluster, "
            f"then try `{self.kubectl_for('get pods')}`"
        )

    def _explain_refusal(self, code: int, message: str) -> str:
        webhook = re.search(r'admission webhook "([^"]+)" denied the request: (.*)', message)
        forbidden = re.search(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"', message)
        no_namespace = re.fullmatch(r'namespaces "([^"]+)" not found', message)
        if code == 401:
            return (
                f"{self.name} refuses the credentials, which may have expired: sign in to the "
                f"cluster again, then try `{self.kubectl_for('get pods')}`"
            )
        if webhook:
            return f"the admission webhook {webhook[1]} of {self.name} refuses it: {webhook[2]}"
        if "exceeded quota" in message:
            return self.explain_quota(message)
        if forbidden:
            verb, resource, group = forbidden.groups()
            check = self.kubectl_for(f"auth can-i {verb} {name_resource(resource, group)}")
            return (
                f"{self.name} does not let you {verb} {resource} in namespace {self.namespace}: "
                f"ask for this permission, then check it with `{check}`"
            )
        if "RBAC permissions not currently held" in message:
            check = self.kubectl_for("auth can-i get secrets")
            return (
                f"{self.name} does not let you give the runners a permission that you do not have: "
                f"ask for this permission, then check it with `{check}`"
            )
        if no_namespace:
            return (
                f"{self.name} has no namespace {no_namespace[1]}: create it with `{self.kubectl} "
                f"create namespace {no_namespace[1]}`, or configure another one"
            )
        if code >= 500 or code == 429:
            return f"{self.name} answers {code} ({message}): try again later"
        return f"{self.name} refuses ({code}): {message}"

    def explain_quota(self, message: str) -> str:
        """Return which quota is used up."""
        return (
            f"namespace {self.namespace} has no quota left ({message.partition('exceeded ')[2]}): "
            f"check `{self.kubectl_for('describe quota')}`, have it raised or use fewer runners"
        )

    def kubectl_for(self, command: str) -> str:
        """Return a kubectl command of the user for this namespace."""
        return f"{self.kubectl} {command} -n {self.namespace}"


def open_cluster(where: Kubernetes, variables: Mapping[str, str]) -> Cluster:
    """Return the cluster of the kubeconfig, or the one that this pod runs in; sends no request.

    Raises K6Error if there is no kubeconfig, it cannot be read, or it lacks the context.
    """
    config = _find_config(where.context, variables)
    name = f"context {config.context_name}" if config.fname else "this cluster"
    try:
        tls = client_adapter.verify_cluster(config.cluster, config.user or User(), config.abs_file)
        params = client_adapter.ConnectionParams(
            httpx2.Timeout(TIMEOUT_SECONDS),
            transport=_RedactorTransport(_build_log_transport(config, tls)),
        )
        http = client_adapter.Client(config, params)
        transport = _RedactorTransport(Transport(MAX_RESPONSE_BYTES, tls))
        client = Client(config, where.namespace, params.timeout, transport=transport)
    except (ConfigError, OSError, ValueError) as failure:
        place = config.fname or "the service account"
        raise K6Error(
            f"{place}: {name} cannot be used ({_flatten(failure)}): have this file created again"
        ) from None
    kubectl = f"kubectl --context {config.context_name}" if config.fname else "kubectl"
    host = urlsplit(config.cluster.server).netloc.rpartition("@")[2]
    return Cluster(name, host, where.namespace, kubectl, client, http)


def find_status(failure: Exception) -> int:
    """Return the status of a refusal; 0 for any other failure."""
    return failure.response.status_code if isinstance(failure, httpx2.HTTPStatusError) else 0


def find_message(failure: httpx2.HTTPStatusError) -> str:
    """Return the message of a refusal, in one line."""
    message = failure.status.message if isinstance(failure, ApiError) else None
    return " ".join((message or failure.response.reason_phrase).split())


def name_resource(resource: str, group: str) -> str:
    """Return a resource in the form that `kubectl` expects: the group before the subresource."""
    plural, slash, part = resource.partition("/")
    return f"{plural}.{group}{slash}{part}" if group else resource


def _find_config(context: str | None, variables: Mapping[str, str]) -> SingleConfig:
    home = Path(variables.get("HOME") or Path.home())
    named = [Path(path).expanduser() for path in variables.get("KUBECONFIG", "").split(":") if path]
    paths = [path for path in named or [home / ".kube" / "config"] if path.is_file()]
    if not paths:
        # A pod of the cluster itself uses its service account.
        if not named and variables.get("KUBERNETES_SERVICE_HOST"):
            return _read_service_account()
        looked = ", ".join(str(path) for path in named) or "~/.kube/config"
        raise K6Error(f"no kubeconfig ({looked}): set KUBECONFIG to the file of your cluster")
    known: list[str] = []
    for path in paths:
        config = _read_config(path)
        known += config.contexts
        wanted = context or config.current_context
        if wanted in config.contexts:
            return _pick_context(path, config, wanted)
    looked = ", ".join(str(path) for path in paths)
    if context is None:
        raise K6Error(
            f"{looked} has no current context: set `context` of the environment to one of its "
            f"contexts ({', '.join(known) or 'none'})"
        )
    raise K6Error(f"{looked} has no context {context}: it has {', '.join(known) or 'none'}")


def _read_config(path: Path) -> KubeConfig:
    try:
        return KubeConfig.from_file(path)
    except (OSError, yaml.YAMLError, *CLUSTER_ERRORS, TypeError, AttributeError) as failure:
        # The file may contain secrets, so the error is not quoted.
        raise K6Error(
            f"{path} cannot be read as a kubeconfig ({type(failure).__name__}): check "
            "`kubectl config view`, or have the file created again"
        ) from None


def _pick_context(path: Path, config: KubeConfig, name: str) -> SingleConfig:
    try:
        found = config.get(name)
    except KeyError as failure:
        raise K6Error(f"{path}: context {name} names {failure}, which does not exist") from None
    assert found is not None
    user = found.user or User()
    if user.exec is not None and user.exec.apiVersion == EXEC_V1:
        user.exec.apiVersion = f"{EXEC_V1}beta1"
    return found._replace(user=user)


def _read_service_account() -> SingleConfig:
    try:
        found = KubeConfig.from_service_account().get()
    except (ConfigError, OSError, LookupError):
        raise K6Error(
            "this pod has no token of a service account: set serviceAccountName and "
            "automountServiceAccountToken"
        ) from None
    assert found is not None
    return found


class _RedactorTransport(httpx2.BaseTransport):
    """Registers the credentials of each request for redaction, from a file or a plugin alike."""

    def __init__(self, sender: httpx2.BaseTransport) -> None:
        self._sender = sender

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        learn(*read_authorization(request.headers.get("authorization", "")))
        return self._sender.handle_request(request)

    def close(self) -> None:
        """Close all connections."""
        self._sender.close()


def _build_log_transport(config: SingleConfig, tls: ssl.SSLContext) -> httpx2.HTTPTransport:
    """Return a transport for logs: a connection per runner, open for the whole run."""
    return httpx2.HTTPTransport(
        verify=tls, limits=httpx2.Limits(), proxy=find_proxy(config.cluster.server)
    )


def _flatten(failure: Exception) -> str:
    return " ".join(str(failure).split()) or type(failure).__name__
