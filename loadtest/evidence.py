"""What tells a regression from noise: how a figure stands out among the comparable runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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

# That all cells of a run are slower is the fault of its machine or its hour, up to this factor.
MOST_FORGIVEN = 2.0
# At once: a median or a rate a quarter worse than usual, and so many spreads away.
AT_ONCE_RATIO = 1.25
AT_ONCE_SPREADS = 8.0
AT_ONCE_LEAST_USUAL = 3
AT_ONCE_FIGURES = frozenset({"p50", "rate"})
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
    "rate": 0.05,
    "failed": 0.02,
}
PRIOR_RUNS = 6
# However alike the runs, counts of so few calls are left to chance: of a share's angle, of the
# logarithm of a number. Times one over the root of the calls.
CHANCE: Mapping[Figure, float] = {"failed": 0.5, "rate": 1.0}

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

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Return whose the heights are; this run's has no name yet."""
        return (*(entry.run.run_id for entry in self.entries), "")

    def find_usual(self, but_last: int = 0) -> "Usual":
        """Return the level of the last baselines, but for so many of the newest runs."""
        part = slice(self.start, max(self.start, len(self.values) - but_last))
        values = list(compress(self.values[part], self.usable[part]))[-USUAL_RUNS:]
        heights = list(compress(self.heights[part], self.usable[part]))[-USUAL_RUNS:]
        return Usual(values, heights)


@dataclass(frozen=True)
class Usual:
    """The values and heights of some baselines, and their level."""

    values: Sequence[float]
    heights: Sequence[float]

    @property
    def value(self) -> float:
        """Return the usual value."""
        return median(self.values)

    @property
    def height(self) -> float:
        """Return the usual height."""
        return median(self.heights)

    def widen(self, spread: float, runs: int) -> float:
        """Return the standard error of the difference between some runs' mean and this level."""
        return spread * math.sqrt(1 / runs + 1 / len(self.values))


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
    seen = {each.cell: find_spread(each.heights[:-1], each.find_usual().heights) for each in series}
    spreads = {}
    for each in series:
        figure = each.cell.figure
        alike = [found for cell, found in seen.items() if cell.figure == figure and found]
        runs = min(len(each.values), USUAL_RUNS)
        expected = _draw(PRIOR_SPREAD[figure], median(alike) if alike else None, runs)
        spread = _draw(expected, seen[each.cell], runs)
        spreads[each.cell] = max(spread, CHANCE.get(figure, 0.0) / math.sqrt(each.calls))
    return spreads


def level_out(series: Sequence[Series]) -> list[Series]:
    """Return the series less what each run as a whole stood higher or lower than others.

    A bad hour of the machine or the network moves all cells at once, and a change of one tool is
    seen the better without it. A change of all cells is not seen at all.
    """
    lifts: dict[str, list[float]] = {}
    for each in series:
        if each.cell.figure == "p50":
            middle = median(each.heights)
            for run_id, height in zip(each.run_ids, each.heights, strict=True):
                lifts.setdefault(run_id, []).append(height - middle)
    most = math.log(MOST_FORGIVEN)
    shifts = {run_id: min(median(found), most) for run_id, found in lifts.items()}
    return [
        replace(
            each,
            heights=tuple(
                height - shifts.get(run_id, 0.0)
                for run_id, height in zip(each.run_ids, each.heights, strict=True)
            ),
        )
        if each.cell.figure != "failed"
        else each
        for each in series
    ]


def find_at_once(series: Series, spread: float) -> float | None:
    """Return the usual value that this run alone, levelled out, stands far above."""
    usual = series.find_usual()
    if series.cell.figure not in AT_ONCE_FIGURES or len(usual.values) < AT_ONCE_LEAST_USUAL:
        return None
    far = max(math.log(AT_ONCE_RATIO), AT_ONCE_SPREADS * usual.widen(spread, 1))
    if series.heights[-1] - usual.height <= far:
        return None
    worse = is_worse(series.cell.figure, usual.value, series.value, AT_ONCE_RATIO)
    return usual.value if worse else None


def find_twice(series: Series, spread: float) -> float | None:
    """Return the usual value that this run and the one before both stand above."""
    figure = series.cell.figure
    usual = series.find_usual(1)
    if not usual.values:
        return None
    far = TWICE_SPREADS[figure] * usual.widen(spread, 1)
    if min(series.heights[-2:]) - usual.height <= far:
        return None
    both = (series.values[-1], series.value)
    return usual.value if all(is_worse(figure, usual.value, v, TWICE_RATIO) for v in both) else None


def find_drift(series: Series, spread: float) -> Move | None:
    """Return what the whole history shows: a change point, or the last runs above the usual."""
    move = _find_level(series, spread) or _find_lasting(series, spread)
    if move is None or not is_worse(series.cell.figure, move.before, move.after, DRIFT_RATIO):
        return None
    is_back = not is_worse(series.cell.figure, move.before, series.value, BACK_RATIO)
    return None if is_back else move


def find_levels(figure: Figure, values: Sequence[float]) -> tuple[int, ...]:
    """Return where the level of one figure changed: the index of each level's first value."""
    heights = [_find_height(figure, value) for value in values]
    seen = find_spread(heights, heights[-USUAL_RUNS:])
    spread = _draw(PRIOR_SPREAD[figure], seen, min(len(values), USUAL_RUNS))
    return find_change_points(heights, spread)


def _find_level(series: Series, spread: float) -> Move | None:
    values = (*series.values[series.start :], series.value)
    heights = series.heights[series.start :]
    starts = find_change_points(heights, spread)
    if len(starts) == 1:
        return None
    parts = [slice(*ends) for ends in zip(starts, (*starts[1:], len(values)), strict=True)]
    levels = [median(heights[part]) for part in parts[:-1]]
    best = levels.index(min(levels))
    since = series.entries[series.start + starts[best + 1]]
    return Move(median(values[parts[best]]), median(values[parts[-1]]), since)


def _find_lasting(series: Series, spread: float) -> Move | None:
    others = DRIFT_RUNS - 1
    usual = series.find_usual(others)
    if len(usual.values) < DRIFT_LEAST_USUAL:
        return None
    level, reach = usual.height, CLIP_SPREADS * spread
    above = [min(max(height - level, -reach), reach) for height in series.heights[-DRIFT_RUNS:]]
    if fmean(above) <= DRIFT_SPREADS * usual.widen(spread, DRIFT_RUNS):
        return None
    after = median((*series.values[-others:], series.value))
    return Move(usual.value, after, series.entries[-others])


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
