"""What makes the load: processor, image, region and address. Nothing is asked over the network."""

import ipaddress
import os
import platform
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from loadtest.common.parsing import tidy_text
from loadtest.config.models import Kubernetes

AddressClass = Literal["loopback", "private", "public"]

CPU_FILE = Path("/proc/cpuinfo")
MOST_CHARS = 100
# The variables in which a cloud names its region, to what runs there.
REGIONS = ("AWS_REGION", "FLY_REGION", "CLOUDSDK_COMPUTE_REGION")
# A processor of ARM has no name, but the codes of its maker and its kind.
_CPU_NAME = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)
_CPU_CODE = re.compile(r"^CPU (implementer|part)\s*:\s*(\S+)$", re.MULTILINE)


def describe_machine(
    host: str, variables: Mapping[str, str], cluster: Kubernetes | None = None
) -> dict[str, object]:
    """Return what is known of the machine that calls `host`; of pods, only what they request."""
    if cluster is not None:
        return {"cpu": cluster.cpu, "memory": cluster.memory}
    found = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "cpu_model": find_cpu_model(),
        "image": find_image(variables),
        "region": find_region(variables),
        "address_class": find_address_class(host),
        "shares_with_target": host.split(":")[0] in {"127.0.0.1", "localhost"},
    }
    return {name: value for name, value in found.items() if value is not None}


def find_cpu_model(file: Path = CPU_FILE) -> str | None:
    """Return the name of the processor, as far as the system knows it."""
    text = ""
    with suppress(OSError):
        text = file.read_text(encoding="utf-8", errors="replace")
    if name := _CPU_NAME.search(text):
        return tidy_text(name[1], MOST_CHARS)
    codes = dict(_CPU_CODE.findall(text))
    if codes:
        return tidy_text("ARM " + " ".join(codes[name] for name in sorted(codes)), MOST_CHARS)
    return tidy_text(platform.processor(), MOST_CHARS) or None


def find_image(variables: Mapping[str, str]) -> str | None:
    """Return the image of a runner of GitHub, such as `ubuntu24 20261108.1.0`."""
    parts = (variables.get(name, "") for name in ("ImageOS", "ImageVersion"))
    return tidy_text(" ".join(parts), MOST_CHARS) or None


def find_region(variables: Mapping[str, str]) -> str | None:
    """Return the region of the cloud that this process runs in.

    On a runner that GitHub hosts, such a variable is about the cloud that the job works with.
    """
    if variables.get("RUNNER_ENVIRONMENT") == "github-hosted":
        return None
    given = (tidy_text(variables.get(name, ""), MOST_CHARS) for name in REGIONS)
    return next(filter(None, given), None)


def find_address_class(host: str) -> AddressClass | None:
    """Return what kind of address this machine has towards a host; None if there is no way to it.

    To connect a datagram socket chooses the address and sends nothing.
    """
    try:
        parts = urlsplit(f"//{host}")
        place = (parts.hostname or "", parts.port or 443)
        (family, kind, _, _, address), *_ = socket.getaddrinfo(*place, type=socket.SOCK_DGRAM)
        with socket.socket(family, kind) as own:
            own.connect(address)
            found = ipaddress.ip_address(own.getsockname()[0].partition("%")[0])
    except (OSError, ValueError):
        return None
    if found.is_loopback:
        return "loopback"
    return "public" if found.is_global else "private"
