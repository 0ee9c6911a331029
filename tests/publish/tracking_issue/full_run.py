"""A run as large as profile `full` makes it."""

from dataclasses import replace
from typing import Any

from loadtest.results.history import Cell, Entry
from loadtest.results.run import Generator, Percentiles, Row, Run, ScenarioResult, Target


def spread(p50: float) -> Percentiles:
    return Percentiles(p50, p50 * 1.503001, p50 * 1.7070301, p50 * 2.411001, p50 * 4.0990703)


def full_run(run_id: str = "17654321098-1", **changes: Any) -> Entry:
    """Return a run as large as profile `full` makes it, with figures as odd as real ones."""
    made: list[tuple[str, str, str, float, float | None]] = []
    for place, name in enumerate(("connect", "initialize", "tools/list", "first dispatch")):
        made.append(("cold-start", "frame", name, 3.1415926 * (place + 1), None))
    for place, name in enumerate(("1", "10", "50", "100", "200")):
        made.append(("sessions", "stage", name, 12.2718281 * (place + 1), float(name)))
        made.append(("sessions", "opening", name, 7.5772156 * (place + 1), None))
    for place, name in enumerate(
        ("executeSQL", "listEntities", "describeEntity", "runMetric", "all")
    ):
        made.append(("tools", "tool", name, 41.4142135 * (place + 1), None))
    rows = tuple(
        Row(
            *(scenario, kind, name, 15_000, 14_990, {"timeout": 7, "tool_error:x": 3}, 300.0),  # type: ignore[arg-type]
            *(offered, 49.9666667, spread(p50), spread(p50 * 1.01) if offered else None),
        )
        for scenario, kind, name, p50, offered in made
    )
    run = Run(
        run_id=run_id,
        loadtest_version="0.1.0",
        started="2026-08-03T12:00:00Z",
        ended="2026-08-03T12:35:10Z",
        environment="prod",
        profile="full",
        knobs={
            "cold_start": {"iterations": 200, "vus": 10},
            "sessions": {"stages": [1, 10, 50, 100, 200], "stage_seconds": 300},
            "tools": {"vus": 50, "duration_seconds": 300, "target_rps": None},
        },
        target=Target("api.example.com", "atlas", "1.4.0", "2025-11-25", "handshake"),
        k6_version="1.1.0",
        machine={"system": "Linux", "architecture": "x86_64", "cpus": 4},
        git_sha="1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d",
        scenarios=tuple(
            ScenarioResult(name, "ok", 0, generator=Generator(0.213141, 181.5, 1.25))
            for name in ("cold-start", "sessions", "tools")
        ),
        run_url="https://github.com/octo/loadtest/actions/runs/17654321098",
    )
    return Entry(
        replace(run, **changes), rows, frozenset({Cell("tools", "tool", "executeSQL", "p99")})
    )
