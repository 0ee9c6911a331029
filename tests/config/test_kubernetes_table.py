"""The table `[environment.X.kubernetes]`: what Kubernetes would refuse is refused before."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loadtest.config.kubernetes_types import count_bytes
from loadtest.config.loading import load_settings
from loadtest.config.models import Kubernetes
from loadtest.errors import ConfigError
from tests.support.checkout import ROOT

DIGEST = "sha256:" + "0123456789abcdef" * 4


def build(**values: Any) -> Kubernetes:
    return Kubernetes.model_validate({"namespace": "load", **values})


GOOD: dict[str, list[Any]] = {
    "namespace": ["load", "a", "team-1-load", "x" * 63],
    "image": [
        *("grafana/k6:1.1.0", f"grafana/k6@{DIGEST}", f"grafana/k6:1.1.0@{DIGEST}"),
        *("localhost:5000/k6:latest", "registry.example.com:443/a/b__c/d-e.f:V1_x"),
    ],
    "cpu": ["1", "0.5", "1.25", "500m", "64"],
    "memory": ["512Mi", "2Gi", "1G", "1073741824"],
    "node_selector": [{}, {"example.com/pool": "load", "disk": ""}],
    "image_pull_secrets": [[], ["registry", "my.registry"]],
    "tolerations": [[{"operator": "Exists"}], [{"key": "spot", "value": "true"}]],
}
BAD: dict[str, list[Any]] = {
    "namespace": ["", "Load", "-load", "load-", "lo_ad", "lo.ad", "x" * 64, "load\n"],
    "image": [
        *("", "grafana/k6", "grafana/k6:", "grafana/K6:1", "grafana//k6:1", "k6:1 --privileged"),
        *("grafana/k6@sha256:12", "https://registry.example.com/k6:1", f"@{DIGEST}"),
    ],
    "cpu": ["", "0", "0.0", "0m", "-1", "1.2345", "1 CPU", "1.5m"],
    "memory": ["", "0", "0Gi", "2GB", "1.5Gi", "-1Gi", "2 Gi", "100m"],
    "spread": ["region"],
    "node_selector": [{"-pool": "load"}, {"pool": "lo ad"}, {"a/b/c": "load"}],
    "image_pull_secrets": [["Registry"], ["x" * 254]],
    "tolerations": [
        *([{"key": "spot", "operator": "Exists", "value": "true"}], [{}]),
        [{"key": "spot", "effect": "Never"}],
    ],
    "start_seconds": [0],
    "replicas": [1],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in GOOD.items() for v in values])
def test_what_kubernetes_accepts_is_accepted(name: str, value: object) -> None:
    assert build(**{name: value})


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_what_kubernetes_would_refuse_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        build(**{name: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {name}


def test_the_example_in_loadtest_toml_has_every_setting() -> None:
    text = (ROOT / "loadtest.toml").read_text(encoding="utf-8")
    lines = text.partition("# [environment.prod.kubernetes]\n")[2].partition("\n\n")[0]
    example = "\n".join(line.removeprefix("# ") for line in lines.splitlines())
    assert Kubernetes.model_validate(tomllib.loads(example)).model_fields_set == set(
        Kubernetes.model_fields
    )


def test_the_message_names_the_place_of_a_fault(tmp_path: Path) -> None:
    text = (ROOT / "loadtest.toml").read_text(encoding="utf-8")
    table = '[environment.prod.kubernetes]\nnamespace = "Load"\n'
    (tmp_path / "loadtest.toml").write_text(f"{text}\n{table}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, process_env={})
    assert (
        "environment.prod.kubernetes.namespace: Value error, expected a DNS label such as "
        "load-tests" in str(caught.value)
    )


@pytest.mark.parametrize(
    ("memory", "count"),
    [("2Gi", 2 * 2**30), ("512Mi", 512 * 2**20), ("500M", 500_000_000), ("6k", 6000), ("7", 7)],
)
def test_an_amount_of_memory_is_a_number_of_bytes(memory: str, count: int) -> None:
    assert count_bytes(memory) == count
