"""Chart of latency over the time of a scenario: a heat map, with failures and renewed bearers."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadtest.report.content.formatting import (
    NO_DATA,
    add_ms,
    format_count,
    format_ms,
)
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.html.vega import (
    WIDTH,
    Axis,
    Chart,
    Datum,
    Layer,
    draw,
    find_log_ticks,
    find_ticks,
    layer,
)
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.intervals import Intervals
from loadtest.results.run import REFUSALS

# At most: a page stays small however long a run is.
MOST_COLUMNS, MOST_ROWS = 60, 24
HEIGHT, LEFT, RIGHT = 190, 54, 54
SHADES = (0.16, 0.36, 0.62, 1.0)
# Above the cells, a lane each for failures, refusals and renewed bearers, as a part of the height.
LANE = 0.07
LANES = (("failed", "bad"), ("refused", "warning"), ("renewed", "quiet"))
MOST_STAGES = 12
LEAST_MS = 0.05


@dataclass(frozen=True)
class _Column:
    """What happened in an interval; `begin` and `end` in seconds."""

    begin: float
    end: float
    latency: Histogram
    marks: Counter[str]


def build_time_chart(scenario: str, intervals: Intervals | None) -> Chart | None:
    """Return the heat map of a scenario; None for a run of an earlier version, or without calls."""
    if intervals is None:
        return None
    pick = _choose_series(scenario, intervals)
    columns = _build_columns(intervals.merge(MOST_COLUMNS), pick)
    known = [column for column in columns if column.latency.buckets]
    if len(known) < 2:
        return None
    x, unit_seconds = _scale_time(columns[-1].end)
    low = max(LEAST_MS, min(column.latency.find_least() for column in known) / 1.1)
    high = max(low * 3, *(column.latency.most * 1.1 for column in known))
    lanes = [name for name in LANES if any(column.marks[name[0]] for column in columns)]
    # The lanes lie above the cells, on the same axis.
    top = high * (high / low) ** (LANE * len(lanes) / (1 - LANE * len(lanes)))
    y = Axis(low, top, "ms", find_log_ticks(low, high), log=True)
    layers = [
        *_mark_gaps(columns, unit_seconds, y),
        *_draw_cells(known, unit_seconds, low, high),
        *_draw_p95(columns, unit_seconds),
        *_draw_lanes(columns, unit_seconds, lanes, high, top),
        *_mark_stages(intervals, unit_seconds, y),
    ]
    picture = draw(layers, x, y, HEIGHT, left=LEFT, right=RIGHT)
    return Chart("Latency over time", _describe(scenario, columns, lanes), picture, _list(columns))


def _choose_series(scenario: str, intervals: Intervals) -> Callable[[str], bool]:
    """Return which series the latency of a scenario is in."""
    if scenario == "cold-start":
        return lambda series: series == "mcp_duration{frame:first dispatch}"
    start = "mcp_duration{"
    if scenario == "sessions" and any("mcp_response" in name for name in intervals.total().trends):
        start = "mcp_response{"
    return lambda series: series.startswith(start)


def _build_columns(intervals: Intervals, pick: Callable[[str], bool]) -> list[_Column]:
    columns = []
    for number in range(intervals.count()):
        part = intervals.parts.get(number, Histograms())
        latency = Histogram()
        for series, histogram in part.trends.items():
            if pick(series):
                latency.add(histogram.most, histogram.buckets.items())
        marks: Counter[str] = Counter(renewed=part.counts["mcp_renewals"])
        for series, count in part.counts.items():
            if series.startswith(("mcp_failures", "mcp_open_failures")):
                reason = series.rpartition("reason:")[2].removesuffix("}")
                marks["refused" if reason in REFUSALS else "failed"] += count
        begin = number * intervals.seconds
        columns.append(_Column(begin, begin + intervals.seconds, latency, marks))
    return columns


def _scale_time(seconds: float) -> tuple[Axis, float]:
    """Return the axis of time, and its unit in seconds."""
    unit, name = next(
        (unit, name)
        for unit, name, least in ((3600.0, "h", 7200), (60.0, "min", 180), (1.0, "s", 0))
        if seconds >= least
    )
    ticks = tuple(tick for tick in find_ticks(seconds / unit) if tick <= seconds / unit * 1.001)
    return Axis(0, seconds / unit, name, ticks, grid=False), unit


def _draw_cells(
    columns: Sequence[_Column], unit_seconds: float, low: float, high: float
) -> Iterator[Layer]:
    """Yield the cells of each shade: the more calls, the darker, on a logarithmic scale."""
    step = math.log(high / low) / MOST_ROWS
    cells: Counter[tuple[int, int]] = Counter()
    for place, column in enumerate(columns):
        for ms, count in column.latency.list_middles():
            row = int(math.log(max(ms, low) / low) / step)
            cells[place, min(row, MOST_ROWS - 1)] += count
    most = max(cells.values())
    shaded: dict[float, list[Datum]] = {shade: [] for shade in SHADES}
    for (place, row), count in sorted(cells.items()):
        rank = math.log(count) / math.log(most) if most > 1 else 1.0
        column = columns[place]
        shaded[SHADES[min(int(rank * len(SHADES)), len(SHADES) - 1)]].append(
            {
                "x": column.begin / unit_seconds,
                "x2": column.end / unit_seconds,
                "y": low * math.exp(row * step),
                "y2": low * math.exp((row + 1) * step),
            }
        )
    for shade, data in shaded.items():
        yield layer("rect", data, "p50", opacity=shade)


def _draw_p95(columns: Sequence[_Column], unit_seconds: float) -> Iterator[Layer]:
    """Yield a line of the p95 through neighbouring columns with calls, with its name at the end."""
    line: list[Datum] = []
    lines = [line]
    for column in columns:
        if column.latency.buckets:
            middle = (column.begin + column.end) / 2 / unit_seconds
            line.append({"x": middle, "y": column.latency.percentiles([0.95])[0]})
        elif line:
            line = []
            lines.append(line)
    for each in lines:
        yield layer("line", each, "p95", strokeWidth=2)
    last = {**next(each for each in reversed(lines) if each)[-1], "label": "p95"}
    yield layer("text", [last], "p95", align="left", baseline="middle", dx=7, fontWeight=600)


def _mark_gaps(columns: Sequence[_Column], unit_seconds: float, y: Axis) -> Iterator[Layer]:
    """Yield a shade over the columns in which no call was sent that was answered ok."""
    gaps: list[Datum] = [
        {
            "x": column.begin / unit_seconds,
            "x2": column.end / unit_seconds,
            "y": y.low,
            "y2": y.high,
        }
        for column in columns
        if not column.latency.buckets
    ]
    yield layer("rect", gaps, "shade")


def _draw_lanes(
    columns: Sequence[_Column],
    unit_seconds: float,
    lanes: Sequence[tuple[str, str]],
    high: float,
    top: float,
) -> Iterator[Layer]:
    """Yield marks above the cells: where calls failed or were refused, or bearers were renewed."""
    step = math.log(top / high) / len(lanes) if lanes else 0.0
    for place, (name, color) in enumerate(lanes):
        low, up = (high * math.exp(step * (place + part)) for part in (0.25, 0.9))
        found = [column for column in columns if column.marks[name]]
        data: list[Datum] = [
            {
                "x": column.begin / unit_seconds,
                "x2": column.end / unit_seconds,
                "y": low,
                "y2": up,
            }
            for column in found
        ]
        yield layer("rect", data, color)
        label = {"x": columns[-1].end / unit_seconds, "y": math.sqrt(low * up), "label": name}
        yield layer("text", [label], color, align="left", baseline="middle", dx=3, fontSize=11)


def _mark_stages(intervals: Intervals, unit_seconds: float, y: Axis) -> Iterator[Layer]:
    """Yield a rule where each stage of a ladder begins, with its number of sessions."""
    begins: dict[str, int] = {}
    for number, part in sorted(intervals.parts.items()):
        for series in part.trends:
            stage = series.partition("{stage:")[2].removesuffix("}")
            if stage:
                begins.setdefault(stage, number)
    if not 1 < len(begins) <= MOST_STAGES:
        return
    rules: list[Datum] = []
    for stage, number in begins.items():
        at = number * intervals.seconds / unit_seconds
        rules.append({"x": at, "y": y.low, "y2": y.high, "label": stage})
    yield layer("rule", rules, "quiet", strokeDash=[2, 3])
    tops: list[Datum] = [{**rule, "y": y.high} for rule in rules]
    room = (WIDTH - LEFT - RIGHT) / (intervals.count() * intervals.seconds / unit_seconds)
    apart = [after["x"] - before["x"] for before, after in pairwise(rules)]  # type: ignore[operator]
    if all(each * room >= 24 for each in apart):
        yield layer("text", tops, "quiet", align="left", dx=2, dy=-7)


def _describe(scenario: str, columns: Sequence[_Column], lanes: Sequence[tuple[str, str]]) -> str:
    """Return what is to be seen, with the extremes in numbers."""
    known = [column for column in columns if column.latency.buckets]
    p95 = [column.latency.percentiles([0.95])[0] for column in known]
    what = {"cold-start": "first dispatches", "sessions": "calls, from when they were due"}
    seconds = columns[0].end - columns[0].begin
    parts = [
        f"Successful {what.get(scenario, 'calls')}, by the time at which they were sent: the "
        f"darker, the more. Intervals of {seconds:g} s, logarithmic scale.",
        f"p95 of an interval: {add_ms(format_ms(min(p95)))} to {add_ms(format_ms(max(p95)))}.",
    ]
    if len(known) < len(columns):
        parts.append("Shaded: none was sent.")
    totals = [
        f"{format_count(sum(column.marks[name] for column in columns))} "
        f"{'bearers renewed' if name == 'renewed' else name}"
        for name, _ in lanes
    ]
    if totals:
        parts.append(f"Marks above: {', '.join(totals)}.")
    return " ".join(parts)


def _list(columns: Sequence[_Column]) -> ReportTable:
    headers = ("from s", "ok", "p50", "p95", "max", "failed", "refused")
    lines = []
    for column in columns:
        latency = column.latency
        times = [NO_DATA] * 3
        if latency.buckets:
            times = [format_ms(ms) for ms in (*latency.percentiles([0.5, 0.95]), latency.most)]
        counts = [format_count(column.marks[name]) for name in ("failed", "refused")]
        texts = (f"{column.begin:g}", format_count(latency.count()), *times, *counts)
        lines.append(tuple(map(TableCell, texts)))
    named = tuple(Column(header, header) for header in headers)
    return ReportTable("Latency in ms by interval", named, tuple(lines))
