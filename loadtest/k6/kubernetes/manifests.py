"""The Kubernetes objects of a scenario, and the account of the client that creates them."""

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from loadtest.config.kubernetes_types import count_bytes
from loadtest.config.models import Kubernetes
from loadtest.errors import UsageError
from loadtest.k6.command import GARBAGE_PER_CENT, NO_BEARER
from loadtest.k6.distributed.protocol import ScenarioRequest
from loadtest.k6.kubernetes.script_bundle import TOOLS, build_bundle, name_key
from loadtest.k6.outputs import FILES, build_output_flags
from loadtest.results.run import SCENARIOS
from loadtest.state.bearers import BEARER_FILE, read_bearers, render_bearers

Manifest = dict[str, Any]

MANAGER = "mcp-loadtest"
ENVIRONMENT_LABEL = "mcp-loadtest/environment"
SCENARIO_LABEL = "mcp-loadtest/scenario"
MASKED = "<masked>"
# The operator adds `-service-<n>` to a name. The result is also a label: 63 characters at most.
SHORT_NAME_CHARACTERS = 26
# The starter gets some 360 characters per runner in one argument. Linux allows 128 KiB for one.
MAX_RUNNERS = 300
# User id of the k6 image. The image names its user by name; runAsNonRoot needs a number.
USER_ID = 12345
# Share of a pod's memory for Go's heap. The rest is for memory that Go does not count.
HEAP_SHARE = 0.9
# k6 reads its token once, when it starts. A token is valid for this much longer than a run.
TOKEN_SECONDS = 600

SCRIPTS_FOLDER = "/scripts"
BEARER_FOLDER = "/bearer"
CLUSTER_FOLDER = "/cluster"


@dataclass(frozen=True)
class Manifests:
    """The objects of one scenario; all have the same name, labels and namespace."""

    service_account: Manifest
    role: Manifest
    role_binding: Manifest
    config_map: Manifest
    secret: Manifest = field(repr=False)
    test_run: Manifest

    def list(self) -> tuple[Manifest, ...]:
        """Return the objects in the order in which they are created."""
        own = (self.service_account, self.role, self.role_binding, self.config_map, self.secret)
        return (*own, self.test_run)


def build_name(environment_name: str, suffix: str) -> str:
    """Return the name of the objects of a scenario of an environment, or of its client."""
    return f"{MANAGER}-{build_short_name(environment_name)}-{suffix}"


def build_short_name(environment_name: str) -> str:
    """Return an environment's name in a form for labels and objects; it stays unique."""
    plain = re.sub(r"[^a-z0-9]+", "-", environment_name.lower()).strip("-")
    if plain == environment_name and len(plain) <= SHORT_NAME_CHARACTERS:
        return plain
    digest = hashlib.sha256(environment_name.encode()).hexdigest()[:8]
    kept = plain[: SHORT_NAME_CHARACTERS - len(digest) - 1].strip("-")
    return f"{kept}-{digest}" if kept else digest


def build_labels(environment_name: str, scenario: str | None = None) -> dict[str, str]:
    """Return the labels that identify the objects of a run, of one scenario or of all."""
    labels = {
        "app.kubernetes.io/managed-by": MANAGER,
        ENVIRONMENT_LABEL: build_short_name(environment_name),
    }
    return labels | ({SCENARIO_LABEL: scenario} if scenario else {})


def build_manifests(
    request: ScenarioRequest, environment_name: str, where: Kubernetes
) -> Manifests:
    """Return the objects of one scenario; UsageError if no cluster can run it."""
    if request.parallelism > MAX_RUNNERS:
        raise UsageError(
            f"--parallelism {request.parallelism}: the operator starts at most {MAX_RUNNERS} "
            "runners; use fewer, with more cpu and memory each"
        )
    name = build_name(environment_name, request.scenario)
    labels = build_labels(environment_name, request.scenario)
    metadata = {"name": name, "namespace": where.namespace, "labels": labels}
    bundle = build_bundle(request.scenario, request.tools)
    secret_env = _build_secret_env(request)
    secrets = secret_env
    if request.bearer_file is not None:
        bearers = render_bearers(read_bearers(request.bearer_file), 0)
        secrets = {BEARER_FILE: bearers, **secret_env}
    # All that runners may do is read their Secret, to get fresh bearers.
    read_secret = _build_rule("", ("secrets",), ("get",), (name,))
    return Manifests(
        service_account=_build_service_account(metadata),
        role=_build_role(metadata, (read_secret,)),
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
                key: base64.b64encode(value.encode()).decode() for key, value in secrets.items()
            },
        },
        test_run={
            "apiVersion": "k6.io/v1alpha1",
            "kind": "TestRun",
            "metadata": metadata,
            "spec": {
                "parallelism": request.parallelism,
                # Without arguments the operator starts k6 in a shell, which may swallow SIGTERM.
                "args": ["--no-usage-report"],
                "script": {"localFile": f"{SCRIPTS_FOLDER}/{request.scenario}.js"},
                # The initializer would put the bearer into an archive.
                "initializer": {"disabled": True},
                "starter": _build_starter(where, labels),
                "runner": _build_runner(request, where, metadata, bundle, secret_env),
            },
        },
    )


def build_client_access(environment_name: str, where: Kubernetes) -> tuple[Manifest, ...]:
    """Return an account that may do what a run needs, and no more; the user applies it."""
    # These differ from the labels of a run's objects, because a run removes whatever has those.
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
    """Return the manifests as YAML documents; the values of a Secret are masked."""
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
    """Writes multi-line strings as blocks, and never writes an alias."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _build_secret_env(request: ScenarioRequest) -> dict[str, str]:
    """Return the variables that go into the Secret: addresses, and the private ones."""
    secret_env = {"MCP_URL": request.mcp_url}
    if "LIMIT_HOST" in request.variables:
        secret_env["LIMIT_HOST"] = request.variables["LIMIT_HOST"]
    for output in request.outputs:
        kind = output.partition("=")[0]
        if kind in FILES:
            raise UsageError(
                f"--out {kind}: a runner's files are lost with its pod; use one that sends"
            )
        if "," in output:
            raise UsageError(f"--out {kind}: in a cluster its argument cannot contain a comma")
    flags = build_output_flags(request.outputs, request.scenario)
    if flags:
        secret_env["K6_OUT"] = ",".join(flag.removeprefix("--out=") for flag in flags)
    return secret_env | dict(request.private_variables)


def _build_runner(
    request: ScenarioRequest,
    where: Kubernetes,
    metadata: Mapping[str, Any],
    paths: Iterable[str],
    secret_names: Iterable[str],
) -> Manifest:
    name = metadata["name"]
    return {
        "image": where.image,
        # An autoscaler must not move a runner to save a node: the runner's figures would be lost.
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
        # A busy k6 answers late. The operator's default probe of 1 s would get it killed.
        "livenessProbe": _build_probe(periodSeconds=30, timeoutSeconds=10, failureThreshold=10),
        "readinessProbe": _build_probe(periodSeconds=2, timeoutSeconds=5, failureThreshold=10),
        "env": _build_env(request, where, name, secret_names),
        **_build_volumes(request, where, name, paths),
        **_build_spread(name, where),
    }


def _build_env(
    request: ScenarioRequest, where: Kubernetes, name: str, secret_names: Iterable[str]
) -> list[Manifest]:
    plain = {
        "GOGC": GARBAGE_PER_CENT,
        "GOMEMLIMIT": str(int(count_bytes(where.memory) * HEAP_SHARE)),
        **request.variables,
        # A node splits long lines every 16 KiB. Lines of stderr could get between the pieces.
        "K6_LOG_OUTPUT": "stdout",
        "K6_NEW_MACHINE_READABLE_SUMMARY": "false",
        "MCP_BEARER_FILE": f"{BEARER_FOLDER}/{BEARER_FILE}" if request.bearer_file else NO_BEARER,
        "TOOLS_FILE": f"{SCRIPTS_FOLDER}/{TOOLS}",
    }
    if request.renewal_url is not None:
        server = "https://kubernetes.default.svc"
        plain |= {
            "RENEWAL_URL": f"{server}/api/v1/namespaces/{where.namespace}/secrets/{name}",
            "RENEWAL_TOKEN_FILE": f"{CLUSTER_FOLDER}/token",
            # In addition to the system's certificates, which Go reads from their own folder.
            "SSL_CERT_FILE": f"{CLUSTER_FOLDER}/ca.crt",
        }
    sources = {key: {"secretKeyRef": {"name": name, "key": key}} for key in secret_names}
    return [
        *({"name": key, "value": value} for key, value in plain.items() if key not in sources),
        *({"name": key, "valueFrom": source} for key, source in sources.items()),
    ]


def _build_volumes(
    request: ScenarioRequest, where: Kubernetes, name: str, paths: Iterable[str]
) -> dict[str, list[Manifest]]:
    scripts = [{"key": name_key(path), "path": path} for path in paths]
    bearer = [{"key": BEARER_FILE, "path": BEARER_FILE, "mode": 0o400}]
    volumes: dict[str, Manifest] = {
        SCRIPTS_FOLDER: {"configMap": {"name": name, "items": scripts}},
    }
    if request.bearer_file is not None:
        volumes[BEARER_FOLDER] = {"secret": {"secretName": name, "items": bearer}}
    if request.renewal_url is not None:
        volumes[CLUSTER_FOLDER] = {"projected": _build_projection(request, where)}
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
    """Return the fields that runner and starter have in common."""
    return {
        "automountServiceAccountToken": "false",  # a string in the operator's schema
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
    """Request both, but limit only memory: a throttled CPU would distort the figures."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def _build_probe(**times: int) -> Manifest:
    return {"httpGet": {"path": "/v1/status", "port": 6565}, **times}


def _build_projection(request: ScenarioRequest, where: Kubernetes) -> Manifest:
    seconds = math.ceil(request.seconds) + where.start_seconds + TOKEN_SECONDS
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    return {
        "defaultMode": 0o440,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": seconds}},
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
    """Return what a run may do: create objects, and read, change and delete those with its names.

    Who creates a Role must have all rights in it; `get` for the Secrets by name is one of them.
    """
    names = tuple(build_name(environment_name, scenario) for scenario in SCENARIOS)
    verbs = ("get", "patch", "delete")
    rbac = ("roles", "rolebindings")
    return (
        _build_rule("", ("configmaps", "secrets", "serviceaccounts"), ("create",)),
        _build_rule("", ("configmaps", "secrets", "serviceaccounts"), verbs, names),
        _build_rule("rbac.authorization.k8s.io", rbac, ("create",)),
        _build_rule("rbac.authorization.k8s.io", rbac, verbs, names),
        _build_rule("k6.io", ("testruns",), ("create", "list")),
        _build_rule("k6.io", ("testruns",), ("get", "delete"), names),
        _build_rule("", ("pods", "services", "events"), ("list",)),
        _build_rule("", ("pods/log",), ("get",)),
    )
