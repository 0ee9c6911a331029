"""What rose within a soak, as text."""

from collections.abc import Iterator

from loadtest.report.content.formatting import add_ms, format_ms, format_share
from loadtest.report.content.wording import name_called
from loadtest.results.run import Rise
from loadtest.results.run_folder import RunFolder

_COUNTED = {"opening": "openings", "stream": "streams"}


def list_rises(folder: RunFolder) -> tuple[Rise, ...]:
    """Return what rose within the scenarios of a run."""
    return tuple(rise for result in folder.run.scenarios for rise in result.rises)


def describe_rises(folder: RunFolder) -> Iterator[str]:
    """Yield a sentence for each: "p95 of executeSQL rose by 12 ms an hour (plus or minus 3), …"."""
    for rise in list_rises(folder):
        known = " The control rose too: network or host." if rise.is_explained else ""
        yield f"{describe_rise(rise)}.{known}"


def describe_rise(rise: Rise) -> str:
    """Return what rose, by how much, and how sure that is."""
    hours = (rise.end - rise.start) / rise.per_hour
    unit, per = ("an hour", 1.0) if hours >= 1 else ("a minute", 60.0)
    speed, error = rise.per_hour / per, rise.error / per
    if rise.figure in {"p50", "p95"}:
        subject = f"{rise.figure} of {name_called(rise.kind, rise.name)}"
        rose, give_or_take = f"{_round(speed)} ms", _round(error)
        ends = f"from {add_ms(format_ms(rise.start))} to {add_ms(format_ms(rise.end))}"
    else:
        what = _COUNTED.get(rise.kind, "calls")
        subject = f"the share of {rise.figure} {what}"
        rose, give_or_take = f"{_round(100 * speed)} points", _round(100 * error)
        ends = f"from {format_share(rise.start)} to {format_share(rise.end)}"
    return f"{subject} rose by {rose} {unit} (plus or minus {give_or_take}), {ends}"


def _round(value: float) -> str:
    """Return a number with two digits, or three from 100 on."""
    return f"{value:.2g}" if abs(value) < 99.5 else f"{value:,.0f}"
