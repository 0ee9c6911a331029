"""The history on disk: all run folders, with the regressions of each run."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from loadtest.common.files import read_valid, write_json
from loadtest.errors import ResultsError
from loadtest.results.history import Cell, Entry, History
from loadtest.results.run_folder import read_run_folder

COMPARISON_FILE = "judgement.json"
COMPARISON_VERSION = 1


@dataclass(frozen=True)
class _Kept:
    """`judgement.json`: cells with a confirmed regression, whether it is accepted, and cells with a
    suspected regression.
    """

    confirmed: frozenset[Cell] = frozenset()
    accepted: bool = False
    suspected: frozenset[Cell] = frozenset()


_KEPT = TypeAdapter(_Kept)


def read_local_history(runs_dir: Path) -> History:
    """Read all run folders; skip those that are damaged or too new, with a line that names each."""
    entries, skipped = [], []
    folders = (path for path in runs_dir.glob("*") if path.is_dir())
    for path in sorted(folders):
        try:
            entries.append(read_entry(path))
        except ResultsError as failure:
            skipped.append(f"{path.name} is skipped: {failure}")
    entries.sort(key=lambda entry: entry.run.started)
    return History(tuple(entries), tuple(skipped))


def read_entry(path: Path) -> Entry:
    """Read one run folder, with its regressions if it was compared; raise ResultsError."""
    folder = read_run_folder(path)
    kept = _read_kept(path / COMPARISON_FILE)
    return Entry(folder.run, folder.rows, kept.confirmed, kept.accepted, suspected=kept.suspected)


def keep_comparison(path: Path, entry: Entry) -> None:
    """Write the regressions of a run; an accepted one stays accepted."""
    accepted = entry.accepted or _read_kept(path / COMPARISON_FILE).accepted
    kept = _Kept(entry.confirmed, accepted, entry.suspected)
    write_json(path / COMPARISON_FILE, COMPARISON_VERSION, _KEPT.dump_python(kept, mode="json"))


def _read_kept(path: Path) -> _Kept:
    if not path.exists():
        return _Kept()
    return read_valid(path, COMPARISON_VERSION, _KEPT, ResultsError)
