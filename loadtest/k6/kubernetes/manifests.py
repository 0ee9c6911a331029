"""What Kubernetes is asked for: one scenario's TestRun and all it needs, and an account."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from loadtest.config.kubernetes_types import count_bytes
from loadtest.config.models import Kubernetes
from loadtest.errors import UsageError
from loadtest.k6.command import GARBAGE_PER_CENT
from loadtest.k6.distributed.protocol import Order
from loadtest.k6.kubernetes.script_bundle import TOOLS, build_bundle, name_key
from loadtest.k6.outputs import FILES, build_output_flags
from loadtest.results.run import SCENARIOS
from loadtest.state.bearers import BEARER_VERSION, read_bearers

Manifest = dict[str, Any]

MANAGER = "mcp-loadtest"
ENVIRONMENT_LABEL = "mcp-loadtest/environment"
SCENARIO_LABEL = "mcp-loadtest/scenario"
BEARER_KEY = "bearer.json"
MASKED = "<masked>"
# The operator makes `<name>-service-<n>` of a name, which is a label too: 63 characters at most.
SLUG_CHARACTERS = 26
# The operator's starter calls each runner by some 360 characters of one argument, and Linux takes
# 128 KiB of one.
MAX_RUNNERS = 300
# k6's own; its image and the starter's name theirs by a word, which runAsNonRoot does not take.
USER_ID = 12345
# Of a pod's memory; the rest is for what Go does not count.
HEAP_SHARE = 0.9
# k6 reads its token once, at its start; what is above a run's length is for the start of k6.
TOKEN_SECONDS = 600

SCRIPTS_FOLDER = "/scripts"
BEARER_FOLDER = "/bearer"
CLUSTER_FOLDER = "/cluster"


@dataclass(frozen=True)
class Manifests:
    """One scenario's objects; all carry the same name, labels and namespace."""

    service_account: Manifest
    role: Manifest
    role_binding: Manifest
    config_map: Manifest
    secret: Manifest = field(repr=False)
    test_run: Manifest

    def list(self) -> tuple[Manifest, ...]:
        """Return them in the order in which they are applied."""
        own = (self.service_account, self.role, self.role_binding, self.config_map, self.secret)
        return (*own, self.test_run)


def build_name(environment_name: str, last: str) -> str:
    """Return the name of an environment's objects for a scenario, or for its client."""
    return f"{MANAGER}-{build_short_name(environment_name)}-{last}"


def build_short_name(environment_name: str) -> str:
    """Return an environment's name as labels and objects take it, still different from others."""
    plain = re.sub(r"[^a-z0-9]+", "-", environment_name.lower()).strip("-")
    if plain == environment_name and len(plain) <= SLUG_CHARACTERS:
        return plain
    mark = hashlib.sha256(environment_name.encode()).hexdigest()[:8]
    kept = plain[: SLUG_CHARACTERS - len(mark) - 1].strip("-")
    return f"{kept}-{mark}" if kept else mark


def build_labels(environment_name: str, scenario: str | None = None) -> dict[str, str]:
    """Return the labels by which what a run made is found, of one scenario or of all."""
    labels = {
        "app.kubernetes.io/managed-by": MANAGER,
        ENVIRONMENT_LABEL: build_short_name(environment_name),
    }
    return labels | ({SCENARIO_LABEL: scenario} if scenario else {})


def render_bearers(bearers: Iterable[tuple[str, float]], serial: int) -> str:
    """Return tokens and when they expire as k6 reads them; `serial` tells newer from older."""
    entries = [{"access_token": token, "expires_at": expires} for token, expires in bearers]
    return json.dumps({"version": BEARER_VERSION, "serial": serial, "bearers": entries})


def build_manifests(order: Order, environment_name: str, where: Kubernetes) -> Manifests:
    """Return what one scenario needs; UsageError for what no cluster can run."""
    if order.parallelism > MAX_RUNNERS:
        raise UsageError(
            f"--parallelism {order.parallelism}: the operator starts {MAX_RUNNERS} runners at "
            "most; take fewer, and give each more cpu and memory"
        )
    name = build_name(environment_name, order.scenario)
    labels = build_labels(environment_name, order.scenario)
    metadata = {"name": name, "namespace": where.namespace, "labels": labels}
    bundle = build_bundle(order.scenario, order.tools)
    tokens = [
        (bearer.access_token.get_secret_value(), bearer.expires_at)
        for bearer in read_bearers(order.bearer_file)
    ]
    private = _build_private(order)
    # The one thing that runners may do: read the Secret that a fresh bearer is put into.
    reading = _build_rule("", ("secrets",), ("get",), (name,))
    return Manifests(
        service_account=_build_service_account(metadata),
        role=_build_role(metadata, (reading,)),
        role_binding=_build_role_binding(metadata),
        config_map={
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {name_key(path): text for path, text in bundle.items()},
        },
        secret={
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "Opaque",
            "data": {
                key: base64.b64encode(value.encode()).decode()
                for key, value in {BEARER_KEY: render_bearers(tokens, 0), **private}.items()
            },
        },
        test_run={
            "apiVersion": "k6.io/v1alpha1",
            "kind": "TestRun",
            "metadata": metadata,
            "spec": {
                "parallelism": order.parallelism,
                # Without any, the operator has a shell run k6, which may keep SIGTERM from it.
                "args": ["--no-usage-report"],
                "script": {"localFile": f"{SCRIPTS_FOLDER}/{order.scenario}.js"},
                # It would read the bearer into an archive.
                "initializer": {"disabled": True},
                "starter": _build_starter(where, labels),
                "runner": _build_runner(order, where, metadata, bundle, private),
            },
        },
    )


def build_client_access(environment_name: str, where: Kubernetes) -> tuple[Manifest, ...]:
    """Return an account with the rights that a run needs: to be applied once, by the user."""
    # Not the labels of a run's objects: a run removes whatever has those.
    labels = {
        "app.kubernetes.io/name": MANAGER,
        "app.kubernetes.io/component": "client",
        "app.kubernetes.io/instance": build_short_name(environment_name),
    }
    name = build_name(environment_name, "client")
    metadata = {"name": name, "namespace": where.namespace, "labels": labels}
    return (
        _build_service_account(metadata),
        _build_role(metadata, _list_client_rights(environment_name)),
        _build_role_binding(metadata),
    )


def render_manifests(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Return the manifests as YAML documents; of a Secret no value is shown."""
    return yaml.dump_all(
        [_mask(manifest) for manifest in manifests],
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=1000,
        explicit_start=True,
    )


def _mask(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    if manifest["kind"] != "Secret":
        return manifest
    return {**manifest, "data": dict.fromkeys(manifest["data"], MASKED)}


class _Dumper(yaml.SafeDumper):
    """Writes texts of many lines as blocks, and nothing as an alias."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _build_private(order: Order) -> dict[str, str]:
    """Return the variables whose values are nobody's business: addresses, and outputs' own."""
    private = {"MCP_URL": order.mcp_url}
    if "LIMIT_HOST" in order.variables:
        private["LIMIT_HOST"] = order.variables["LIMIT_HOST"]
    for output in order.outputs:
        kind = output.partition("=")[0]
        if kind in FILES:
            raise UsageError(f"--out {kind}: a runner's files go with its pod; use one that sends")
        if "," in output:
            raise UsageError(f"--out {kind}: in a cluster an output's argument has no comma")
    flags = build_output_flags(order.outputs, order.scenario)
    if flags:
        private["K6_OUT"] = ",".join(flag.removeprefix("--out=") for flag in flags)
    return private | dict(order.output_variables)


def _build_runner(
    order: Order,
    where: Kubernetes,
    metadata: Mapping[str, Any],
    paths: Iterable[str],
    private: Iterable[str],
) -> Manifest:
    name = metadata["name"]
    return {
        "image": where.image,
        # No autoscaler may move a runner to save a node: its part of the run would be lost.
        "metadata": {
            "labels": metadata["labels"],
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "serviceAccountName": name,
        **_build_pod(where),
        "resources": _build_resources(where.cpu, where.memory),
        # A busy k6 answers late: the operator's own probe, of 1 s, would have it killed.
        "livenessProbe": _build_probe(periodSeconds=30, timeoutSeconds=10, failureThreshold=10),
        "readinessProbe": _build_probe(periodSeconds=2, timeoutSeconds=5, failureThreshold=10),
        "env": _build_env(order, where, name, private),
        **_build_volumes(order, where, name, paths),
        **_build_spread(name, where),
    }


def _build_env(
    order: Order, where: Kubernetes, name: str, private: Iterable[str]
) -> list[Manifest]:
    plain = {
        "GOGC": GARBAGE_PER_CENT,
        "GOMEMLIMIT": str(int(count_bytes(where.memory) * HEAP_SHARE)),
        **order.variables,
        # A node keeps a long line in pieces of 16 KiB: stderr would come between a summary's.
        "K6_LOG_OUTPUT": "stdout",
        "K6_NEW_MACHINE_READABLE_SUMMARY": "false",
        "MCP_BEARER_FILE": f"{BEARER_FOLDER}/{BEARER_KEY}",
        "TOOLS_FILE": f"{SCRIPTS_FOLDER}/{TOOLS}",
    }
    if order.renewal_url is not None:
        server = "https://kubernetes.default.svc"
        plain |= {
            "RENEWAL_URL": f"{server}/api/v1/namespaces/{where.namespace}/secrets/{name}",
            "RENEWAL_TOKEN_FILE": f"{CLUSTER_FOLDER}/token",
            # Beside the system's own, which Go still reads from their folder.
            "SSL_CERT_FILE": f"{CLUSTER_FOLDER}/ca.crt",
        }
    sources = {key: {"secretKeyRef": {"name": name, "key": key}} for key in private}
    return [
        *({"name": key, "value": value} for key, value in plain.items() if key not in sources),
        *({"name": key, "valueFrom": source} for key, source in sources.items()),
    ]


def _build_volumes(
    order: Order, where: Kubernetes, name: str, paths: Iterable[str]
) -> dict[str, list[Manifest]]:
    scripts = [{"key": name_key(path), "path": path} for path in paths]
    bearer = [{"key": BEARER_KEY, "path": BEARER_KEY, "mode": 0o400}]
    volumes: dict[str, Manifest] = {
        SCRIPTS_FOLDER: {"configMap": {"name": name, "items": scripts}},
        BEARER_FOLDER: {"secret": {"secretName": name, "items": bearer}},
    }
    if order.renewal_url is not None:
        volumes[CLUSTER_FOLDER] = {"projected": _build_projection(order, where)}
    named = {place: place.strip("/") for place in volumes}
    return {
        "volumes": [{"name": named[place], **volume} for place, volume in volumes.items()],
        "volumeMounts": [
            {"name": named[place], "mountPath": place, "readOnly": True} for place in volumes
        ],
    }


def _build_starter(where: Kubernetes, labels: Mapping[str, str]) -> Manifest:
    image = {"image": where.starter_image} if where.starter_image else {}
    return {**image, "metadata": {"labels": labels}, **_build_pod(where)}


def _build_pod(where: Kubernetes) -> Manifest:
    """Return what the operator takes of runner and starter alike."""
    return {
        "automountServiceAccountToken": "false",  # the operator wants a text
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containerSecurityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        **_build_placing(where),
    }


def _build_placing(where: Kubernetes) -> Manifest:
    placing: Manifest = {}
    if where.image_pull_secrets:
        placing["imagePullSecrets"] = [{"name": name} for name in where.image_pull_secrets]
    if where.node_selector:
        placing["nodeSelector"] = dict(where.node_selector)
    if where.tolerations:
        placing["tolerations"] = [
            toleration.model_dump(exclude_none=True) for toleration in where.tolerations
        ]
    return placing


def _build_spread(name: str, where: Kubernetes) -> Manifest:
    keys = {
        "none": (),
        "node": ("kubernetes.io/hostname",),
        "zone": ("topology.kubernetes.io/zone", "kubernetes.io/hostname"),
    }[where.spread]
    selector = {"matchLabels": {"app": "k6", "k6_cr": name, "runner": "true"}}
    constraints = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector,
        }
        for key in keys
    ]
    return {"topologySpreadConstraints": constraints} if constraints else {}


def _build_resources(cpu: str, memory: str) -> Manifest:
    """Return a promise of both and a bound of memory alone: a throttled CPU measures itself."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def _build_probe(**times: int) -> Manifest:
    return {"httpGet": {"path": "/v1/status", "port": 6565}, **times}


def _build_projection(order: Order, where: Kubernetes) -> Manifest:
    lasting = math.ceil(order.seconds) + where.start_seconds + TOKEN_SECONDS
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    return {
        "defaultMode": 0o440,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": lasting}},
            {"configMap": authority},
        ],
    }


def _build_service_account(metadata: Mapping[str, Any]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }


def _build_role(metadata: Mapping[str, Any], rules: Iterable[Manifest]) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": list(rules),
    }


def _build_role_binding(metadata: Mapping[str, Any]) -> Manifest:
    name, namespace = metadata["name"], metadata["namespace"]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }


def _build_rule(
    group: str, resources: tuple[str, ...], verbs: tuple[str, ...], names: tuple[str, ...] = ()
) -> Manifest:
    rule: Manifest = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    return rule | ({"resourceNames": list(names)} if names else {})


def _list_client_rights(environment_name: str) -> tuple[Manifest, ...]:
    """Return what our client may do: make things, and touch those alone that bear our names.

    Whoever makes a Role must hold its rights: `get` of the Secrets by name is among them.
    """
    names = tuple(build_name(environment_name, scenario) for scenario in SCENARIOS)
    touched = ("get", "patch", "delete")
    rbac = ("roles", "rolebindings")
    return (
        _build_rule("", ("configmaps", "secrets", "serviceaccounts"), ("create",)),
        _build_rule("", ("configmaps", "secrets", "serviceaccounts"), touched, names),
        _build_rule("rbac.authorization.k8s.io", rbac, ("create",)),
        _build_rule("rbac.authorization.k8s.io", rbac, touched, names),
        _build_rule("k6.io", ("testruns",), ("create", "list")),
        _build_rule("k6.io", ("testruns",), ("get", "delete"), names),
        _build_rule("", ("pods", "services", "events"), ("list",)),
        _build_rule("", ("pods/log",), ("get",)),
    )
