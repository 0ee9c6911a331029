"""Distinguish a regression from noise: how far a figure is from those of comparable runs."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from statistics import fmean, median, median_low
from typing import Literal

from loadtest.compare.change_points import find_change_points, find_spread
from loadtest.compare.knee import is_thin
from loadtest.results.history import Cell, Entry, Figure
from loadtest.results.run import Row

# A smaller difference does not count, whatever its ratio.
LEAST_MS = 1.0
LEAST_RATE = 0.1
LEAST_POINTS = 1.0
LEAST_CALLS = 30

# Each run in a row must exceed the usual level by this share and by this number of spreads. The
# noise of p95 and p99 has a longer tail.
ROW_SHARE = 0.15
ROW_SPREADS: Mapping[Figure, float] = {
    "p50": 3.1,
    "p95": 4.0,
    "p99": 4.0,
    "rate": 3.1,
    "failed": 3.1,
}
# Series that are not levelled out (see `level_out`) must exceed this many times more.
STRICTNESS = 1.15
# A drift: worse by this share over the last runs, or since a change point.
DRIFT_SHARE = 0.1
DRIFT_RUNS = 6
DRIFT_SPREADS = 3.8
DRIFT_LEAST_USUAL = 4
DRIFT_LEAST_RUNS = 3
CLIP_SPREADS = 3.0
# A run that is nearer than this to the level before the drift has recovered.
BACK_SHARE = 0.05

# The usual level is the median of this many baselines.
USUAL_RUNS = 20
# The spread to expect before runs have shown it, and how many runs this expectation counts as.
PRIOR_SPREAD: Mapping[Figure, float] = {
    "p50": 0.05,
    "p95": 0.07,
    "p99": 0.1,
    "rate": 0.05,
    "failed": 0.02,
}
PRIOR_RUNS = 6
# The least spread, because a count varies by chance: this number divided by the square root of the
# calls. It applies to the angle of a share and to the logarithm of a rate.
CHANCE: Mapping[Figure, float] = {"failed": 0.5, "rate": 1.0}

# Comparable runs, oldest first, each with a scenario's rows by kind and name.
Peers = Sequence[tuple[Entry, Mapping[tuple[str, str], Row]]]
Evidence = Literal["two runs in a row", "three runs in a row", "drift"]


@dataclass(frozen=True)
class Regression:
    """A figure that is worse than usual: confirmed if it has `evidence`, else suspected.

    `before` is the usual level, `after` the level since the run in which it changed; both are
    measured values. `since` is that run, None for the current run. `runs` is the number of runs
    from that run to the current one.
    """

    before: float
    after: float
    since: Entry | None
    runs: int
    evidence: Evidence | None


@dataclass(frozen=True)
class Series:
    """One cell over the comparable runs that made enough calls, oldest first, and over this run.

    `heights` are the values, this run's last, on a scale with even noise where higher is worse.
    `usable` marks the baselines (see `find_baselines`). Values before `start` belong to the level
    before an accepted regression.
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
        """Return the run of each height; the current run is the empty text."""
        return (*(entry.run.run_id for entry in self.entries), "")

    def find_usual(self, but_last: int = 0) -> "Usual":
        """Return the level of the last baselines, without this number of the newest runs."""
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
        """Return the usual value; it is one that a run measured."""
        return median_low(self.values)

    @property
    def height(self) -> float:
        """Return the usual height."""
        return median(self.heights)

    def widen(self, spread: float, runs: int) -> float:
        """Return the standard error of the difference between some runs' mean and this level."""
        return spread * math.sqrt(1 / runs + 1 / len(self.values))


def is_measured(row: Row, figure: Figure) -> bool:
    """Return whether enough calls were made for this figure."""
    if figure == "failed":
        return row.count >= LEAST_CALLS
    return not is_thin(row, "p50" if figure == "rate" else figure)


def orient(figure: Figure, before: float, value: float) -> float | None:
    """Return how many times worse a latency or rate is; None if one of the values is zero."""
    better, worse = (value, before) if figure == "rate" else (before, value)
    if before == value:
        return 1.0
    return worse / better if better > 0 and worse > 0 else None


def is_worse(figure: Figure, before: float, value: float, share: float) -> bool:
    """Return whether a value is worse by more than this share and by the least difference.

    A rate is worse by the share that is lost. Failures are compared in percentage points; for them
    the least difference is enough.
    """
    if figure == "failed":
        return (value - before) * 100 >= LEAST_POINTS
    return _exceeds(figure, before, before - value if figure == "rate" else value - before, share)


def is_better(figure: Figure, before: float, value: float, share: float) -> bool:
    """Return whether a value is better by more than this share and by the least difference."""
    if figure == "failed":
        return is_worse(figure, value, before, share)
    return _exceeds(figure, before, value - before if figure == "rate" else before - value, share)


def _exceeds(figure: Figure, before: float, apart: float, share: float) -> bool:
    least = LEAST_RATE if figure == "rate" else LEAST_MS
    return apart >= least and (before <= 0 or apart / before > share)


def find_baselines(cell: Cell, entries: Sequence[Entry]) -> list[bool]:
    """Return for each run, oldest first, whether it is a baseline of a figure.

    Runs whose regression is confirmed and not accepted are not baselines. The runs just before them
    in which it was suspected are not either, because they have the regression too.
    """
    usable = []
    regressed = False
    for entry in reversed(entries):
        if cell in entry.confirmed:
            regressed = not entry.accepted
        elif cell not in entry.suspected:
            regressed = False
        usable.append(not regressed)
    return usable[::-1]


def build_series(cell: Cell, value: float, calls: int, peers: Peers) -> Series:
    """Collect a cell from the comparable runs; `value` and `calls` are those of the current run."""
    entries: list[Entry] = []
    values: list[float] = []
    start = 0
    for entry, rows in peers:
        found = entry.figures.get(cell)
        if found is None or not is_measured(rows[cell.kind, cell.name], cell.figure):
            continue
        if cell in entry.confirmed and entry.accepted:
            start = len(entries)
        entries.append(entry)
        values.append(found)
    usable = find_baselines(cell, entries)
    heights = tuple(_find_height(cell.figure, each) for each in (*values, value))
    return Series(cell, tuple(entries), tuple(values), tuple(usable), start, value, calls, heights)


def estimate_spreads(series: Iterable[Series]) -> dict[Cell, float]:
    """Return, per cell, the standard deviation of its heights from run to run.

    A few runs are a poor estimate, and among many cells some always seem quieter than they are. So
    each estimate is moved towards that of its figure in all cells, and that one towards a prior.
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
    """Return the series without the shift that all cells of a run have in common.

    A bad hour of the machine or the network shifts all cells at once; without that shift, a change
    of one tool is easier to see. A change of all cells is invisible in the result.
    """
    lifts: dict[str, list[float]] = {}
    for each in series:
        if each.cell.figure == "p50":
            middle = median(each.heights)
            for run_id, height in zip(each.run_ids, each.heights, strict=True):
                lifts.setdefault(run_id, []).append(height - middle)
    shifts = {run_id: median(found) for run_id, found in lifts.items()}
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


def find_regressions(series: Sequence[Series]) -> Iterator[tuple[Series, Regression]]:
    """Yield the figures that are worse than usual, with the evidence.

    One run confirms nothing. Two runs confirm a figure that is worse than the others of its run. If
    all figures are slower, a third run is needed: it may be a bad hour of the machine or network.
    """
    levelled = level_out(series)
    plain, fine = estimate_spreads(series), estimate_spreads(levelled)
    for each, level in zip(series, levelled, strict=True):
        own, whole = (level, fine[each.cell]), (each, STRICTNESS * plain[each.cell])
        regression = (
            find_in_a_row(*own, 2, "two runs in a row")
            or find_in_a_row(*whole, 3, "three runs in a row")
            or find_drift(*own)
            or find_drift(*whole)
            or find_in_a_row(*whole, 2, None)
            or find_in_a_row(*own, 1, None)
            or find_in_a_row(*whole, 1, None)
        )
        if regression is not None:
            yield each, regression


def find_in_a_row(
    series: Series, spread: float, runs: int, evidence: Evidence | None
) -> Regression | None:
    """Return the regression if this run and those before it, `runs` in all, are above the usual."""
    figure = series.cell.figure
    usual = series.find_usual(runs - 1)
    if not usual.values or len(series.values) < runs:
        return None
    rise = min(series.heights[-runs:]) - usual.height
    if rise <= ROW_SPREADS[figure] * usual.widen(spread, 1):
        return None
    values = (*series.values, series.value)[-runs:]
    if not all(is_worse(figure, usual.value, value, ROW_SHARE) for value in values):
        return None
    begin = min(_find_begin(series, usual.height, rise), len(series.values) + 1 - runs)
    return _build_finding(series, begin, usual.value, evidence)


def find_drift(series: Series, spread: float) -> Regression | None:
    """Return the regression that a change point shows, or the last runs above the usual."""
    regression = _find_level(series, spread) or _find_lasting(series, spread)
    if regression is None:
        return None
    figure, before = series.cell.figure, regression.before
    lasts = regression.runs >= DRIFT_LEAST_RUNS and is_worse(
        figure, before, regression.after, DRIFT_SHARE
    )
    return regression if lasts and is_worse(figure, before, series.value, BACK_SHARE) else None


def find_levels(figure: Figure, values: Sequence[float]) -> tuple[int, ...]:
    """Return where the level of one figure changed: the index of each level's first value."""
    heights = [_find_height(figure, value) for value in values]
    seen = find_spread(heights, heights[-USUAL_RUNS:])
    spread = _draw(PRIOR_SPREAD[figure], seen, min(len(values), USUAL_RUNS))
    return find_change_points(heights, spread)


def _find_level(series: Series, spread: float) -> Regression | None:
    values = (*series.values[series.start :], series.value)
    heights = series.heights[series.start :]
    starts = find_change_points(heights, spread)
    if len(starts) == 1:
        return None
    parts = [slice(*ends) for ends in zip(starts, (*starts[1:], len(values)), strict=True)]
    levels = [median(heights[part]) for part in parts]
    best = levels.index(min(levels[:-1]))
    rise = levels[-1] - levels[best]
    if rise <= 0:
        return None
    begin = _find_begin(series, levels[best], rise)
    return _build_finding(series, begin, median_low(values[parts[best]]), "drift")


def _find_lasting(series: Series, spread: float) -> Regression | None:
    usual = series.find_usual(DRIFT_RUNS - 1)
    if len(usual.values) < DRIFT_LEAST_USUAL:
        return None
    level, reach = usual.height, CLIP_SPREADS * spread
    above = [min(max(height - level, -reach), reach) for height in series.heights[-DRIFT_RUNS:]]
    rise = fmean(above)
    if rise <= DRIFT_SPREADS * usual.widen(spread, DRIFT_RUNS):
        return None
    return _build_finding(series, _find_begin(series, level, rise), usual.value, "drift")


def _build_finding(
    series: Series, begin: int, before: float, evidence: Evidence | None
) -> Regression:
    since = series.entries[begin] if begin < len(series.entries) else None
    after = median_low((*series.values[begin:], series.value))
    return Regression(before, after, since, len(series.entries) + 1 - begin, evidence)


def _find_begin(series: Series, level: float, rise: float) -> int:
    """Return the index of the run in which the level rose, given about how far."""
    begin = _split(series, level, rise)
    return _split(series, level, median(series.heights[begin:]) - level)


def _split(series: Series, level: float, rise: float) -> int:
    """Return the index from which runs are nearer to the risen level than to the one before."""
    begin, most, total = len(series.entries), -math.inf, 0.0
    for place in range(len(series.entries), series.start - 1, -1):
        total += min(max(series.heights[place] - level, 0.0), rise) - rise / 2
        if total > most:
            begin, most = place, total
    return begin


def _find_height(figure: Figure, value: float) -> float:
    """Return a value on a scale with even noise: its logarithm, or the angle of a share."""
    if figure == "failed":
        return math.asin(math.sqrt(min(max(value, 0.0), 1.0)))
    if figure == "rate":
        return -math.log(max(value, 0.0) + LEAST_RATE)
    return math.log(max(value, 0.0) + LEAST_MS)


def _draw(expected: float, seen: float | None, runs: int) -> float:
    if seen is None:
        return expected
    return math.sqrt((PRIOR_RUNS * expected**2 + runs * seen**2) / (PRIOR_RUNS + runs))
