"""`inv history` and `inv compare` as typed, on run folders and on a tracking issue."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loadtest.results.history_files import keep_comparison
from tests.compare.plain_runs import SQL, cell, entry, put, weeks
from tests.publish.delivering import Inv, seed
from tests.support.github_server import GithubServer


def test_the_history_of_an_environment_comes_from_its_run_folders(inv: Inv, runs_dir: Path) -> None:
    for each in (*weeks(3), entry(3, environment="staging", run_id="another")):
        put(runs_dir, each)
    (runs_dir / "run-001" / "run.json").write_text("{")
    code, said = inv("history", "--env", "prod")
    assert code == 0, said
    assert "run-000" in said
    assert "another" not in said
    assert "run-001 is skipped: " in said


def test_the_history_of_an_environment_comes_from_its_tracking_issue(
    inv: Inv, github: GithubServer
) -> None:
    seed(github, *weeks(120))
    code, said = inv("history", "--env", "prod", "--csv", **github.variables)
    assert code == 0, said
    lines = list(csv.DictReader(io.StringIO(said)))
    assert {line["run_id"] for line in lines} == {f"run-{number:03}" for number in range(120)}
    assert lines[-1]["url"].startswith("https://github.com/octo/loadtest/issues/12#issuecomment-")


def test_an_empty_history_says_how_it_begins(inv: Inv) -> None:
    assert inv("history") == (
        *(0, "history     no run of local yet: start with `inv loadtest --env local`\n"),
    )


def test_the_history_is_a_page_too(inv: Inv, runs_dir: Path, checkout: Path) -> None:
    for each in weeks(5):
        put(runs_dir, each)
    code, said = inv("history", "--env", "prod", "--html")
    assert (code, said) == (0, "history     written to .loadtest/prod/history.html\n")
    page = (checkout / ".loadtest" / "prod" / "history.html").read_text()
    assert page.count("<svg") >= 2
    assert "run-004" in page


def test_a_missed_cadence_fails(inv: Inv, runs_dir: Path) -> None:
    put(runs_dir, entry(0))
    code, said = inv("history", "--env", "prod", "--check")
    assert code == 20
    assert "the newest run of prod is " in said
    assert "one is due every 7 days" in said
    started = datetime.now(UTC).isoformat(timespec="seconds")
    put(runs_dir, entry(1, started=started))
    code, said = inv("history", "--env", "prod", "--check")
    assert code == 0, said
    code, said = inv("history", "--check")
    assert code == 10
    assert said.startswith("loadtest: environment local has no cadence_days in loadtest.toml: set")


def test_a_regression_is_accepted_once_it_is_named(inv: Inv, runs_dir: Path) -> None:
    for each in weeks(8):
        put(runs_dir, each)
    slow = entry(8, {SQL: 1.6})
    path = put(runs_dir, slow)
    keep_comparison(path, replace(slow, confirmed=frozenset({cell("p50")})))
    code, said = inv("history", "--env", "prod", "--accept", "nothing")
    assert code == 2
    assert "no run 'nothing': use last, previous, the start of a SHA, or one of: run-008, " in said
    code, said = inv("history", "--env", "prod", "--accept", "run-007")
    assert code == 2
    assert "run-007 has no confirmed regression to accept" in said
    code, said = inv("history", "--env", "prod", "--accept", "last")
    assert (code, said) == (0, "history     run-008 is the new baseline of 1 figure\n")
    report = (path / "report.md").read_text()
    assert report.startswith("# ✅ 1 accepted · ")
    assert "| ☑️ executeSQL slower: p50 (p95 " in report
    assert "Regressed" not in (path / "report.html").read_text()
    code, said = inv("report", "--env", "prod")
    assert code == 0, said
    assert "1 accepted · " in said


def test_two_runs_stand_side_by_side(inv: Inv, runs_dir: Path) -> None:
    put(runs_dir, entry(0))
    put(runs_dir, entry(1, {SQL: 2.0}, git_sha="abcdef" + "0" * 34))
    code, said = inv("compare", "previous", "abcdef", "--env", "prod")
    assert code == 0, said
    assert any("executeSQL" in line and "! +" in line for line in said.splitlines())
    assert "suspected" not in said
    code, said = inv("compare", "last", "last", "--env", "prod")
    assert code == 2
    assert "both names mean run run-001: name two different runs" in said
    code, said = inv("compare", "last", "previous")
    assert code == 2
    assert "there is no last run: the history is empty" in said


def test_a_run_of_the_tracking_issue_is_accepted_without_a_folder(
    inv: Inv, github: GithubServer, runs_dir: Path
) -> None:
    slow = replace(entry(8, {SQL: 1.6}), confirmed=frozenset({cell("p50")}))
    issue = seed(github, *weeks(8), slow)
    issue.labels.append("regressed")
    code, said = inv("history", "--env", "prod", "--accept", "run-008", **github.variables)
    assert code == 0, said
    assert issue.labels == ["load-test-history"]
    assert issue.comments[-1].body.startswith("### ✅ 1 accepted · ")
    assert not runs_dir.exists()


def test_accepting_keeps_a_label_that_another_environment_set(
    inv: Inv, github: GithubServer
) -> None:
    slow = replace(entry(8, {SQL: 1.6}), confirmed=frozenset({cell("p50")}))
    other = replace(slow, run=replace(slow.run, run_id="other", environment="staging"))
    issue = seed(github, *weeks(8), slow, other)
    issue.labels.append("regressed")
    for name, labels in (
        ("prod", ["load-test-history", "regressed"]),
        ("staging", issue.labels[:1]),
    ):
        code, said = inv("history", "--env", name, "--accept", "last", **github.variables)
        assert code == 0, said
        assert issue.labels == labels


@pytest.mark.parametrize("options", [("--csv", "--html"), ("--check", "--accept", "last")])
def test_options_that_exclude_each_other_are_an_error(inv: Inv, options: tuple[str, ...]) -> None:
    code, said = inv("history", *options)
    assert code == 2
    assert "use only one of --check, --accept, --html and --csv" in said
