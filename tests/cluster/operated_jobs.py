"""The Jobs and Services that the k6-operator (v1.6) makes of a TestRun."""

from typing import Any

Thing = dict[str, Any]

CHECK = 'test -f "$1" || { echo "no script at $1"; exit 1; }; shift; exec "$@"'


def build_command(test_run: Thing, number: int) -> list[str]:
    """Return how runner `number` is started: a local script is first looked for."""
    name, spec = test_run["metadata"]["name"], test_run["spec"]
    script, of = spec["script"]["localFile"], spec["parallelism"]
    edges = ["0", *(f"{index}/{of}" for index in range(1, of)), "1"]
    segment = f"--execution-segment={edges[number - 1]}:{edges[number]}"
    segments = [segment, f"--execution-segment-sequence={','.join(edges)}"] if of > 1 else []
    return [
        *("sh", "-c", CHECK, "sh", script, "k6", "run", "--quiet", *segments),
        *(*spec.get("args", ()), script, "--address=0.0.0.0:6565", "--paused"),
        *("--tag", f"instance_id={number}", "--tag", f"testrun_name={name}"),
    ]


def build_runner_job(test_run: Thing, number: int) -> Thing:
    """Return the Job of runner `number`, from 1 on."""
    name, spec = test_run["metadata"]["name"], test_run["spec"]
    runner = spec["runner"]
    as_in_pod = ("tolerations", "topologySpreadConstraints", "nodeSelector", "imagePullSecrets")
    as_in_container = ("image", "env", "resources", "volumeMounts", "livenessProbe")
    container = {key: runner[key] for key in (*as_in_container, "readinessProbe")}
    container |= {
        "name": "k6",
        "command": build_command(test_run, number),
        "ports": [{"containerPort": 6565}],
        "securityContext": runner["containerSecurityContext"],
    }
    pod = {key: runner[key] for key in as_in_pod if key in runner} | {
        "automountServiceAccountToken": runner["automountServiceAccountToken"] == "true",
        "serviceAccountName": runner["serviceAccountName"],
        "hostname": f"{name}-{number}",
        "restartPolicy": "Never",
        "securityContext": runner["securityContext"],
        "volumes": runner["volumes"],
        "containers": [container],
    }
    return _build_job(test_run, str(number), {"runner": "true"}, runner["metadata"], pod)


def build_starter_job(test_run: Thing) -> Thing:
    """Return the Job that tells the runners to go."""
    starter = test_run["spec"]["starter"]
    container = {
        "name": "k6-curl",
        "image": starter.get("image", "ghcr.io/grafana/k6-operator:latest-starter"),
        "command": ["sh", "-c", "curl"],
        "resources": {
            "requests": {"cpu": "50m", "memory": "2Mi"},
            "limits": {"cpu": "100m", "memory": "200Mi"},
        },
        "securityContext": starter["containerSecurityContext"],
    }
    as_in_pod = ("nodeSelector", "tolerations", "imagePullSecrets")
    pod = {key: starter[key] for key in as_in_pod if key in starter} | {
        "automountServiceAccountToken": starter["automountServiceAccountToken"] == "true",
        "serviceAccountName": "default",
        "restartPolicy": "Never",
        "securityContext": starter["securityContext"],
        "containers": [container],
    }
    return _build_job(test_run, "starter", {}, starter["metadata"], pod)


def _build_job(
    test_run: Thing, end: str, labels: dict[str, str], metadata: Thing, pod: Thing
) -> Thing:
    of = test_run["metadata"]
    labels = metadata["labels"] | labels | {"app": "k6", "k6_cr": of["name"]}
    described = {"labels": labels, "annotations": metadata.get("annotations", {})}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{of['name']}-{end}", "namespace": of["namespace"], **described},
        "spec": {"backoffLimit": 0, "template": {"metadata": described, "spec": pod}},
    }
