"""Secrets stay in the Secret, pods are restricted, and rights are minimal."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.access import Access, ClientCertificate
from loadtest.common.redaction import SecretStr
from loadtest.config.models import USUAL_SCENARIOS
from loadtest.k6.kubernetes.manifests import build_client_access, build_manifests, render_manifests
from loadtest.k6.plan import build_access_variables
from tests.k6.kubernetes.cluster_requests import FULL, MCP_URL, TOKEN, build_request, load_profiles

SMOKE = load_profiles()["smoke"]
OUTPUTS = {
    "outputs": ("influxdb=http://user:canary-login@db.example/k6",),
    "private_variables": {"K6_INFLUXDB_PASSWORD": "canary-password"},
}


def encode(text: str) -> Iterator[str]:
    """Yield a text as it is, and in base64 at each of the three offsets."""
    yield text
    for before in range(3):
        whole = base64.b64encode(b"x" * before + text.encode()).decode()
        yield whole[4 if before else 0 : len(whole) - 4]


@pytest.mark.parametrize(
    ("secret", "needed"),
    [
        (TOKEN, True),
        (MCP_URL, True),
        ("mcp.canary.example", True),
        ("canary-login", True),
        ("canary-password", True),
        ("loopback-secret-path", False),
    ],
)
def test_a_secret_is_only_in_the_secret_and_is_never_rendered(
    secret: str, needed: bool, tmp_path: Path
) -> None:
    manifests = build_manifests(build_request(tmp_path, "sessions", SMOKE, **OUTPUTS), "prod", FULL)
    shown = render_manifests(manifests.list())
    *others, test_run = (m for m in manifests.list() if m["kind"] != "Secret")
    assert needed == any(form in json.dumps(manifests.secret) for form in encode(secret))
    for form in encode(secret):
        assert form not in json.dumps([*others, test_run])
        assert form not in shown
        assert form not in repr(manifests)


def test_the_secret_has_what_a_runner_needs_and_no_more(tmp_path: Path) -> None:
    secret = build_manifests(
        build_request(tmp_path, "sessions", SMOKE, **OUTPUTS), "prod", FULL
    ).secret
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    bearers = json.loads(values.pop("bearer.json"))
    assert values == {
        "MCP_URL": MCP_URL,
        "LIMIT_HOST": "mcp.canary.example",
        "K6_OUT": "influxdb=http://user:canary-login@db.example/k6",
        "K6_INFLUXDB_PASSWORD": "canary-password",
    }
    assert (bearers["version"], bearers["serial"]) == (2, 0)
    assert [set(entry) for entry in bearers["bearers"]] == [{"access_token", "expires_at"}] * 2
    assert {entry["access_token"] for entry in bearers["bearers"]} == {TOKEN}


def test_runners_for_a_target_without_bearers_get_headers_and_key_by_their_secret(
    tmp_path: Path,
) -> None:
    certificate = ClientCertificate(
        "canary-chain-of-the-tests", SecretStr("canary-key-of-the-tests")
    )
    access = Access({"X-Api-Key": "canary-header-of-the-tests"}, certificate)
    changes = {"bearer_file": None, "private_variables": build_access_variables(access)}
    manifests = build_manifests(build_request(tmp_path, "sessions", SMOKE, **changes), "prod", FULL)
    data = {
        key: base64.b64decode(value).decode() for key, value in manifests.secret["data"].items()
    }
    assert data == {
        "MCP_URL": MCP_URL,
        "LIMIT_HOST": "mcp.canary.example",
        "MCP_HEADERS": '{"X-Api-Key": "canary-header-of-the-tests"}',
        "TLS_CERTIFICATE": "canary-chain-of-the-tests",
        "TLS_KEY": "canary-key-of-the-tests",
    }
    runner = manifests.test_run["spec"]["runner"]
    assert {"name": "MCP_BEARER_FILE", "value": "none"} in runner["env"]
    assert "bearer" not in {volume["name"] for volume in runner["volumes"]}
    shown = render_manifests(manifests.list()) + repr(manifests) + json.dumps(runner)
    assert "of-the-tests" not in shown


@pytest.mark.parametrize("kind", ["runner", "starter"])
def test_a_pod_meets_the_restricted_pod_security_standard(kind: str, tmp_path: Path) -> None:
    spec = build_manifests(build_request(tmp_path, "sessions", SMOKE), "prod", FULL).test_run[
        "spec"
    ]
    pod, container = spec[kind]["securityContext"], spec[kind]["containerSecurityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["readOnlyRootFilesystem"] is True


def test_the_only_token_of_a_runner_reads_its_own_secret(
    tmp_path: Path,
) -> None:
    manifests = build_manifests(build_request(tmp_path, "sessions", SMOKE), "prod", FULL)
    spec, name = manifests.test_run["spec"], "mcp-loadtest-prod-sessions"
    assert {spec[kind]["automountServiceAccountToken"] for kind in ("runner", "starter")} == {
        "false"
    }
    assert spec["runner"]["serviceAccountName"] == name
    assert "serviceAccountName" not in spec["starter"]
    assert manifests.role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": [name]}
    ]
    (subject,) = manifests.role_binding["subjects"]
    assert (subject["name"], manifests.role_binding["roleRef"]["name"]) == (name, name)


def test_only_the_user_of_k6_can_read_the_bearer_file(tmp_path: Path) -> None:
    runner = build_manifests(build_request(tmp_path, "sessions", SMOKE), "prod", FULL).test_run[
        "spec"
    ]["runner"]
    (bearer,) = (volume for volume in runner["volumes"] if volume["name"] == "bearer")
    assert [item["mode"] for item in bearer["secret"]["items"]] == [0o400]
    # A kubelet makes files of root readable for the fsGroup.
    assert runner["securityContext"]["fsGroup"] == runner["securityContext"]["runAsGroup"]
    assert all(mount["readOnly"] for mount in runner["volumeMounts"])


def list_rights(role: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    """Return each right of a role: API group, resource, verb, and name or `*` for any."""
    return {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", ["*"])
    }


def test_the_client_has_every_right_that_it_gives_to_runners(tmp_path: Path) -> None:
    _, role, *_ = build_client_access("prod", FULL)
    for scenario in USUAL_SCENARIOS:
        manifests = build_manifests(build_request(tmp_path, scenario, SMOKE), "prod", FULL)
        assert list_rights(manifests.role) <= list_rights(role)


def test_the_client_may_create_the_objects_of_a_run_and_change_only_those(
    tmp_path: Path,
) -> None:
    _, role, *_ = build_client_access("prod", FULL)
    rights = list_rights(role)
    applied = set()
    for manifest in build_manifests(build_request(tmp_path, "tools", SMOKE), "prod", FULL).list():
        group = manifest["apiVersion"].rpartition("/")[0]
        resource = f"{manifest['kind'].lower()}s"
        applied.add((group, resource))
        assert (group, resource, "create", "*") in rights
        for verb in ("get", "delete"):
            assert (group, resource, verb, "mcp-loadtest-prod-tools") in rights
    for group, resource, verb, name in rights:
        assert "*" not in {group, resource, verb}
        if resource == "secrets":
            assert verb == "create" or name.startswith("mcp-loadtest-prod-")
        elif (group, resource) not in applied:
            looks = {(each, "list") for each in ("pods", "services", "events")}
            assert (resource, verb) in looks | {("pods/log", "get")}


def test_a_run_never_removes_the_account_of_the_client(tmp_path: Path) -> None:
    ours = build_manifests(build_request(tmp_path, "tools", SMOKE), "prod", FULL).test_run[
        "metadata"
    ]["labels"]
    for manifest in build_client_access("prod", FULL):
        assert not ours.items() & manifest["metadata"]["labels"].items()
