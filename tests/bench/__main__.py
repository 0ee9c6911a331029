"""What the README promises, measured: wall times, and ratios to a floor taken side by side."""

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from . import chain, commands, mint

BENCHES = {"commands": commands.bench, "mint": mint.bench, "chain": chain.bench}


def main(chosen: Sequence[str]) -> None:
    """Run the benches named, or all."""
    unknown = set(chosen) - BENCHES.keys()
    if unknown:
        raise SystemExit(f"unknown bench {', '.join(unknown)}: there are {', '.join(BENCHES)}")
    table = Table("median, in seconds", "seconds", "÷ floor", "at most", box=None)
    for name in chosen or BENCHES:
        BENCHES[name](table)
    Console(width=max(80, os.get_terminal_size().columns if sys.stdout.isatty() else 80)).print(
        table
    )


if __name__ == "__main__":
    main(sys.argv[1:])
