"""Several runners as one summary: counts are added up, percentiles are of all samples."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from loadtest.k6.summary import Summary
from loadtest.results.histogram import Histogram, Histograms
from loadtest.results.run import REFUSALS

SHARES = {"p(50)": 0.5, "p(90)": 0.9, "p(95)": 0.95, "p(99)": 0.99}
# The histograms do not contain them; they are read from each runner's own summary.
_COUNTED = ("mcp_sessions_opened", "mcp_sessions_closed", "mcp_held")
_REFUSED = tuple(f"reason:{reason}}}" for reason in REFUSALS)  # not failures


def merge(
    summaries: Sequence[Summary], histograms: Histograms, max_failure_share: float
) -> Summary:
    """Return the summary that one k6 would have written, with the series that rows need.

    `summaries` are of the runners that have one, at least one; `histograms` are of all runners.
    Percentiles are exact to 0.5 %, except where a runner's summary replaced missing samples; counts
    and maxima are exact.
    """
    own = max(summaries, key=_count_rates).loadtest
    elapsed = [each.loadtest.elapsed_ms for each in summaries if each.loadtest.elapsed_ms]
    if own.scenario in {"tools", "soak"}:
        histograms = _with_totals(histograms)
    metrics: dict[str, dict[str, Any]] = {
        series: describe(histogram) for series, histogram in sorted(histograms.trends.items())
    }
    metrics |= {series: {"count": count} for series, count in sorted(histograms.counts.items())}
    ended = [each.metrics["mcp_ended"] for each in summaries if each.count("mcp_ended")]
    if ended:
        metrics["mcp_ended"] = {
            "count": sum(each["count"] for each in ended),
            "max": max(each["max"] for each in ended),
        }
    for series in sorted({name for each in summaries for name in each.metrics}):
        if series.partition("{")[0] in _COUNTED:
            metrics[series] = {"count": sum(each.count(series) for each in summaries)}
    metrics |= _pick_control(summaries)
    for selector in _list_selectors(summaries[0]):
        metrics[f"mcp_failed{selector}"] = _measure_failures(metrics, selector, max_failure_share)
    began = [each.loadtest.began for each in summaries if each.loadtest.began]
    merged = own.model_copy(
        update={"elapsed_ms": max(elapsed, default=None), "began": min(began, default=None)}
    )
    return Summary(loadtest=merged, metrics=metrics)


def _pick_control(summaries: Sequence[Summary]) -> dict[str, dict[str, Any]]:
    """Return the series of the control, whose one VU belongs to one runner."""
    asked = max(summaries, key=lambda each: each.count("http_reqs{rpc:control}"))
    return {name: each for name, each in asked.metrics.items() if name.startswith("mcp_control")}


def _count_rates(summary: Summary) -> int:
    """Return how many stages have an offered rate: not each runner knows how long a round takes."""
    return sum(piece.rate is not None for piece in summary.loadtest.slices)


def describe(histogram: Histogram) -> dict[str, float]:
    """Return a trend in ms as k6's summary has it."""
    percentiles = histogram.percentiles(SHARES.values())
    return {
        **dict(zip(SHARES, percentiles, strict=True)),
        "min": histogram.find_least(),
        "max": histogram.most,
        "count": histogram.count(),
    }


def _with_totals(histograms: Histograms) -> Histograms:
    """Return the histograms with the sums over all tools as well."""
    complete = Histograms()
    complete.add(histograms)
    for series, histogram in histograms.trends.items():
        if "{tool:" in series:
            total = complete.trends.setdefault(series.partition("{")[0], Histogram())
            total.add(histogram.most, histogram.buckets.items())
    totals: Counter[str] = Counter()
    for series, count in histograms.counts.items():
        if "{tool:" in series:
            metric, _, reason = series.partition("{tool:")
            totals[f"{metric}{{{reason.partition(',')[2]}"] += count
    complete.counts.update(totals)
    return complete


def _list_selectors(summary: Summary) -> Iterator[str]:
    """Yield the selectors for which the summary has a share of failures."""
    for series in summary.metrics:
        metric, brace, rest = series.partition("{")
        if metric == "mcp_failed":
            yield brace + rest


def _measure_failures(
    metrics: dict[str, dict[str, Any]], selector: str, max_failure_share: float
) -> dict[str, Any]:
    """Return the share of failed calls and openings, as k6/lib/summary.js does for a runner."""
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
        and not series.endswith(_REFUSED)
    )
    rate = passes / (passes + fails) if passes + fails else 0.0
    return {
        "rate": rate,
        "passes": passes,
        "fails": fails,
        "thresholds": {f"rate<={max_failure_share:g}": rate > max_failure_share},
    }
