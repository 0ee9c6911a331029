"""What the VUs of a fleet have seen, read from k6's log: histograms that can be added up.

k6/lib/histograms.js prints a line per VU every 30 s and at the end of each session:
`tally {"vu": 3, "serial": 1, "trends": {SERIES: [MOST, BUCKET, COUNT, …]}, "counts": {SERIES: n}}`.
Bucket i holds what is at least 1.01^i and less than 1.01^(i+1) ms; buckets stand as distances from
the one before. Series are named as k6 names them, such as `mcp_duration{stage:10}`.
"""

import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt

_STEP = math.log(1.01)
_LEAST_MS = 0.001
_POINTS = 2000

_LINE = re.compile(rb'^time="[^"]*" level=info msg="tally ((?:[^"\\]|\\.)*)"')


def _check_pairs(listed: list[float]) -> list[float]:
    if len(listed) % 2 == 0 or min(listed[2::2], default=1) < 1:
        raise ValueError("buckets and counts must stand in pairs")
    return listed


def is_tally(line: bytes) -> bool:
    """Return whether a line of a log is a tally, be it damaged."""
    return _LINE.match(line) is not None


class _Told(BaseModel):
    vu: int
    serial: int
    trends: dict[str, Annotated[list[float], Field(min_length=1), AfterValidator(_check_pairs)]]
    counts: dict[str, NonNegativeInt]


class Histogram:
    """Durations in ms, counted by bucket, and the longest exactly.

    A percentile is that of the samples to within half a bucket, 0.5 %.
    """

    def __init__(self) -> None:
        self.most = 0.0
        self.buckets: dict[int, int] = {}

    def add(self, most: float, buckets: Iterable[tuple[int, int]]) -> None:
        """Add samples by bucket, the longest of which took `most` ms."""
        self.most = max(self.most, most)
        mine = self.buckets
        for bucket, count in buckets:
            mine[bucket] = mine.get(bucket, 0) + count

    def count(self) -> int:
        """Return the number of samples."""
        return sum(self.buckets.values())

    def percentiles(self, shares: Iterable[float]) -> list[float]:
        """Return the percentiles, between two samples by their distance, as k6 does.

        There must be a sample.
        """
        buckets = sorted(self.buckets)
        ends = list(accumulate(self.buckets[bucket] for bucket in buckets))

        def find(rank: int) -> float:
            middle = math.exp((buckets[bisect_right(ends, rank)] + 0.5) * _STEP)
            return min(middle, self.most)

        found = []
        for share in shares:
            place = share * (ends[-1] - 1)
            low = find(math.floor(place))
            found.append(low + (find(math.ceil(place)) - low) * (place % 1))
        return found


def build_histogram(
    count: int, percentiles: Sequence[tuple[float, float]], most: float
) -> Histogram:
    """Return `count` samples of which percentiles are known, as (share, ms) in rising order.

    They are laid evenly between two percentiles, at up to 2,000 places; `most` is exact.
    """
    shares, values = zip(*percentiles, strict=True)
    points = min(count, _POINTS)
    made = Histogram()
    for point in range(points):
        begin, end = count * point // points, count * (point + 1) // points
        share = (begin + end - 1) / 2 / max(1, count - 1)
        place = min(max(1, bisect_right(shares, share)), len(shares) - 1)
        low, high = shares[place - 1], shares[place]
        part = (share - low) / (high - low)
        ms = values[place - 1] + (values[place] - values[place - 1]) * part
        made.add(most, [(math.floor(math.log(max(ms, _LEAST_MS)) / _STEP), end - begin)])
    return made


class Tally:
    """All tallies of a runner, or of a fleet, added up."""

    def __init__(self) -> None:
        self.trends: dict[str, Histogram] = {}
        self.counts: Counter[str] = Counter()
        self._serials: dict[int, int] = {}

    def read_line(self, line: bytes) -> bool:
        """Take a line of one runner's log; return whether it is a tally.

        A tally that was read before, as when a log is read on from too far back, counts once; one
        that is damaged does not count.
        """
        match = _LINE.match(line)
        if match is None:
            return False
        try:
            told = _Told.model_validate_json(json.loads(b'"' + match[1] + b'"'))
        except ValueError:
            return True
        if told.serial > self._serials.get(told.vu, 0):
            self._serials[told.vu] = told.serial
            for series, (most, *rest) in told.trends.items():
                steps, counts = map(int, rest[::2]), map(int, rest[1::2])
                self._trend(series).add(most, zip(accumulate(steps), counts, strict=True))
            self.counts.update(told.counts)
        return True

    def add(self, other: "Tally") -> None:
        """Add another runner's."""
        for series, histogram in other.trends.items():
            self._trend(series).add(histogram.most, histogram.buckets.items())
        self.counts.update(other.counts)

    def count(self, series: str) -> int:
        """Return how many samples or events a series has."""
        found = self.trends.get(series)
        return found.count() if found is not None else self.counts[series]

    def _trend(self, series: str) -> Histogram:
        return self.trends.setdefault(series, Histogram())
