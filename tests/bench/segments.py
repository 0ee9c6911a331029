"""What a fleet of k6 on one machine costs, and whether its merged percentiles are the true ones."""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.table import Table

from tests.bench.generator import fetch_result
from tests.bench.k6_runs import Place, pick, run_apart, serve_fixed, serve_target
from tests.bench.raw_samples import read_durations, take_percentile

SEGMENTS = (1, 2, 4)
ROUNDS = 3
SECONDS = 15
VUS = 12
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
MOST_ERROR = 0.01


def bench() -> Table:
    """The mix by one k6 and by segments, in turn: calls, CPU, memory, error of the percentiles."""
    table = Table(
        f"median of {ROUNDS} rounds of {SECONDS} s, {VUS} clients",
        *("calls/s", "CPU ms per call", "÷ one k6", "peak MB", "worst error"),
        box=None,
    )
    result = fetch_result()
    servers: dict[str, Callable[[], AbstractContextManager[Place]]] = {
        "reference target": serve_target,
        "fixed reply": lambda: serve_fixed("sse", result),
    }
    for name, serve in servers.items():
        with serve() as place:
            rounds = [
                [_measure(place, segments) for segments in (0, *SEGMENTS)] for _ in range(ROUNDS)
            ]
            errors = [""] + [f"{_find_error(place, count):.2%}" for count in SEGMENTS]
        for index, segments in enumerate((0, *SEGMENTS)):
            calls, cpu_ms, peak_mb = (
                statistics.median(figures)
                for figures in zip(*(each[index] for each in rounds), strict=True)
            )
            ratio = statistics.median(each[index][1] / each[0][1] for each in rounds)
            what = f"{segments} segments" if segments else "one k6"
            table.add_row(
                f"{name}, {what}",
                *(f"{calls:,.0f}", f"{cpu_ms:.2f}", f"{ratio:.2f}", f"{peak_mb:.0f}"),
                errors[index],
            )
    return table


def _measure(place: Place, segments: int) -> tuple[float, float, float]:
    """Return calls/s, CPU milliseconds of k6 per call, and the peak memory of all k6 in MB."""
    knobs = {"VUS": str(VUS), "DURATION": str(SECONDS)}
    run, usage = run_apart(place.run, "tools", segments=segments, **knobs)
    row = pick(run, "tool", "all")
    generator = run.result.generator
    assert generator is not None
    assert generator.peak_memory_mb is not None
    return row.achieved_rate, usage.cpu_seconds * 1000 / row.count, generator.peak_memory_mb


def _find_error(place: Place, segments: int) -> float:
    """Return by how much the worst percentile of any tool differs from that of all raw samples."""
    knobs = {"VUS": str(VUS), "DURATION": str(SECONDS)}
    raw = f"csv={place.folder}/raw-{{runner}}.csv"
    run = place.run("tools", segments=segments, outputs=(raw,), **knobs)
    samples: dict[str, list[float]] = {}
    for number in range(1, segments + 1):
        for tool, ms in read_durations(place.folder / f"raw-{number}.csv"):
            samples.setdefault(tool, []).append(ms)
            samples.setdefault("all", []).append(ms)
    worst = 0.0
    for tool, found in samples.items():
        row = pick(run, "tool", tool)
        if row.duration is None or row.ok != len(found):
            raise SystemExit(f"{tool}: {row.ok} calls, but {len(found)} samples")
        for name, share in SHARES.items():
            exact = take_percentile(found, share)
            worst = max(worst, abs(getattr(row.duration, name) / exact - 1))
    if worst > MOST_ERROR:
        raise SystemExit(f"a merged percentile is off by {worst:.2%}")
    return worst
