"""Soaks of targets that leak on purpose, and of a sound one: what rose within each."""

import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.table import Table

from loadtest.compare.rises import find_rises
from loadtest.config.loading import load_settings
from loadtest.k6.binary import find_k6
from loadtest.k6.plan import build_plan
from loadtest.k6.scenario import run_scenario
from loadtest.report.content.rises import describe_rise
from loadtest.results.intervals import read_intervals
from loadtest.results.run import Rise
from tests.bench.k6_runs import Place, serve_target
from tests.support.checkout import ROOT

VUS = 8
# For a quick look: BENCH_SOAK_SECONDS=90 BENCH_SOAK_SOUND=1.
SECONDS = int(os.environ.get("BENCH_SOAK_SECONDS", "600"))
SOUND = int(os.environ.get("BENCH_SOAK_SOUND", "20"))
LIFE_SECONDS = max(3, SECONDS // 60)  # of a session
# By leak: the knobs of the target, which has room for 20 sessions, and for 20 streams if they stay.
LEAKS = {
    "sessions that stay after DELETE (1 of 10)": ("--leaked-session-share", "0.1"),
    "streams that stay when they have ended (1 of 10)": (
        *("--leaked-stream-share", "0.1", "--stream-cap", "20"),
    ),
    "memory, 256 KiB per session": ("--leaked-kib", "256"),
}


def bench() -> Table:
    """Soak a sound target many times, and each leaking one once."""
    title = f"soaks of {SECONDS} s, {VUS} sessions of {LIFE_SECONDS} s"
    table = Table(title, "found in", "of", "first finding", box=None)
    for name, knobs, soaks in (
        ("nothing leaks", (), SOUND),
        *((name, knobs, 1) for name, knobs in LEAKS.items()),
    ):
        found = [_soak("--session-cap", "20", *knobs) for _ in range(soaks)]
        alarms = [rises for rises in found if rises]
        first = describe_rise(alarms[0][0]) if alarms else ""
        table.add_row(name, str(len(alarms)), str(soaks), first)
    return table


def _soak(*knobs: str) -> tuple[Rise, ...]:
    with serve_target(*knobs) as place:
        return _run(place)


def _run(place: Place) -> tuple[Rise, ...]:
    variables = {
        "PATH": os.environ["PATH"],
        "LOADTEST_SOAK_VUS": str(VUS),
        "LOADTEST_SOAK_SECONDS": str(SECONDS),
        "LOADTEST_SESSION_SECONDS": str(LIFE_SECONDS),
    }
    settings = replace(
        load_settings(ROOT, "local", "soak", process_env=variables), root=place.folder
    )
    plan = replace(build_plan(settings, ("soak",), place.mcp_url), bearer_file=place.bearer_file)
    run = partial(run_scenario, binary=find_k6(os.environ), variables=variables)
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        finished = run(plan, "soak", out_dir=Path(folder))
        intervals = read_intervals(Path(folder))
    if not finished.result.is_whole() or intervals is None:
        raise SystemExit(f"the soak went wrong: {finished.result}")
    return find_rises(intervals)
