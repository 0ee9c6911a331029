"""Our objects in Kubernetes' own API server and controllers (Go: k8s.io/kubernetes)."""

from pathlib import Path

import httpx
import pytest

from loadtest.config.models import USUAL_SCENARIOS, Kubernetes
from loadtest.k6.kubernetes.manifests import build_client_access, build_manifests
from tests.interop.kube_api import Manifest, create, find_place
from tests.k6.kubernetes.cluster_requests import FULL, PLAIN, build_request, load_profiles
from tests.k6.kubernetes.operated_jobs import build_runner_job, build_starter_job

WHERE = {"plain": PLAIN, "full": FULL}


def put_in(where: Kubernetes, namespace: str) -> Kubernetes:
    return where.model_copy(update={"namespace": namespace})


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("scenario", USUAL_SCENARIOS)
@pytest.mark.parametrize("profile", ["smoke", "standard", "full"])
def test_every_field_of_every_manifest_is_known(
    admin: httpx.Client, namespace: str, tmp_path: Path, profile: str, scenario: str, where: str
) -> None:
    scenario_request = build_request(tmp_path, scenario, load_profiles()[profile])
    manifests = build_manifests(scenario_request, "prod", put_in(WHERE[where], namespace))
    for manifest in manifests.list():
        create(admin, manifest)


def read_as_pod(job: Manifest) -> Manifest:
    """Return the pod that a Job would create."""
    template = job["spec"]["template"]
    metadata = {"namespace": job["metadata"]["namespace"], "generateName": "pod-"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template.get("metadata", {}), **metadata},
        "spec": template["spec"],
    }


@pytest.mark.parametrize("where", WHERE)
def test_all_our_pods_are_restricted(
    admin: httpx.Client, namespace: str, tmp_path: Path, where: str
) -> None:
    scenario_request = build_request(tmp_path, "sessions", load_profiles()["full"])
    manifests = build_manifests(scenario_request, "prod", put_in(WHERE[where], namespace))
    for manifest in manifests.list():
        create(admin, manifest)
    jobs = [build_runner_job(manifests.test_run, number) for number in (1, 4)]
    for each in (*jobs, build_starter_job(manifests.test_run)):
        create(admin, read_as_pod(each), dryRun="All")


def test_a_pod_that_is_not_restricted_is_refused(
    admin: httpx.Client, namespace: str, tmp_path: Path
) -> None:
    scenario_request = build_request(tmp_path, "sessions", load_profiles()["full"])
    manifests = build_manifests(scenario_request, "prod", put_in(PLAIN, namespace))
    create(admin, manifests.service_account)
    pod = read_as_pod(build_runner_job(manifests.test_run, 1))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    answer = admin.post(find_place(pod), json=pod)
    assert answer.status_code == httpx.codes.FORBIDDEN
    assert 'violates PodSecurity "restricted:latest"' in answer.json()["message"]


def test_every_field_of_the_client_s_account_is_known(admin: httpx.Client, namespace: str) -> None:
    for manifest in build_client_access("prod", put_in(FULL, namespace)):
        create(admin, manifest)
