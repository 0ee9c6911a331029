"""CI: what it runs is there, and the one required job passes only if all did."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.workflows.hosted_runner import read_own_variables
from tests.workflows.job_runner import Runner, read_workflow

WORKFLOW = read_workflow("ci.yml")


def test_every_session_that_ci_runs_is_in_the_noxfile() -> None:
    functions = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
    known = {node.name for node in functions if isinstance(node, ast.FunctionDef)}
    tasks = (ROOT / "loadtest" / "nox.py").read_text(encoding="utf-8")
    known |= set(re.findall(r'^    "(\w+)": Job\(', tasks, re.MULTILINE))
    sessions = WORKFLOW["jobs"]["session"]["strategy"]["matrix"]["session"]
    needed = {"lint", "tests", "build", "interop", "zoo", "k6_next", "loadtest"}
    assert needed == set(sessions) <= known


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ("success", "success"),
        ("failure", "failure"),
        ("cancelled", "failure"),
        ("skipped", "failure"),
    ],
)
def test_the_required_job_always_runs_and_passes_only_if_every_session_passed(
    tmp_path: Path, result: str, outcome: str
) -> None:
    runner = Runner(
        workspace=tmp_path,
        temp=tmp_path,
        variables=read_own_variables() | {"RUNNER_OS": "Linux", "RUNNER_ARCH": "X64"},
        contexts={"needs": {"session": {"result": result}}},
        actions={},
    )
    assert runner.evaluate(WORKFLOW["jobs"]["required"]["if"]) is True
    assert [step.outcome for step in runner.run(WORKFLOW, "required")] == [outcome]
