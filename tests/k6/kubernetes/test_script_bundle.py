"""The scripts of a ConfigMap, written to files again and loaded by the real k6."""

import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtest.config.models import USUAL_SCENARIOS
from loadtest.errors import K6Error
from loadtest.k6.binary import find_k6
from loadtest.k6.kubernetes.manifests import Manifests, build_manifests
from loadtest.k6.kubernetes.script_bundle import MAX_CONFIG_MAP_BYTES, build_bundle, name_key
from tests.k6.kubernetes.cluster_requests import FULL, build_request, load_profiles
from tests.support.waiting import HANG_SECONDS

PROFILES = load_profiles()


def lay_out(manifests: Manifests, root: Path) -> dict[str, str]:
    """Write a runner's volumes below a folder like a kubelet; return the mount points."""
    runner = manifests.test_run["spec"]["runner"]
    mounts = {mount["name"]: mount["mountPath"] for mount in runner["volumeMounts"]}
    for volume in runner["volumes"]:
        folder = root / mounts[volume["name"]].lstrip("/")
        if "configMap" in volume:
            texts, items = manifests.config_map["data"], volume["configMap"]["items"]
        elif "secret" in volume:
            texts, items = read_secret(manifests), volume["secret"]["items"]
        else:
            texts = {"token": "none", "ca.crt": ""}
            items = [{"key": key, "path": key} for key in texts]
        for item in items:
            path = folder / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[item["key"]], encoding="utf-8")
    return mounts


def read_secret(manifests: Manifests) -> dict[str, str]:
    data = manifests.secret["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def read_environment(manifests: Manifests, root: Path, mounts: dict[str, str]) -> dict[str, str]:
    """Return a runner's variables, with paths below the folder."""

    def read(entry: dict[str, Any]) -> str:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            assert source["secretKeyRef"]["name"] == manifests.secret["metadata"]["name"]
            return read_secret(manifests)[source["secretKeyRef"]["key"]]
        value = str(entry["value"])
        inside = value.startswith(tuple(f"{place}/" for place in mounts.values()))
        return f"{root}{value}" if inside else value

    return {entry["name"]: read(entry) for entry in manifests.test_run["spec"]["runner"]["env"]}


@pytest.mark.parametrize("scenario", USUAL_SCENARIOS)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_runner_has_every_import_file_and_variable_that_k6_needs(
    profile: str, scenario: str, tmp_path: Path
) -> None:
    manifests = build_manifests(build_request(tmp_path, scenario, PROFILES[profile]), "prod", FULL)
    root = tmp_path / "pod"
    mounts = lay_out(manifests, root)
    script = f"{root}{manifests.test_run['spec']['script']['localFile']}"
    done = subprocess.run(
        [str(find_k6(os.environ).path), "inspect", "--include-system-env-vars", script],
        env=read_environment(manifests, root, mounts),
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert '"scenarios"' in done.stdout


def test_a_bundle_has_one_script_all_of_lib_and_the_tools() -> None:
    bundle = build_bundle("sessions", "{}")
    entries = {path for path in bundle if "/" not in path}
    assert entries == {"sessions.js", "tools.json"}
    assert {"lib/env.js", "lib/mcp.js"} <= set(bundle)
    assert name_key("lib/env.js") == "lib.env.js"


def test_a_bundle_may_be_as_large_as_a_config_map_and_no_larger() -> None:
    scripts = sum(len(text.encode()) for text in build_bundle("tools", "").values())
    room = MAX_CONFIG_MAP_BYTES - scripts
    assert build_bundle("tools", "x" * room)
    with pytest.raises(K6Error) as caught:
        build_bundle("tools", "x" * (room - 1) + "é")
    message = str(caught.value)
    assert message.startswith("scripts and tools take 1,048,577 bytes")
    assert "\n" not in message
