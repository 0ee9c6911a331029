"""The history on disk: all that can be read, in order, with what was confirmed and accepted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.errors import ResultsError
from loadtest.results.history_files import keep_comparison, read_entry, read_local_history
from tests.compare.plain_runs import SQL, cell, compare_all, entry, put, remember, weeks


def test_no_folder_yet_is_an_empty_history(tmp_path: Path) -> None:
    history = read_local_history(tmp_path / "runs")
    assert (history.entries, history.skipped) == ((), ())


def test_runs_come_oldest_first_whatever_their_names(tmp_path: Path) -> None:
    put(tmp_path, entry(2, run_id="a"))
    put(tmp_path, entry(0, run_id="b"))
    put(tmp_path, entry(1, run_id="c"))
    history = read_local_history(tmp_path)
    assert [run.run.run_id for run in history.entries] == ["b", "c", "a"]
    assert history.entries[0].rows == entry(0).rows
    assert history.skipped == ()


def test_a_run_of_a_version_that_measured_no_replies_is_read(tmp_path: Path) -> None:
    file = put(tmp_path, entry(0)) / "tools" / "rows.json"
    body = json.loads(file.read_text())
    for row in body["rows"]:
        del row["replies"]
    file.write_text(json.dumps(body))
    (read,) = read_local_history(tmp_path).entries
    assert read.rows == entry(0).rows


def test_damaged_and_newer_folders_are_skipped_by_name_and_the_others_read(tmp_path: Path) -> None:
    for run in weeks(5):
        put(tmp_path, run)
    (tmp_path / "run-000" / "run.json").write_text("{")
    (tmp_path / "run-001" / "tools" / "rows.json").write_text('{"version": 1, "rows": [{}]}')
    (tmp_path / "run-002" / "judgement.json").write_text('{"version": 2}')
    (tmp_path / "empty").mkdir()
    history = read_local_history(tmp_path)
    assert [run.run.run_id for run in history.entries] == ["run-003", "run-004"]
    assert [line.split(" is skipped: ")[0] for line in history.skipped] == [
        *("empty", "run-000", "run-001", "run-002")
    ]
    assert "version 2, newer than 1" in history.skipped[-1]
    assert not any("\n" in line for line in history.skipped)


def test_what_was_confirmed_and_accepted_is_read_back(tmp_path: Path) -> None:
    path = put(tmp_path, entry(0))
    assert read_entry(path).confirmed == frozenset()
    confirmed = frozenset({cell("p50"), cell("failed")})
    judged = replace(entry(0), confirmed=confirmed, suspected=frozenset({cell("p99")}))
    keep_comparison(path, judged)
    assert read_entry(path) == judged
    keep_comparison(path, replace(judged, accepted=True))
    keep_comparison(path, judged)
    assert read_entry(path).accepted
    assert json.loads((path / "judgement.json").read_text())["version"] == 1


def test_a_comparison_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = put(tmp_path, entry(0))
    (path / "judgement.json").write_text(
        '{"version": 1, "confirmed": [["tools", "tool", "executeSQL", "p50"]], "accepted": true}'
    )
    assert read_entry(path) == replace(entry(0), confirmed=frozenset({cell("p50")}), accepted=True)


def test_a_damaged_comparison_file_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, entry(0))
    (path / "judgement.json").write_text('{"version": 1, "confirmed": [["a", "b"]]}')
    with pytest.raises(ResultsError, match=r"judgement\.json is damaged"):
        read_entry(path)


def test_a_regression_alerts_run_after_run_until_it_is_accepted(tmp_path: Path) -> None:
    runs = [*weeks(10), *(entry(number, {SQL: 1.6}) for number in range(10, 14))]
    for run, comparison in zip(runs, compare_all(runs), strict=True):
        keep_comparison(put(tmp_path, run), remember(run, comparison))
    history = read_local_history(tmp_path).entries
    assert cell("p50") in history[-1].confirmed
    keep_comparison(tmp_path / history[-1].run.run_id, replace(history[-1], accepted=True))
    history = read_local_history(tmp_path).entries
    comparisons = compare_all([*history, entry(14, {SQL: 1.6})])
    assert not comparisons[-1].confirmed
