"""What becomes of a run: `inv report` as typed, against a loopback GitHub and a webhook."""

import json
import re
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest

from loadtest.publish.tracking_issue.payload import decode_entry, encode_entry
from loadtest.results.history import Entry
from loadtest.results.history_files import keep_comparison
from loadtest.results.run import ScenarioResult, begin_scenario
from tests.compare.plain_runs import SQL, cell, entry, put, weeks
from tests.publish.delivering import Inv, listen, seed
from tests.support.github_server import Artifact, GithubServer, Issue

SLOWER = {SQL: 1.6}
FAILED = (
    ScenarioResult("sessions", "failed", 107, reason="k6 ended: <!channel>"),
    ScenarioResult("tools", "not run"),
)


def read_newest(issue: Issue) -> Entry:
    found = decode_entry(issue.comments[-1].body)
    assert found is not None
    return found


def test_a_run_is_compared_with_the_issue_and_posting_again_updates_its_comment(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(6))
    path = put(runs_dir, entry(6))
    code, said = inv("report", "--env", "prod", **github.variables)
    assert code == 0, said
    assert "posted: https://github.com/octo/loadtest/issues/12#issuecomment-" in said
    body = issue.comments[-1].body
    assert body.startswith("### ✅ 23 unchanged\n")
    assert "\nSustained all 50 sessions" in body
    assert "Compared with run run-005" in body
    assert read_newest(issue) == entry(6)
    assert {"report.md", "report.html", "judgement.json"} <= {file.name for file in path.iterdir()}

    code, said = inv("report", "--env", "prod", "--run-id", "run-006", **github.variables)
    assert code == 0, said
    assert "updated: https://github.com/octo/loadtest/issues/12#issuecomment-" in said
    assert [issue.comments[-1].body, len(issue.comments)] == [body, 7]
    assert issue.labels == ["load-test-history"]


def test_without_an_issue_one_is_opened_and_the_docs_lead_to_it(
    inv: Inv, runs_dir: Path, github: GithubServer, checkout: Path
) -> None:
    put(runs_dir, entry(0))
    code, said = inv(*("report", "--env=prod", "docs-update", "--env=prod"), **github.variables)
    assert code == 0, said
    assert [issue.title for issue in github.issues.values()] == ["MCP load-test results history"]
    page = (checkout / "docs" / "mcp-performance.mdx").read_text()
    assert "[see results history at #1](https://github.com/octo/loadtest/issues/1)" in page


def suspect(number: int) -> Entry:
    """Return a run in which a regression was suspected: the next one like it confirms that."""
    cells = frozenset(cell(figure) for figure in ("p50", "p95", "p99"))
    return replace(entry(number, SLOWER), suspected=cells)


def test_one_run_far_outside_is_suspected_and_alerts_nobody(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(8))
    put(runs_dir, entry(8, SLOWER))
    with listen() as (url, heard):
        code, said = inv(
            *("report", "--env", "prod", "--json"), **github.variables, LOADTEST_WEBHOOK_URL=url
        )
    assert code == 0, said
    document = json.loads(said[said.index("{\n") : said.rindex("}") + 1])
    assert document["suspected"] == ["tools/tool/executeSQL/p50"]
    (finding,) = document["findings"]
    assert (finding["status"], finding["scope"]) == ("suspected", "row")
    assert "tools/tool/executeSQL/p99" in finding["figures"]
    assert (document["confirmed"], document["accepted"]) == ([], [])
    assert heard == []
    assert issue.comments[-1].body.startswith("### 👀 1 to watch · ")
    assert read_newest(issue).suspected == suspect(8).suspected
    assert issue.labels == ["load-test-history"]


def test_a_confirmed_regression_alerts_until_it_is_accepted(
    inv: Inv, runs_dir: Path, github: GithubServer, checkout: Path, tmp_path: Path
) -> None:
    issue = seed(github, *weeks(7), suspect(7))
    put(runs_dir, entry(8, SLOWER))
    config = checkout / "loadtest.toml"
    text = config.read_text().replace("# mention = ", "mention = ")
    config.unlink()
    config.write_text(text)
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    with listen() as (url, heard):
        code, said = inv(
            *("report", "--env", "prod"),
            **github.variables,
            LOADTEST_WEBHOOK_URL=url,
            GITHUB_OUTPUT=str(outputs),
            GITHUB_STEP_SUMMARY=str(summary),
        )
    assert code == 96, said
    assert said.splitlines()[-1].endswith(
        "run run-008: 1 confirmed regression (docs/reference/exit-codes.md#exit-96)"
    )
    assert "hook-canary" not in said
    body = issue.comments[-1].body
    assert body.startswith("### ❌ 1 regression · ")
    assert "cc @example/performance" in body
    assert read_newest(issue).confirmed
    assert issue.labels == ["load-test-history", "regressed"]
    (line,) = heard
    comment_url = f"https://github.com/octo/loadtest/issues/12#issuecomment-{issue.comments[-1].id}"
    assert json.loads(line)["text"].startswith("Load test of prod: 1 regression · ")
    assert "unchanged: executeSQL slower: p50 (p95 " in json.loads(line)["text"]
    assert json.loads(line)["text"].endswith(comment_url)
    assert body.startswith(summary.read_text().rstrip())
    names = [line.split("<<")[0] for line in outputs.read_text().splitlines() if "<<" in line]
    assert names == ["run-id", "outcome", "verdict", "confirmed", "comment-url"]
    assert f"\n{comment_url}\n" in outputs.read_text()
    assert re.search(r"confirmed<<(\S+)\n1\n\1", outputs.read_text())

    code, said = inv("history", "--env", "prod", "--accept", "last", **github.variables)
    assert code == 0, said
    assert read_newest(issue).accepted
    accepted = issue.comments[-1].body
    assert accepted.startswith("### ✅ 1 accepted · ")
    assert "| ☑️ `executeSQL` slower: p50 (p95 " in accepted
    assert "| Jan\u00a08 |" in accepted or "| [Jan\u00a08](" in accepted
    assert "Intended?" not in accepted
    assert "1 accepted" in (runs_dir / "run-008" / "report.md").read_text()
    assert issue.labels == ["load-test-history"]
    assert json.loads((runs_dir / "run-008" / "judgement.json").read_text())["accepted"]

    code, said = inv("report", "--env", "prod", **github.variables)
    assert code == 0, said
    assert issue.labels == ["load-test-history"]
    assert issue.comments[-1].body == accepted
    code, said = inv("report", "--env", "prod", "--json", **github.variables)
    document = json.loads(said[said.index("{\n") : said.rindex("}") + 1])
    assert (document["confirmed"], document["accepted"]) == ([], ["tools/tool/executeSQL/p50"])
    assert "cc @example/performance" not in issue.comments[-1].body


def confirm(number: int) -> Entry:
    """Return a run with the regression that run-007 began, confirmed."""
    return replace(suspect(number), suspected=frozenset(), confirmed=suspect(number).suspected)


def test_the_comment_that_reported_a_regression_says_once_that_it_is_gone(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(7), suspect(7), confirm(8), confirm(9))
    before = [comment.body for comment in issue.comments]
    put(runs_dir, entry(10))
    for _ in range(2):
        code, said = inv("report", "--env", "prod", **github.variables)
        assert code == 0, said
    url = f"https://github.com/octo/loadtest/issues/12#issuecomment-{issue.comments[-1].id}"
    note = f"> **✅ Gone since the run of [Jan 11]({url})**: `executeSQL`.\n"
    assert [note in comment.body for comment in issue.comments].index(True) == 8
    reported = issue.comments[8].body
    assert reported == before[8].replace("as usual\n", f"as usual\n\n{note}", 1)
    assert decode_entry(reported) == confirm(8)
    assert [comment.body for comment in issue.comments[:8]] == before[:8]
    assert issue.comments[9].body == before[9]


def test_the_comment_that_reported_a_regression_says_that_it_is_accepted(
    inv: Inv, github: GithubServer
) -> None:
    issue = seed(github, *weeks(7), suspect(7), confirm(8), confirm(9))
    code, said = inv("history", "--env", "prod", "--accept", "last", **github.variables)
    assert code == 0, said
    assert "> **☑️ Accepted with the run of [Jan 10](" in issue.comments[8].body
    assert "Accepted" not in issue.comments[9].body.split("<!--")[0]
    assert issue.comments[9].body.startswith("### ✅ 1 accepted · ")


def test_a_failed_run_is_reported_with_its_reason_and_a_good_one_removes_the_label(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(3))
    put(runs_dir, replace(entry(3, scenarios=FAILED), rows=()))
    with listen(500) as (url, heard):
        code, said = inv("report", "--env", "prod", **github.variables, LOADTEST_WEBHOOK_URL=url)
    assert code == 15, said
    assert issue.comments[-1].body.startswith("### ⛔ Failed in ")
    assert "k6 ended: &lt;" in issue.comments[-1].body
    assert issue.labels == ["load-test-history", "failed"]
    assert [json.loads(line)["text"].count("k6 ended: (!channel)") for line in heard] == [1]
    assert "warning: LOADTEST_WEBHOOK_URL answers HTTP 500: correct it" in said
    assert "hook-canary" not in said

    put(runs_dir, entry(4))
    code, said = inv("report", "--env", "prod", **github.variables)
    assert code == 0, said
    assert issue.labels == ["load-test-history"]


def test_another_environment_does_not_remove_a_label(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(3), replace(entry(3, scenarios=FAILED), rows=()))
    issue.labels.append("failed")
    put(runs_dir, entry(4, environment="staging"))
    code, said = inv("report", "--env", "staging", **github.variables)
    assert code == 0, said
    assert issue.labels == ["load-test-history", "failed"]


@pytest.mark.parametrize("scenarios", ["sessions,tools", None])
def test_a_chain_that_fails_before_it_measures_is_reported_too(
    inv: Inv, runs_dir: Path, github: GithubServer, scenarios: str | None
) -> None:
    issue = seed(github, *weeks(3))
    options = ("--scenarios", scenarios) if scenarios else ()
    code, said = inv(
        *("loadtest", "--env", "prod", *options),
        **github.variables,
        LOADTEST_BASE_URL="http://127.0.0.1:9",
        LOADTEST_EMAIL="loadtest@example.com",
        GITHUB_ACTIONS="true",
        GITHUB_RUN_ID="777",
    )
    assert code == 11, said
    assert "127.0.0.1:9" in said.splitlines()[-1]
    found = read_newest(issue)
    assert found.run.run_id == "777-1"
    chosen = (scenarios or "cold-start,sessions,tools,streams").split(",")
    outcomes = ["failed", *("not run" for _ in chosen[1:])]
    assert [each.outcome for each in found.run.scenarios] == outcomes
    assert issue.comments[-1].body.startswith("### ⛔ Failed before the first call: ")
    assert issue.labels == ["load-test-history", "failed"]
    assert (runs_dir / "777-1" / "report.html").exists()


JOB = {"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "777"}


def test_a_job_that_was_cancelled_before_it_measured_is_reported_once(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(3))
    for _ in range(2):
        command = ("report", "--env", "prod", "--step-outcome", "cancelled")
        code, said = inv(*command, **github.variables, **JOB, LOADTEST_PROFILE="smoke")
        assert code in {0, 15}, said
    assert len(issue.comments) == 4
    found = read_newest(issue)
    assert (found.run.run_id, found.run.profile) == ("777-1", "smoke")
    assert [each.outcome for each in found.run.scenarios] == ["failed", *3 * ["not run"]]
    assert "the job was cancelled, or it reached its time limit" in issue.comments[-1].body
    assert issue.labels == ["load-test-history", "failed"]
    assert (runs_dir / "777-1" / "report.html").exists()


def test_a_job_that_was_cancelled_later_is_reported_with_what_it_measured(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(3))
    measured = entry(3, scenarios=(ScenarioResult("sessions", "ok"), begin_scenario("tools")))
    put(runs_dir, replace(measured, run=replace(measured.run, run_id="777-1")))
    command = ("report", "--env", "prod", "--step-outcome", "cancelled")
    code, said = inv(*command, **github.variables, **JOB)
    assert code == 130, said
    assert read_newest(issue).run.outcome() == "interrupted"
    assert issue.labels == ["load-test-history"]


def test_a_step_that_failed_without_a_run_has_said_why_itself(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(3))
    command = ("report", "--env", "prod", "--step-outcome", "failure")
    code, said = inv(*command, **github.variables, **JOB)
    assert (code, len(issue.comments)) == (0, 3)
    assert "nothing was measured: the log of the failed step says why" in said
    assert not runs_dir.exists()
    code, said = inv(*command, **github.variables)
    assert code == 2
    assert "--step-outcome is for a job of GitHub Actions: use --run-id" in said


def test_a_report_that_cannot_be_posted_stays_on_disk_with_the_command_that_posts_it(
    inv: Inv, runs_dir: Path, github: GithubServer, tmp_path: Path
) -> None:
    issue = seed(github, *weeks(4))
    path = put(runs_dir, entry(4))
    summary = tmp_path / "summary"
    told = {**github.variables, "GITHUB_TOKEN": "", "GITHUB_STEP_SUMMARY": str(summary)}
    code, said = inv("report", "--env", "prod", **told)
    assert code == 17
    last = said.splitlines()[-1]
    assert "GITHUB_TOKEN is missing (permission 'Issues: read and write')" in last
    assert last.endswith(
        "inv report --env prod --run-id run-004 (docs/reference/exit-codes.md#exit-17)"
    )
    assert "executeSQL" in (path / "report.md").read_text()
    assert "executeSQL" in summary.read_text()
    assert len(issue.comments) == 4

    issue.locked = True
    code, said = inv("report", "--env", "prod", **github.variables)
    assert code == 17
    assert "issues/12 is locked: unlock it" in said.splitlines()[-1]
    assert "Compared with run run-003" in (path / "report.md").read_text()

    issue.locked = False
    command = last.rpartition("inv ")[2].removesuffix(" (docs/reference/exit-codes.md#exit-17)")
    code, said = inv(*command.split(), **github.variables)
    assert code == 0, said
    assert len(issue.comments) == 5


def test_a_regression_that_cannot_be_posted_is_still_reported(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    seed(github, *weeks(7), suspect(7)).locked = True
    put(runs_dir, entry(8, SLOWER))
    code, said = inv("report", "--env", "prod", **github.variables)
    assert code == 17
    regressed, refused = said.splitlines()[-2:]
    assert regressed.endswith("1 confirmed regression")
    assert "is locked" in refused


def test_a_named_run_comes_from_its_artifact_with_its_environment(
    inv: Inv, runs_dir: Path, github: GithubServer, tmp_path: Path
) -> None:
    issue = seed(github, *weeks(4))
    path = put(tmp_path, entry(4, run_id="777-2"))
    with ZipFile(tmp_path / "packed.zip", "w") as packed:
        for file in (each for each in path.rglob("*") if each.is_file()):
            packed.write(file, file.relative_to(path))
    content = (tmp_path / "packed.zip").read_bytes()
    github.artifacts.append(Artifact(1, 777, "loadtest-777-2", content))
    code, said = inv("report", "--run-id", "777-2", **github.variables)
    assert code == 0, said
    assert "777-2 fetched from the artifact of its workflow run" in said
    assert (runs_dir / "777-2" / "report.html").exists()
    assert read_newest(issue).run.environment == "prod"

    code, said = inv("report", "--run-id", "778-1", **github.variables)
    assert code == 17
    assert "no run '778-1' in " in said
    assert "artifact loadtest-778-1 of octo/loadtest: HTTP 404: there is no such" in said
    code, said = inv("report", "--run-id", "../777-2", **github.variables)
    assert code == 17
    assert "was not made by GitHub Actions" in said


def test_a_dry_run_prints_the_comment_and_touches_nothing(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(4))
    path = put(runs_dir, entry(4))
    before = sorted(path.rglob("*"))
    code, said = inv("report", "--env", "prod", "--dry-run", **github.variables)
    assert code == 0, said
    assert said.startswith("### ✅ 23 unchanged")
    assert "Compared with run run-003" in said
    assert sorted(path.rglob("*")) == before
    assert {call.method for call in github.calls} == {"GET"}
    assert len(issue.comments) == 4


def test_the_reference_target_is_never_posted(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    for each in (*weeks(7), suspect(7)):
        path = put(runs_dir, replace(each, run=replace(each.run, environment="local")))
        keep_comparison(path, each)
    put(runs_dir, entry(8, SLOWER, environment="local"))
    code, said = inv("report", **github.variables)
    assert code == 0, said
    assert "1 regression · " in said
    assert github.calls == []


def test_forged_and_missing_reports_are_named_in_the_comment(
    inv: Inv, runs_dir: Path, github: GithubServer
) -> None:
    issue = seed(github, *weeks(4))
    for number in range(7):
        github.add_comment(12, encode_entry(entry(4 + number, 0.1)), author="stranger")
    put(runs_dir, entry(20))
    code, said = inv("report", "--env", "prod", **github.variables)
    assert code == 0, said
    body = issue.comments[-1].body
    assert "Compared with run run-003" in body
    assert "No run for 17 days before this one; one is due every 7 days." in body
    assert body.count("is skipped: it is by stranger") == 5
    assert "2 more were skipped." in body


def test_confirmed_regressions_are_in_the_document_for_machines(inv: Inv, runs_dir: Path) -> None:
    for each in (*weeks(7), suspect(7), entry(8, SLOWER)):
        keep_comparison(put(runs_dir, each), each)
    code, said = inv("report", "--env", "prod", "--json")
    assert code == 96
    document = json.loads(said[said.index("{\n") : said.rindex("}") + 1])
    assert document["exit_code"] == 96
    assert "tools/tool/executeSQL/p50" in document["confirmed"]


def test_a_run_that_cannot_be_read_is_named_and_does_not_stop_later_reports(
    inv: Inv, runs_dir: Path
) -> None:
    for number in range(2):
        put(runs_dir, entry(number))
    (runs_dir / "run-000" / "run.json").write_text("{")
    for arguments in (("report", "--env", "prod"), ("docs-update", "--env", "prod")):
        code, said = inv(*arguments)
        assert code == 0, said
        assert "run-000 is skipped: " in said
        assert "run-001" in said
    (runs_dir / "run-001" / "run.json").write_text("{")
    code, said = inv("report", "--env", "prod")
    assert code == 16
    (line,) = said.splitlines()
    assert "run-000 is skipped: " in line
    assert "no run of environment prod yet" in line


def test_a_run_that_was_killed_is_reported_as_cut_off(inv: Inv, runs_dir: Path) -> None:
    cut = (begin_scenario("sessions"), ScenarioResult("tools", "not run"))
    put(runs_dir, replace(entry(0, scenarios=cut), rows=()))
    code, said = inv("report", "--env", "prod")
    assert code == 130, said
    assert "Interrupted: " in said
    assert "its process was killed" in said
    code, said = inv("history", "--env", "prod", "--check")
    assert code == 20, said
