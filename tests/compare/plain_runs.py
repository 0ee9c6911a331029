"""Plain runs: a run a day, with the same rows, each so many times slower than usual."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from loadtest.compare.comparison import Comparison, compare_run
from loadtest.results.history import Cell, Entry, Figure
from loadtest.results.run import Percentiles, Row, Run, ScenarioResult, Target
from loadtest.results.run_folder import create_run_folder, write_rows

CALLS = 6000
ROWS = {
    ("sessions", "stage", "10"): 40.0,
    ("sessions", "stage", "50"): 60.0,
    ("tools", "tool", "executeSQL"): 110.0,
    ("tools", "tool", "listEntities"): 35.0,
    ("tools", "tool", "all"): 90.0,
}
# As noise goes, a few per cent up and down.
NOISE = (1.0, 0.97, 1.03, 0.99, 1.02, 0.98, 1.01)
SQL = ("tools", "tool", "executeSQL")
RUN = Run(
    run_id="run-000",
    loadtest_version="0.1.0",
    started="2026-01-01T06:00:00Z",
    environment="prod",
    profile="standard",
    knobs={
        "cold_start": {"iterations": 200, "vus": 10},
        "sessions": {"stages": [10, 50], "stage_seconds": 60, "tool": "executeSQL"},
        "tools": {"vus": 50, "duration_seconds": 120, "target_rps": None},
        "tool_table": "novamart (0a1b2c3d)",
    },
    target=Target("api.example.com", "atlas", "1.4.0", "2025-11-25", "handshake"),
    k6_version="1.1.0",
    machine={},
    git_sha="0" * 40,
    ended="2026-01-01T06:10:00Z",
    scenarios=(ScenarioResult("sessions", "ok", 0), ScenarioResult("tools", "ok", 0)),
)


def cell(figure: Figure, row: tuple[str, str, str] = SQL) -> Cell:
    return Cell(*row, figure)


def build_row(key: tuple[str, str, str], p50: float, *, calls: int = CALLS, failed: int = 0) -> Row:
    scenario, kind, name = key
    duration = Percentiles(p50, p50 * 1.5, p50 * 1.8, p50 * 2.5, p50 * 4)
    failures = {"timeout": failed} if failed else {}
    ok = calls - failed
    return Row(scenario, kind, name, calls, ok, failures, 60.0, None, calls / 60, duration)  # type: ignore[arg-type]


def entry(
    number: int,
    slower: Mapping[tuple[str, str, str], float] | float = 1.0,
    *,
    calls: int = CALLS,
    failed: int = 0,
    **changes: Any,
) -> Entry:
    """Return the run of a day: every row `slower` times its usual, or those named in it."""
    day = datetime(2026, 1, 1, 6, tzinfo=UTC) + timedelta(days=number)
    started = day.isoformat().replace("+00:00", "Z")
    given = {"run_id": f"run-{number:03}", "started": started, **changes}
    rows = []
    for place, (key, p50) in enumerate(ROWS.items()):
        factor = slower if isinstance(slower, float) else slower.get(key, 1.0)
        noise = NOISE[(place * 3 + number) % len(NOISE)]
        failing = failed if key == SQL else 0
        rows.append(build_row(key, p50 * factor * noise, calls=calls, failed=failing))
    return Entry(replace(RUN, **given), tuple(rows))


def put(runs_dir: Path, run: Entry) -> Path:
    """Write a run folder and return where it lies."""
    folder = create_run_folder(runs_dir, run.run)
    for scenario in ("sessions", "tools"):
        write_rows(folder, scenario, tuple(row for row in run.rows if row.scenario == scenario))
    return folder.path


def weeks(count: int) -> tuple[Entry, ...]:
    """Return so many runs of the usual level, oldest first."""
    return tuple(entry(number) for number in range(count))


def remember(run: Entry, comparison: Comparison) -> Entry:
    """Return a run as the history keeps it."""
    confirmed = run.confirmed or comparison.confirmed
    return replace(run, confirmed=confirmed, suspected=comparison.suspected)


def compare_all(runs: Sequence[Entry]) -> list[Comparison]:
    """Judge each run against those before it, remembering what was confirmed."""
    comparisons: list[Comparison] = []
    remembered: list[Entry] = []
    for run in runs:
        comparison = compare_run(run, remembered)
        remembered.append(remember(run, comparison))
        comparisons.append(comparison)
    return comparisons
