"""Snapshots as a VU prints them."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping


def list_buckets(samples: Iterable[float]) -> list[float]:
    """Return samples in ms as `k6/lib/histograms.js` lists them."""
    samples = list(samples)
    counts = Counter(math.floor(math.log(max(ms, 0.001)) / math.log(1.01)) for ms in samples)
    listed, last = [max(samples)], 0
    for bucket, count in sorted(counts.items()):
        listed += [bucket - last, count]
        last = bucket
    return listed


def print_snapshot(
    samples: Mapping[str, Iterable[float]],
    counts: Mapping[str, int] | None = None,
    *,
    vu: int = 1,
    serial: int = 1,
    interval: int = 0,
) -> bytes:
    """Return the line of k6's log that holds a snapshot."""
    trends = {series: list_buckets(found) for series, found in samples.items()}
    body = {"vu": vu, "serial": serial, "interval": interval, "trends": trends}
    body |= {"counts": counts or {}}
    return wrap(f"histograms {json.dumps(body)}")


def wrap(message: str) -> bytes:
    """Return a message as k6 logs it."""
    head = 'time="2026-11-26T16:00:00Z" level=info'
    return f"{head} msg={json.dumps(message)} source=console\n".encode()
