"""Which cluster is used, and which message appears if there is none."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from lightkube.resources.core_v1 import Pod

from loadtest.common.redaction import redact
from loadtest.config.models import Kubernetes
from loadtest.errors import K6Error
from loadtest.k6.kubernetes import client
from loadtest.k6.kubernetes.client import Cluster, open_cluster
from tests.k6.kubernetes.kubernetes_server import CONTEXT, NAMESPACE, TOKEN, KubernetesServer
from tests.support.hostile_server import (
    Answer,
    HostileServer,
    endless_body,
    gzip_bomb,
    trickling_body,
)

WHERE = Kubernetes(namespace=NAMESPACE)


def fail(where: Kubernetes, **variables: str) -> str:
    """Return the error of opening a cluster."""
    with pytest.raises(K6Error) as caught:
        open_cluster(where, variables)
    return str(caught.value)


def ask(cluster: Cluster) -> str:
    """Return the error of a request to the cluster."""
    with pytest.raises(K6Error) as caught, cluster, cluster.explaining():
        list(cluster.client.list(Pod))
    return str(caught.value)


@pytest.fixture
def change(kubernetes: KubernetesServer, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the kubeconfig with a changed cluster or user."""

    def write(kind: str, **changes: object) -> Path:
        path = kubernetes.write_config(tmp_path / "kubeconfig")
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config[f"{kind}s"][0][kind] = changes
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    return write


def test_the_current_context_is_used_if_none_is_configured(
    kubernetes: KubernetesServer, tmp_path: Path
) -> None:
    config = kubernetes.write_config(tmp_path / "kubeconfig")
    with open_cluster(WHERE, {"KUBECONFIG": str(config)}) as cluster:
        assert cluster.name == f"context {CONTEXT}"
        assert list(cluster.client.list(Pod)) == []


def test_a_cluster_on_this_machine_is_reached_without_a_proxy(
    kubernetes: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    config = kubernetes.write_config(tmp_path / "kubeconfig")
    with open_cluster(WHERE, {"KUBECONFIG": str(config)}) as cluster:
        assert list(cluster.client.list(Pod)) == []


def test_the_default_file_is_used_without_the_variable_kubeconfig(
    kubernetes: KubernetesServer, tmp_path: Path
) -> None:
    (tmp_path / ".kube").mkdir()
    kubernetes.write_config(tmp_path / ".kube" / "config")
    with open_cluster(WHERE, {"HOME": str(tmp_path)}) as cluster:
        assert list(cluster.client.list(Pod)) == []


def test_a_context_is_found_in_any_of_several_files(
    kubernetes: KubernetesServer, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("clusters: []\ncontexts: []\nusers: []\n", encoding="utf-8")
    config = kubernetes.write_config(tmp_path / "kubeconfig")
    where = Kubernetes(namespace=NAMESPACE, context=CONTEXT)
    with open_cluster(where, {"KUBECONFIG": f"{other}:{config}"}) as cluster:
        assert list(cluster.client.list(Pod)) == []


def test_a_missing_kubeconfig_is_reported(tmp_path: Path) -> None:
    assert fail(WHERE, HOME=str(tmp_path)) == (
        "no kubeconfig (~/.kube/config): set KUBECONFIG to the file of your cluster"
    )
    missing = tmp_path / "missing"
    assert fail(WHERE, KUBECONFIG=str(missing)).startswith(f"no kubeconfig ({missing}): ")


@pytest.mark.parametrize("context", [None, "mine"])
def test_a_pod_uses_its_service_account_only(tmp_path: Path, context: str | None) -> None:
    where = WHERE.model_copy(update={"context": context})
    assert fail(where, HOME=str(tmp_path), KUBERNETES_SERVICE_HOST="10.0.0.1") == (
        "this pod has no token of a service account: set serviceAccountName and "
        "automountServiceAccountToken"
    )


@pytest.mark.parametrize("text", ["{", "[]", "users: 1", "clusters: [{name: canary}]\n", "\0"])
def test_an_unreadable_kubeconfig_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(text, encoding="utf-8")
    message = fail(WHERE, KUBECONFIG=str(config))
    assert message.startswith(f"{config} cannot be read as a kubeconfig (")
    assert "canary" not in message


def test_an_unknown_context_is_named_with_the_known_ones(
    kubernetes: KubernetesServer, tmp_path: Path
) -> None:
    config = kubernetes.write_config(tmp_path / "kubeconfig")
    where = Kubernetes(namespace=NAMESPACE, context="production")
    assert fail(where, KUBECONFIG=str(config)) == (
        f"{config} has no context production: it has {CONTEXT}"
    )


def test_a_kubeconfig_without_a_current_context_lists_its_contexts(
    kubernetes: KubernetesServer, tmp_path: Path
) -> None:
    config = kubernetes.write_config(tmp_path / "kubeconfig")
    text = config.read_text(encoding="utf-8").replace(f"current-context: {CONTEXT}\n", "")
    config.write_text(text, encoding="utf-8")
    assert fail(WHERE, KUBECONFIG=str(config)) == (
        f"{config} has no current context: set `context` of the environment to one of its "
        f"contexts ({CONTEXT})"
    )


def test_a_context_that_names_a_missing_cluster_is_reported(
    kubernetes: KubernetesServer, tmp_path: Path
) -> None:
    config = kubernetes.write_config(tmp_path / "kubeconfig")
    text = config.read_text(encoding="utf-8").replace("cluster: loopback", "cluster: lost")
    config.write_text(text, encoding="utf-8")
    assert fail(WHERE, KUBECONFIG=str(config)) == (
        f"{config}: context {CONTEXT} names 'lost', which does not exist"
    )


def test_a_missing_certificate_is_reported(change: Callable[..., Path]) -> None:
    config = change("cluster", server="https://127.0.0.1:1", **{"certificate-authority": "ca.crt"})
    assert fail(WHERE, KUBECONFIG=str(config)) == (
        f"{config}: context {CONTEXT} cannot be used ([Errno 2] No such file or directory): have "
        "this file created again"
    )


def test_an_unreachable_cluster_is_reported(change: Callable[..., Path]) -> None:
    config = change("cluster", server="http://127.0.0.1:1")
    assert ask(open_cluster(WHERE, {"KUBECONFIG": str(config)})) == (
        f"context {CONTEXT} cannot be reached at 127.0.0.1:1 ([Errno 111] Connection refused): "
        f"check network, VPN and proxy, then try `kubectl --context {CONTEXT} version`"
    )


def test_expired_credentials_are_reported(kubernetes: KubernetesServer, cluster: Cluster) -> None:
    kubernetes.knows_token = False
    assert ask(cluster) == (
        f"context {CONTEXT} refuses the credentials, which may have expired: sign in to the "
        f"cluster again, then try `kubectl --context {CONTEXT} get pods -n {NAMESPACE}`"
    )


@pytest.mark.parametrize("version", ["v1beta1", "v1"])
def test_a_credential_plugin_is_run(change: Callable[..., Path], version: str) -> None:
    credential = json.dumps({"kind": "ExecCredential", "status": {"token": TOKEN}})
    version = f"client.authentication.k8s.io/{version}"
    plugin = {"apiVersion": version, "command": "echo", "args": [credential]}
    config = change("user", exec=plugin)
    with open_cluster(WHERE, {"KUBECONFIG": str(config)}) as cluster:
        assert list(cluster.client.list(Pod)) == []


def test_a_credential_plugin_that_fails_is_not_quoted(change: Callable[..., Path]) -> None:
    command = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "false"}
    config = change("user", exec=command)
    assert ask(open_cluster(WHERE, {"KUBECONFIG": str(config)})) == (
        f"no credentials for context {CONTEXT} (ConfigError): sign in to the cluster, then "
        f"try `kubectl --context {CONTEXT} get pods -n {NAMESPACE}`"
    )


def test_a_server_that_is_not_a_cluster_is_reported(
    kubernetes: KubernetesServer, cluster: Cluster
) -> None:
    kubernetes.is_web_page = True
    assert ask(cluster) == (
        f"{cluster.server} does not answer like a cluster (JSON is malformed: invalid character "
        f"(byte 0)): check `kubectl --context {CONTEXT} version`"
    )


@pytest.mark.parametrize(
    ("answer", "seconds", "message"),
    [
        (endless_body, 60.0, "does not answer like a cluster (it sends more than 64 MiB)"),
        (gzip_bomb(1024), 60.0, "does not answer like a cluster (it sends more than 64 MiB)"),
        (trickling_body, 3.0, "cannot be reached at"),
    ],
)
def test_an_answer_of_a_cluster_is_limited_in_size_and_time(
    change: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    seconds: float,
    message: str,
) -> None:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", seconds)
    with HostileServer(answer) as server:
        config = change("cluster", server=server.url)
        assert message in ask(open_cluster(WHERE, {"KUBECONFIG": str(config)}))


def by_file(token: str, place: Path) -> dict[str, object]:
    place.write_text(token, encoding="utf-8")
    return {"tokenFile": str(place)}


def by_plugin(token: str, _: Path) -> dict[str, object]:
    message = json.dumps({"status": {"token": token}})
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": "echo", "args": [message]}}


def ask_for_pods(cluster: Cluster) -> None:
    list(cluster.client.list(Pod))


def ask_for_a_log(cluster: Cluster) -> None:
    with cluster.follow_log("runner", ""):
        pass


@pytest.mark.parametrize("ask_for", [ask_for_pods, ask_for_a_log])
@pytest.mark.parametrize(
    "build",
    [
        lambda token, _: {"token": token},
        lambda token, _: {"username": "ci", "password": token},
        by_file,
        by_plugin,
    ],
)
def test_a_credential_is_redacted_whatever_its_source(
    change: Callable[..., Path],
    tmp_path: Path,
    build: Callable[[str, Path], dict[str, object]],
    ask_for: Callable[[Cluster], None],
) -> None:
    token = secrets.token_hex(16)
    config = change("user", **build(token, tmp_path / "token"))
    cluster = open_cluster(WHERE, {"KUBECONFIG": str(config)})
    with cluster, pytest.raises(K6Error), cluster.explaining():
        ask_for(cluster)
    assert redact(f"{token} is unknown") == "*** is unknown"
