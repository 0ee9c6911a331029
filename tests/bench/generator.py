"""What k6 costs with our scripts, against a server that knows one answer."""

import json
import os
import statistics
import subprocess
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from loadtest.k6.binary import find_k6
from loadtest.results.run import Row
from tests.bench.k6_runs import Place, Usage, run_apart, serve_fixed, serve_target
from tests.bench.plain_client import PlainClient

ROUNDS = 5
SECONDS = 20
VUS = 10
LEAST_RATIO = 0.8
FEW, MANY = 50, 450
MEMORY_SECONDS = 10
LADDER = (1, 10, 50, 100, 200)
LADDER_SECONDS = (30, 300)
BARE = Path(__file__).parent / "scripts" / "bare.js"


def bench_efficiency() -> Table:
    """Tool calls per CPU-second of k6, by a bare loop and by the mix in turn.

    The mix once more without k6's dashboard, which draws each second in a run as short as this.
    """
    table = Table(
        f"median of {ROUNDS} rounds of {SECONDS} s, {VUS} clients",
        *("calls per CPU-second", "÷ bare", "at least"),
        box=None,
    )
    result = fetch_result()
    for framing in ("sse", "json"):
        with serve_fixed(framing, result) as place:
            plain = replace(place, k6=write_plain_k6(place.folder))
            rounds = [
                (_measure_bare(place), _measure_mix(plain), _measure_mix(place))
                for _ in range(ROUNDS)
            ]
        bare, scripts, whole = (statistics.median(figures) for figures in zip(*rounds, strict=True))
        table.add_row(f"bare loop, {len(result)} B as {framing}", f"{bare:,.0f}", "", "")
        for side, name, figure, least in (
            (1, f"tools.js, {framing}", scripts, f"{LEAST_RATIO}"),
            (2, "with the dashboard", whole, ""),
        ):
            ratio = statistics.median(one[side] / one[0] for one in rounds)
            table.add_row(name, f"{figure:,.0f}", f"{ratio:.2f}", least)
    return table


def bench_memory() -> Table:
    """Peak memory of k6 with few and with many sessions that call once a second."""
    table = Table(f"sessions.js, {MEMORY_SECONDS} s", "peak MB", "MB per session", box=None)
    with serve_fixed("sse", fetch_result()) as place:
        few, many = (_measure_ladder(place, (count,), MEMORY_SECONDS)[1] for count in (FEW, MANY))
    slope = (many.peak_mb - few.peak_mb) / (MANY - FEW)
    table.add_row(f"{FEW} sessions", f"{few.peak_mb:.0f}", "")
    table.add_row(f"{MANY} sessions", f"{many.peak_mb:.0f}", f"{slope:.2f}")
    return table


def bench_ladder() -> Table:
    """Peak memory of a whole ladder, short and long: what each call leaves behind."""
    steps = ", ".join(map(str, LADDER))
    table = Table(f"sessions.js, {steps} sessions", "calls", "peak MB", "KB per call", box=None)
    with serve_fixed("sse", fetch_result()) as place:
        runs = [_measure_ladder(place, LADDER, seconds) for seconds in LADDER_SECONDS]
    calls = [sum(LADDER) * seconds for seconds in LADDER_SECONDS]
    growth = (runs[1][1].peak_mb - runs[0][1].peak_mb) * 1000 / (calls[1] - calls[0])
    for seconds, count, (_, usage) in zip(LADDER_SECONDS, calls, runs, strict=True):
        last = f"{growth:.2f}" if seconds == LADDER_SECONDS[-1] else ""
        table.add_row(f"{seconds} s each", f"{count:,}", f"{usage.peak_mb:.0f}", last)
    return table


def fetch_result() -> str:
    """Return what the reference target answers to `listEntities`, as compact JSON."""
    with serve_target() as place, PlainClient(place) as client:
        return json.dumps(client.call("listEntities"), separators=(",", ":"))


def write_plain_k6(folder: Path) -> Path:
    """Write a k6 that runs its arguments, but without its dashboard."""
    path = folder / "k6"
    real = find_k6(os.environ).path
    path.write_text(f'#!/bin/sh\nK6_WEB_DASHBOARD=false exec "{real}" "$@"\n', encoding="utf-8")
    path.chmod(0o700)
    return path


def _measure_mix(place: Place) -> float:
    knobs = {"VUS": str(VUS), "DURATION": str(SECONDS)}
    row, usage = run_apart(place.measure, "tools", "tool", "all", **knobs)
    return row.ok / usage.cpu_seconds


def _measure_bare(place: Place) -> float:
    calls, usage = run_apart(run_bare, place)
    return calls / usage.cpu_seconds


def run_bare(place: Place) -> int:
    """Run the bare loop; return how many calls it made."""
    summary = place.folder / "bare.json"
    variables = {"MCP_URL": place.mcp_url, "VUS": str(VUS), "DURATION": str(SECONDS)}
    flags = ("--quiet", "--no-usage-report", "--include-system-env-vars", "--address=127.0.0.1:0")
    subprocess.run(
        [str(find_k6(os.environ).path), "run", *flags, str(BARE)],
        env={"PATH": os.environ["PATH"], "SUMMARY_FILE": str(summary), **variables},
        capture_output=True,
        check=True,
    )
    return int(json.loads(summary.read_text(encoding="utf-8"))["count"])


def _measure_ladder(place: Place, stages: tuple[int, ...], seconds: int) -> tuple[Row, Usage]:
    knobs = {"STAGES": ",".join(map(str, stages)), "STAGE_SECONDS": str(seconds)}
    return run_apart(place.measure, "sessions", "stage", str(stages[-1]), **knobs)
