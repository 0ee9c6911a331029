"""What rose within a long run: latency, first dispatch, refusals and failures, by interval."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from loadtest.compare.series import LEAST_MS
from loadtest.compare.slopes import Slope, fit_shares, fit_slope
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.intervals import Intervals
from loadtest.results.run import REFUSALS, Rise, RiseFigure, RowKind

# A figure that rises by less over the whole run does not matter, even if it is clear.
LEAST_RISE = 0.25
LEAST_SHARE_RISE = 0.01
# Fewer intervals show no slope; with more calls in each, a percentile is steadier.
LEAST_INTERVALS = 12
_CALLS: Mapping[RiseFigure, int] = {"p95": 30, "p50": 10}
# With fewer calls, the p95 is too unsteady, and the p50 tells more.
_LEAST_FOR_P95 = 1200
_SHARES: Mapping[RiseFigure, float] = {"p95": 0.95, "p50": 0.5}
# The control explains a rise if it rose by this part of it.
_EXPLAINED = 0.5
_HOUR_SECONDS = 3600.0
# By figure: the counters of what did not succeed, and the trends of what did.
_COUNTED: tuple[tuple[RowKind, str, str, str], ...] = (
    ("tool", "all", "mcp_failures", "mcp_duration"),
    ("opening", "all", "mcp_open_failures", "mcp_opening"),
    ("stream", "all", "mcp_stream_failures", "mcp_stream_held"),
)


def find_rises(intervals: Intervals) -> tuple[Rise, ...]:
    """Return the figures that rose clearly and by much, those that rose most first.

    The first and the last interval are incomplete and do not count.
    """
    count = intervals.count()
    whole = Intervals(
        intervals.seconds,
        {number: part for number, part in intervals.parts.items() if 0 < number < count - 1},
    )
    control = _fit_latency(whole, "mcp_control", "p50")
    found = [*_find_latencies(whole, control), *_find_shares(whole)]
    return tuple(sorted(found, key=_rank))


def _rank(rise: Rise) -> float:
    """Return what sorts shares before latencies, then the largest rise."""
    return -math.inf if rise.figure in {"failed", "refused"} else -rise.end / max(rise.start, 1e-9)


def _find_latencies(intervals: Intervals, control: Slope | None) -> Iterator[Rise]:
    counts: Counter[str] = Counter()
    for part in intervals.parts.values():
        counts.update({name: histogram.count() for name, histogram in part.trends.items()})
    named: list[tuple[str, RowKind, str, RiseFigure]] = [
        (
            name,
            "tool",
            name.removeprefix("mcp_duration{tool:").removesuffix("}"),
            "p95" if count >= _LEAST_FOR_P95 else "p50",
        )
        for name, count in sorted(counts.items())
        if name.startswith("mcp_duration{tool:")
    ]
    named.append(("mcp_first_dispatch", "frame", "first dispatch", "p50"))
    for name, kind, row, figure in named:
        slope = _fit_latency(intervals, name, figure)
        if slope is None or not slope.is_clear or slope.change < LEAST_MS:
            continue
        if slope.change < LEAST_RISE * max(slope.start, LEAST_MS):
            continue
        yield replace(_build(kind, row, figure, slope), is_explained=_explains(control, slope))


def _explains(control: Slope | None, slope: Slope) -> bool:
    """Return whether the control rose as well, by half of the share by which the figure rose."""
    if control is None or not control.is_clear or control.start <= 0:
        return False
    return control.change / control.start > _EXPLAINED * slope.change / max(slope.start, LEAST_MS)


def _find_shares(intervals: Intervals) -> Iterator[Rise]:
    figures: tuple[tuple[RiseFigure, Callable[[str], bool]], ...] = (
        ("refused", lambda reason: reason in REFUSALS),
        ("failed", lambda reason: reason not in REFUSALS),
    )
    for kind, row, counter, trend in _COUNTED:
        for figure, is_counted in figures:
            points = []
            for number in range(1, intervals.count()):
                part = intervals.parts.get(number, Histograms())
                bad, failed = 0, 0
                for series, events in part.counts.items():
                    if series.partition("{")[0] == counter:
                        failed += events
                        reason = series.rpartition("reason:")[2].removesuffix("}")
                        bad += events * is_counted(reason)
                names = (name for name in part.trends if name.partition("{")[0] == trend)
                ok = sum(part.trends[name].count() for name in names)
                points.append((number * intervals.seconds / _HOUR_SECONDS, bad, failed + ok))
            slope = fit_shares(points)
            if slope is not None and slope.is_clear and slope.change >= LEAST_SHARE_RISE:
                yield _build(kind, row, figure, slope)


def _fit_latency(intervals: Intervals, series: str, figure: RiseFigure) -> Slope | None:
    """Return the slope in ms per hour of a percentile, over intervals with enough calls."""
    known = [part.count(series) for part in intervals.parts.values() if series in part.trends]
    if not known:
        return None
    factor = max(1, math.ceil(_CALLS[figure] * len(known) / sum(known)))
    most = max(LEAST_INTERVALS, math.ceil(intervals.count() / factor))
    merged = intervals.merge(most)
    points = []
    for number, part in sorted(merged.parts.items()):
        histogram = part.trends.get(series, Histogram())
        if histogram.count() >= _CALLS[figure] / 2:
            hours = (number + 0.5) * merged.seconds / _HOUR_SECONDS
            points.append((hours, histogram.percentiles([_SHARES[figure]])[0]))
    return fit_slope(points) if len(points) >= LEAST_INTERVALS else None


def _build(kind: RowKind, name: str, figure: RiseFigure, slope: Slope) -> Rise:
    start = max(0.0, slope.start)
    most = 1.0 if figure in {"failed", "refused"} else math.inf
    end = min(most, start + slope.change)
    return Rise(kind, name, figure, slope.per_unit, slope.error, start, end)
