"""Leaks found on targets that leak on purpose, and false alarms on a sound one."""

import tempfile
from pathlib import Path

from rich.table import Table

from loadtest.leaks.cycles import observe
from loadtest.leaks.findings import find_leaks
from loadtest.leaks.load import Load
from loadtest.state.bearers import read_bearers
from tests.bench.k6_runs import serve_target

CHECKS = 20  # of the sound target
LOAD = Load(
    cycles=10, sessions=40, abandoned=2, most_rate=2000, most_seconds=600, settle_seconds=0.5
)
# By leak: the knobs of the target.
LEAKS = {
    "sessions that stay after DELETE (1 of 20)": ("--leaked-session-share", "0.05"),
    "places of streams that ended (1 of 20)": (
        *("--stream-cap", "40"),
        *("--leaked-stream-share", "0.05"),
    ),
    "memory, 256 KiB per session": ("--leaked-kib", "256"),
}


def bench() -> Table:
    """Check a sound target many times, and each leaking one once."""
    table = Table("10 cycles of 40 sessions", "found in", "of", "first finding", box=None)
    for name, knobs, checks in (
        ("nothing leaks", (), CHECKS),
        *((name, knobs, 1) for name, knobs in LEAKS.items()),
    ):
        found = [_check("--session-cap", "40", *knobs) for _ in range(checks)]
        alarms = [leaks for leaks in found if leaks]
        table.add_row(name, str(len(alarms)), str(checks), alarms[0][0] if alarms else "")
    return table


def _check(*knobs: str) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder, serve_target(*knobs) as place:
        bearers = read_bearers(place.bearer_file)
        return find_leaks(observe(Path(folder), bearers, "2025-11-25", LOAD, lambda _: None))
