"""What all benchmarks share: processes, medians measured in turn, clones."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.checkout import ROOT


def run(*arguments: str, cwd: Path = ROOT) -> str:
    """Run Python with these arguments; return what it printed; raise when it fails."""
    # Compiled once and kept, as it is by default: to compile at every start takes 0.1 s.
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(  # output shown only on failure
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=variables,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def measure(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Return each action's median time in seconds, measured in turn within the same rounds."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, taken in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def clone(folder: Path) -> Path:
    """Clone this repository's HEAD, so that nothing installed or kept is there."""
    target = folder / "fresh clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)  # noqa: S607
    return target
