"""Measure the figures in the docs: wall times, and ratios to a floor measured side by side."""

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from . import (
    accuracy,
    capacity,
    chain,
    commands,
    generator,
    judging,
    knee,
    leaks,
    merging,
    mint,
    package,
    report,
    segments,
    soak,
    streams,
    traffic,
)

TIMES = {
    "commands": commands.bench,
    "mint": mint.bench,
    "report": report.bench,
    "chain": chain.bench,
    "package": package.bench,
}
TABLES = {
    "efficiency": generator.bench_efficiency,
    "memory": generator.bench_memory,
    "accuracy": accuracy.bench_latency,
    "stall": accuracy.bench_stall,
    "judging": judging.bench,
    "segments": segments.bench,
    "streams": streams.bench,
    "traffic": traffic.bench_traffic,
}
# Many minutes each: only by name.
LONG = {
    "ladder": generator.bench_ladder,
    "knee": knee.bench,
    "merging": merging.bench,
    "capacity": capacity.bench,
    "leaks": leaks.bench,
    "soak": soak.bench,
}


def main(chosen: Sequence[str]) -> None:
    """Run the benches named, or all that are not long."""
    known = {**TIMES, **TABLES, **LONG}
    unknown = set(chosen) - known.keys()
    if unknown:
        raise SystemExit(f"unknown bench {', '.join(unknown)}: there are {', '.join(known)}")
    names = chosen or (*TIMES, *TABLES)
    console = Console(width=max(100, os.get_terminal_size().columns if sys.stdout.isatty() else 0))
    times = Table("median, in seconds", "seconds", "÷ floor", "at most", box=None)
    for name in names:
        if name in TIMES:
            TIMES[name](times)
    if times.row_count:
        console.print(times)
    for name in names:
        if name in TABLES or name in LONG:
            console.print({**TABLES, **LONG}[name]())


if __name__ == "__main__":
    main(sys.argv[1:])
