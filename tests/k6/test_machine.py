"""What a run says about the machine that made its load."""

from pathlib import Path

import pytest

from loadtest.config.models import Kubernetes
from loadtest.k6.machine import (
    describe_machine,
    find_address_class,
    find_cpu_model,
    find_image,
    find_region,
)
from loadtest.report.content.facts import build_facts
from tests.report.report_runs import folder

X86 = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: AMD EPYC 7763 64-Core Processor\n" * 2
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x0\nCPU part\t: 0xd49\n\n" * 2


@pytest.mark.parametrize(
    ("text", "model"), [(X86, "AMD EPYC 7763 64-Core Processor"), (ARM, "ARM 0x41 0xd49")]
)
def test_the_processor_has_its_name_or_the_codes_of_its_maker(
    text: str, model: str, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert find_cpu_model(tmp_path / "cpuinfo") == model


def test_without_a_file_the_processor_is_what_python_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert find_cpu_model(tmp_path / "none") == "arm"
    monkeypatch.setattr("platform.processor", lambda: "")
    assert find_cpu_model(tmp_path / "none") is None


def test_a_runner_of_github_names_its_image() -> None:
    variables = {"ImageOS": "ubuntu24", "ImageVersion": "20261108.1.0"}
    assert find_image(variables) == "ubuntu24 20261108.1.0"
    assert find_image({}) is None
    assert find_image({"ImageOS": "a\x1b[31m\n" + "b" * 500}) == "a [31m " + "b" * 92 + "…"


def test_a_cloud_names_its_region_but_not_on_a_runner_that_github_hosts() -> None:
    variables = {"AWS_REGION": "eu-central-1"}
    assert find_region(variables) == "eu-central-1"
    assert find_region({"FLY_REGION": "fra"}) == "fra"
    assert find_region({}) is None
    assert find_region({"RUNNER_ENVIRONMENT": "github-hosted", **variables}) is None


def test_the_address_towards_a_host_is_of_a_kind_and_a_host_without_address_of_none() -> None:
    assert find_address_class("127.0.0.1:8020") == "loopback"
    assert find_address_class("localhost") == "loopback"
    for host in ("", "[::1", "127.0.0.1:99999", "no-such-host.invalid"):
        assert find_address_class(host) is None


def test_what_is_not_known_is_left_out() -> None:
    found = describe_machine("no-such-host.invalid", {})
    assert {"system", "architecture", "cpus"} <= found.keys()
    assert not {"image", "region", "address_class"} & found.keys()
    assert found["shares_with_target"] is False
    assert describe_machine("127.0.0.1:8020", {})["shares_with_target"] is True


def test_a_report_shows_what_is_known() -> None:
    machine = {
        "cpus": 4,
        "cpu_model": "AMD EPYC",
        "image": "ubuntu24 1.0",
        "address_class": "public",
    }
    facts = dict(build_facts(folder(machine=machine)))
    assert facts["machine"] == "cpus 4, processor AMD EPYC, image ubuntu24 1.0, address public"


def test_of_pods_only_what_they_request_is_known() -> None:
    cluster = Kubernetes(namespace="load-tests", cpu="2", memory="4Gi")
    variables = {"ImageOS": "ubuntu24", "AWS_REGION": "eu-central-1"}
    found = describe_machine("api.example.com", variables, cluster)
    assert found == {"cpu": "2", "memory": "4Gi"}
