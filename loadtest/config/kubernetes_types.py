"""Types for pydantic with the formats of Kubernetes: names, labels, images, quantities."""

import re
from typing import Annotated

from pydantic import AfterValidator

_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_VALUE = r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?"
_REPOSITORY = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"


def _build_check(pattern: str, expected: str, most: int = 253) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > most or re.fullmatch(pattern, text, re.ASCII) is None:
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def count_bytes(memory: str) -> int:
    """Return a `Memory` as a number of bytes."""
    number = memory.rstrip("kKMGTi")
    unit = memory.removeprefix(number)
    power = " KMGT".index(unit[:1].upper() or " ")
    count: int = int(number) * (1024 if unit.endswith("i") else 1000) ** power
    return count


# As Kubernetes applies RFC 1123, section 2.1: names of namespaces, and of most other objects.
LabelName = Annotated[str, _build_check(_DNS_LABEL, "a DNS label such as load-tests", 63)]
ObjectName = Annotated[
    str, _build_check(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*", "a name such as my-registry")
]
LabelKey = Annotated[
    str, _build_check(rf"({_DNS_LABEL}(\.{_DNS_LABEL})*/)?{_VALUE}", "a label's key", 253 + 1 + 63)
]
LabelValue = Annotated[str, _build_check(rf"({_VALUE})?", "a label's value", 63)]
# Without a tag or digest, the image would change from day to day.
Image = Annotated[
    str,
    _build_check(
        rf"({_REGISTRY}(\.{_REGISTRY})*(:\d+)?/)?{_REPOSITORY}(/{_REPOSITORY})*"
        r"(?=[:@])(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
        "an image with its tag or digest, such as grafana/k6:1.1.0",
        512,
    ),
]
Cpu = Annotated[str, _build_check(r"(?!0*\.?0*m?$)(\d+(\.\d{1,3})?|\d+m)", "CPUs: 2, 1.5 or 500m")]
Memory = Annotated[
    str, _build_check(r"(?!0+)\d+([kMGT]|[KMGT]i)?", "an amount of memory such as 512Mi or 2Gi")
]
