"""Telling a change of level from noise, in a series of one figure: pure functions of numbers."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

# Of normally distributed values, the standard deviation over the median absolute deviation.
_NORMAL = 1.4826
_SPREAD_RUNS = 50
# Fewer say nothing of how values spread.
_LEAST_RUNS = 4
# Values farther from their neighbours than this many spreads are pulled in to there: outliers.
_CLIP = 2.0
_NEIGHBOURS = 2
# A change point stands out by so many standard errors. Runs resemble the runs beside them, and
# every place is tried anew after every run: what would be far too much for one test is not here.
_LEAST_GAIN = 8.0
LEAST_LEVEL_RUNS = 4


def find_spread(values: Sequence[float], level: Sequence[float]) -> float | None:
    """Return the standard deviation from run to run, outliers apart; None of too few values.

    The steps between neighbours show it whatever the level did; where neighbours resemble each
    other they show too little, so that the spread of `level`, values of one level, counts as well.
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

    Binary segmentation: split where the means on both sides differ most for their number, and
    split both sides again, as long as it stands out.
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
    """Return the largest difference of means, in the unit of one value's error, and its place."""
    best, place = 0.0, begin
    total = sums[end] - sums[begin]
    size = end - begin
    for split in range(begin + LEAST_LEVEL_RUNS, end - LEAST_LEVEL_RUNS + 1):
        before = split - begin
        # The difference of both means, times both numbers, over the sum.
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
