"""The objectives of a run as a badge: the JSON of an endpoint of shields.io."""

import json
from collections.abc import Sequence
from pathlib import Path

from loadtest.compare.objectives import JudgedObjective
from loadtest.report.content.wording import clean
from loadtest.report.markdown import write_readable
from loadtest.results.run_folder import RunFolder

# https://shields.io/badges/endpoint-badge
SCHEMA_VERSION = 1


def write_badge(folder: RunFolder, judged: Sequence[JudgedObjective]) -> Path | None:
    """Write `badge.json` into the folder of a run that has objectives, and return its path."""
    if not judged:
        return None
    standings = [each.standing for each in judged]
    count, missed, unknown = (
        len(judged),
        standings.count("missed"),
        standings.count("cannot tell"),
    )
    objectives = f"objective{'s' * (count != 1)}"
    if missed:
        message, color = f"{missed} of {count} {objectives} missed", "red"
    elif unknown:
        message, color = f"cannot tell {unknown} of {count} {objectives}", "lightgrey"
    else:
        message, color = f"{count} {objectives} met", "brightgreen"
    label = f"load test of {clean(folder.run.environment)}"
    badge = {"schemaVersion": SCHEMA_VERSION, "label": label, "message": message, "color": color}
    return write_readable(folder.path / "badge.json", f"{json.dumps(badge, indent=2)}\n")
