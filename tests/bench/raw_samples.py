"""Samples as k6 writes them one by one, and exact percentiles of them."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path


def read_durations(path: Path) -> Iterator[tuple[str, float]]:
    """Yield tool, if any, and duration in ms of every ok call in what k6's CSV output wrote."""
    with path.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            if line["metric_name"] == "mcp_duration":
                tags = dict(part.split("=", 1) for part in line["extra_tags"].split("&") if part)
                yield tags.get("tool", ""), float(line["metric_value"])


def take_percentile(samples: Sequence[float], share: float) -> float:
    """Return a percentile, between two samples by their distance, as k6 does."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place % 1)
