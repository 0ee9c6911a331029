"""The main job on a fresh clone, cold and warm, against the profile's scheduled time."""

import tempfile
from pathlib import Path

from rich.table import Table

from loadtest.config.loading import load_settings
from tests.bench.common import clone, measure, run
from tests.support.checkout import ROOT


def bench(table: Table) -> None:
    """Measure what a newcomer waits for."""
    settings = load_settings(ROOT)
    scheduled = settings.profile.scheduled_seconds(settings.tools)
    with tempfile.TemporaryDirectory() as folder:
        fresh = clone(Path(folder))
        nox = ("-m", "nox", "-s", "loadtest")
        cold, warm = (measure(1, lambda: run(*nox, cwd=fresh))[0] for _ in range(2))
    table.add_row("floor: scheduled by the profile", f"{scheduled:.2f}", "", "")
    table.add_row("nox -s loadtest, fresh clone", f"{cold:.1f}", f"{cold / scheduled:.1f}", "")
    table.add_row("nox -s loadtest, again", f"{warm:.1f}", f"{warm / scheduled:.1f}", "")
    table.add_row("… beyond the schedule", f"{warm - scheduled:.1f}", "", "15")
