"""Refusals of a cluster and failed starts: one line with its remedy, and nothing is left behind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from loadtest.errors import K6Error
from loadtest.k6.distributed.protocol import RunnerState
from loadtest.k6.kubernetes.manifests import build_labels
from loadtest.k6.kubernetes.test_run import ClusterFleet
from tests.k6.kubernetes.kubernetes_server import CONTEXT, NAMESPACE, KubernetesServer
from tests.k6.kubernetes.launched import BOUNDS, find_fault, watch
from tests.k6.kubernetes.operated_jobs import build_owner
from tests.k6.kubernetes.operator_stand_in import Operator

NAME = "mcp-loadtest-staging-sessions"
KUBECTL = f"kubectl --context {CONTEXT}"
Launching = Callable[..., ClusterFleet]


def refuse(launch: Launching) -> str:
    """Return the error of creating runners."""
    with pytest.raises(K6Error) as caught:
        launch()
    return str(caught.value)


def describe(number: int) -> str:
    """Return the command that shows a runner's pod."""
    return f"{KUBECTL} describe pod {NAME}-{number}-abcde -n {NAMESPACE}"


def test_no_operator(kubernetes: KubernetesServer, launch: Launching) -> None:
    kubernetes.has_operator = False
    assert refuse(launch) == (
        f"context {CONTEXT} has no k6-operator: install it (`helm install k6-operator "
        "grafana/k6-operator`), or ask its administrator for it"
    )


def test_an_operator_that_is_too_old(kubernetes: KubernetesServer, launch: Launching) -> None:
    kubernetes.lost_fields = ("initializer",)
    assert refuse(launch) == (
        "the k6-operator of this cluster does not support initializer in a TestRun: update it to "
        "1.6 or later"
    )


def test_a_missing_namespace(kubernetes: KubernetesServer, launch: Launching) -> None:
    kubernetes.has_namespace = False
    assert refuse(launch) == (
        f"context {CONTEXT} has no namespace {NAMESPACE}: create it with `{KUBECTL} create "
        f"namespace {NAMESPACE}`, or configure another one"
    )


@pytest.mark.parametrize(
    ("verb", "resource", "name"),
    [
        ("list", "testruns", "testruns.k6.io"),
        ("list", "pods", "pods"),
        ("create", "testruns", "testruns.k6.io"),
        ("create", "secrets", "secrets"),
        ("create", "rolebindings", "rolebindings.rbac.authorization.k8s.io"),
        ("patch", "configmaps", "configmaps"),
    ],
)
def test_a_missing_permission_names_verb_resource_and_namespace(
    kubernetes: KubernetesServer, launch: Launching, verb: str, resource: str, name: str
) -> None:
    kubernetes.forbid(verb, resource)
    assert refuse(launch) == (
        f"context {CONTEXT} does not let you {verb} {resource} in namespace {NAMESPACE}: ask "
        f"for this permission, then check it with `{KUBECTL} auth can-i {verb} {name} "
        f"-n {NAMESPACE}`"
    )


def test_a_permission_that_is_withdrawn_later_ends_the_run(
    kubernetes: KubernetesServer, launch: Launching
) -> None:
    fleet = launch()
    kubernetes.forbid("list", "pods")
    assert find_fault(fleet).startswith(f"context {CONTEXT} does not let you list pods in ")
    message = fleet.close()
    assert message is not None
    assert message.startswith(
        f"{NAME} is deleted, but context {CONTEXT} does not let you list pods"
    )


def test_a_permission_that_the_user_cannot_grant(
    kubernetes: KubernetesServer, launch: Launching
) -> None:
    kubernetes.refuse(
        *("create", "roles", 403),
        f'roles.rbac.authorization.k8s.io "{NAME}" is forbidden: user "ci" (groups=[]) is '
        "attempting to grant RBAC permissions not currently held:\n{APIGroups:[]}",
    )
    assert refuse(launch) == (
        f"context {CONTEXT} does not let you give the runners a permission that you do not have: "
        f"ask for this permission, then check it with `{KUBECTL} auth can-i get secrets "
        f"-n {NAMESPACE}`"
    )


def test_a_quota_on_objects(kubernetes: KubernetesServer, launch: Launching) -> None:
    kubernetes.refuse(
        *("create", "secrets", 403),
        f'secrets "{NAME}" is forbidden: exceeded quota: team, requested: count/secrets=1, used: '
        "count/secrets=9, limited: count/secrets=9",
    )
    assert refuse(launch) == (
        f"namespace {NAMESPACE} has no quota left (quota: team, requested: count/secrets=1, used: "
        "count/secrets=9, limited: count/secrets=9): check "
        f"`{KUBECTL} describe quota -n {NAMESPACE}`, have it raised or use fewer runners"
    )


def test_an_admission_webhook(kubernetes: KubernetesServer, launch: Launching) -> None:
    kubernetes.refuse(
        *("create", "testruns", 400),
        'admission webhook "policy.example.com" denied the request: images need a digest',
    )
    assert refuse(launch) == (
        f"the admission webhook policy.example.com of context {CONTEXT} refuses it: images need a "
        "digest"
    )


def test_an_invalid_object(kubernetes: KubernetesServer, launch: Launching) -> None:
    kubernetes.refuse("create", "configmaps", 422, 'ConfigMap "x" is invalid: []: Too long')
    assert refuse(launch) == (
        f'context {CONTEXT} refuses (422): ConfigMap "x" is invalid: []: Too long'
    )


def test_a_cluster_that_is_overloaded(kubernetes: KubernetesServer, launch: Launching) -> None:
    kubernetes.refuse("create", "testruns", 503, "the server is currently unable")
    assert refuse(launch) == (
        f"context {CONTEXT} answers 503 (the server is currently unable): try again later"
    )


def test_what_cannot_be_removed_is_named(kubernetes: KubernetesServer, launch: Launching) -> None:
    kubernetes.forbid("create", "testruns")
    kubernetes.forbid("delete", "secrets")
    message = refuse(launch)
    assert message.startswith(f"context {CONTEXT} does not let you create testruns in ")
    assert (
        f"and then {NAME} could not be removed (context {CONTEXT} does not let you delete secrets"
    ) in message
    assert message.endswith(
        f"remove it with `{KUBECTL} delete testrun,secret,configmap,rolebinding,role,"
        f"serviceaccount {NAME} -n {NAMESPACE}`"
    )
    assert kubernetes.list_left() == [f"secrets/{NAME}"]
    kubernetes.delete("secrets", NAME)


def test_an_operator_that_does_not_act(operator: Operator, launch: Launching) -> None:
    operator.dies_at = ""
    message = find_fault(launch(replace(BOUNDS, operator=5.0)))
    assert message.startswith(f"the k6-operator does not act: {NAME} has no stage after ")
    assert message.endswith("check that its pod runs and that it watches this namespace")


def test_an_operator_that_gives_up(operator: Operator, launch: Launching) -> None:
    operator.gives_up = True
    assert find_fault(launch()) == f"the k6-operator gave up on {NAME}: see the operator's log"


def test_a_test_run_that_somebody_deletes(
    operator: Operator, kubernetes: KubernetesServer, launch: Launching
) -> None:
    operator.dies_at = ""
    fleet = launch()
    kubernetes.delete("testruns", NAME)
    assert find_fault(fleet) == f"{NAME} was deleted while it started"


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled(operator: Operator, launch: Launching, reason: str) -> None:
    operator.waiting["2"] = (reason, "registry.example.com/k6:9:\nnot found")
    assert find_fault(launch()) == (
        f"runner 2 of 2 has no image ({reason}: registry.example.com/k6:9: not found): correct "
        "image or image_pull_secrets in the environment's kubernetes table"
    )


@pytest.mark.slow
def test_an_image_of_the_starter_that_cannot_be_pulled(
    operator: Operator, launch: Launching
) -> None:
    operator.waiting["starter"] = ("ErrImagePull", "denied")
    assert find_fault(launch()) == (
        "the starter has no image (ErrImagePull: denied): correct starter_image or "
        "image_pull_secrets in the environment's kubernetes table"
    )


def test_a_container_that_cannot_be_configured(operator: Operator, launch: Launching) -> None:
    operator.waiting["1"] = ("CreateContainerConfigError", 'secret "lost" not found')
    assert find_fault(launch()) == (
        'runner 1 of 2 cannot start (CreateContainerConfigError: secret "lost" not found): check '
        f"`{describe(1)}`"
    )


def test_a_quota_on_pods(operator: Operator, launch: Launching) -> None:
    operator.refuses_pods = (
        'pods "x" is forbidden: exceeded quota: team, requested: cpu=1, used: cpu=8, limited: cpu=8'
    )
    assert find_fault(launch()) == (
        f"namespace {NAMESPACE} has no quota left (quota: team, requested: cpu=1, used: cpu=8, "
        f"limited: cpu=8): check `{KUBECTL} describe quota -n {NAMESPACE}`, have it raised or use "
        "fewer runners"
    )


def test_a_namespace_with_a_stricter_pod_security(operator: Operator, launch: Launching) -> None:
    operator.refuses_pods = (
        'pods "x" is forbidden: violates PodSecurity "restricted:latest": seccompProfile'
    )
    assert find_fault(launch()) == (
        f"namespace {NAMESPACE} does not accept the runners (violates PodSecurity "
        '"restricted:latest": seccompProfile): have this changed, or use another namespace'
    )


def test_refusals_of_an_earlier_run_are_ignored(
    operator: Operator, kubernetes: KubernetesServer, launch: Launching
) -> None:
    operator.waiting["1"] = ("ContainerCreating", "")
    event = {
        "kind": "Event",
        "metadata": {"name": "earlier"},
        "involvedObject": {"kind": "Job", "name": f"{NAME}-1"},
        "reason": "FailedCreate",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "message": 'Error creating: pods "x" is forbidden: exceeded quota: team',
    }
    kubernetes.add("events", event)
    message = find_fault(launch(start_seconds=3))
    assert message == f"runner 1 of 2 does not run after 3 s: check `{describe(1)}`"


def test_a_webhook_that_refuses_pods(operator: Operator, launch: Launching) -> None:
    operator.refuses_pods = 'admission webhook "p.example" denied the request: no digest'
    assert find_fault(launch()) == (
        f"namespace {NAMESPACE} does not accept the runners (Error creating: admission webhook "
        '"p.example" denied the request: no digest): have this changed, or use another namespace'
    )


def test_pods_that_may_be_accepted_later_are_awaited(operator: Operator, launch: Launching) -> None:
    operator.refuses_pods = "Internal error occurred: failed calling webhook: connection refused"
    assert find_fault(launch(start_seconds=1)).startswith("0 of 2 runners have a pod after 1 s: ")


def test_without_permission_to_list_events_the_delay_is_reported(
    operator: Operator, kubernetes: KubernetesServer, launch: Launching
) -> None:
    kubernetes.forbid("list", "events")
    operator.refuses_pods = "exceeded quota: team"
    assert find_fault(launch(start_seconds=1)) == (
        f"0 of 2 runners have a pod after 1 s: check `{KUBECTL} describe jobs -l k6_cr={NAME} "
        f"-n {NAMESPACE}` and the operator's log"
    )


def test_a_runner_without_a_node(operator: Operator, launch: Launching) -> None:
    operator.unplaced = "0/3 nodes are available: 3 Insufficient cpu."
    assert find_fault(launch(start_seconds=3)) == (
        "runner 1 of 2 has no node after 3 s (0/3 nodes are available: 3 Insufficient cpu.): add "
        "nodes, or change cpu, memory, node_selector or tolerations in the environment's "
        "kubernetes table"
    )


def test_a_quota_on_services_is_named(
    operator: Operator, kubernetes: KubernetesServer, launch: Launching
) -> None:
    operator.most_services = 1
    fleet = launch(replace(BOUNDS, operator=5.0))
    message = find_fault(fleet)
    assert message.startswith(
        f"the k6-operator is stuck: {NAME} has had 2 pods for 2 runners, and the stage initialized"
    )
    assert message.endswith(
        f"s; a quota on jobs or services may forbid more (check `{KUBECTL} describe quota -n "
        f"{NAMESPACE}`), or the operator's pod is gone: see its log"
    )
    assert fleet.close() is None
    assert kubernetes.list_left() == []


def test_an_operator_that_dies_before_it_creates_runners(
    operator: Operator, launch: Launching
) -> None:
    operator.dies_at = "initialized"
    message = find_fault(launch(replace(BOUNDS, operator=5.0)))
    assert message.startswith(f"the k6-operator is stuck: {NAME} has had 0 pods for 2 runners, ")


@pytest.mark.slow
@pytest.mark.parametrize("knob", [{"is_cut_off": True}, {"dies_at": "created"}], ids=str)
def test_ready_runners_that_nobody_starts(
    operator: Operator, launch: Launching, knob: dict[str, object]
) -> None:
    vars(operator).update(knob)
    assert find_fault(launch(start_seconds=10)) == (
        "the runners are ready but not started after 10 s: check that the k6-operator's pod runs "
        "and reaches their port 6565, which a NetworkPolicy may block; see its log"
    )


@pytest.mark.slow
def test_a_runner_that_is_never_ready(operator: Operator, launch: Launching) -> None:
    operator.unready = {2}
    assert find_fault(launch(start_seconds=10)) == (
        "runner 2 of 2 runs but is not ready after 10 s: its k6 does not answer the probe; check "
        f"`{describe(2)}`"
    )


def read_unreached(number: int) -> str:
    return (
        f"runner {number} of 2 was not started (Failed to connect: Connection timed out): let the "
        "starter reach port 6565 of every runner; a NetworkPolicy may block it"
    )


@pytest.mark.slow
@pytest.mark.parametrize("called", [[1, 2], [2, 1]], ids=str)
def test_a_runner_that_the_starter_does_not_reach_is_named_at_once(
    operator: Operator, launch: Launching, called: list[int]
) -> None:
    operator.unreached = {2}
    operator.call_order = called
    assert find_fault(launch(start_seconds=600)) == read_unreached(2)


@pytest.mark.slow
def test_all_runners_that_the_starter_does_not_reach_are_named(
    operator: Operator, launch: Launching
) -> None:
    operator.unreached = {1, 2}
    assert find_fault(launch(start_seconds=600)).startswith("runners 1, 2 of 2 were not started (")


@pytest.mark.slow
def test_without_permission_to_list_services_a_runner_is_named_by_its_address(
    operator: Operator, kubernetes: KubernetesServer, launch: Launching
) -> None:
    operator.unreached = {2}
    kubernetes.forbid("list", "services")
    message = find_fault(launch(start_seconds=600))
    assert message.startswith("the runner at 10.96.0.102 of 2 was not started (Failed to connect: ")


@pytest.mark.slow
def test_a_starter_that_fails_without_output(operator: Operator, launch: Launching) -> None:
    operator.unreached = {1, 2}
    operator.starter_is_mute = True
    assert find_fault(launch(start_seconds=600)) == (
        f"the runners stay paused: the starter {NAME}-starter-abcde is Failed and printed nothing; "
        "let it reach port 6565 of every runner"
    )


@pytest.mark.slow
def test_a_starter_that_starts_no_runner(operator: Operator, launch: Launching) -> None:
    operator.starter_is_idle = True
    message = find_fault(launch(start_seconds=8))
    assert message.startswith(
        f"the runners stay paused: the starter {NAME}-starter-abcde is Succeeded and printed "
        '{"http_code":200,'
    )
    assert message.endswith("; let it reach port 6565 of every runner")


@pytest.mark.slow
def test_a_starter_whose_pod_is_refused(operator: Operator, launch: Launching) -> None:
    operator.refuses_starter = 'pods "x" is forbidden: exceeded quota: team, limited: pods=2'
    assert find_fault(launch(start_seconds=600)).startswith(
        f"namespace {NAMESPACE} has no quota left (quota: team, limited: pods=2): check "
    )


@pytest.mark.slow
@pytest.mark.parametrize("waits", [False, True], ids=["refused", "not yet called"])
def test_runners_that_die_before_the_start_are_never_shown_as_running(
    operator: Operator, launch: Launching, *, waits: bool
) -> None:
    if waits:
        operator.starter_waits.clear()
    operator.kills = {1: "OOMKilled", 2: "OOMKilled"}
    fleet = launch(start_seconds=600)
    phases: set[str] = set()

    def note(states: tuple[RunnerState, ...]) -> bool:
        phases.update(state.phase for state in states)
        if all(runner.process.poll() is not None for runner in operator.runners.values()):
            operator.starter_waits.set()
        return False

    with pytest.raises(K6Error, match=r"ended before the start \(OOMKilled\)"):
        watch(fleet, note)
    assert phases == {"pending"}


@pytest.mark.slow
def test_a_script_that_does_not_load_is_quoted(operator: Operator, launch: Launching) -> None:
    operator.scripts["sessions.js"] = "throw new Error('STAGES must be set');"
    message = find_fault(launch())
    assert "ended before the start (k6 ended with 107): STAGES must be set" in message
    assert message.endswith("; the others cannot start without it")


def test_a_cluster_that_stops_answering(
    operator: Operator, kubernetes: KubernetesServer, launch: Launching
) -> None:
    operator.waiting["1"] = ("ContainerCreating", "")
    fleet = launch(replace(BOUNDS, silence=1.0))
    kubernetes.knows_token = False
    assert find_fault(fleet).startswith(f"context {CONTEXT} refuses the credentials")
    with pytest.raises(K6Error, match="could not be removed"):
        fleet.close()
    kubernetes.knows_token = True


def test_a_run_in_progress_is_not_disturbed(
    operator: Operator, kubernetes: KubernetesServer, launch: Launching
) -> None:
    operator.dies_at = ""
    fleet = launch()
    before = kubernetes.list_left()
    message = refuse(launch)
    assert message.startswith(
        f"a run of this environment is in progress in context {CONTEXT}, since "
    )
    assert message.endswith(
        f"wait for its end, or remove it with `{KUBECTL} delete testrun {NAME} -n {NAMESPACE}`"
    )
    assert kubernetes.list_left() == before
    fleet.close()


@pytest.mark.parametrize(
    ("scenario", "stage", "age_seconds"),
    [("sessions", "finished", 1), ("tools", "error", 1), ("sessions", "created", 3600)],
)
def test_objects_of_a_run_that_died_are_removed_first(
    operator: Operator,
    kubernetes: KubernetesServer,
    launch: Launching,
    scenario: str,
    stage: str,
    age_seconds: int,
) -> None:
    operator.dies_at = ""
    metadata = {
        "name": f"mcp-loadtest-staging-{scenario}",
        "labels": build_labels("staging", scenario),
    }
    left = {"kind": "TestRun", "metadata": metadata, "status": {"stage": stage}}
    uid = kubernetes.add("testruns", left, age_seconds=age_seconds)["metadata"]["uid"]
    kubernetes.add("secrets", {"kind": "Secret", "metadata": metadata}, age_seconds=age_seconds)
    launch()
    assert uid not in {thing["metadata"]["uid"] for thing in kubernetes.list_things("testruns")}
    assert [thing["metadata"]["name"] for thing in kubernetes.list_things("secrets")] == [NAME]


def test_running_runners_of_a_run_that_died_are_not_removed(
    kubernetes: KubernetesServer, launch: Launching
) -> None:
    metadata = {"name": NAME, "labels": build_labels("staging", "sessions")}
    left = {"kind": "TestRun", "apiVersion": "k6.io/v1alpha1", "metadata": metadata}
    left = kubernetes.add("testruns", left | {"status": {"stage": "started"}}, age_seconds=3600)
    pod = build_pod() | {"status": {"phase": "Running"}}
    pod["metadata"]["ownerReferences"] = [build_owner(left)]
    kubernetes.add("pods", pod)
    assert refuse(launch).startswith("a run of this environment is in progress")
    kubernetes.change("pods", "p", {"status": {"phase": "Failed"}})
    launch()
    assert kubernetes.list_things("pods") == []


def build_pod() -> dict[str, Any]:
    """Return a runner's pod."""
    labels = {"k6_cr": NAME, "runner": "true", "job-name": f"{NAME}-1"}
    return {"kind": "Pod", "metadata": {"name": "p", "labels": labels}, "status": {}}


def test_pods_of_an_earlier_run_that_do_not_end_are_named(
    kubernetes: KubernetesServer, launch: Launching
) -> None:
    kubernetes.add("pods", build_pod())
    with pytest.raises(K6Error) as caught:
        launch(replace(BOUNDS, close=0.2))
    assert str(caught.value) == (
        "an earlier run is still being removed: 1 pod is still there after 0 s: check "
        f"`{KUBECTL} get pods -l k6_cr={NAME} -n {NAMESPACE}`"
    )
    kubernetes.delete("pods", "p")


def test_an_old_object_without_a_test_run_is_replaced(
    operator: Operator, kubernetes: KubernetesServer, launch: Launching
) -> None:
    operator.dies_at = ""
    thing = {"kind": "Secret", "metadata": {"name": NAME}, "data": {"old": ""}}
    kubernetes.add("secrets", thing, age_seconds=BOUNDS.create + 60)
    launch()
    found = kubernetes.find("secrets", NAME)
    assert found is not None
    assert "old" not in found["data"]


def test_a_new_object_without_a_test_run_is_not_touched(
    kubernetes: KubernetesServer, launch: Launching
) -> None:
    kubernetes.add("secrets", {"kind": "Secret", "metadata": {"name": NAME}, "data": {}})
    assert refuse(launch).startswith(
        f"a run of this environment is in progress in context {CONTEXT}, started just now: "
    )
    assert kubernetes.list_left() == [f"secrets/{NAME}"]
    kubernetes.delete("secrets", NAME)
