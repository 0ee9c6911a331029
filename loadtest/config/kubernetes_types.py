"""Kubernetes' own words as types that pydantic checks: names, labels, images, quantities, times."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_WORD = r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?"
_PATH = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"

# Field by field of a schedule: what it is called, its least and most, and names from the least on.
_CRON = (
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of the month", 1, 31, ""),
    ("month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    ("day of the week", 0, 6, "SUN MON TUE WED THU FRI SAT"),
)


def _build_check(pattern: str, expected: str, most: int = 253) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > most or re.fullmatch(pattern, text, re.ASCII) is None:
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def _check_schedule(text: str) -> str:
    """Take five fields of `*`, numbers, names, ranges, steps and lists of them, as cron does."""
    fields = text.split(" ")
    if len(fields) != len(_CRON):
        raise ValueError("expected the five fields of cron, as in '17 4 * * MON'")
    for field, (name, least, most, words) in zip(fields, _CRON, strict=True):
        places = {word: least + index for index, word in enumerate(words.split())}
        if not all(_is_time(part, least, most, places) for part in field.split(",")):
            raise ValueError(f"the {name} '{field}' is not of {least} to {most}")
    return text


def _is_time(part: str, least: int, most: int, places: dict[str, int]) -> bool:
    match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", part, re.ASCII)
    if match is None or (match[3] is not None and int(match[3]) == 0):
        return False
    bounds = [
        places.get(text.upper(), int(text) if text.isdigit() else -1)
        for text in match.groups()[:2]
        if text is not None
    ]
    return all(least <= bound <= most for bound in bounds) and bounds == sorted(bounds)


def count_bytes(memory: str) -> int:
    """Return how many bytes a `Memory` is."""
    number = memory.rstrip("kKMGTi")
    unit = memory.removeprefix(number)
    power = " KMGT".index(unit[:1].upper() or " ")
    count: int = int(number) * (1024 if unit.endswith("i") else 1000) ** power
    return count


# RFC 1123 as Kubernetes reads it: of a namespace, and of most other objects.
LabelName = Annotated[str, _build_check(_LABEL, "a DNS label such as load-tests", 63)]
ObjectName = Annotated[str, _build_check(rf"{_LABEL}(\.{_LABEL})*", "a name such as my-registry")]
LabelKey = Annotated[
    str, _build_check(rf"({_LABEL}(\.{_LABEL})*/)?{_WORD}", "a label's key", 253 + 1 + 63)
]
LabelValue = Annotated[str, _build_check(rf"({_WORD})?", "a label's value", 63)]
# Without tag or digest it would be whatever is newest on that day.
Image = Annotated[
    str,
    _build_check(
        rf"({_HOST}(\.{_HOST})*(:\d+)?/)?{_PATH}(/{_PATH})*"
        r"(?=[:@])(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
        "an image with its tag or digest, such as grafana/k6:1.1.0",
        512,
    ),
]
Cpu = Annotated[str, _build_check(r"(?!0*\.?0*m?$)(\d+(\.\d{1,3})?|\d+m)", "CPUs: 2, 1.5 or 500m")]
Memory = Annotated[
    str, _build_check(r"(?!0+)\d+([kMGT]|[KMGT]i)?", "an amount of memory such as 512Mi or 2Gi")
]
Schedule = Annotated[str, Field(max_length=200), AfterValidator(_check_schedule)]
