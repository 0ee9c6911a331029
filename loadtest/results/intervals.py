"""What was measured in each interval of a scenario: `<scenario>/intervals.json.gz`."""

import gzip
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, ValidationError

from loadtest.common.files import MOST_BYTES, write_bytes
from loadtest.common.parsing import parse_json
from loadtest.common.redaction import redact_json
from loadtest.errors import ResultsError
from loadtest.results.histogram import Histograms

INTERVALS_FILE = "intervals.json.gz"
INTERVALS_VERSION = 1
# More of them, of a damaged file or log, would only fill the memory.
MOST_INTERVALS = 100_000


def _check_pairs(listed: list[float]) -> list[float]:
    if len(listed) % 2 == 0 or min(listed[2::2], default=1) < 1:
        raise ValueError("steps and counts must be in pairs")
    return listed


# A histogram as `Histogram.export` returns it.
ListedHistogram = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]],
    Field(min_length=1),
    AfterValidator(_check_pairs),
]
_Number = Annotated[int, Field(ge=0, lt=MOST_INTERVALS)]


class _File(BaseModel):
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    trends: dict[str, dict[_Number, ListedHistogram]]
    counts: dict[str, dict[_Number, NonNegativeInt]]


@dataclass(frozen=True)
class Intervals:
    """The intervals of a scenario, by number; 0 begins when the probe has ended.

    Each lasts `seconds`. One in which nothing was sent is missing: calls count for the interval in
    which they were sent. Series have k6's names, such as `mcp_duration{tool:executeSQL}` and
    `mcp_failures{tool:executeSQL,reason:timeout}`; `mcp_renewals` counts renewed bearers.
    """

    seconds: float
    parts: dict[int, Histograms] = field(default_factory=dict)

    def count(self) -> int:
        """Return the number of intervals until the last one with a sample."""
        return max(self.parts, default=-1) + 1

    def merge(self, most: int) -> "Intervals":
        """Return at most this many intervals, each the sum of as many neighbours."""
        factor = -(-self.count() // most)
        if factor <= 1:
            return self
        merged: dict[int, Histograms] = {}
        for number, part in self.parts.items():
            merged.setdefault(number // factor, Histograms()).add(part)
        return Intervals(self.seconds * factor, merged)

    def total(self) -> Histograms:
        """Return the sum of all intervals."""
        whole = Histograms()
        for part in self.parts.values():
            whole.add(part)
        return whole


def write_intervals(scenario_dir: Path, intervals: Intervals) -> None:
    """Write the intervals of a scenario, unless there are none."""
    if not intervals.parts:
        return
    trends: dict[str, dict[int, list[float]]] = {}
    counts: dict[str, dict[int, int]] = {}
    for number, part in sorted(intervals.parts.items()):
        for series, histogram in part.trends.items():
            trends.setdefault(series, {})[number] = histogram.export()
        for series, count in part.counts.items():
            counts.setdefault(series, {})[number] = count
    body = redact_json({"seconds": intervals.seconds, "trends": trends, "counts": counts})
    text = json.dumps(
        {"version": INTERVALS_VERSION, **body}, separators=(",", ":"), ensure_ascii=False
    )
    write_bytes(scenario_dir / INTERVALS_FILE, gzip.compress(text.encode(), mtime=0))


def read_intervals(scenario_dir: Path) -> Intervals | None:
    """Return the intervals of a scenario; None for a run of an earlier version.

    Raises ResultsError that names the file if it is damaged.
    """
    path = scenario_dir / INTERVALS_FILE
    try:
        with gzip.open(path) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ResultsError(f"{path} is larger than {MOST_BYTES >> 20} MB: delete it")
        body: Any = parse_json(content)
        version = body.get("version") if isinstance(body, dict) else None
        if isinstance(version, int) and version > INTERVALS_VERSION:
            raise ResultsError(
                f"{path} has version {version}, newer than {INTERVALS_VERSION}: update mcp-loadtest"
            )
        found = _File.model_validate(body)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, zlib.error) as failure:
        fault = (
            failure.errors(include_url=False, include_input=False)[0]["msg"]
            if isinstance(failure, ValidationError)
            else failure
        )
        raise ResultsError(f"{path} is damaged ({fault}): delete it") from None
    parts: dict[int, Histograms] = {}
    for series, trends in found.trends.items():
        for number, listed in trends.items():
            parts.setdefault(number, Histograms()).trend(series).add_listed(listed)
    for series, counts in found.counts.items():
        for number, count in counts.items():
            parts.setdefault(number, Histograms()).counts[series] += count
    return Intervals(found.seconds, parts)
