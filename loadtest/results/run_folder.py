"""One run on disk: `run.json` has its facts, `<scenario>/rows.json` its figures.

What was measured again is in `repeats/<number>/<scenario>/`, in the same files.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from loadtest.common.command_name import spell
from loadtest.common.files import read_valid, write_json
from loadtest.errors import ResultsError
from loadtest.results.run import Repeat, Row, Run, SlowCall

RUN_VERSION = 1
DOCUMENT_VERSION = 1
ROWS_VERSION = 1
SLOWEST_VERSION = 1
REPEATS_DIR = "repeats"


@dataclass(frozen=True)
class RunFolder:
    """`.loadtest/runs/<run-id>/` and the names of its files.

    `repeats` are the rows of each round that was measured again, of scenarios that reached their
    end; `slowest` are the slowest calls of each tool.
    """

    path: Path
    run: Run
    rows: tuple[Row, ...] = field(default=(), repr=False)
    repeats: tuple[tuple[Row, ...], ...] = field(default=(), repr=False)
    slowest: tuple[SlowCall, ...] = field(default=(), repr=False)

    def scenario_dir(self, scenario: str) -> Path:
        """Return the folder of a scenario's summary, rows and log."""
        return self.path / scenario

    def repeat_dir(self, number: int, scenario: str) -> Path:
        """Return the folder of a scenario that was measured again."""
        return self.path / REPEATS_DIR / str(number) / scenario


_RUN = TypeAdapter(Run)
_ROWS = TypeAdapter(tuple[Row, ...])
_SLOWEST = TypeAdapter(tuple[SlowCall, ...])


def build_run_id(git_sha: str | None, variables: Mapping[str, str]) -> str:
    """Return `<GITHUB_RUN_ID>-<attempt>` in Actions, else UTC time and short SHA."""
    if variables.get("GITHUB_ACTIONS") == "true" and variables.get("GITHUB_RUN_ID"):
        return f"{variables['GITHUB_RUN_ID']}-{variables.get('GITHUB_RUN_ATTEMPT', '1')}"
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{now}-{git_sha[:7] if git_sha else secrets.token_hex(3)}"


def create_run_folder(runs_dir: Path, run: Run) -> RunFolder:
    """Make the folder of a new run and write its `run.json`.

    A run is never overwritten: the second run of the same name, for example of another environment
    in the same second, is `<run-id>-2`.
    """
    names = (run.run_id if number == 1 else f"{run.run_id}-{number}" for number in count(1))
    for name in names:
        folder = RunFolder(runs_dir / name, replace(run, run_id=name))
        try:
            folder.path.mkdir(parents=True)
            break
        except OSError as failure:
            if not folder.path.exists():
                raise ResultsError(f"{folder.path} cannot be made: {failure.strerror}") from None
    write_run(folder)
    return folder


def write_run(folder: RunFolder) -> None:
    """Replace the folder's `run.json`."""
    write_json(folder.path / "run.json", RUN_VERSION, asdict(folder.run))


def write_rows(folder: RunFolder, scenario: str, rows: tuple[Row, ...]) -> RunFolder:
    """Write one scenario's rows and return the folder with these rows added."""
    _write_rows(folder.scenario_dir(scenario), rows)
    return replace(folder, rows=folder.rows + rows)


def replace_rows(folder: RunFolder, scenario: str, rows: tuple[Row, ...]) -> RunFolder:
    """Write one scenario's rows in place of its earlier ones, and return the folder with them."""
    others = tuple(row for row in folder.rows if row.scenario != scenario)
    return write_rows(replace(folder, rows=others), scenario, rows)


def write_repeat(folder: RunFolder, number: int, scenario: str, rows: tuple[Row, ...]) -> None:
    """Write the rows of a scenario that was measured again."""
    _write_rows(folder.repeat_dir(number, scenario), rows)


def write_slowest(folder: RunFolder, scenario: str, slowest: tuple[SlowCall, ...]) -> RunFolder:
    """Write one scenario's slowest calls and return the folder with them added."""
    calls = [asdict(call) for call in slowest]
    file = folder.scenario_dir(scenario) / "slowest.json"
    write_json(file, SLOWEST_VERSION, {"slowest": calls})
    return replace(folder, slowest=folder.slowest + slowest)


def _write_rows(scenario_dir: Path, rows: tuple[Row, ...]) -> None:
    body = {"rows": [asdict(row) for row in rows]}
    write_json(scenario_dir / "rows.json", ROWS_VERSION, body)


def read_run_folder(path: Path) -> RunFolder:
    """Read a run; raise ResultsError that names the file that is missing or damaged."""
    run = read_valid(path / "run.json", RUN_VERSION, _RUN, ResultsError)
    folder = RunFolder(path, run)
    rows: tuple[Row, ...] = ()
    slowest: tuple[SlowCall, ...] = ()
    for scenario in run.scenarios:
        scenario_dir = folder.scenario_dir(scenario.name)
        rows += _read_rows(scenario_dir)
        file = scenario_dir / "slowest.json"
        if file.exists():
            slowest += read_valid(file, SLOWEST_VERSION, _SLOWEST, ResultsError, "slowest")
    repeats = tuple(filter(None, (_read_repeat(folder, repeat) for repeat in run.repeats)))
    return replace(folder, rows=rows, repeats=repeats, slowest=slowest)


def _read_repeat(folder: RunFolder, repeat: Repeat) -> tuple[Row, ...]:
    """Read a round; the rows of a scenario that was cut off are on disk, but nothing uses them."""
    rows: tuple[Row, ...] = ()
    for scenario in repeat.scenarios:
        if scenario.is_whole():
            rows += _read_rows(folder.repeat_dir(repeat.number, scenario.name))
    return rows


def _read_rows(scenario_dir: Path) -> tuple[Row, ...]:
    file = scenario_dir / "rows.json"
    if not file.exists():
        return ()
    return read_valid(file, ROWS_VERSION, _ROWS, ResultsError, "rows")


def build_document(
    folder: RunFolder,
    exit_code: int,
    findings: Sequence[Mapping[str, Any]],
    objectives: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return a run for machines: `run` as in run.json, `rows` and `repeats` as in every rows.json.

    `findings` is what moved; `confirmed`, `suspected` and `accepted` name the figure that stands
    for each finding of that status. `objectives` are judged.
    """
    run = folder.run
    by_status = {
        status: [each["figure"] for each in findings if each["status"] == status]
        for status in ("confirmed", "suspected", "accepted")
    }
    return {
        "version": DOCUMENT_VERSION,
        "exit_code": exit_code,
        "outcome": run.outcome(),
        **by_status,
        "findings": [dict(each) for each in findings],
        "objectives": [dict(each) for each in objectives],
        "folder": str(folder.path),
        "run": asdict(run),
        "rows": [asdict(row) for row in folder.rows],
        "repeats": [[asdict(row) for row in rows] for rows in folder.repeats],
    }


def find_run_folder(
    runs_dir: Path, run_id: str | None, environment: str | None
) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of `run_id`, or without one the newest run of the environment.

    A run that cannot be read is skipped, and a line names it.
    """
    if run_id is not None:
        if run_id != os.path.basename(run_id) or not (runs_dir / run_id).is_dir():  # noqa: PTH119
            raise ResultsError(f"no run '{run_id}' in {runs_dir}")
        return runs_dir / run_id, ()
    newest: tuple[str, Path] | None = None
    skipped = []
    for file in sorted(runs_dir.glob("*/run.json")):
        try:
            run = read_valid(file, RUN_VERSION, _RUN, ResultsError)
        except ResultsError as failure:
            skipped.append(f"{file.parent.name} is skipped: {failure}")
            continue
        if run.environment == environment and (newest is None or run.started > newest[0]):
            newest = (run.started, file.parent)
    if newest is None:
        command = spell(f"k6 --env {environment}")
        words = f"no run of environment {environment} yet: start with `{command}`"
        raise ResultsError("; ".join([*skipped, words]))
    return newest[1], tuple(skipped)
