"""A run on disk: what was measured again and the slowest calls lie beside its rows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.config.loading import load_settings
from loadtest.errors import ResultsError
from loadtest.publish.delivery import prepare_report
from loadtest.publish.tracking_issue.payload import decode_entry, encode_entry
from loadtest.results.history_files import read_local_history
from loadtest.results.run import Outcome, Percentiles, Repeat, Row, ScenarioResult, SlowCall
from loadtest.results.run_folder import (
    RunFolder,
    read_run_folder,
    write_repeat,
    write_rows,
    write_run,
    write_slowest,
)
from tests.compare.plain_runs import SQL, build_row, entry, put

AGAIN = (build_row(SQL, 150.0),)
SLOW = SlowCall("tools", "tool", "executeSQL", 1204.0, 1180.5, "2026-01-01T06:04:07.221Z", "4bf9")


def put_repeats(runs_dir: Path, *outcomes: Outcome) -> RunFolder:
    """Write a run of which the tool mix was measured again, once for each outcome."""
    folder = read_run_folder(put(runs_dir, entry(0)))
    repeats = []
    for number, outcome in enumerate(outcomes, start=1):
        write_repeat(folder, number, "tools", AGAIN)
        repeats.append(Repeat(number, {"tools": ()}, (ScenarioResult("tools", outcome),)))
    folder = replace(folder, run=replace(folder.run, repeats=tuple(repeats)))
    write_run(folder)
    return folder


def test_what_was_measured_again_is_read_back_beside_the_rows(tmp_path: Path) -> None:
    made = put_repeats(tmp_path, "ok", "thresholds crossed")
    assert (made.path / "repeats" / "2" / "tools" / "rows.json").is_file()
    read = read_run_folder(made.path)
    assert read.repeats == (AGAIN, AGAIN)
    assert read.rows == made.rows
    assert read.run == made.run


def test_nothing_is_concluded_from_a_repeat_that_was_interrupted(tmp_path: Path) -> None:
    read = read_run_folder(put_repeats(tmp_path, "ok", "interrupted").path)
    assert read.repeats == (AGAIN,)
    assert [repeat.scenarios[0].outcome for repeat in read.run.repeats] == ["ok", "interrupted"]
    assert read.run.outcome() == "ok"


def test_a_repeat_is_compared_but_neither_kept_in_the_history_nor_posted(tmp_path: Path) -> None:
    folder = read_run_folder(put_repeats(tmp_path / ".loadtest" / "runs", "ok").path)
    settings = load_settings(tmp_path, "local", process_env={})
    prepared = prepare_report(settings, folder, None)
    assert prepared.entry.repeats == (AGAIN,)
    (kept,) = read_local_history(tmp_path / ".loadtest" / "runs").entries
    posted = decode_entry(encode_entry(prepared.entry))
    assert posted is not None
    assert (kept.repeats, posted.repeats) == ((), ())
    assert posted.rows == folder.rows
    assert posted.run.repeats == folder.run.repeats


def test_a_run_of_an_earlier_version_has_neither_repeats_nor_slowest_calls(tmp_path: Path) -> None:
    path = put(tmp_path, entry(0))
    body = json.loads((path / "run.json").read_text())
    del body["repeats"], body["repeats_note"]
    (path / "run.json").write_text(json.dumps(body))
    read = read_run_folder(path)
    assert (read.run.repeats, read.run.repeats_note, read.repeats) == ((), None, ())
    assert read.slowest == ()


def test_the_slowest_calls_of_all_scenarios_are_read_back(tmp_path: Path) -> None:
    folder = read_run_folder(put(tmp_path, entry(0)))
    ladder = SlowCall("sessions", "stage", "50", 900.0, None, "2026-01-01T06:02:00.000Z")
    write_slowest(folder, "sessions", (ladder,))
    write_slowest(folder, "tools", (SLOW,))
    assert read_run_folder(folder.path).slowest == (ladder, SLOW)


def test_an_id_from_a_server_is_one_printable_line_of_limited_length(tmp_path: Path) -> None:
    folder = read_run_folder(put(tmp_path, entry(0)))
    write_slowest(folder, "tools", (replace(SLOW, request_id="a\x1b[31m\n" + "b" * 500),))
    (read,) = read_run_folder(folder.path).slowest
    assert read.request_id is not None
    assert read.request_id.startswith("a [31m b")
    assert len(read.request_id) == 200


def test_the_time_that_the_server_says_it_worked_is_kept_with_a_row(tmp_path: Path) -> None:
    folder = read_run_folder(put(tmp_path, entry(0)))
    row = replace(AGAIN[0], server_time=Percentiles(100.0, 120.0, 130.0, 150.0, 180.0))
    control = Row("tools", "control", "connect", 9, 9, {}, 10.0, None, 0.9, AGAIN[0].duration)
    write_rows(folder, "tools", (row, control))
    assert read_run_folder(folder.path).rows[-2:] == (row, control)


@pytest.mark.parametrize(
    ("file", "body", "place"),
    [
        ("run.json", {"repeats": [{"number": 0, "remeasured": {}}]}, "repeats.0.number"),
        ("repeats/1/tools/rows.json", {"rows": [{}]}, "rows.0"),
        ("tools/slowest.json", {"slowest": [{"ms": 1}]}, "slowest.0"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(
    tmp_path: Path, file: str, body: dict[str, object], place: str
) -> None:
    folder = put_repeats(tmp_path, "ok")
    write_slowest(folder, "tools", (SLOW,))
    whole = json.loads((folder.path / file).read_text())
    (folder.path / file).write_text(json.dumps(whole | body))
    with pytest.raises(ResultsError, match=rf"^\S+{file} is damaged at {place}") as failure:
        read_run_folder(folder.path)
    assert "\n" not in str(failure.value)
