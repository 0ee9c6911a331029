"""The workflow and the action in the repository of somebody else, and jobs that are cut off."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from loadtest.config.settings import Settings
from loadtest.reference.server import ReferenceTarget
from tests.support.checkout import ROOT
from tests.support.github_server import GithubServer
from tests.workflows.hosted_runner import WORKFLOW, HostedRunner
from tests.workflows.test_load_test_workflow import (
    ARTIFACT,
    REPORT,
    WORK,
    hand_over,
    mark_whole_job,
)

MONOREPO = ROOT / "tests" / "package" / "monorepo"
PAGE = Path("apps", "docs", "content", "docs", "performance.mdx")
Provisioned = Callable[[ReferenceTarget], Settings]
Serve = Callable[..., ReferenceTarget]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder in which one job leaves its environment for the next."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def caller(tmp_path: Path) -> Path:
    """Make a user's repository: a Bun workspace, and modules with the names of some we import."""
    root = tmp_path / "caller"
    shutil.copytree(MONOREPO, root)
    texts = {
        **{f"{name}/__init__.py": "1 / 0\n" for name in ("loadtest", "mcp", "nox", "invoke")},
        "secrets.py": "1 / 0\n",
        "noxfile.py": "1 / 0\n",
        "tasks.py": "1 / 0\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


def read_example() -> Mapping[str, Any]:
    """Return the workflow that the documents show for the action."""
    text = (ROOT / "docs" / "how-to" / "ci.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^```yaml\n(on:.*?uses: OWNER/mcp-loadtest@.*?)^```$", text, re.M | re.S)
    data = YAML(typ="safe", pure=True).load(found.split("```yaml\n")[-1])
    assert isinstance(data, dict)
    return data


def run_job(
    tmp_path: Path, caller: Path, cache: Path, github: GithubServer, **given: Any
) -> HostedRunner:
    """Return a machine that runs a job in the caller's repository."""
    root = tmp_path / "runner"
    return HostedRunner(root, api_url=github.api_url, cache=cache, caller=caller, **given)


def check_caller(runner: HostedRunner, github: GithubServer) -> None:
    """Check that configuration, tools, comment and pages of a run are the caller's."""
    files = runner.artifacts[ARTIFACT]
    run = json.loads(files["run.json"])
    assert (run["environment"], run["profile"]) == ("prod", "smoke")
    assert "load/tools.json" in run["knobs"]["tool_table"]
    assert [done["outcome"] for done in run["scenarios"]] == ["ok"] * 3
    (comment,) = github.issues[12].comments
    assert comment.body.startswith(runner.runner.step_summary.rstrip())
    before, after = ((root / PAGE).read_text() for root in (MONOREPO, runner.workspace))
    cells = re.findall(r"\| (\[see results history at #12\]\([^)]+\)) \|", after)
    assert len(cells) == 2
    assert after.replace(cells[0], "TBD") == before
    assert not (runner.workspace / ".mcp-loadtest" / ".loadtest").exists()


@mark_whole_job
def test_the_workflow_uses_the_configuration_tools_and_pages_of_its_caller(
    tmp_path: Path,
    caller: Path,
    cache: Path,
    serve: Serve,
    provisioned: Provisioned,
    github: GithubServer,
) -> None:
    github.add_issue(12)
    secrets = hand_over(provisioned(serve(tool_quota=False)))
    given = {"inputs": {"env": "prod"}, "secrets": secrets}
    runner = run_job(tmp_path, caller, cache, github, **given)
    steps = runner.run()
    assert steps[WORK].outcome == "success", steps[WORK].output
    assert "`mcp-loadtest revoke` revokes them" in steps[WORK].output
    check_caller(runner, github)


@mark_whole_job
def test_the_action_is_a_step_of_the_job_of_somebody_else(
    tmp_path: Path,
    caller: Path,
    cache: Path,
    serve: Serve,
    provisioned: Provisioned,
    github: GithubServer,
) -> None:
    github.add_issue(12)
    secrets = hand_over(provisioned(serve(tool_quota=False)))
    example = read_example()
    step = example["jobs"]["loadtest"]["steps"][1]
    assert step["with"] == {"env": "prod", "profile": "smoke"}
    step["with"] = {"env": "prod"}
    given = {"workflow": example, "secrets": secrets}
    runner = run_job(tmp_path, caller, cache, github, **given)
    path = runner.runner.variables["PATH"]
    _, measured, reported = runner.run().values()
    assert measured.outcome == "success", measured.output
    assert measured.outputs["run-id"] == "4711-2"
    assert measured.outputs["comment-url"].startswith("https://github.com/octo/loadtest/issues/12")
    assert reported.outcome == "skipped"
    assert runner.runner.variables["PATH"] == path
    check_caller(runner, github)


@mark_whole_job
def test_only_mint_signs_in_calls_a_tool_and_leaves_nothing(
    tmp_path: Path,
    caller: Path,
    cache: Path,
    serve: Serve,
    provisioned: Provisioned,
    github: GithubServer,
) -> None:
    issue = github.add_issue(12)
    target = serve(tool_quota=False)
    secrets = hand_over(provisioned(target))
    given = {"inputs": {"env": "prod", "only": "mint"}, "secrets": secrets}
    runner = run_job(tmp_path, caller, cache, github, **given)
    work = runner.run()[WORK]
    assert work.outcome == "success", work.output
    assert work.outputs["outcome"] == "ok"
    verdict = "Sign-in to prod works: signed in by browser; listEntities answered; "
    assert work.outputs["verdict"].startswith(verdict)
    assert runner.runner.step_summary.startswith(f"✅ **{verdict}")
    assert "revoked: client 1's refresh token" in work.output
    assert "deleted: client 1's registration" in work.output
    assert (issue.comments, runner.artifacts, target.open_sessions) == ([], {}, 0)


@mark_whole_job
def test_only_mint_fails_loudly_if_the_sign_in_does(
    tmp_path: Path,
    caller: Path,
    cache: Path,
    serve: Serve,
    provisioned: Provisioned,
    github: GithubServer,
) -> None:
    issue = github.add_issue(12)
    secrets = hand_over(provisioned(serve())) | {"LOADTEST_PASSWORD": "not-the-password-0123"}
    given = {"inputs": {"env": "prod", "only": "mint"}, "secrets": secrets}
    runner = run_job(tmp_path, caller, cache, github, **given)
    steps = runner.run()
    assert (steps[WORK].outcome, steps[REPORT].outcome) == ("failure", "skipped")
    assert steps[WORK].outputs["outcome"] == "failed"
    assert runner.runner.step_summary.startswith("❌ **Sign-in to prod failed: ")
    assert issue.comments == []


@mark_whole_job
@pytest.mark.parametrize(
    ("reached", "verdict"),
    [
        (".loadtest/prod/mint.lock", "the job was cancelled, or it reached its time limit"),
        (".loadtest/runs/4711-2/cold-start/rows.json", "Interrupted"),
    ],
)
def test_a_cancelled_job_leaves_its_comment(
    tmp_path: Path,
    caller: Path,
    cache: Path,
    serve: Serve,
    provisioned: Provisioned,
    github: GithubServer,
    reached: str,
    verdict: str,
) -> None:
    issue = github.add_issue(12)
    secrets = hand_over(provisioned(serve(tool_quota=False)))
    given = {"inputs": {"env": "prod"}, "secrets": secrets}
    runner = run_job(tmp_path, caller, cache, github, **given)
    runner.runner.cancels = (runner.workspace / reached).exists
    steps = runner.run()
    assert steps[WORK].outcome == "cancelled"
    (comment,) = issue.comments
    assert verdict in comment.body, steps[REPORT].output
    assert runner.artifacts[ARTIFACT].keys() >= {"run.json", "report.md"}
    assert steps[REPORT].outputs["run-id"] == "4711-2"
    assert steps[REPORT].outputs["comment-url"].endswith(f"#issuecomment-{comment.id}")


def test_the_workflow_and_the_example_report_a_step_that_was_cancelled(tmp_path: Path) -> None:
    *_, report = WORKFLOW["jobs"]["loadtest"]["steps"]
    *_, shown = read_example()["jobs"]["loadtest"]["steps"]
    assert report["env"].items() >= shown["env"].items()
    for outcome, url, expected in (
        ("success", "", False),
        ("skipped", "", False),
        ("failure", "https://github.example/1", False),
        ("failure", "", True),
        ("cancelled", "", True),
    ):
        runner = HostedRunner(tmp_path / f"{outcome}{len(url)}").runner
        runner._steps["loadtest"] = {"outcome": outcome, "outputs": {"comment-url": url}}
        assert runner.evaluate(report["if"]) is expected
        assert runner.evaluate(shown["if"]) is (outcome == "cancelled")
