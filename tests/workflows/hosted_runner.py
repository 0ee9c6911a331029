"""The machine that a workflow with a load test gets from GitHub: new, with only the event."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.checkout import ROOT
from tests.support.github_server import REPOSITORY, TOKEN
from tests.workflows.job_runner import Runner, Step, read_workflow

WORKFLOW = read_workflow("load-test-mcp.yml")
INPUTS = WORKFLOW["on"]["workflow_dispatch"]["inputs"]
# What a checkout of this repository has that a run reads; in a copy of it, it is configured too.
OURS = ("action.yml", "k6", "loadtest", "noxfile.py", "pyproject.toml", "requirements", "tasks.py")
COPIED = (*OURS, "docs", "loadtest.toml")
# The variables of this machine that a CI runner lacks, or has with other values.
NOT_THERE = ("CI", "GITHUB_", "LOADTEST_", "NOX", "PLAYWRIGHT_", "PYTHON", "VIRTUAL_ENV")


@dataclass
class HostedRunner:
    """Runs the workflow as one event asks; `artifacts` maps names to files by their path.

    `caller` is the folder of the repository that calls it; by default, it is a copy of this one.
    `cache` is the folder that the cache action restores, and saves into; by default there is none.
    """

    root: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    event: str = "workflow_dispatch"
    api_url: str = "http://127.0.0.1:9"  # nobody listens there
    cache: Path | None = None
    caller: Path = ROOT
    workflow: Mapping[str, Any] = field(default_factory=lambda: WORKFLOW)
    artifacts: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the machine and hand it the event."""
        self.workspace = self.root / "a workspace"
        temp = self.root / "temp"
        self.workspace.mkdir(parents=True)
        temp.mkdir()
        asked = self.event != "schedule"
        defaults = {name: spec.get("default", "") for name, spec in INPUTS.items() if asked}
        inputs = dict.fromkeys(INPUTS, "") | defaults | dict(self.inputs)
        event_file = temp / "event.json"
        event_file.write_text(json.dumps({"inputs": inputs if asked else None}))
        github = {
            "run_id": "4711",
            "run_attempt": "2",
            "repository": REPOSITORY,
            "sha": "c" * 40,
            "workspace": str(self.workspace),
            "event_name": self.event,
        }
        declared = WORKFLOW["on"]["workflow_call"]["secrets"]
        self.runner = Runner(
            workspace=self.workspace,
            temp=temp,
            variables=read_own_variables()
            | {f"GITHUB_{name.upper()}": value for name, value in github.items()}
            | {
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_API_URL": self.api_url,
                "GITHUB_EVENT_PATH": str(event_file),
                "GITHUB_SERVER_URL": "https://github.example",
                "RUNNER_TEMP": str(temp),
                "RUNNER_OS": "Linux",
                "RUNNER_ARCH": "X64",
            },
            composites={"OWNER/mcp-loadtest": ROOT},
            contexts={
                "github": github | {"token": TOKEN},
                "inputs": inputs,
                "job": {"workflow_repository": "acme/mcp-loadtest", "workflow_sha": "b" * 40},
                "secrets": dict.fromkeys(declared, "") | dict(self.secrets),
            },
            actions={
                "actions/checkout": self.check_out,
                "actions/setup-python": self.set_up_python,
                "actions/cache": self.restore,
                "actions/upload-artifact": self.upload,
            },
        )

    def run(self) -> dict[str, Step]:
        """Run the job; return its steps by name."""
        return {step.name: step for step in self.runner.run(self.workflow, "loadtest")}

    def check_out(self, given: Mapping[str, str]) -> dict[str, str]:
        """Bring the caller's files, or our own into a folder."""
        if "repository" in given:
            copy_files(ROOT, OURS, self.workspace / given["path"])
        else:
            names = [path.name for path in self.caller.iterdir()]
            copy_files(self.caller, COPIED if self.caller == ROOT else names, self.workspace)
        return {}

    def set_up_python(self, given: Mapping[str, str]) -> dict[str, str]:
        """Make a `python` that can install packages; it is not on PATH."""
        assert given["update-environment"] == "false"
        python = self.root / "python" / "python"
        if not python.exists():
            python.parent.mkdir()
            name = "python{}.{}".format(*sys.version_info)
            python.symlink_to(Path(sys.base_prefix) / "bin" / name)
        return {"python-version": platform.python_version(), "python-path": str(python)}

    def restore(self, given: Mapping[str, str]) -> dict[str, str]:
        """Restore what an earlier job has saved, and the browser that this machine may have."""
        folder = Path(given["path"])
        if folder.exists():  # restored before, in the same job
            return {}
        if self.cache is None:
            folder.mkdir()
        else:
            folder.symlink_to(self.cache)
        usual = Path.home() / ".cache" / "ms-playwright"
        browsers = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", usual))
        if browsers.is_dir() and not (folder / "browsers").exists():
            (folder / "browsers").symlink_to(browsers)
        return {}

    def upload(self, given: Mapping[str, str]) -> dict[str, str]:
        """Keep a folder's files but for hidden ones; the folder is the artifact's root."""
        folder = self.workspace / given["path"]
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and "/." not in f"/{path.relative_to(folder).as_posix()}"
        }
        if files:  # else the action warns, and makes no artifact
            self.artifacts[given["name"]] = files
        return {}


def copy_files(source: Path, names: Iterable[str], target: Path) -> None:
    """Copy files and folders by name into another folder."""
    target.mkdir(exist_ok=True)
    for name in names:
        if (source / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / name, target / name, ignore=ignored)
        else:
            shutil.copy(source / name, target / name)


def read_own_variables() -> dict[str, str]:
    """Return this machine's variables, without what a runner would not have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THERE)}
    here = Path(sys.prefix)
    path = [part for part in kept["PATH"].split(os.pathsep) if not Path(part).is_relative_to(here)]
    return kept | {"PATH": os.pathsep.join(path)}
