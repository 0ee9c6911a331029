"""Charts of figures over runs: every run, the levels, and confirmed regressions."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median_low

from loadtest.compare.baselines import find_peers
from loadtest.compare.change_points import LEAST_LEVEL_RUNS
from loadtest.compare.changes import REGRESSED, Change
from loadtest.compare.comparison import Comparison
from loadtest.compare.series import find_levels
from loadtest.report.content.formatting import format_change, format_figure
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.content.trend import UNITS, pick_leading
from loadtest.report.content.wording import clean, name_cell
from loadtest.report.html.vega import RIGHT, Axis, Chart, Layer, Picture, draw, find_ticks, layer
from loadtest.results.history import Cell, Entry
from loadtest.results.run_folder import RunFolder

TREND_HEIGHT = 130
MOST_REGRESSED = 8
MOST_CHANGES = 3
# More dots than this would hide the line.
MOST_DOTS = 60
# Values that differ by less than this share do not fill the height.
LEAST_SPAN = 0.5
_KEY_CELLS = (
    Cell("tools", "tool", "all", "p95"),
    Cell("tools", "tool", "all", "rate"),
    Cell("cold-start", "frame", "first dispatch", "p50"),
)


@dataclass(frozen=True)
class TrendSeries:
    """A cell over comparable runs, oldest first; `starts` are where its level changed, 0 first."""

    cell: Cell
    entries: tuple[Entry, ...]
    values: tuple[float, ...]
    starts: tuple[int, ...]

    def add_level(self, since: Entry) -> "TrendSeries":
        """Return the series with the level that a regression began; it replaces one nearby."""
        run_ids = [entry.run.run_id for entry in self.entries]
        if since.run.run_id not in run_ids:
            return self
        place = run_ids.index(since.run.run_id)
        others = [start for start in self.starts if not 0 < abs(place - start) < LEAST_LEVEL_RUNS]
        return replace(self, starts=tuple(sorted({0, *others, place})))

    def list_levels(self) -> list[tuple[int, int, float]]:
        """Return each level: its first run, the one after its last, and its middle value."""
        ends = (*self.starts, len(self.values))
        return [(begin, end, median_low(self.values[begin:end])) for begin, end in pairwise(ends)]


def build_trends(
    folder: RunFolder, comparison: Comparison, earlier: Sequence[Entry]
) -> tuple[Chart, ...]:
    """Return a chart for each regression, the worst first, and the leading figures."""
    regressed = [each.lead for each in comparison.findings if each.status in REGRESSED]
    cells = dict.fromkeys((*regressed[:MOST_REGRESSED], *pick_key_cells(folder)))
    entry = Entry(folder.run, folder.rows, confirmed=comparison.confirmed)
    found = []
    for series in find_series(cells, entry, earlier):
        regression = comparison.changes[series.cell].regression
        since = regression.since if regression and regression.evidence else None
        found.append(series.add_level(since) if since else series)
    return tuple(draw_trends(folder, found))


def pick_key_cells(folder: RunFolder) -> tuple[Cell, ...]:
    """Return the key figures of a run, the leading one first."""
    return tuple(dict.fromkeys((pick_leading(folder), *_KEY_CELLS)))


def find_series(
    cells: Iterable[Cell], entry: Entry, earlier: Sequence[Entry]
) -> Iterator[TrendSeries]:
    """Yield each cell over the runs comparable with `entry`, and itself, if there are two."""
    peers: dict[str, tuple[Entry, ...]] = {}
    for cell in cells:
        if cell.scenario not in peers:
            peers[cell.scenario], *_ = find_peers(entry, earlier, cell.scenario)
        found = [
            (each, value)
            for each in (*peers[cell.scenario], entry)
            if math.isfinite(value := each.figures.get(cell, math.nan))
        ]
        if len(found) > 1 and found[-1][0] is entry:
            entries, values = zip(*found, strict=True)
            yield TrendSeries(cell, entries, values, find_levels(cell.figure, values))


def draw_trends(folder: RunFolder, found: Iterable[TrendSeries]) -> Iterator[Chart]:
    """Yield a chart of each series."""
    for series in found:
        title = name_cell(folder, series.cell)
        yield Chart(title, _describe(series), _draw(series), _build_data(title, series))


def _draw(series: TrendSeries) -> Picture:
    factor = 100.0 if series.cell.figure == "failed" else 1.0
    points = [{"x": place, "y": value * factor} for place, value in enumerate(series.values)]
    last = len(points) - 1
    y = _scale(series, factor)
    levels = [
        {"x": max(0.0, begin - 0.5), "x2": min(last, end - 0.5), "y": level * factor}
        for begin, end, level in series.list_levels()
    ]
    moves = [{"x": start - 0.5, "y": y.low, "y2": y.high} for start in series.starts[1:]]
    marked = [
        point
        for point, entry in zip(points, series.entries, strict=True)
        if series.cell in entry.confirmed
    ]
    layers = [
        layer("rule", moves, "quiet", strokeDash=[2, 3]),
        layer("rule", levels, "track", strokeWidth=5),
        layer("line", points, "p50", strokeWidth=1.5 if len(points) <= MOST_DOTS else 1),
    ]
    if len(points) <= MOST_DOTS:
        layers.append(layer("point", points, "p50", filled=True, size=16, opacity=1))
    layers.append(layer("point", marked, "bad", filled=True, size=60, shape="diamond", opacity=1))
    if not marked or marked[-1] is not points[-1]:
        layers.append(layer("point", points[-1:], "p50", filled=True, size=50, opacity=1))
    return draw(
        [*layers, *_name_days(series, y)],
        Axis(0, last, "", shown=False),
        y,
        TREND_HEIGHT,
        right=RIGHT // 2,
    )


def _name_days(series: TrendSeries, y: Axis) -> Iterator[Layer]:
    """Yield the days of the first run, of one in the middle and of the last, below the axis."""
    last = len(series.entries) - 1
    places = {0: "left", last: "right"} | ({last // 2: "center"} if last > 2 else {})
    for place, align in places.items():
        day = clean(series.entries[place].run.started[:10])
        label = {"x": place, "y": y.low, "label": day}
        yield layer("text", [label], "quiet", align=align, baseline="top", dy=9)


def _scale(series: TrendSeries, factor: float) -> Axis:
    low, high = min(series.values) * factor, max(series.values) * factor
    middle, span = (low + high) / 2, max(high - low, high * LEAST_SPAN, 0.01)
    ticks = find_ticks(middle + span / 2, max(0.0, middle - span / 2))
    return Axis(ticks[0], ticks[-1], UNITS.get(series.cell.figure, "ms"), ticks)


def _describe(series: TrendSeries) -> str:
    """Return the current value of the figure, and where its level changed."""
    figure = series.cell.figure
    parts = [f"{format_figure(figure, series.values[-1])} in the last of {len(series.values)} runs"]
    levels = series.list_levels()
    moves = list(pairwise(levels))
    for (_, _, before), (start, _, after) in moves[-MOST_CHANGES:]:
        day = clean(series.entries[start].run.started[:10])
        change = format_change(figure, Change(after, "same", before))
        texts = (format_figure(figure, level) for level in (before, after))
        parts.append(f"level changed from {' to '.join(texts)} ({change}) on {day}")
    count = sum(series.cell in entry.confirmed for entry in series.entries)
    if count:
        parts.append(f"{count} run{'s' * (count != 1)} with a confirmed regression")
    return f"{'; '.join(parts)}."


def _build_data(title: str, series: TrendSeries) -> ReportTable:
    """Return the runs of a series, newest first."""
    figure = series.cell.figure
    columns = (Column("run", "run", numeric=False), Column("day", "day", numeric=False))
    rows = [
        (
            TableCell(clean(entry.run.run_id)),
            TableCell(clean(entry.run.started[:10])),
            TableCell(
                format_figure(figure, value),
                status="confirmed" if series.cell in entry.confirmed else None,
            ),
        )
        for entry, value in zip(series.entries, series.values, strict=True)
    ]
    return ReportTable(title, (*columns, Column("figure", "figure")), tuple(reversed(rows)))
