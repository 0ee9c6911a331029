"""What held streams cost the load generator."""

import statistics
from dataclasses import replace

from rich.table import Table

from tests.bench.k6_runs import Place, pick, run_apart, serve_target

HELD = 300
ROUNDS = 3
SECONDS = 20
PACE_SECONDS = 5
TOOL = "listEntities"


def bench() -> Table:
    """CPU and peak memory of k6, whose sessions hold a stream each or none, in turn."""
    table = Table(
        f"median of {ROUNDS} rounds of {SECONDS} s, {HELD} sessions that call every"
        f" {PACE_SECONDS} s",
        *("CPU s", "÷ none", "peak MB", "KB per stream", "call p95"),
        box=None,
    )
    with serve_target("--keep-alive-seconds", "5") as place:
        rounds = [
            [_measure(replace(place, streams=streams)) for streams in (False, True)]
            for _ in range(ROUNDS)
        ]
    none, held = (
        [
            statistics.median(figures)
            for figures in zip(*(each[side] for each in rounds), strict=True)
        ]
        for side in (0, 1)
    )
    ratio = statistics.median(each[1][0] / each[0][0] for each in rounds)
    kilobytes = statistics.median(each[1][1] - each[0][1] for each in rounds) * 1000 / HELD
    table.add_row("no stream", f"{none[0]:.1f}", "", f"{none[1]:.0f}", "", f"{none[2]:.1f} ms")
    table.add_row(
        f"{HELD} streams",
        *(f"{held[0]:.1f}", f"{ratio:.2f}", f"{held[1]:.0f}", f"{kilobytes:.0f}"),
        f"{held[2]:.1f} ms",
    )
    return table


def _measure(place: Place) -> tuple[float, float, float]:
    """Return the CPU seconds of k6, its peak memory in MB, and the p95 of the calls in ms."""
    knobs = {
        "STAGES": str(HELD),
        "STAGE_SECONDS": str(SECONDS),
        "PACE_SECONDS": str(PACE_SECONDS),
        "TOOL": TOOL,
    }
    run, usage = run_apart(place.run, "sessions", **knobs)
    row = pick(run, "stage", str(HELD))
    assert row.duration is not None
    if place.streams and pick(run, "stream", str(HELD)).ok != HELD:
        raise SystemExit(f"not all streams were held: {run.rows}")
    return usage.cpu_seconds, usage.peak_mb, row.duration.p95
