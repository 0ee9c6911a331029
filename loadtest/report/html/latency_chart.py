"""Chart of latency percentiles for each tool of the mix, or each step of a cold start."""

import math
from collections.abc import Sequence
from dataclasses import astuple

from loadtest.report.content.formatting import PERCENTILES, format_cell, format_count, format_ms
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.content.wording import name_called, name_mix
from loadtest.report.html.vega import (
    Axis,
    Chart,
    Datum,
    draw,
    find_log_ticks,
    find_ticks,
    layer,
    shorten,
)
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.history import is_aggregate
from loadtest.results.intervals import Intervals
from loadtest.results.run import CALLED, Percentiles, Row
from loadtest.results.run_folder import RunFolder

ROW_HEIGHT = 44
HILL_HEIGHT, HILL_BINS = 26, 72
MARGIN = 8
MOST_TOOL_NAME = 24
SHORTEST_MS = 0.01
# Beyond this ratio, a linear axis would show only the slowest row.
LOG_RATIO = 30
_HEADERS = ("ok", "p50", "p90", "p95", "p99", "max")


def build_latency_chart(
    folder: RunFolder, scenario: str, title: str, intervals: Intervals | None = None
) -> Chart | None:
    """Return a chart of p50, p95, p99 and the slowest call of each row, over its distribution.

    Runs of earlier versions have no distribution.
    """
    kinds = {*CALLED, "flow", "frame"}
    rows = [row for row in folder.rows if row.scenario == scenario and row.kind in kinds]
    rows.sort(key=is_aggregate)
    known = [(row, row.duration) for row in rows if row.duration and row.ok]
    if not known:
        return None
    x = _scale([latency for _, latency in known])
    whole = intervals.total() if intervals is not None else None
    hill = HILL_HEIGHT if whole is not None else 0
    height = (ROW_HEIGHT + hill) * len(known)
    # From the top: a name above each track.
    places = [height - (ROW_HEIGHT + hill) * place - 30 - hill for place in range(len(known))]

    def spans(begin: str, end: str) -> list[Datum]:
        return [
            {"x": _clip(getattr(latency, begin), x), "x2": _clip(getattr(latency, end), x), "y": y}
            for (_, latency), y in zip(known, places, strict=True)
        ]

    def dots(name: str) -> list[Datum]:
        return [{"x": span["x"], "y": span["y"]} for span in spans(name, name)]

    left = [
        {"x": x.low, "y": y + 10 + hill, "label": shorten(_name(row, rows), MOST_TOOL_NAME)}
        for (row, _), y in zip(known, places, strict=True)
    ]
    right = [
        {"x": x.high, "y": y + 10 + hill, "label": _describe(row, latency)}
        for (row, latency), y in zip(known, places, strict=True)
    ]
    hills = [
        layer("area", data, "p50", opacity=0.28, interpolate="monotone")
        for (row, _), y in zip(known, places, strict=True)
        if whole is not None and (data := _build_hill(_find_histogram(whole, row), x, y))
    ]
    layers = [
        *hills,
        layer("rule", spans("p50", "max"), "track", strokeWidth=1.5),
        layer("rule", spans("p50", "p99"), "p50", strokeWidth=3, opacity=0.35),
        layer("rule", spans("p50", "p95"), "p50", strokeWidth=7, opacity=0.55),
        layer("point", dots("p50"), "p50", filled=True, size=70, opacity=1),
        layer("tick", dots("p95"), "p95", orient="vertical", thickness=2, size=12),
        layer("tick", dots("p99"), "p99", orient="vertical", thickness=2, size=12),
        layer("point", dots("max"), "quiet", filled=False, size=22, opacity=1),
        layer("text", left, align="left", baseline="bottom", fontWeight=600),
        layer("text", right, "quiet", align="right", baseline="bottom"),
    ]
    y = Axis(0, height, "", shown=False)
    picture = draw(layers, x, y, height, left=MARGIN, right=2 * MARGIN, top=0)
    description = (
        "Dot: p50. Thick bar: up to p95. Thin bar: up to p99. Hairline: up to the slowest call. "
        f"{'Hill: the distribution of the calls. ' if whole is not None else ''}"
        f"{'Logarithmic scale.' if x.log else ''}"
    ).strip()
    return Chart(title, description, picture, _build_data(scenario, rows))


def _find_histogram(whole: Histograms, row: Row) -> Histogram:
    """Return the distribution of a row; for all tools together, add up that of each tool."""
    if row.kind == "frame" and row.scenario == "soak":
        names = ["mcp_first_dispatch"]
    elif is_aggregate(row):
        names = [name for name in whole.trends if name.startswith("mcp_duration{tool:")]
    elif row.kind == "flow":
        names = [f"mcp_flow{{flow:{row.name}}}"]
    else:
        selector = "frame" if row.kind == "frame" else "tool"
        names = [f"mcp_duration{{{selector}:{row.name}}}"]
    found = Histogram()
    for name in names:
        if name in whole.trends:
            found.add(whole.trends[name].most, whole.trends[name].buckets.items())
    return found


def _build_hill(histogram: Histogram, x: Axis, y: float) -> list[Datum]:
    """Return the outline of a distribution above a track; the most frequent is the highest."""
    bins = [0] * HILL_BINS
    for middle, count in histogram.list_middles():
        at = _clip(middle, x)
        span = math.log(at / x.low) / math.log(x.high / x.low) if x.log else at / x.high
        bins[min(int(span * HILL_BINS), HILL_BINS - 1)] += count
    most = max(bins)
    if not most:
        return []
    points: list[Datum] = []
    for place, count in enumerate(bins):
        span = (place + 0.5) / HILL_BINS
        at = x.low * (x.high / x.low) ** span if x.log else x.low + (x.high - x.low) * span
        points.append({"x": at, "y": y, "y2": y + HILL_HEIGHT * count / most})
    return points


def _build_data(scenario: str, rows: Sequence[Row]) -> ReportTable:
    first = name_mix(rows) if scenario == "tools" else "step"
    columns = tuple(Column(header, header, header != first) for header in (first, *_HEADERS))
    lines = []
    for row in rows:
        # p90 and max have no mark for too few calls.
        times = {"p90": row.duration.p90, "max": row.duration.max} if row.duration else {}
        cells = {name: format_ms(times.get(name)) for name in ("p90", "max")}
        cells |= {name: format_cell(row, row.duration, name) for name in PERCENTILES}
        texts = (_name(row, rows), format_count(row.ok), *(cells[name] for name in _HEADERS[1:]))
        lines.append(tuple(map(TableCell, texts)))
    return ReportTable("Latency in ms of successful calls", columns, tuple(lines))


def _describe(row: Row, latency: Percentiles) -> str:
    return " · ".join(f"{name} {format_cell(row, latency, name)}" for name in PERCENTILES)


def _name(row: Row, rows: Sequence[Row]) -> str:
    if is_aggregate(row):
        return f"all {name_mix(rows)}s"
    return name_called(row.kind, row.name)


def _scale(latencies: Sequence[Percentiles]) -> Axis:
    """Return an axis over all values; logarithmic if they differ much."""
    low = max(SHORTEST_MS, min(latency.p50 for latency in latencies))
    high = max(SHORTEST_MS, *(max(astuple(latency)) for latency in latencies))
    if high / low < LOG_RATIO:
        ticks = find_ticks(high)
        return Axis(0, ticks[-1], "ms", ticks)
    low, high = low / 1.3, high * 1.1
    return Axis(low, high, "ms", find_log_ticks(low, high), log=True)


def _clip(value: float, axis: Axis) -> float:
    return min(max(value, axis.low), axis.high)
