"""The slope of a figure within a run, with its error: does it rise, or does it only vary?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import NormalDist, median

# For normally distributed values: standard deviation divided by median absolute deviation.
_NORMAL = 1.4826
# Standard error of a median of slopes divided by that of least squares, for normal noise.
_MEDIAN_ERROR = math.sqrt(math.pi / 3)
# An outlier counts as if it were this many standard deviations from the line.
_CLIP = 4.0
# Fewer values do not show what an outlier is.
_LEAST_TO_CLIP = 12
LEAST_POINTS = 5
_PARTS = 5
# A value that resembles the one before says less. More likeness than this is not believed.
_MOST_LIKENESS = 0.95
# Without a slope, one fit in 2,000 is clearly above 0.
_CLEAR = NormalDist().inv_cdf(1 - 1 / 2000)


@dataclass(frozen=True)
class Slope:
    """A straight line through values that vary.

    `per_unit` is how much they rise in one unit of the place (hour, cycle), and `error` its
    standard error. The line goes from `start`, at the first place, over `span` units.
    `is_clear`: it is not 0, whichever its sign. By chance, fewer than 1 of 1,000 are clear if the
    values are independent, and about 5 if neighbours correlate by 0.8.
    """

    per_unit: float
    error: float
    start: float
    span: float
    is_clear: bool

    @property
    def change(self) -> float:
        """Return how much the line rises from the first place to the last."""
        return self.per_unit * self.span


def fit_slope(points: Sequence[tuple[float, float]]) -> Slope | None:
    """Return the slope of points (place, value), in rising order; None for fewer than 5 places.

    The slope is the median of the slopes of all pairs (Theil and Sen), so that a few outliers do
    not matter. Its error is that of independent values, times how much less the values say because
    neighbours resemble each other (Santer et al. 2000, "Statistical significance of trends": values
    like an AR(1) process).
    """
    places = [x for x, _ in points]
    if len(set(places)) < LEAST_POINTS:
        return None
    slope = median(
        (later - earlier) / (right - left)
        for (left, earlier), (right, later) in combinations(points, 2)
        if right > left
    )
    start = median(y - slope * (x - places[0]) for x, y in points)
    rest = [y - start - slope * (x - places[0]) for x, y in points]
    mean = sum(places) / len(places)
    width = math.sqrt(sum((x - mean) ** 2 for x in places))
    worth = len(points) / _find_repetition(rest)
    freedom = max(1.0, worth - 2)
    spread = math.sqrt(sum(each**2 for each in _clip(rest)) / freedom * worth / len(points))
    error = _MEDIAN_ERROR * spread * math.sqrt(len(points) / worth) / width
    is_clear = abs(slope) > error * _find_factor(freedom)
    return Slope(slope, error, start, places[-1] - places[0], is_clear)


def fit_shares(points: Sequence[tuple[float, int, int]]) -> Slope | None:
    """Return the slope of the share of `bad` among `count` events: points (place, bad, count).

    Shares stay at 0 until something is full, then they jump, so a line through all of them says
    little. The slope is from the first quarter of the places to the last, each the median of five
    parts. It is clear if four of the five last parts are above all of the first, and if it is more
    than chance makes of that many events. None for fewer than five places in a quarter.
    """
    quarter = len(points) // 4
    if quarter < _PARTS:
        return None
    ends = [_split(points[:quarter]), _split(points[-quarter:])]
    first, last = ([bad / count if count else 0.0 for _, bad, count in parts] for parts in ends)
    places = [sum(place for place, _, _ in parts) / _PARTS for parts in ends]
    counts = [max(1, sum(count for _, _, count in parts)) for parts in ends]
    rise, width = median(last) - median(first), places[1] - places[0]
    share = sum(bad for parts in ends for _, bad, _ in parts) / sum(counts)
    chance = share * (1 - share) * (1 / counts[0] + 1 / counts[1])
    error = math.sqrt(chance) / width
    is_clear = sum(each > max(first) for each in last) >= _PARTS - 1
    is_clear = is_clear and rise / width > _CLEAR * error
    start = median(first) - rise / width * (places[0] - points[0][0])
    return Slope(rise / width, error, start, points[-1][0] - points[0][0], is_clear)


def _split(points: Sequence[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """Return the sums of five parts of equal length, each at its mean place."""
    edges = [len(points) * part // _PARTS for part in range(_PARTS + 1)]
    parts = [points[begin:end] for begin, end in pairwise(edges)]
    return [
        (
            sum(place for place, _, _ in part) / len(part),
            sum(bad for _, bad, _ in part),
            sum(count for _, _, count in part),
        )
        for part in parts
    ]


def _find_repetition(rest: Sequence[float]) -> float:
    """Return how many neighbours say together what one independent value says, at least 1."""
    rest = _clip(rest)
    square = sum(each**2 for each in rest)
    if square == 0:
        return 1.0
    likeness = sum(before * after for before, after in pairwise(rest)) / square
    # A line takes likeness away from what it leaves (Kendall 1954, with a trend).
    likeness += (2 + 4 * likeness) / len(rest)
    likeness = min(max(likeness, 0.0), _MOST_LIKENESS)
    return (1 + likeness) / (1 - likeness)


def _clip(rest: Sequence[float]) -> list[float]:
    """Return what the line leaves, outliers moved towards it."""
    if len(rest) < _LEAST_TO_CLIP:
        return list(rest)
    reach = _CLIP * _NORMAL * median(map(abs, rest))
    return [min(max(each, -reach), reach) for each in rest] if reach else list(rest)


def _find_factor(freedom: float) -> float:
    """Return from how many errors on a slope is clear: a quantile of Student's t.

    Abramowitz and Stegun 26.7.5.
    """
    z = _CLEAR
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
