"""Runs of unlike load generators: compared through the ratio of their controls, or not at all."""

from collections.abc import Iterator
from dataclasses import replace

from loadtest.compare.knee import is_thin
from loadtest.results.history import CONTROL, Entry
from loadtest.results.run import Percentiles, Row, Run


def describe_generators(run: Run, other: Run) -> str | None:
    """Return what differs in the load generator, `k6 2.2.0, was 1.1.0`; None if nothing does.

    What one of the runs does not know is no difference.
    """
    pairs = zip(_list_traits(run), _list_traits(other), strict=True)
    found = [
        f"{name} {now}, was {before}"
        for (name, now), (_, before) in pairs
        if now is not None and before is not None and now != before
    ]
    return "; ".join(found) or None


def match_generator(entry: Entry, other: Entry, scenario: str) -> Entry | None:
    """Return an earlier run as this run's load generator would have measured it.

    A run of a like generator stays as it is. Else its latencies are multiplied by the ratio of the
    controls' p50, and the rates of a closed loop are divided by it; None if a run has no control.
    """
    if describe_generators(entry.run, other.run) is None:
        return other
    now, before = (_find_control(each, scenario) for each in (entry, other))
    if now is None or before is None:
        return None
    return replace(other, rows=tuple(_scale(row, now / before, scenario) for row in other.rows))


def _list_traits(run: Run) -> Iterator[tuple[str, str | None]]:
    """Yield by name what a load generator is; the patch level of its image is no difference."""
    machine = {name: str(value) for name, value in run.machine.items() if value is not None}
    yield "k6", run.k6_version if run.k6_version[:1].isdigit() else None
    yield "CPU", machine.get("cpu_model")
    yield "processors", machine.get("cpus")
    yield "image", (machine.get("image") or "").split(" ")[0] or None
    yield "region", machine.get("region")
    yield "address", machine.get("address_class")


def _find_control(entry: Entry, scenario: str) -> float | None:
    """Return the p50 of a scenario's control in ms, None without enough requests."""
    wanted = scenario, CONTROL, "document"
    row = next((row for row in entry.rows if (row.scenario, row.kind, row.name) == wanted), None)
    if row is None or row.duration is None or is_thin(row, "p50"):
        return None
    return row.duration.p50 or None


def _scale(row: Row, ratio: float, scenario: str) -> Row:
    if row.scenario != scenario:
        return row
    rate = row.achieved_rate / ratio if row.offered_rate is None else row.achieved_rate
    return replace(
        row,
        achieved_rate=rate,
        duration=_multiply(row.duration, ratio),
        response=_multiply(row.response, ratio),
    )


def _multiply(values: Percentiles | None, ratio: float) -> Percentiles | None:
    if values is None:
        return None
    found = (values.p50, values.p90, values.p95, values.p99, values.max)
    return Percentiles(*(ratio * value for value in found))
