"""The release: a tag must name the version that is built, and only one job may publish."""

from pathlib import Path

import pytest

from tests.workflows.hosted_runner import read_own_variables
from tests.workflows.job_runner import Runner, read_workflow

WORKFLOW = read_workflow("release.yml")
JOBS = WORKFLOW["jobs"]
(COMPARE,) = (step for step in JOBS["build"]["steps"] if step["name"].startswith("Compare"))


@pytest.mark.parametrize(
    ("tag", "outcome"),
    [("v1.2.3", "success"), ("v1.2.4", "failure"), ("v1.2.3-rc1", "failure"), ("v", "failure")],
)
def test_a_tag_that_is_not_the_version_publishes_nothing(
    tmp_path: Path, tag: str, outcome: str
) -> None:
    dist = tmp_path / ".nox" / "build" / "tmp" / "dist"
    dist.mkdir(parents=True)
    for name in ("mcp_loadtest-1.2.3-py3-none-any.whl", "mcp_loadtest-1.2.3.tar.gz"):
        (dist / name).touch()
    runner = Runner(
        workspace=tmp_path,
        temp=tmp_path / "temp",
        variables=read_own_variables() | {"RUNNER_OS": "Linux", "RUNNER_ARCH": "X64"},
        contexts={"github": {"ref_name": tag}},
        actions={},
    )
    job = {"jobs": {"build": {"steps": [COMPARE]}}}
    assert [step.outcome for step in runner.run(job, "build")] == [outcome]


def test_only_the_job_that_runs_no_code_of_ours_may_publish() -> None:
    assert WORKFLOW["on"] == {"push": {"tags": ["v*"]}}
    assert WORKFLOW["permissions"] == {}
    assert JOBS["build"]["permissions"] == {"contents": "read"}
    assert JOBS["publish"]["permissions"] == {"id-token": "write"}
    assert (JOBS["publish"]["needs"], JOBS["publish"]["environment"]["name"]) == ("build", "pypi")
    assert not any("run" in step for step in JOBS["publish"]["steps"])
