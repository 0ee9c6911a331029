"""The knee of slow tools, on a target with a known number of workers."""

from dataclasses import dataclass

from rich.table import Table

from loadtest.common.clock import utc_now
from loadtest.compare.knee import find_knee
from loadtest.results.run import Run, Target
from tests.bench.k6_runs import serve_target

WORKERS = 4


@dataclass(frozen=True)
class Case:
    """A ladder for a tool that takes this long; the workers can serve `most` sessions."""

    tool_seconds: float
    pace: str
    stages: tuple[int, ...]
    stage_seconds: int
    most: float
    timeout_seconds: int = 30


# With a pause of 3 s on average, or bursts of 4 and 9 s of pause, the workers are busy all the time
# with 8 and with 4 sessions.
CASES = (
    Case(3, "6", (4, 7, 10, 13), 36, most=WORKERS * 6 / 3),
    Case(3, "uniform:2,4", (4, 7, 10, 13), 36, most=WORKERS * (3 + 3) / 3, timeout_seconds=15),
    Case(3, "burst:4,9", (1, 3, 5, 7), 48, most=WORKERS * (3 + 9) / (4 * 3), timeout_seconds=15),
    Case(20, "30", (2, 5, 8), 120, most=WORKERS * 30 / 20),
)


def bench() -> Table:
    """Compare the highest stage that holds with the highest that the workers can serve."""
    table = Table(
        f"{WORKERS} workers",
        *(
            "pace",
            "stages",
            "rate ÷ offered",
            "p50 due, s",
            "served",
            "found",
            "stages off",
            "most",
        ),
        box=None,
    )
    for case in CASES:
        rates, medians, found = _climb(case)
        served = max(stage for stage in case.stages if stage <= case.most)
        places = (0, *case.stages)  # 0: no stage holds
        off = abs(places.index(found) - places.index(served))
        stages = " ".join(map(str, case.stages))
        numbers = (str(served), str(found), str(off), "1")
        table.add_row(f"{case.tool_seconds:g} s", case.pace, stages, rates, medians, *numbers)
    return table


def _climb(case: Case) -> tuple[str, str, int]:
    """Run a ladder; return its rates and medians as text, and the highest stage that holds."""
    latency = f"constant:{case.tool_seconds * 1000:g}"
    with serve_target("--tool-latency", latency, "--tool-workers", str(WORKERS)) as place:
        done = place.run(
            "sessions",
            STAGES=",".join(map(str, case.stages)),
            STAGE_SECONDS=str(case.stage_seconds),
            TOOL="listEntities",
            PACE_SECONDS=case.pace,
            TIMEOUT_SECONDS=str(case.timeout_seconds),
        )
    knobs = {"sessions": {"stages": list(case.stages), "pace_seconds": case.pace}}
    run = Run("bench", "", utc_now(), "local", "smoke", knobs, Target("127.0.0.1"), "", {})
    knee = find_knee(run, done.rows)
    assert knee is not None
    rows = [row for row in done.rows if row.kind == "stage"]
    shares = (row.ok_rate / row.offered_rate if row.offered_rate else 0.0 for row in rows)
    medians = (row.response.p50 / 1000 if row.response else 0.0 for row in rows)
    found = int(knee.sustained.name) if knee.sustained else 0
    return (
        " ".join(f"{share:.2f}" for share in shares),
        " ".join(f"{seconds:.1f}" for seconds in medians),
        found,
    )
