"""The report of a run that has a long history, from nothing to files, against its imports."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

from loadtest.config.models import USUAL_SCENARIOS
from loadtest.results.run_folder import create_run_folder, write_rows
from tests.bench.common import measure, run
from tests.bench.histories import NOISES, Simulation
from tests.support.checkout import ROOT

ROUNDS = 5
RUNS = 500
IMPORTS = """
import sys
from pathlib import Path
from loadtest.compare.comparison import compare_run
from loadtest.report.comment import render_comment
from loadtest.report.history_tables import as_folder
from loadtest.report.html.page import render_history_page, render_page
from loadtest.results.history_files import read_local_history
"""
READ = f"""{IMPORTS}
entries = read_local_history(Path(sys.argv[1])).entries
"""
REPORT = f"""{READ}
*earlier, entry = entries
folder, comparison = as_folder(entry), compare_run(entry, earlier)
render_comment(folder, comparison, earlier, most_chars=60_000)
page = render_page(folder, comparison, earlier)
"""
HISTORY = f"""{READ}
page = render_history_page(entries)
"""


def bench(table: Table) -> None:
    """Measure the report of a run and the page of all runs, after N runs, each in a process."""
    with TemporaryDirectory() as folder:
        checkout = build_checkout(Path(folder))
        runs_dir = str(write_runs(checkout))
        scripts = (IMPORTS, READ, REPORT, HISTORY)
        floor, read, report, history, task = measure(
            ROUNDS,
            *(lambda script=script: run("-c", script, runs_dir) for script in scripts),
            lambda: run("-m", "invoke", "report", cwd=checkout),
        )
        print_size = "print(len(page.encode()))"
        sizes = [
            f"{int(run('-c', f'{script}{print_size}', runs_dir)) / 1e6:.1f} MB"
            for script in (REPORT, HISTORY)
        ]
    table.add_row("floor: import what reports", f"{floor:.2f}", "", "")
    table.add_row(f"read {RUNS} runs", f"{read:.2f}", f"{read / floor:.1f}", "")
    table.add_row("inv report, whole", f"{task:.2f}", f"{task / floor:.1f}", "2.0")
    for name, seconds, size in (
        ("judge and report", report, sizes[0]),
        ("page of all", history, sizes[1]),
    ):
        table.add_row(f"+ {name}, {size}", f"{seconds:.2f}", f"{seconds / floor:.1f}", "2.0")


def build_checkout(folder: Path) -> Path:
    """Make a checkout that has no history and does not use this one's."""
    for name in ("loadtest", "k6", "tasks.py", "loadtest.toml"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def write_runs(checkout: Path) -> Path:
    """Write a simulated history as run folders; return their folder."""
    simulation, runs_dir = Simulation(NOISES[1], 0), checkout / ".loadtest" / "runs"
    for _ in range(RUNS):
        entry = simulation.draw()
        # Of the one environment that is never posted, and whose regressions end no task.
        folder = create_run_folder(runs_dir, replace(entry.run, environment="local"))
        for scenario in USUAL_SCENARIOS:
            rows = tuple(row for row in entry.rows if row.scenario == scenario)
            write_rows(folder, scenario, rows)
    return runs_dir
