"""Runs a workflow's job here, step by step, as GitHub's runner does; what it cannot, it refuses."""

import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ruamel.yaml import YAML

from tests.support.checkout import ROOT
from tests.workflows.expressions import evaluate, fill_in, is_true, strip_braces

# The command of `shell: bash`.
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
STEP_SECONDS = 240
STEP_KEYS = {"name", "id", "if", "env", "run", "uses", "with"}
JOB_KEYS = {
    *("name", "runs-on", "timeout-minutes", "permissions", "concurrency", "environment", "needs"),
    *("if", "strategy", "outputs", "steps"),
}

Action = Callable[[dict[str, str]], dict[str, str]]


class ActionError(Exception):
    """An action reports that its step failed."""


@dataclass(frozen=True)
class Step:
    """The end of a step, its output and its outputs; `given` are the inputs of its action."""

    name: str
    outcome: str
    output: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Runner:
    """A machine: its workspace, its environment variables, what each action does on it.

    `contexts` are the expression contexts but for `steps` and `runner`; `temp` is RUNNER_TEMP.
    """

    workspace: Path
    temp: Path
    variables: dict[str, str]
    contexts: Mapping[str, Any]
    actions: Mapping[str, Action]
    step_summary: str = ""
    _masks: set[str] = field(default_factory=set)
    _steps: dict[str, Any] = field(default_factory=dict)
    _failed: bool = False

    def run(self, workflow: Mapping[str, Any], name: str) -> list[Step]:
        """Run a job's steps in order; a step is identified by its name or by its action."""
        job = workflow["jobs"][name]
        assert workflow["defaults"] == {"run": {"shell": "bash"}}
        assert job.keys() <= JOB_KEYS, "a key that this runner does not know"
        return [self._take(step) for step in job["steps"]]

    def evaluate(self, text: str) -> Any:
        """Return the value of an expression, with or without its braces."""
        return evaluate(strip_braces(text), self._all_contexts(), self._functions())

    def _take(self, step: Mapping[str, Any]) -> Step:
        assert step.keys() <= STEP_KEYS, "a key that this runner does not know"
        name = step.get("name") or step["uses"]
        condition = step.get("if", "")
        # Only a function that asks about earlier steps lifts the rule that all must have passed.
        runs = is_true(self.evaluate(condition)) if condition else True
        if not runs or (self._failed and "always()" not in condition):
            done = Step(name, "skipped")
        elif "uses" in step:
            done = self._use(name, step)
        else:
            done = self._execute(name, step)
        self._failed |= done.outcome == "failure"
        if "id" in step:
            self._steps[step["id"]] = {"outcome": done.outcome, "outputs": done.outputs}
        return done

    def _use(self, name: str, step: Mapping[str, Any]) -> Step:
        action = self.actions[step["uses"].partition("@")[0]]
        given = {key: self.fill_in(value) for key, value in step.get("with", {}).items()}
        try:
            return Step(name, "success", outputs=action(given), given=given)
        except ActionError as failure:
            return Step(name, "failure", str(failure), given=given)

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
        code, output = run_bounded([*BASH, str(script)], self.workspace, variables)
        for variable in ("GITHUB_ENV", "GITHUB_PATH"):
            assert files[variable].read_text() == "", f"this runner does not read {variable}"
        self.step_summary += files["GITHUB_STEP_SUMMARY"].read_text()
        outputs = parse_outputs(files["GITHUB_OUTPUT"].read_text())
        return Step(name, "failure" if code else "success", self._log(output), outputs)

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
        runner = {"os": self.variables["RUNNER_OS"], "arch": self.variables["RUNNER_ARCH"]}
        return {**self.contexts, "runner": runner, "steps": self._steps}

    def _functions(self) -> dict[str, Callable[..., Any]]:
        return {"always": lambda: True, "hashFiles": self._hash_files}

    def _hash_files(self, pattern: str) -> str:
        files = sorted(path for path in self.workspace.glob(pattern) if path.is_file())
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def read_workflow(name: str) -> dict[str, Any]:
    """Return a workflow of this repository as plain data."""
    text = (ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8")
    data = YAML(typ="safe", pure=True).load(text)
    assert isinstance(data, dict)
    return data


def parse_outputs(text: str) -> dict[str, str]:
    """Return what a step wrote to GITHUB_OUTPUT: each value between two lines with a delimiter."""
    found = list(re.finditer(r"^([\w-]+)<<(\S+)\n(.*?)\n\2\n", text, re.MULTILINE | re.DOTALL))
    assert "".join(output[0] for output in found) == text
    return {output[1]: output[3] for output in found}


def run_bounded(command: list[str], where: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Run a command to its end, or end it and all it started; return exit code and output."""
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
            output, _ = process.communicate(timeout=STEP_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output
