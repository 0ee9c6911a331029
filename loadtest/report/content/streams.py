"""The streams of a run in words: how many were held, and what gave way."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from loadtest.compare.knee import pick_stages
from loadtest.report.content.formatting import add_ms, format_cell, format_count, format_ms
from loadtest.report.content.wording import format_reasons, name_row, name_scenario, name_unit
from loadtest.results.history import pick_latency
from loadtest.results.run import HeldStreams, Row
from loadtest.results.run_folder import RunFolder

LADDER = "streams"  # the scenario that only holds streams


def count_stays(folder: RunFolder) -> tuple[int, int]:
    """Return how many streams were still open after DELETE, and how many had opened."""
    rows = _pick(folder)
    return sum(_read(row).stays for row in rows), sum(row.ok for row in rows)


def describe_held(folder: RunFolder) -> Iterator[str]:
    """Yield how many streams the ladder of streams held, what gave way, and what calls cost."""
    rows = sorted(_pick(folder, LADDER), key=lambda row: int(row.name))
    if not rows:
        return
    if not any(row.count for row in rows):
        yield "The server has no streams."
        return
    broken = next((row for row in rows if row.held_streams < row.count), None)
    row = broken or rows[-1]
    held = f"{format_count(row.held_streams)} of {format_count(row.count)} streams"
    faults = ", the most that was tested" if broken is None else f": {_describe_faults([row])}"
    yield f"Held {held}{faults}."
    yield from _describe_calls(folder, row)


def _describe_calls(folder: RunFolder, held: Row) -> Iterator[str]:
    """Yield what the calls of one more client cost while these streams were held."""
    stages = pick_stages(folder.rows, LADDER)
    beside = next((stage for stage in stages if stage.name == held.name), None)
    if beside is None or not beside.ok:
        return
    least = stages[0]
    first = f"; {_p50(least)} with {least.name} streams" if least.ok and least != beside else ""
    took = f"{_p50(beside)} (p50{first})"
    yield f"Meanwhile, the calls of one more {name_unit(folder)} took {took}."


def _p50(row: Row) -> str:
    return add_ms(format_cell(row, pick_latency(row), "p50"))


def describe_beside(folder: RunFolder) -> Iterator[str]:
    """Yield, per scenario with calls, what happened to the streams beside them."""
    for scenario in ("sessions", "tools"):
        rows = _pick(folder, scenario)
        if faults := _describe_faults(rows):
            count = format_count(sum(row.count for row in rows))
            yield f"Of {count} streams in {name_scenario(scenario)}: {faults}."


def describe_details(folder: RunFolder, scenario: str) -> Iterator[str]:
    """Yield what happened to the streams of each row, if there is anything to say."""
    for row in _pick(folder, scenario):
        faults = [_describe_faults([row])]
        if stays := _read(row).stays:
            faults.append(f"{format_count(stays)} still open after DELETE")
        if any(faults):
            of = f" of {name_row(folder, row)}" if scenario == "sessions" else ""
            text = "; ".join(filter(None, faults))
            yield f"{_sum([row.count])} streams{of}: {text}"


def describe_facts(folder: RunFolder) -> str | None:
    """Return the figures of all streams of a run in one line; None for a run of old versions."""
    rows = _pick(folder)
    if rows and not any(row.count for row in rows):
        return "none: the server has none"
    if rows:
        return ", ".join(_list_figures(rows))
    return "none: no session held one" if folder.run.streams is False else None


def _list_figures(rows: Sequence[Row]) -> Iterator[str]:
    found = [_read(row) for row in rows]
    yield f"{_sum(row.ok for row in rows)} of {_sum(row.count for row in rows)} opened"
    opened = [row.duration.p95 for row in rows if row.duration]
    if opened:
        yield f"in {add_ms(format_ms(max(opened)))} (p95)"
    if any(each.quiet for each in found):
        yield f"{_sum(each.quiet for each in found)} without headers until their end"
    yield f"{_sum(each.keep_alives for each in found)} keep-alives"
    observed = [each.longest_silence_seconds or 0.0 for each in found]
    silences = [each.silence_seconds or 0.0 for each in found]
    if any(observed):
        yield f"longest silence {_format_seconds(max(observed))} (observed)"
    elif any(silences):
        yield f"longest silence at least {_format_seconds(max(silences))}"


def _describe_faults(rows: Sequence[Row]) -> str:
    """Return what happened to streams other than that they were held; else an empty text."""
    refused: Counter[str] = Counter()
    for row in rows:
        refused.update(row.failures)
    reasons = format_reasons(refused)
    early = [_read(row) for row in rows if _read(row).early]
    parts = [reasons] if reasons else []
    ranges = [each.early_seconds for each in early if each.early_seconds is not None]
    if ranges:
        first = _format_seconds(min(low for low, _ in ranges))
        last = _format_seconds(max(high for _, high in ranges))
        after = first if first == last else f"{first} to {last}"
        parts.append(f"{_sum(each.early for each in early)} dropped after {after}")
    return ", ".join(parts)


def _pick(folder: RunFolder, scenario: str | None = None) -> list[Row]:
    """Return the rows of streams, of one scenario or of all."""
    return [row for row in folder.rows if row.kind == "stream" and scenario in {None, row.scenario}]


def _read(row: Row) -> HeldStreams:
    return row.streams or HeldStreams()


def _sum(counts: Iterable[int]) -> str:
    return format_count(sum(counts))


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
