"""The installed package: its start, and the time from the installation to the first table."""

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from tests.bench.common import clone, measure

ROUNDS = 20


def bench(table: Table) -> None:
    """Measure what a newcomer waits for who installs the wheel; the packages are downloaded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = clone(folder)
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", name]
        subprocess.run(build, cwd=source, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        project = folder / "an empty folder"
        project.mkdir()
        environment = folder / "environment"

        def run(*command: object) -> None:
            given = [str(part) for part in command]
            subprocess.run(given, cwd=project, check=True, capture_output=True)

        def install_and_run() -> None:
            run("uv", "venv", "--clear", environment)
            python = environment / "bin" / "python"
            run("uv", "pip", "install", "--python", python, f"mcp-loadtest[all] @ {wheel.as_uri()}")
            run(environment / "bin" / "mcp-loadtest")

        run("uv", "venv", environment)
        install_and_run()  # fills the cache
        (first,) = measure(1, install_and_run)
        commands = environment / "bin"
        floor, version = measure(
            ROUNDS,
            lambda: run(commands / "python", "-c", "pass"),
            lambda: run(commands / "mcp-loadtest", "--version"),
        )
    table.add_row("floor: start Python", f"{floor:.2f}", "", "")
    table.add_row("mcp-loadtest --version", f"{version:.2f}", f"{version / floor:.1f}", "0.3")
    table.add_row("install the wheel, run to the tables", f"{first:.1f}", "", "90")
