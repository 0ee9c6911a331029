"""The load-test workflow, run here step by step: what would run on GitHub has run."""

import json
import sys
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from random import Random
from shlex import quote

import pytest

from loadtest.config.knobs import name_variable
from loadtest.config.settings import Settings
from loadtest.reference.server import ReferenceTarget
from tests.canary.leaks import Finder
from tests.support.checkout import ROOT
from tests.support.github_server import BOT, TOKEN, GithubServer
from tests.workflows.hosted_runner import INPUTS, WORKFLOW, HostedRunner
from tests.workflows.job_runner import ActionError, read_yaml

JOB = WORKFLOW["jobs"]["loadtest"]
ACTION = read_yaml(ROOT / "action.yml")
CHECK, CONFIGURATION, CHECKOUT, WORK, REPORT = (step["name"] for step in JOB["steps"])
NEEDED = (
    *("LOADTEST_BASE_URL", "LOADTEST_EMAIL", "LOADTEST_PASSWORD"),
    *("LOADTEST_TRACKING_ISSUE", "LOADTEST_WORKSPACE_ID"),
)
SECRETS = {name: f"{name} canary" for name in NEEDED}
TINY = {
    **{"env": "prod", "profile": "smoke", "iterations": "4", "stages": "1,3"},
    **{"stage_seconds": "2", "vus": "2", "duration": "2"},
}
SCENARIO_FILES = ("k6.log", "rows.json", "summary.json")
ARTIFACT = "loadtest-4711-2"
OUTPUTS = ("run-id", "outcome", "verdict", "confirmed", "comment-url")

HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    '"; touch pwned; "',
    "'; touch pwned; '",
    "x\ntouch pwned\n",
    "$IFS${GITHUB_TOKEN} * ~ \\ \\",
    "--teardown -- ; touch pwned",
    "${{ secrets.LOADTEST_PASSWORD }}",
)


def mark_whole_job(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that runs the job whole: one after the other, because they share a cache."""
    for mark in (pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("jobs")):
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder in which one job leaves its environment for the next."""
    return tmp_path_factory.mktemp("cache")


class Refusing(HostedRunner):
    """A runner whose checkout fails, so that nothing after it runs."""

    def check_out(self, _: Mapping[str, str]) -> dict[str, str]:
        raise ActionError("no such repository")


class Recording(HostedRunner):
    """A runner whose `python` installs nothing, and writes down how it was to run Nox."""

    def set_up_python(self, _: Mapping[str, str]) -> dict[str, str]:
        script = self.root / "python.py"
        script.write_text(
            "import json, os, sys\n"
            f"with open({str(self.root / 'given.json')!r}, 'w') as file:\n"
            "    json.dump([sys.argv[1:], dict(os.environ)], file)\n"
        )
        python = self.root / "python"
        # A first line with Python's own path could contain no space and must be short.
        run = f'exec {quote(sys.executable)} -S {quote(str(script))} "$@"'
        python.write_text(f'#!/bin/sh\n[ "$2" = pip ] || {run}\n')
        python.chmod(0o700)
        return {"python-version": "3.11.0", "python-path": str(python)}

    def read_given(self) -> tuple[list[str], dict[str, str]]:
        """Return what follows the session in Nox's arguments, session included; and variables."""
        arguments, variables = json.loads((self.root / "given.json").read_text())
        at = arguments.index("--session")
        noxfile = self.workspace / ".mcp-loadtest" / "noxfile.py"
        kept = self.root / "temp" / "mcp-loadtest"
        nox = ["-P", "-m", "nox", "--noxfile", str(noxfile), "--envdir", str(kept)]
        assert arguments[:at] == nox
        assert variables["PLAYWRIGHT_BROWSERS_PATH"] == str(kept / "browsers")
        return arguments[at + 1 :], variables


@pytest.mark.parametrize("there", [(), NEEDED[1:2], NEEDED[2:], NEEDED[:4]])
def test_all_missing_secrets_are_named_before_anything_is_installed(
    tmp_path: Path, there: tuple[str, ...]
) -> None:
    runner = HostedRunner(tmp_path, secrets={name: SECRETS[name] for name in there})
    first, *rest = runner.run().values()
    assert (first.name, first.outcome) == (CHECK, "failure")
    missing = " ".join(name for name in NEEDED if name not in there)
    error, where, *_ = first.output.splitlines()
    assert error == f"::error title=Secrets are missing::{missing}"
    assert "https://github.example/octo/loadtest/settings/secrets/actions" in where
    assert "canary" not in first.output
    assert {step.outcome for step in rest} == {"skipped"}
    assert list(runner.workspace.iterdir()) == []
    assert runner.artifacts == {}


def test_with_all_secrets_the_check_prints_nothing(tmp_path: Path) -> None:
    runner = Refusing(tmp_path, secrets=SECRETS)
    first, second, *rest = runner.run().values()
    assert (first.outcome, first.output) == ("success", "")
    assert (second.name, second.outcome) == (CONFIGURATION, "failure")
    assert {step.outcome for step in rest} == {"skipped"}


def test_a_caller_gets_the_code_of_the_workflow_that_it_called(tmp_path: Path) -> None:
    steps = Recording(tmp_path, secrets=SECRETS).run()
    assert steps[CONFIGURATION].given == {"persist-credentials": "false"}
    assert steps[CHECKOUT].given == {
        "repository": "acme/mcp-loadtest",
        "ref": "b" * 40,
        "path": ".mcp-loadtest",
        "persist-credentials": "false",
    }


def test_on_schedule_the_work_step_is_one_session_for_prod(tmp_path: Path) -> None:
    runner = Recording(tmp_path, secrets=SECRETS, event="schedule")
    steps = runner.run()
    assert {name: step.outcome for name, step in steps.items()} == dict.fromkeys(
        (CHECK, CONFIGURATION, CHECKOUT, WORK), "success"
    ) | {REPORT: "skipped"}
    arguments, variables = runner.read_given()
    assert arguments == ["loadtest", "--", "--env=prod"]
    assert SECRETS.items() <= variables.items()
    assert variables["GITHUB_TOKEN"] == TOKEN


def test_each_input_reaches_the_work_step(tmp_path: Path) -> None:
    inputs = {name: f"{name}!" for name in INPUTS} | {"only": ""}
    runner = Recording(tmp_path, inputs, SECRETS)
    runner.run()
    arguments, variables = runner.read_given()
    flags = ("scenarios", "protocol", "env")
    assert arguments == ["loadtest", "--", *(f"--{name}={name}!" for name in flags)]
    others = [name for name in INPUTS if name not in {*flags, "only"}]
    given = {name: variables[name_variable(name)] for name in others}
    assert given == {name: f"{name}!" for name in others}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_input_is_always_one_word(tmp_path: Path, text: str) -> None:
    runner = Recording(tmp_path, dict.fromkeys(INPUTS, text) | {"only": ""}, SECRETS)
    steps = runner.run()
    arguments, variables = runner.read_given()
    flags = [f"--{name}={text}" for name in ("scenarios", "protocol", "env")]
    assert arguments == ["loadtest", "--", *flags]
    assert variables["LOADTEST_STAGES"] == text
    assert not list(tmp_path.rglob("pwned"))
    assert text not in "".join(step.output for step in steps.values())


def test_only_mint_checks_the_sign_in_and_keeps_no_run(tmp_path: Path) -> None:
    runner = Recording(tmp_path, {"only": "mint", "profile": "smoke"}, SECRETS)
    steps = runner.run()
    assert runner.read_given()[0] == ["mint", "--", "--check", "--env=prod"]
    assert steps[WORK].parts[-1].outcome == "skipped"
    assert runner.artifacts == {}


@pytest.mark.parametrize("text", ["k6", *HOSTILE])
def test_only_something_else_fails_before_anything_runs(tmp_path: Path, text: str) -> None:
    runner = Recording(tmp_path, {"only": text}, SECRETS)
    assert runner.run()[WORK].outcome == "failure"
    assert not list(tmp_path.rglob("pwned"))


def test_the_action_and_both_ways_to_the_workflow_have_the_same_inputs() -> None:
    own = {"step-outcome"}
    assert ACTION["inputs"].keys() - own == INPUTS.keys()
    for name, spec in INPUTS.items():
        assert ACTION["inputs"][name].get("default") == spec.get("default")


def test_the_workflow_passes_every_input_to_the_action(tmp_path: Path) -> None:
    inputs = {name: f"{name}!" for name in INPUTS}
    given = Recording(tmp_path, inputs, SECRETS).run()[WORK].given
    assert given == inputs


def test_dispatching_and_calling_have_the_same_inputs() -> None:
    called = WORKFLOW["on"]["workflow_call"]["inputs"]
    assert {name: (spec["type"], spec.get("default")) for name, spec in called.items()} == {
        name: (spec["type"], spec.get("default")) for name, spec in INPUTS.items()
    }


@pytest.mark.parametrize(
    ("inputs", "minutes"),
    [
        ({}, 60),
        ({"only": "mint"}, 15),
        ({"profile": "smoke"}, 20),
        ({"profile": "standard"}, 30),
        ({"profile": "full", "vus": "9"}, 60),
        ({"profile": "of our own"}, 90),
        ({"profile": "smoke", "stage_seconds": "900"}, 90),
        ({"duration": "60"}, 90),
    ],
)
def test_a_run_gets_the_time_of_its_profile(
    tmp_path: Path, inputs: dict[str, str], minutes: int
) -> None:
    assert HostedRunner(tmp_path, inputs).runner.evaluate(JOB["timeout-minutes"]) == minutes


def test_runs_of_one_target_wait_for_each_other_and_share_its_secrets(tmp_path: Path) -> None:
    assert (JOB["concurrency"]["cancel-in-progress"], JOB["concurrency"]["queue"]) == (False, "max")
    for number, (event, inputs, target) in enumerate(
        (
            ("schedule", {}, "prod"),
            ("workflow_dispatch", {}, "prod"),
            ("workflow_dispatch", {"env": "staging"}, "staging"),
        )
    ):
        runner = HostedRunner(tmp_path / str(number), inputs, event=event).runner
        assert runner.fill_in(JOB["concurrency"]["group"]) == f"load-test-mcp-{target}"
        assert runner.fill_in(JOB["environment"]["name"]) == f"loadtest-{target}"


def test_only_what_a_run_needs_is_permitted() -> None:
    assert WORKFLOW["permissions"] == {}
    assert JOB["permissions"] == {"contents": "read", "issues": "write", "actions": "read"}


def test_only_the_work_step_gets_credentials() -> None:
    reported = {"LOADTEST_BASE_URL", "LOADTEST_TRACKING_ISSUE", "LOADTEST_WEBHOOK_URL"}
    for step in (step for step in JOB["steps"] if step["name"] != WORK):
        for name, value in (step.get("env", {}) | step.get("with", {})).items():
            assert "token" not in str(value)
            known = step["name"] == REPORT and name in reported
            assert "secrets." not in str(value) or known or str(value).endswith(" != '' }}")


def test_a_caller_gets_the_outputs_of_the_last_step_that_reported() -> None:
    assert JOB["outputs"] == {
        name: f"${{{{ steps.report.outputs.{name} || steps.loadtest.outputs.{name} }}}}"
        for name in OUTPUTS
    }
    called = WORKFLOW["on"]["workflow_call"]["outputs"]
    assert {name: spec["value"] for name, spec in called.items()} == {
        name: f"${{{{ jobs.loadtest.outputs.{name} }}}}" for name in OUTPUTS
    }
    assert {name: spec["value"] for name, spec in ACTION["outputs"].items()} == {
        name: f"${{{{ steps.loadtest.outputs.{name} }}}}" for name in OUTPUTS
    }


def hand_over(settings: Settings) -> dict[str, str]:
    """Return the secrets for a provisioned target."""
    known = settings.credentials
    assert settings.base_url is not None
    assert known.email is not None
    assert known.password is not None
    assert known.workspace_id is not None
    return {
        "LOADTEST_BASE_URL": settings.base_url,
        "LOADTEST_EMAIL": known.email,
        "LOADTEST_PASSWORD": known.password.get_secret_value(),
        "LOADTEST_WORKSPACE_ID": known.workspace_id,
        "LOADTEST_TRACKING_ISSUE": "#12",
    }


def find_leaks(runner: HostedRunner, texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the secrets in what the run printed, summarized or uploaded, and where."""
    finder = Finder()
    finder.add("github token", TOKEN)
    finder.add("password", runner.secrets["LOADTEST_PASSWORD"])
    state = runner.workspace / ".loadtest" / "prod"
    for entry in json.loads((state / "bearer.json").read_text())["bearers"]:
        finder.add("bearer", entry["access_token"])
    for entry in json.loads((state / "clients.json").read_text())["clients"]:
        finder.add("refresh token", entry["refresh_token"])
    assert finder.values.keys() == {"github token", "password", "bearer", "refresh token"}
    places = {name: text.encode() for name, text in texts.items()}
    for files in runner.artifacts.values():
        places |= files
    return {place: found for place, text in places.items() if (found := finder.find(text))}


@mark_whole_job
def test_a_run_on_a_new_machine_keeps_all_results_and_no_secret(
    tmp_path: Path,
    cache: Path,
    serve: Callable[..., ReferenceTarget],
    provisioned: Callable[[ReferenceTarget], Settings],
    github: GithubServer,
) -> None:
    target = serve(tool_quota=False)
    secrets = hand_over(provisioned(target))
    github.account = BOT
    issue = github.add_issue(12, author="somebody")
    assert list(cache.iterdir()) == []
    runner = HostedRunner(tmp_path / "runner", TINY, secrets, api_url=github.api_url, cache=cache)
    steps = runner.run()
    assert steps[WORK].outcome == "success", steps[WORK].output
    assert steps[REPORT].outcome == "skipped"
    assert target.open_sessions == 0

    assert steps[WORK].parts[-1].given["retention-days"] == "30"
    assert runner.artifacts.keys() == {ARTIFACT}
    files = runner.artifacts[ARTIFACT]
    assert files.keys() >= {"run.json", "report.md", "tools/dashboard.html"} | {
        f"{scenario}/{name}"
        for scenario in ("cold-start", "sessions", "tools")
        for name in SCENARIO_FILES
    }
    run = json.loads(files["run.json"])
    assert (run["run_id"], run["environment"], run["profile"]) == ("4711-2", "prod", "smoke")
    assert run["run_url"] == "https://github.example/octo/loadtest/actions/runs/4711"
    assert [done["outcome"] for done in run["scenarios"]] == ["ok"] * 4
    assert {"report.html", "judgement.json"} <= files.keys()

    (comment,) = issue.comments
    assert (comment.author, issue.labels) == (BOT, [])
    assert "[workflow run](https://github.example/octo/loadtest/actions/runs/4711)" in comment.body
    assert comment.body.startswith(runner.runner.step_summary.rstrip())
    outputs = steps[WORK].outputs
    assert tuple(outputs) == OUTPUTS
    assert (outputs["run-id"], outputs["outcome"], outputs["confirmed"]) == ("4711-2", "ok", "0")
    assert outputs["comment-url"].endswith(f"/issues/12#issuecomment-{comment.id}")
    docs = (runner.workspace / "docs" / "mcp-performance.mdx").read_text()
    assert "[see results history at #12]" in docs

    texts = {step.name: step.output for step in steps.values()}
    texts |= {"step summary": runner.runner.step_summary, "comment": comment.body}
    assert find_leaks(runner, texts) == {}


def find_late_seed(share: float) -> int:
    """Return a seed that spares the calls by which a run makes sure of each tool beforehand."""

    def is_late(seed: int) -> bool:
        draws = Random(seed)  # noqa: S311
        return all(draws.random() > share for _ in range(20))

    return next(seed for seed in count() if is_late(seed))


@mark_whole_job
def test_a_failed_scenario_fails_the_job_and_the_others_are_kept(
    tmp_path: Path,
    cache: Path,
    serve: Callable[..., ReferenceTarget],
    provisioned: Callable[[ReferenceTarget], Settings],
    github: GithubServer,
) -> None:
    issue = github.add_issue(12)
    target = serve(tmp_path / "target")
    secrets = hand_over(provisioned(target))
    target.stop()
    serve(tmp_path / "target", tool_quota=False, error_share=0.05, seed=find_late_seed(0.05))

    inputs = TINY | {"scenarios": "cold-start,tools"}
    runner = HostedRunner(tmp_path / "runner", inputs, secrets, api_url=github.api_url, cache=cache)
    steps = runner.run()
    assert steps[WORK].outcome == "failure"
    assert "thresholds crossed" in steps[WORK].output
    assert steps[WORK].parts[-1].outcome == "success"
    files = runner.artifacts[ARTIFACT]
    outcomes = {
        done["name"]: done["outcome"] for done in json.loads(files["run.json"])["scenarios"]
    }
    assert outcomes == {"cold-start": "ok", "tools": "thresholds crossed"}
    assert files.keys() >= {"report.md", "cold-start/rows.json", "tools/rows.json"}
    (comment,) = issue.comments
    assert "Too many failures in " in comment.body.splitlines()[0]


@mark_whole_job
def test_a_target_that_is_down_fails_the_job_and_is_reported(
    tmp_path: Path, cache: Path, github: GithubServer
) -> None:
    issue = github.add_issue(12)
    secrets = SECRETS | {
        "LOADTEST_BASE_URL": "http://127.0.0.1:9",
        "LOADTEST_TRACKING_ISSUE": "#12",
    }
    runner = HostedRunner(tmp_path / "runner", TINY, secrets, api_url=github.api_url, cache=cache)
    steps = runner.run()
    assert (steps[WORK].outcome, steps[WORK].parts[-1].outcome) == ("failure", "success")
    (comment,) = issue.comments
    assert comment.body.startswith("### ⛔ Failed before the first call: ")
    assert issue.labels == ["failed"]
    assert runner.artifacts[ARTIFACT].keys() >= {"run.json", "report.md", "report.html"}
    assert steps[WORK].outputs["outcome"] == "failed"


@mark_whole_job
def test_an_unknown_environment_fails_in_one_line_and_leaves_nothing(
    tmp_path: Path, cache: Path
) -> None:
    runner = HostedRunner(tmp_path, {"env": HOSTILE[0]}, SECRETS, cache=cache)
    steps = runner.run()
    assert (steps[WORK].outcome, steps[WORK].parts[-1].outcome) == ("failure", "success")
    (line,) = (line for line in steps[WORK].output.splitlines() if line.startswith("loadtest: "))
    assert f"unknown environment '{HOSTILE[0]}'" in line
    assert runner.artifacts == {}
    assert not list(tmp_path.rglob("pwned"))
