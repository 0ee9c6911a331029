"""What becomes of the objectives of a run: `inv report` as typed, on a machine and in Actions."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.config.objectives import Objective
from loadtest.context import Ending
from loadtest.publish.tracking_issue.payload import decode_entry
from loadtest.results.history import Entry
from loadtest.results.run import Capacity
from tests.compare.plain_runs import SQL, cell, entry, put, weeks
from tests.publish.delivering import Inv, listen, seed
from tests.support.github_server import GithubServer

HELD = Objective("sessions", "stage", "all", "holds", 10)
MISSED = Objective(*SQL, "p95", 150)


def judged_entry(number: int, *objectives: Objective, calls: int = 6000) -> Entry:
    found = entry(number, calls=calls)
    return replace(found, run=replace(found.run, objectives=objectives))


def test_a_missed_objective_ends_with_its_own_code_and_alerts(
    inv: Inv, runs_dir: Path, github: GithubServer, tmp_path: Path
) -> None:
    issue = seed(github, *weeks(6))
    path = put(runs_dir, judged_entry(6, HELD, MISSED))
    junit = tmp_path / "junit.xml"
    with listen() as (url, heard):
        code, said = inv(
            *("report", "--env", "prod", "--junit", str(junit)),
            **github.variables,
            LOADTEST_WEBHOOK_URL=url,
        )
    assert code == 95, said
    assert said.splitlines()[-1].endswith(
        "run run-006: 1 objective missed (docs/reference/exit-codes.md#exit-95)"
    )
    assert "Missed: executeSQL p95 at most 150 ms (" in " ".join(said.split())
    assert "::error" not in said
    body = issue.comments[-1].body
    assert body.startswith("### ❌ 1 objective missed · ")
    assert "Missed: executeSQL p95 at most 150 ms" in body
    assert len(heard) == 1
    assert json.loads((path / "badge.json").read_text())["message"] == "1 of 2 objectives missed"
    root = ElementTree.parse(junit).getroot()  # noqa: S314 (our own)
    assert root.get("failures") == "1"
    # Whoever reports the run again, with other settings or from the issue, judges alike.
    stored = decode_entry(body)
    assert stored is not None
    assert stored.run.objectives == (HELD, MISSED)
    code, _ = inv("report", "--env", "prod", "--run-id", "run-006", **github.variables)
    assert code == 95


def test_objectives_that_are_met_end_with_0_and_are_in_the_document(
    inv: Inv, runs_dir: Path
) -> None:
    put(runs_dir, judged_entry(0, HELD))
    code, said = inv("report", "--env", "prod", "--json")
    assert code == 0, said
    document = json.loads(said[said.index("{\n") : said.rindex("}") + 1])
    (found,) = document["objectives"]
    assert found == {
        "objective": "holds 10 sessions",
        "standing": "met",
        "scenario": "sessions",
        "kind": "stage",
        "name": "all",
        "figure": "holds",
        "limit": 10,
        "value": 50,
        "margin": 4.0,
        "reason": None,
    }


def test_thin_figures_do_not_fail_a_job_but_warn_in_actions(inv: Inv, runs_dir: Path) -> None:
    odd = Objective("tools", "tool", "a,b:c\n::error::x%", "p95", 150)
    put(runs_dir, judged_entry(0, MISSED, odd, calls=200))
    code, said = inv("report", "--env", "prod", GITHUB_ACTIONS="true")
    assert code == 0, said
    lines = [line for line in said.splitlines() if line.startswith("::")]
    assert lines == [
        "::warning title=executeSQL p95 at most 150 ms%3A cannot tell::200 ok calls, 300 needed",
        "::warning title=a%2Cb%3Ac %3A%3Aerror%3A%3Ax%25 p95 at most 150 ms%3A cannot tell::"
        "it was not measured",
    ]


def test_a_missed_objective_is_an_error_in_actions(inv: Inv, runs_dir: Path) -> None:
    put(runs_dir, judged_entry(0, MISSED))
    code, said = inv("report", "--env", "prod", GITHUB_ACTIONS="true")
    assert code == 95, said
    assert "::error title=executeSQL p95 at most 150 ms%3A missed::" in said


def test_junit_without_objectives_is_refused_in_one_line(inv: Inv, runs_dir: Path) -> None:
    put(runs_dir, entry(0))
    code, said = inv("report", "--env", "prod", "--junit", "junit.xml")
    assert code == 2, said
    assert "--junit: run run-000 had no objectives" in said.splitlines()[-1]


def test_junit_without_objectives_is_refused_before_a_run(inv: Inv) -> None:
    code, said = inv("loadtest", "--junit", "junit.xml")
    assert code == 10, said
    assert "--junit needs objectives: set [environment.local.slo]" in said.splitlines()[-1]


def test_a_search_does_not_take_away_the_label_of_a_regressed_run(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    regressed = replace(entry(1, {SQL: 1.6}), confirmed=frozenset({cell("p50")}))
    issue = seed(github, entry(0), regressed)
    found = entry(2, profile="capacity", capacity=Capacity("sessions", 40, 40, 44))
    put(runs_dir, replace(found, rows=()))
    code, said = inv("report", "--env", "prod", **github.variables)
    assert code == 0, said
    assert "Bears 40 sessions at 1 call/s" in issue.comments[-1].body
    assert issue.labels == ["load-test-history", "regressed"]


@pytest.mark.parametrize(
    ("before", "missed", "confirmed", "code"),
    [(0, 0, 0, 0), (0, 1, 0, 95), (0, 0, 1, 96), (0, 1, 1, 95), (99, 1, 1, 99), (97, 1, 0, 97)],
)
def test_of_several_results_the_worst_is_the_exit_code(
    before: int, missed: int, confirmed: int, code: int
) -> None:
    objectives = [{"standing": "met"}, *[{"standing": "missed"}] * missed]
    ending = Ending(before, objectives=objectives, findings=[{"status": "confirmed"}] * confirmed)
    ending.note_objectives("run-1")
    if confirmed:
        ending.note_regressions("run-1")
    assert ending.exit_code == code
