"""One figure over the comparable runs: its values, its usual level, its spread from run to run."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from statistics import median, median_low

from loadtest.compare.change_points import find_change_points, find_spread
from loadtest.compare.knee import is_thin
from loadtest.results.history import Cell, Entry, Figure
from loadtest.results.run import Row

# A smaller difference does not count, whatever its ratio.
LEAST_MS = 1.0
LEAST_RATE = 0.1
LEAST_POINTS = 1.0
LEAST_CALLS = 30

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
# Fewer rows do not show what all rows of a run have in common.
LEAST_COMMON_ROWS = 3
# Stands for the shift that all rows of a run have in common; its values are ratios times 1,000.
COMMON = Cell("", "all", "", "p50")

# Comparable runs, oldest first, each with a scenario's rows by kind and name.
Peers = Sequence[tuple[Entry, Mapping[tuple[str, str], Row]]]


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

    def is_regressed(self) -> bool:
        """Return whether the previous run has a confirmed regression that nobody has accepted."""
        return any(self.cell in each.confirmed and not each.accepted for each in self.entries[-1:])

    def was_suspected(self) -> bool:
        """Return whether the previous run has a regression that no repeat has contradicted."""
        return any(self.cell in each.confirmed | each.suspected for each in self.entries[-1:])

    def find_usual(self, but_last: int = 0, runs: int = USUAL_RUNS) -> "Usual":
        """Return the level of the last `runs` baselines, without `but_last` of the newest runs."""
        part = slice(self.start, max(self.start, len(self.values) - but_last))
        values = list(compress(self.values[part], self.usable[part]))[-runs:]
        heights = list(compress(self.heights[part], self.usable[part]))[-runs:]
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

    def find_ceiling(self, runs: int) -> float:
        """Return the highest level that this many baselines in a row have had."""
        windows = (self.heights[end - runs : end] for end in range(runs, len(self.heights) + 1))
        return max(map(median_low, windows), default=-math.inf)

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
    heights = tuple(find_height(cell.figure, each) for each in (*values, value))
    return Series(cell, tuple(entries), tuple(values), tuple(usable), start, value, calls, heights)


def level_out(series: Sequence[Series]) -> tuple[list[Series], Series | None]:
    """Return the series without the shift that all rows of a run have in common, and that shift.

    A bad hour of the machine or the network shifts all rows at once; without that shift, a change
    of one tool is easier to see. The shift is the median over the p50 of all rows, in which every
    scenario has the same weight; None if there are too few rows.
    """
    latencies = [each for each in series if each.cell.figure == "p50"]
    if len(latencies) < LEAST_COMMON_ROWS:
        return list(series), None
    sizes = Counter(each.cell.scenario for each in latencies)
    lifts: dict[str, list[tuple[float, float]]] = {}
    for each in latencies:
        middle = median(each.heights)
        for run_id, height in zip(each.run_ids, each.heights, strict=True):
            pair = height - middle, 1 / sizes[each.cell.scenario]
            lifts.setdefault(run_id, []).append(pair)
    shifts = {run_id: _find_weighted_median(found) for run_id, found in lifts.items()}
    levelled = [_shift(each, shifts) if _follows(each.cell) else each for each in series]
    return levelled, _build_common(latencies, shifts)


def _find_weighted_median(pairs: Iterable[tuple[float, float]]) -> float:
    ordered = sorted(pairs)
    half, total = sum(weight for _, weight in ordered) / 2, 0.0
    for value, weight in ordered[:-1]:
        total += weight
        if total >= half:
            return value
    return ordered[-1][0]


def _follows(cell: Cell) -> bool:
    """Return whether a figure follows a shift of latency: failures and offered rates do not."""
    return cell.figure != "failed" and (cell.figure != "rate" or cell.kind != "stage")


def _shift(series: Series, shifts: Mapping[str, float]) -> Series:
    pairs = zip(series.run_ids, series.heights, strict=True)
    heights = tuple(height - shifts.get(run_id, 0.0) for run_id, height in pairs)
    return replace(series, heights=heights)


def _build_common(latencies: Sequence[Series], shifts: Mapping[str, float]) -> Series:
    """Return the common shift as a series; a run is its baseline if it is one of most rows."""
    entries = {entry.run.run_id: entry for each in latencies for entry in each.entries}
    ordered = sorted(entries.values(), key=lambda entry: entry.run.started)
    votes: dict[str, list[bool]] = {}
    for each in latencies:
        for entry, is_usable in zip(each.entries, each.usable, strict=True):
            votes.setdefault(entry.run.run_id, []).append(is_usable)
    starts = [each.entries[each.start].run.started for each in latencies if each.start]
    begin = max(starts) if 2 * len(starts) > len(latencies) else ""
    heights = [shifts[entry.run.run_id] for entry in ordered]
    return Series(
        COMMON,
        tuple(ordered),
        tuple(1000 * math.exp(height) for height in heights),
        tuple(2 * sum(votes[each.run.run_id]) > len(votes[each.run.run_id]) for each in ordered),
        sum(entry.run.started < begin for entry in ordered),
        1000 * math.exp(shifts[""]),
        sum(each.calls for each in latencies),
        (*heights, shifts[""]),
    )


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


def find_levels(figure: Figure, values: Sequence[float]) -> tuple[int, ...]:
    """Return where the level of one figure changed: the index of each level's first value."""
    heights = [find_height(figure, value) for value in values]
    seen = find_spread(heights, heights[-USUAL_RUNS:])
    spread = _draw(PRIOR_SPREAD[figure], seen, min(len(values), USUAL_RUNS))
    return find_change_points(heights, spread)


def find_height(figure: Figure, value: float) -> float:
    """Return a value on a scale with even noise: its logarithm, or the angle of a share."""
    if figure == "failed":
        return math.asin(math.sqrt(min(max(value, 0.0), 1.0)))
    if figure == "rate":
        return -math.log(max(value, 0.0) + LEAST_RATE)
    return math.log(max(value, 0.0) + LEAST_MS)


def find_value(figure: Figure, height: float) -> float:
    """Return the value at a height; the inverse of `find_height`."""
    if figure == "failed":
        return math.sin(height) ** 2
    return math.exp(-height) - LEAST_RATE if figure == "rate" else math.exp(height) - LEAST_MS


def _draw(expected: float, seen: float | None, runs: int) -> float:
    if seen is None:
        return expected
    return math.sqrt((PRIOR_RUNS * expected**2 + runs * seen**2) / (PRIOR_RUNS + runs))
