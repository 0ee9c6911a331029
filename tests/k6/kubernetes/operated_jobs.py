"""The Jobs and Services that the k6-operator (v1.6) creates for a TestRun."""

import json
from typing import Any

Thing = dict[str, Any]

CHECK = 'test -f "$1" || { echo "no script at $1"; exit 1; }; shift; exec "$@"'


def build_command(test_run: Thing, number: int) -> list[str]:
    """Return the command of runner `number`: a shell checks for the local script first.

    Without `args`, a second shell runs k6 by a command line of one word, as `arguments` need it.
    """
    name, spec = test_run["metadata"]["name"], test_run["spec"]
    script, of = spec["script"]["localFile"], spec["parallelism"]
    edges = ["0", *(f"{index}/{of}" for index in range(1, of)), "1"]
    segment = f"--execution-segment={edges[number - 1]}:{edges[number]}"
    segments = [segment, f"--execution-segment-sequence={','.join(edges)}"] if of > 1 else []
    args = spec.get("args", ())
    command = [
        *("k6", "run", "--quiet", *segments, *args, script, "--address=0.0.0.0:6565", "--paused"),
        *("--tag", f"instance_id={number}", "--tag", f"testrun_name={name}"),
    ]
    return [
        "sh",
        "-c",
        CHECK,
        "sh",
        script,
        *(command if args else ["sh", "-c", " ".join(command)]),
    ]


def build_runner_job(test_run: Thing, number: int) -> Thing:
    """Return the Job of runner `number`, counted from 1."""
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


def build_runner_service(test_run: Thing, number: int) -> Thing:
    """Return the Service with which operator and starter reach runner `number`."""
    of = test_run["metadata"]
    labels = {"app": "k6", "k6_cr": of["name"], "runner": "true"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"{of['name']}-service-{number}",
            "namespace": of["namespace"],
            "labels": test_run["spec"]["runner"]["metadata"]["labels"] | labels,
        },
        "spec": {
            "ports": [{"name": "http-api", "port": 6565, "protocol": "TCP"}],
            "selector": {"job-name": f"{of['name']}-{number}"},
        },
    }


def build_owner(owner: Thing) -> Thing:
    """Return a reference to the owner of an object."""
    reference = {key: owner["metadata"][key] for key in ("name", "uid")}
    reference |= {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    return reference | {"controller": True, "blockOwnerDeletion": True}


def tell_answer(address: str, code: int, error: str = "") -> str:
    """Return what one curl of the starter prints: the answer, and a line with the result.

    A code has three digits, be it 000 for no answer; the next curl goes on in the same line.
    """
    body = json.dumps({"data": {"type": "status", "id": "default"}}) if code else ""
    return (
        f'{body}\n{{"http_code":{code:03},"time_total":0.001,"time_starttransfer":0.001,'
        f'"url":"http://{address}:6565/v1/status","remote_ip":"{address if code else ""}",'
        f'"errormsg":"{error}"}}'
    )


def build_starter_job(test_run: Thing) -> Thing:
    """Return the Job that starts the runners."""
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
