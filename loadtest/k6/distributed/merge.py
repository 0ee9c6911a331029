"""The figures of a fleet as one summary: counts are added up, percentiles come of all samples."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from loadtest.k6.distributed.histogram import Histogram, Tally
from loadtest.k6.summary import Summary

SHARES = {"p(50)": 0.5, "p(90)": 0.9, "p(95)": 0.95, "p(99)": 0.99}
# Not told by tallies, and of each runner by itself.
_COUNTED = ("mcp_sessions_opened", "mcp_sessions_closed", "mcp_held")
_CAPACITY = "reason:capacity}"  # the server's ceiling is no failure


def merge(summaries: Sequence[Summary], tally: Tally, max_failure_share: float) -> Summary:
    """Return what k6 would have said of the whole, as far as rows ask for it.

    `summaries` are of the runners that told theirs, one at least; `tally` is of all runners.
    Percentiles are within 0.5 % of those of all samples, but for gaps that a runner's summary
    filled; counts and maxima are exact.
    """
    own = summaries[0].loadtest
    elapsed = [each.loadtest.elapsed_ms for each in summaries if each.loadtest.elapsed_ms]
    if own.scenario == "tools":
        tally = _with_totals(tally)
    metrics: dict[str, dict[str, Any]] = {
        series: describe(histogram) for series, histogram in sorted(tally.trends.items())
    }
    metrics |= {series: {"count": count} for series, count in sorted(tally.counts.items())}
    ended = [each.metrics["mcp_ended"] for each in summaries if each.count("mcp_ended")]
    if ended:
        metrics["mcp_ended"] = {
            "count": sum(each["count"] for each in ended),
            "max": max(each["max"] for each in ended),
        }
    for series in sorted({name for each in summaries for name in each.metrics}):
        if series.partition("{")[0] in _COUNTED:
            metrics[series] = {"count": sum(each.count(series) for each in summaries)}
    for selector in _list_selectors(summaries[0]):
        metrics[f"mcp_failed{selector}"] = _measure_failures(metrics, selector, max_failure_share)
    began = [each.loadtest.began for each in summaries if each.loadtest.began]
    merged = own.model_copy(
        update={"elapsed_ms": max(elapsed, default=None), "began": min(began, default=None)}
    )
    return Summary(loadtest=merged, metrics=metrics)


def describe(histogram: Histogram) -> dict[str, float]:
    """Return a trend as k6 sums it up, in ms."""
    percentiles = histogram.percentiles(SHARES.values())
    return {
        **dict(zip(SHARES, percentiles, strict=True)),
        "max": histogram.most,
        "count": histogram.count(),
    }


def _with_totals(tally: Tally) -> Tally:
    """Return a tally that has the sums over all tools as well."""
    whole = Tally()
    whole.add(tally)
    for series, histogram in tally.trends.items():
        if "{tool:" in series:
            total = whole.trends.setdefault(series.partition("{")[0], Histogram())
            total.add(histogram.most, histogram.buckets.items())
    totals: Counter[str] = Counter()
    for series, count in tally.counts.items():
        if "{tool:" in series:
            metric, _, reason = series.partition("{tool:")
            totals[f"{metric}{{{reason.partition(',')[2]}"] += count
    whole.counts.update(totals)
    return whole


def _list_selectors(summary: Summary) -> Iterator[str]:
    """Yield the selectors that k6 judged the failures of."""
    for series in summary.metrics:
        metric, brace, rest = series.partition("{")
        if metric == "mcp_failed":
            yield brace + rest


def _measure_failures(
    metrics: dict[str, dict[str, Any]], selector: str, max_failure_share: float
) -> dict[str, Any]:
    """Return the share of calls and openings that failed, as k6/lib/summary.js does of a runner."""
    inner = selector.removeprefix("{").removesuffix("}")
    start = f"{{{inner},reason:" if inner else "{reason:"
    has_openings = not inner or inner.startswith("stage:")
    trends = ("mcp_duration", "mcp_opening") if has_openings else ("mcp_duration",)
    counters = ("mcp_failures", "mcp_open_failures") if has_openings else ("mcp_failures",)
    fails = sum(metrics.get(trend + selector, {}).get("count", 0) for trend in trends)
    passes = sum(
        values["count"]
        for series, values in metrics.items()
        if series.startswith(tuple(counter + start for counter in counters))
        and not series.endswith(_CAPACITY)
    )
    rate = passes / (passes + fails) if passes + fails else 0.0
    return {
        "rate": rate,
        "passes": passes,
        "fails": fails,
        "thresholds": {f"rate<={max_failure_share:g}": rate > max_failure_share},
    }
