"""Histograms that can be added up: over virtual users, runners and intervals.

Bucket i holds durations from 1.01^i ms up to 1.01^(i+1) ms. Series have k6's names, such as
`mcp_duration{stage:10}`.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

_STEP = math.log(1.01)
_LEAST_MS = 0.001
_POINTS = 2000


class Histogram:
    """Durations in ms, counted by bucket; the longest is exact.

    Percentiles are exact to half a bucket, which is 0.5 %.
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

    def list_middles(self) -> Iterator[tuple[float, int]]:
        """Yield the middle of each bucket in ms, and its count, in rising order."""
        for bucket, count in sorted(self.buckets.items()):
            yield min(math.exp((bucket + 0.5) * _STEP), self.most), count

    def export(self) -> list[float]:
        """Return the longest, then for each bucket its distance from the one before, and its count.

        k6/lib/histograms.js prints it like this.
        """
        listed, last = [self.most], 0
        for bucket, count in sorted(self.buckets.items()):
            listed += [bucket - last, count]
            last = bucket
        return listed

    def add_listed(self, listed: Sequence[float]) -> None:
        """Add a histogram as `export` returns it."""
        most, *rest = listed
        steps, counts = map(int, rest[::2]), map(int, rest[1::2])
        self.add(most, zip(accumulate(steps), counts, strict=True))

    def find_least(self) -> float:
        """Return the shortest, exact to 0.5 %; there must be a sample."""
        return min(math.exp((min(self.buckets) + 0.5) * _STEP), self.most)

    def percentiles(self, shares: Iterable[float]) -> list[float]:
        """Return the percentiles, interpolated between two samples as in k6.

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
    """Return a histogram of `count` samples from their percentiles: (share, ms) in rising request.

    Samples are spread evenly between two percentiles, at up to 2,000 points; `most` is exact.
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


class Histograms:
    """Histograms of trends, and counts, by series."""

    def __init__(self) -> None:
        self.trends: dict[str, Histogram] = {}
        self.counts: Counter[str] = Counter()

    def add(self, other: "Histograms") -> None:
        """Add all series of others."""
        for series, histogram in other.trends.items():
            self.trend(series).add(histogram.most, histogram.buckets.items())
        self.counts.update(other.counts)

    def count(self, series: str) -> int:
        """Return how many samples or events a series has."""
        found = self.trends.get(series)
        return found.count() if found is not None else self.counts[series]

    def trend(self, series: str) -> Histogram:
        """Return the histogram of a series, to add to it."""
        return self.trends.setdefault(series, Histogram())
