"""The machine that the load-test workflow gets from GitHub: new, with nothing but the event."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.checkout import ROOT
from tests.support.github_server import REPOSITORY, TOKEN
from tests.workflows.job_runner import Runner, Step, read_workflow

WORKFLOW = read_workflow("load-test-mcp.yml")
INPUTS = WORKFLOW["on"]["workflow_dispatch"]["inputs"]
# The variables of this machine that a CI runner lacks, or has with other values.
NOT_THERE = ("CI", "GITHUB_", "LOADTEST_", "NOX", "PLAYWRIGHT_", "PYTHON", "VIRTUAL_ENV")


@dataclass
class HostedRunner:
    """Runs the workflow as one event asks; `artifacts` maps names to files by their path.

    `cache` is the folder that the cache action restores, and saves into; by default there is none.
    """

    root: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    event: str = "workflow_dispatch"
    api_url: str = "http://127.0.0.1:9"  # nobody listens there
    cache: Path | None = None
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
        return {step.name: step for step in self.runner.run(WORKFLOW, "loadtest")}

    def check_out(self, _: Mapping[str, str]) -> dict[str, str]:
        """Bring this checkout's own files, those that a run writes as copies."""
        for name in ("k6", "loadtest", "requirements"):
            (self.workspace / name).symlink_to(ROOT / name)
        for name in ("loadtest.toml", "noxfile.py", "pyproject.toml", "tasks.py"):
            (self.workspace / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "docs", self.workspace / "docs")
        return {}

    def set_up_python(self, _: Mapping[str, str]) -> dict[str, str]:
        """Put a `python` on PATH that can install its own packages."""
        programs, packages = self.root / "python", self.root / "packages"
        programs.mkdir()
        name = "python{}.{}".format(*sys.version_info)
        (programs / "python").symlink_to(Path(sys.base_prefix) / "bin" / name)
        path = (programs, packages / "bin", self.runner.variables["PATH"])
        self.runner.variables |= {
            "PATH": os.pathsep.join(map(str, path)),
            "PIP_TARGET": str(packages),
            "PYTHONPATH": str(packages),
        }
        return {"python-version": platform.python_version()}

    def restore(self, given: Mapping[str, str]) -> dict[str, str]:
        """Restore what an earlier job has saved, and the browser that this machine may have."""
        folder = self.workspace / given["path"]
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


def read_own_variables() -> dict[str, str]:
    """Return this machine's variables, without what a runner would not have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THERE)}
    here = Path(sys.prefix)
    path = [part for part in kept["PATH"].split(os.pathsep) if not Path(part).is_relative_to(here)]
    return kept | {"PATH": os.pathsep.join(path)}
