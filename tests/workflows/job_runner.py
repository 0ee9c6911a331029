"""Runs a workflow's job here, step by step, as GitHub's runner does; what it cannot, it refuses."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ruamel.yaml import YAML

from tests.support.checkout import ROOT
from tests.workflows.expressions import evaluate, fill_in, is_true, strip_braces

# The command of `shell: bash`.
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
STEP_SECONDS = 240
# What a cancelled step gets, and for how many seconds it may go on, before it is killed.
CANCEL_SIGNALS = ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5))
STEP_KEYS = {"name", "id", "if", "env", "run", "uses", "with"}
# A part of a composite action names its shell.
PART_KEYS = {*STEP_KEYS, "shell"}
JOB_KEYS = {
    *("name", "runs-on", "timeout-minutes", "permissions", "concurrency", "environment", "needs"),
    *("if", "strategy", "outputs", "steps"),
}

Action = Callable[[dict[str, str]], dict[str, str]]


class ActionError(Exception):
    """An action reports that its step failed."""


@dataclass(frozen=True)
class Step:
    """The end of a step, its output and its outputs; `given` are the inputs of its action.

    `parts` are the steps of a composite action.
    """

    name: str
    outcome: str
    output: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    parts: "tuple[Step, ...]" = ()


class _Outputs(dict[str, str]):
    """The outputs of a step: one that it did not set is empty."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> str:
        return ""


@dataclass
class Runner:
    """A machine: its workspace, its environment variables, what each action does on it.

    `contexts` are the expression contexts but for `steps` and `runner`; `temp` is RUNNER_TEMP.
    `composites` are the folders of composite actions; those of the workspace need not be named.
    The job is cancelled as soon as `cancels` returns true.
    """

    workspace: Path
    temp: Path
    variables: dict[str, str]
    contexts: Mapping[str, Any]
    actions: Mapping[str, Action]
    composites: Mapping[str, Path] = field(default_factory=dict)
    cancels: Callable[[], bool] = lambda: False
    step_summary: str = ""
    _masks: set[str] = field(default_factory=set)
    _steps: dict[str, Any] = field(default_factory=dict)
    _failed: bool = False
    _cancelled: bool = False

    def run(self, workflow: Mapping[str, Any], name: str) -> list[Step]:
        """Run a job's steps in order; a step is identified by its name or by its action."""
        job = workflow["jobs"][name]
        assert workflow.get("defaults", {"run": {"shell": "bash"}}) == {"run": {"shell": "bash"}}
        assert job.keys() <= JOB_KEYS, "a key that this runner does not know"
        return [self._take(step) for step in job["steps"]]

    def evaluate(self, text: str) -> Any:
        """Return the value of an expression, with or without its braces."""
        return evaluate(strip_braces(text), self._all_contexts(), self._functions())

    def _take(self, step: Mapping[str, Any], keys: Set[str] = STEP_KEYS) -> Step:
        assert step.keys() <= keys, "a key that this runner does not know"
        name = step.get("name") or step["uses"]
        condition = step.get("if", "")
        # Only a function that asks about earlier steps lifts the rule that all must have passed.
        runs = is_true(self.evaluate(condition)) if condition else True
        if not runs or ((self._failed or self._cancelled) and "always()" not in condition):
            done = Step(name, "skipped")
        elif "uses" in step:
            done = self._use(name, step)
        else:
            done = self._execute(name, step)
        self._failed |= done.outcome == "failure"
        if "id" in step:
            outputs = _Outputs(done.outputs)
            self._steps[step["id"]] = {"outcome": done.outcome, "outputs": outputs}
        return done

    def _use(self, name: str, step: Mapping[str, Any]) -> Step:
        action = step["uses"].partition("@")[0]
        given = {key: self.fill_in(value) for key, value in step.get("with", {}).items()}
        folder = self.workspace / action if action.startswith("./") else self.composites.get(action)
        if folder is not None:
            variables = {key: self.fill_in(value) for key, value in step.get("env", {}).items()}
            return self._compose(name, folder, given, variables)
        try:
            return Step(name, "success", outputs=self.actions[action](given), given=given)
        except ActionError as failure:
            return Step(name, "failure", str(failure), given=given)

    def _compose(
        self, name: str, folder: Path, given: Mapping[str, str], variables: Mapping[str, str]
    ) -> Step:
        """Run the parts of a composite action; they see the variables of its step."""
        action = read_yaml(folder / "action.yml")
        assert given.keys() <= action["inputs"].keys()
        defaults = {key: spec.get("default", "") for key, spec in action["inputs"].items()}
        place = {"GITHUB_ACTION_PATH": str(folder)}
        part = replace(
            self,
            variables=self.variables | place | dict(variables),
            contexts={**self.contexts, "inputs": defaults | dict(given)},
            step_summary="",
            _steps={},
            _failed=False,
            _cancelled=False,
            cancels=(lambda: False) if self._cancelled else self.cancels,
        )
        parts = []
        for step in action["runs"]["steps"]:
            assert "run" not in step or step["shell"] == "bash"
            # Cancelling a step cancels all its parts, even those with `always()`.
            is_over = part._cancelled
            parts.append(Step(step["name"], "skipped") if is_over else part._take(step, PART_KEYS))
            if is_over and "id" in step:
                part._steps[step["id"]] = {"outcome": "skipped", "outputs": _Outputs()}
        self.step_summary += part.step_summary
        self._cancelled |= part._cancelled
        outputs = {key: part.fill_in(spec["value"]) for key, spec in action["outputs"].items()}
        outcome = "cancelled" if part._cancelled else "failure" if part._failed else "success"
        output = "".join(step.output for step in parts)
        return Step(name, outcome, output, outputs, given, tuple(parts))

    def _execute(self, name: str, step: Mapping[str, Any]) -> Step:
        self.temp.mkdir(parents=True, exist_ok=True)
        script = self.temp / "step.sh"
        script.write_text(self.fill_in(step["run"]))
        files = {
            variable: self.temp / variable.lower()
            for variable in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        }
        for file in files.values():
            file.write_text("")
        given = {key: self.fill_in(value) for key, value in step.get("env", {}).items()}
        variables = self.variables | {key: str(file) for key, file in files.items()} | given
        command = [*BASH, str(script)]
        code, output = run_bounded(command, self.workspace, variables, self.cancels)
        self._cancelled = code is None
        for variable in ("GITHUB_ENV", "GITHUB_PATH"):
            assert files[variable].read_text() == "", f"this runner does not read {variable}"
        self.step_summary += files["GITHUB_STEP_SUMMARY"].read_text()
        outputs = parse_outputs(files["GITHUB_OUTPUT"].read_text())
        outcome = "cancelled" if code is None else "failure" if code else "success"
        return Step(name, outcome, self._log(output), outputs)

    def _log(self, output: str) -> str:
        """Return the log of an output: what is to be masked shows in no line after the order.

        The secrets, which GitHub masks too, stay: nothing here is to print them at all.
        """
        lines = []
        for line in output.splitlines(keepends=True):
            if line.startswith("::add-mask::"):
                self._masks.add(unquote(line.removeprefix("::add-mask::").rstrip("\n")))
                continue
            for value in self._masks:
                line = line.replace(value, "***")
            lines.append(line)
        return "".join(lines)

    def fill_in(self, value: Any) -> str:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return fill_in(text, self._all_contexts(), self._functions())

    def _all_contexts(self) -> dict[str, Any]:
        runner = {
            "os": self.variables["RUNNER_OS"],
            "arch": self.variables["RUNNER_ARCH"],
            "temp": str(self.temp),
        }
        return {**self.contexts, "runner": runner, "steps": self._steps}

    def _functions(self) -> dict[str, Callable[..., Any]]:
        return {"always": lambda: True}


def read_workflow(name: str) -> dict[str, Any]:
    """Return a workflow of this repository as plain data."""
    return read_yaml(ROOT / ".github" / "workflows" / name)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a workflow or an action as plain data."""
    data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def parse_outputs(text: str) -> dict[str, str]:
    """Return what a step wrote to GITHUB_OUTPUT: `name=value`, or a value between delimiters."""
    pattern = r"^([\w-]+)(?:=([^\n]*)\n|<<(\S+)\n(.*?)\n\3\n)"
    found = list(re.finditer(pattern, text, re.MULTILINE | re.DOTALL))
    assert "".join(output[0] for output in found) == text
    return {output[1]: output[4] if output[2] is None else output[2] for output in found}


def run_bounded(
    command: list[str], where: Path, variables: dict[str, str], cancels: Callable[[], bool]
) -> tuple[int | None, str]:
    """Run a command to its end, or end it and all it started; return exit code and output.

    The exit code is None if the step was cancelled.
    """
    with subprocess.Popen(
        command,
        cwd=where,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            end = time.monotonic() + STEP_SECONDS
            while not cancels():
                with suppress(subprocess.TimeoutExpired):
                    output, _ = process.communicate(timeout=0.1)
                    return process.returncode, output
                assert time.monotonic() < end, "the step takes too long"
            # A runner sends its signals to the process of the step alone.
            for number, seconds in CANCEL_SIGNALS:
                process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    output, _ = process.communicate(timeout=seconds)
                    return None, output
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
