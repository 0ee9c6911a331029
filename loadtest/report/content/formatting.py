"""Figures as text, the same in every medium."""

import math
from collections.abc import Iterable, Mapping

from loadtest.compare.changes import BOLD, Change, Status
from loadtest.compare.comparison import WORSE_SHARE
from loadtest.compare.knee import MIN_SAMPLES, Percentile, is_thin
from loadtest.compare.series import is_worse
from loadtest.results.history import Figure, ReplyFigure
from loadtest.results.run import Percentiles, Replies, Row

NO_DATA = "no data"
THIN = "~"
UNCHANGED = "±0 %"
WORSE = f"{WORSE_SHARE * 100:.0f} %"
_NAMES: Mapping[Status, str] = {
    "confirmed": "confirmed regression",
    "suspected": "to watch",
    "accepted": "accepted",
}
PERCENTILES: tuple[Percentile, ...] = ("p50", "p95", "p99")


def format_ms(value: float | None) -> str:
    """Return milliseconds with their significant digits; from ten seconds on, seconds."""
    if value is None or not math.isfinite(value):
        return NO_DATA
    if 0 < value < 0.005:
        return "<0.01"
    if 0 < value < 0.995:
        return f"{value:.2f}"
    if value < 9.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 9999.5 else f"{value / 1000:.1f}s"


def format_bytes(value: float) -> str:
    """Return a size in bytes, kilobytes (1,000 bytes) or megabytes."""
    if not math.isfinite(value):
        return NO_DATA
    if value < 999.5:
        return f"{value:.0f} B"
    unit, size = ("kB", value / 1e3) if value < 999_500 else ("MB", value / 1e6)
    return f"{size:.1f} {unit}" if size < 99.95 else f"{size:,.0f} {unit}"


def format_reply(figure: ReplyFigure, value: float, replies: Replies) -> str:
    """Return a figure of replies; too few replies have a mark, the bound of a silence another."""
    if figure == "longest silence":
        return format_ms(value) if replies.silence else f"≤{format_ms(value)}"
    text = format_bytes(value) if figure.startswith("bytes") else format_ms(value)
    percentile = next((each for each in PERCENTILES if figure.endswith(each)), None)
    is_few = percentile is not None and replies.count < MIN_SAMPLES[percentile]
    return f"{THIN}{text}" if is_few and text != NO_DATA else text


def format_rate(value: float | None) -> str:
    """Return calls/s, with one decimal below 100: 9.9 does not become 10."""
    if value is None or not math.isfinite(value):
        return NO_DATA
    if 0 < value < 0.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def format_count(value: int) -> str:
    """Return a count with thousands separators."""
    return f"{value:,}"


def format_share(share: float) -> str:
    """Return a share in per cent; a small share does not become 0 %, nor a large one 100 %."""
    percent = share * 100
    if 0 < percent < 0.05:
        return "under 0.1 %"
    if 99.95 <= percent < 100:
        return "over 99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def format_cell(row: Row, latency: Percentiles | None, percentile: Percentile) -> str:
    """Return one percentile of a row, marked if it has too few calls."""
    if latency is None or not row.ok:
        return NO_DATA
    text = format_ms(getattr(latency, percentile))
    return f"{THIN}{text}" if is_thin(row, percentile) and text != NO_DATA else text


def format_figure(figure: Figure, value: float) -> str:
    """Return a figure with its unit."""
    if figure == "rate":
        return f"{format_rate(value)} calls/s"
    return format_share(value) if figure == "failed" else add_ms(format_ms(value))


def add_ms(text: str) -> str:
    """Return such a time as it stands in a sentence, with a space before its unit."""
    return f"{text[:-1]} s" if text.endswith("s") else f"{text} ms"


def format_change(figure: Figure | ReplyFigure, change: Change | None) -> str:
    """Return how a figure changed, `+4 %` (failures: percentage points); empty if not compared.

    The sign is that of the figure, whether or not higher is worse. From zero there is no ratio, so
    the text is `from 0`.
    """
    if change is None or change.status == "incomparable":
        return ""
    if change.before is None:
        return "new"
    apart = change.value - change.before
    if figure == "failed":
        if not change.value and not change.before:
            return ""
        return _sign(f"{apart * 100:+.1f}", "pp")
    if change.before <= 0 < change.value:
        return "from 0"
    return _sign(f"{apart / change.before * 100 if apart else 0:+,.0f}", "%")


def format_span(low: str, high: str) -> str:
    """Return "194 to 198 ms"; both ends have the unit if it is not the same."""
    number, _, unit = low.rpartition(" ")
    if low == high:
        return low
    return f"{number} to {high}" if number and high.endswith(f" {unit}") else f"{low} to {high}"


def format_changes(figure: Figure, changes: Iterable[Change]) -> str:
    """Return the smallest and the largest of several changes: "+50 to +60 %"."""
    known = [change for change in changes if change.before]
    known.sort(key=lambda change: change.value / (change.before or 1))
    texts = [format_change(figure, change) for change in known]
    return format_span(texts[0], texts[-1]) if texts else ""


def is_bold(figure: Figure, change: Change | None) -> bool:
    """Return whether a figure is over WORSE_SHARE worse than in the last good run."""
    if change is None or change.status not in BOLD or change.before is None:
        return False
    is_far = is_worse(figure, change.before, change.value, WORSE_SHARE)
    return is_far or change.status == "worse"


def describe_marks(place: str, worse: str, marks: Mapping[Status | None, str]) -> str:
    """Return the legend of changes and marks, each as a medium shows it."""
    names = ", ".join(f"{marks[status]} {name}" for status, name in _NAMES.items())
    return (
        f"{place}: the change since the last good run, which is the previous comparable one, or "
        f"the last one before an open regression (pp: percentage points). {worse}: over {WORSE} "
        f"worse. {names}."
    )


def _sign(number: str, unit: str) -> str:
    # A change that rounds to zero has no sign.
    return f"{number if number.strip('+-0.') else f'±{number[1:]}'} {unit}"
