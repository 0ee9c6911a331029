"""What tells a regression from noise: how a figure stands out among the comparable runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import fmean, median
from typing import Literal

from loadtest.compare import is_thin
from loadtest.history import Cell, Entry, Figure
from loadtest.noise import find_change_points, find_spread
from loadtest.results import Row

# A difference below these is none, whatever its ratio.
LEAST_MS = 1.0
LEAST_RATE = 0.1
LEAST_POINTS = 1.0
LEAST_CALLS = 30

# At once: a median or a rate a quarter worse than usual, and so many spreads away.
AT_ONCE_RATIO = 1.25
AT_ONCE_SPREADS = 8.0
AT_ONCE_FIGURES = frozenset({"p50", "rate"})
AT_ONCE_LEAST_USUAL = 3
# That all cells of a run are slower is the fault of its machine or its hour, up to this factor.
MOST_FORGIVEN = 2.0
# Twice in a row: both runs so much worse. The noise of p95 and p99 has a longer tail.
TWICE_RATIO = 1.15
TWICE_SPREADS: Mapping[Figure, float] = {
    "p50": 3.1,
    "p95": 4.0,
    "p99": 4.0,
    "rate": 3.1,
    "failed": 3.1,
}
# A drift: so much worse over the last runs, or since a change point.
DRIFT_RATIO = 1.1
DRIFT_RUNS = 6
DRIFT_SPREADS = 3.8
DRIFT_LEAST_USUAL = 4
CLIP_SPREADS = 3.0
# Nearer than this to the level before the drift, a run has come back.
BACK_RATIO = 1.05

# The usual level is that of so many baselines.
USUAL_RUNS = 20
# The spread to expect where no run has shown it yet, and how many runs that expectation is worth.
PRIOR_SPREAD: Mapping[Figure, float] = {
    "p50": 0.05,
    "p95": 0.07,
    "p99": 0.1,
    "rate": 0.03,
    "failed": 0.02,
}
PRIOR_RUNS = 6

# Comparable runs, oldest first, each with a scenario's rows by kind and name.
Peers = Sequence[tuple[Entry, Mapping[tuple[str, str], Row]]]
Evidence = Literal["at once", "twice in a row", "drift"]


@dataclass(frozen=True)
class Move:
    """A level that moved from about `before` to about `after`; `since` is the first run there."""

    before: float
    after: float
    since: Entry


@dataclass(frozen=True)
class Series:
    """One cell over the comparable runs that made enough calls, oldest first, and over this run.

    `heights` are the values, this run's last, on a scale where noise is even and up is worse.
    `usable` marks the baselines: not those whose regression is confirmed and not accepted. Values
    before `start` are of a level that was given up when a regression was accepted.
    """

    cell: Cell
    entries: tuple[Entry, ...]
    values: tuple[float, ...]
    usable: tuple[bool, ...]
    start: int
    value: float
    calls: int
    heights: tuple[float, ...]

    def pick_usual(self, but_last: int = 0) -> list[float]:
        """Return the values of the last baselines, but for so many of the newest runs."""
        part = slice(self.start, max(self.start, len(self.values) - but_last))
        return list(compress(self.values[part], self.usable[part]))[-USUAL_RUNS:]


def is_measured(row: Row, figure: Figure) -> bool:
    """Return whether enough calls were made to tell this figure."""
    if figure == "failed":
        return row.count >= LEAST_CALLS
    return not is_thin(row, "p50" if figure == "rate" else figure)


def orient(figure: Figure, before: float, value: float) -> float | None:
    """Return how many times worse a latency or rate is; None where one of them is zero."""
    better, worse = (value, before) if figure == "rate" else (before, value)
    if before == value:
        return 1.0
    return worse / better if better > 0 and worse > 0 else None


def is_worse(figure: Figure, before: float, value: float, ratio: float) -> bool:
    """Return whether a value is worse by more than this ratio, and by more than nothing at all.

    Failures have no ratio: of them, more than nothing is enough.
    """
    if figure == "failed":
        return (value - before) * 100 >= LEAST_POINTS
    apart = before - value if figure == "rate" else value - before
    times = orient(figure, before, value)
    least = LEAST_RATE if figure == "rate" else LEAST_MS
    return apart >= least and (times is None or times > ratio)


def build_series(cell: Cell, value: float, calls: int, peers: Peers) -> Series:
    """Gather a cell from the comparable runs; `value` and `calls` are those of the run judged."""
    entries: list[Entry] = []
    values: list[float] = []
    usable: list[bool] = []
    start = 0
    for entry, rows in peers:
        found = entry.figures.get(cell)
        if found is None or not is_measured(rows[cell.kind, cell.name], cell.figure):
            continue
        if cell in entry.confirmed and entry.accepted:
            start = len(entries)
        entries.append(entry)
        values.append(found)
        usable.append(cell not in entry.confirmed or entry.accepted)
    heights = tuple(_find_height(cell.figure, each) for each in (*values, value))
    return Series(cell, tuple(entries), tuple(values), tuple(usable), start, value, calls, heights)


def estimate_spreads(series: Iterable[Series]) -> dict[Cell, float]:
    """Return, per cell, the standard deviation of its heights from run to run.

    A few runs show it badly, and some of many cells always seem quieter than they are: each is
    drawn towards what its kind of figure shows in all cells, which is drawn towards a prior.
    """
    series = tuple(series)
    seen = {each.cell: find_spread(each.heights[:-1], _rise_usual(each)) for each in series}
    spreads = {}
    for each in series:
        figure = each.cell.figure
        alike = [found for cell, found in seen.items() if cell.figure == figure and found]
        runs = min(len(each.values), USUAL_RUNS)
        expected = _draw(PRIOR_SPREAD[figure], median(alike) if alike else None, runs)
        spread = _draw(expected, seen[each.cell], runs)
        # However alike the runs, so few calls leave this to chance (the angle of a share).
        chance = 0.5 / math.sqrt(each.calls) if figure == "failed" else 0.0
        spreads[each.cell] = max(spread, chance)
    return spreads


def find_shift(series: Iterable[Series]) -> float:
    """Return by how much the whole run stands higher than usual: the median over its cells."""
    shifts = [
        each.heights[-1] - median(usual)
        for each in series
        if each.cell.figure in AT_ONCE_FIGURES and (usual := _rise_usual(each))
    ]
    return median(shifts) if shifts else 0.0


def find_sudden(series: Series, spread: float, shift: float) -> tuple[Evidence, float] | None:
    """Return whether this run, or this and the one before, stand far above the usual, and that."""
    figure = series.cell.figure
    usual = series.pick_usual()
    if figure in AT_ONCE_FIGURES and len(usual) >= AT_ONCE_LEAST_USUAL:
        before = median(usual)
        far = max(math.log(AT_ONCE_RATIO), AT_ONCE_SPREADS * _widen(spread, 1, usual))
        height = series.heights[-1] - _find_height(figure, before)
        own = height - min(max(shift, 0.0), math.log(MOST_FORGIVEN))
        if own > far and is_worse(figure, before, series.value, AT_ONCE_RATIO):
            return "at once", before
    usual = series.pick_usual(1)
    if usual:
        before = median(usual)
        far = TWICE_SPREADS[figure] * _widen(spread, 1, usual)
        last = zip(series.heights[-2:], (series.values[-1], series.value), strict=True)
        height, value = min(last)
        above = height - _find_height(figure, before)
        if above > far and is_worse(figure, before, value, TWICE_RATIO):
            return "twice in a row", before
    return None


def find_drift(series: Series, spread: float) -> Move | None:
    """Return what the whole history shows: a change point, or the last runs above the usual."""
    move = _find_level(series, spread) or _find_lasting(series, spread)
    if move is None or not is_worse(series.cell.figure, move.before, move.after, DRIFT_RATIO):
        return None
    is_back = not is_worse(series.cell.figure, move.before, series.value, BACK_RATIO)
    return None if is_back else move


def _find_level(series: Series, spread: float) -> Move | None:
    values = (*series.values[series.start :], series.value)
    starts = find_change_points(series.heights[series.start :], spread)
    if len(starts) == 1:
        return None
    ends = (*starts[1:], len(values))
    levels = [median(values[begin:end]) for begin, end in zip(starts, ends, strict=True)]
    heights = [_find_height(series.cell.figure, level) for level in levels[:-1]]
    best = heights.index(min(heights))
    return Move(levels[best], levels[-1], series.entries[series.start + starts[best + 1]])


def _find_lasting(series: Series, spread: float) -> Move | None:
    others = DRIFT_RUNS - 1
    usual = series.pick_usual(others)
    if len(usual) < DRIFT_LEAST_USUAL:
        return None
    before = median(usual)
    level = _find_height(series.cell.figure, before)
    reach = CLIP_SPREADS * spread
    above = [min(max(height - level, -reach), reach) for height in series.heights[-DRIFT_RUNS:]]
    if fmean(above) <= DRIFT_SPREADS * _widen(spread, DRIFT_RUNS, usual):
        return None
    after = median((*series.values[-others:], series.value))
    return Move(before, after, series.entries[-others])


def _widen(spread: float, runs: int, usual: Sequence[float]) -> float:
    """Return the standard error of the difference between some runs' mean and the usual level."""
    return spread * math.sqrt(1 / runs + 1 / len(usual))


def _rise_usual(series: Series) -> list[float]:
    return [_find_height(series.cell.figure, value) for value in series.pick_usual()]


def _find_height(figure: Figure, value: float) -> float:
    """Return a value on a scale where noise is even: logarithms, and of shares the angle."""
    if figure == "failed":
        return math.asin(math.sqrt(min(max(value, 0.0), 1.0)))
    if figure == "rate":
        return -math.log(max(value, 0.0) + LEAST_RATE)
    return math.log(max(value, 0.0) + LEAST_MS)


def _draw(expected: float, seen: float | None, runs: int) -> float:
    if seen is None:
        return expected
    return math.sqrt((PRIOR_RUNS * expected**2 + runs * seen**2) / (PRIOR_RUNS + runs))
