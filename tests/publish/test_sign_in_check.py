"""`inv mint --check`: a failure is announced, and no comment is posted."""

import json
from pathlib import Path

from tests.publish.delivering import Inv, listen
from tests.support.github_server import GithubServer


def test_a_check_that_fails_before_the_sign_in_is_announced(
    inv: Inv, github: GithubServer, tmp_path: Path
) -> None:
    issue = github.add_issue(12)
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    with listen() as (url, heard):
        code, said = inv(
            *("mint", "--env", "prod", "--check"),
            **github.variables,
            LOADTEST_BASE_URL="http://127.0.0.1:9",
            LOADTEST_EMAIL="loadtest@example.com",
            LOADTEST_WEBHOOK_URL=url,
            GITHUB_SERVER_URL="https://github.example",
            GITHUB_RUN_ID="777",
            GITHUB_OUTPUT=str(outputs),
            GITHUB_STEP_SUMMARY=str(summary),
        )
    assert code == 11, said
    verdict = "Sign-in to prod failed: http://127.0.0.1:9 does not answer"
    assert summary.read_text().startswith(f"❌ **{verdict}")
    assert f"\n{verdict}" in outputs.read_text()
    (line,) = (json.loads(text)["text"] for text in heard)
    assert line.startswith(verdict)
    assert line.endswith("https://github.example/octo/loadtest/actions/runs/777")
    assert issue.comments == []


def test_a_webhook_that_fails_does_not_hide_the_failure(inv: Inv, github: GithubServer) -> None:
    with listen(500) as (url, _):
        code, said = inv(
            *("mint", "--env", "prod", "--check"),
            **github.variables,
            LOADTEST_BASE_URL="http://127.0.0.1:9",
            LOADTEST_EMAIL="loadtest@example.com",
            LOADTEST_WEBHOOK_URL=url,
        )
    assert code == 11, said
    assert "warning: LOADTEST_WEBHOOK_URL answers HTTP 500: correct it" in said
    assert "hook-canary" not in said
