"""Find where the level of a figure changed by more than noise: pure functions of numbers."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

# For normally distributed values: standard deviation divided by median absolute deviation.
_NORMAL = 1.4826
_SPREAD_RUNS = 50
# Fewer values do not show a spread.
_LEAST_RUNS = 4
# An outlier, farther than this many spreads from its neighbours, is moved to that distance.
_CLIP = 2.0
_NEIGHBOURS = 2
# A change point needs this many standard errors. The number is high because neighbouring runs
# resemble each other, and because every place is tested again after every run.
_LEAST_GAIN = 8.0
LEAST_LEVEL_RUNS = 4


def find_spread(values: Sequence[float], level: Sequence[float]) -> float | None:
    """Return the standard deviation from run to run without outliers; None for too few values.

    The steps between neighbours show it even if the level changed. Neighbours that resemble each
    other show too little of it, so the spread of `level`, the values of one level, counts as well.
    """
    if len(level) < _LEAST_RUNS:
        return None
    recent = values[-_SPREAD_RUNS:]
    steps = median(abs(after - before) for before, after in pairwise(recent))
    middle = median(level)
    around = median(abs(value - middle) for value in level)
    return _NORMAL * max(steps / math.sqrt(2), around)


def find_change_points(values: Sequence[float], spread: float) -> tuple[int, ...]:
    """Return where the level changed: the index of each level's first value, 0 for the first.

    Binary segmentation: split where the means of both sides differ most, weighted by their
    numbers, and split both sides again, as long as the difference is significant.
    """
    sums = [0.0]
    for value in _pull_in(values, spread):
        sums.append(sums[-1] + value)
    starts = [0]
    open_ = [(0, len(values))]
    while open_:
        begin, end = open_.pop()
        gain, place = _find_split(sums, begin, end)
        if gain > _LEAST_GAIN * spread:
            starts.append(place)
            open_ += [(begin, place), (place, end)]
    return tuple(sorted(starts))


def _find_split(sums: Sequence[float], begin: int, end: int) -> tuple[float, int]:
    """Return the largest weighted difference of means (unit: one value's error) and its place."""
    best, place = 0.0, begin
    total = sums[end] - sums[begin]
    size = end - begin
    for split in range(begin + LEAST_LEVEL_RUNS, end - LEAST_LEVEL_RUNS + 1):
        before = split - begin
        # The difference of both means, times both numbers, divided by their sum.
        lag = (sums[split] - sums[begin]) - total * before / size
        gain = lag * lag * size / (before * (size - before))
        if gain > best:
            best, place = gain, split
    return math.sqrt(best), place


def _pull_in(values: Sequence[float], spread: float) -> list[float]:
    pulled = []
    for place, value in enumerate(values):
        middle = median(values[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS + 1])
        reach = _CLIP * spread
        pulled.append(min(max(value, middle - reach), middle + reach))
    return pulled
