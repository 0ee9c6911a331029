"""The wheel, built once and unpacked where a user's Python would find it."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.waiting import HANG_SECONDS

Run = Callable[..., "subprocess.CompletedProcess[str]"]
# What `mcp-loadtest` runs: its entry point, with its name as the program's.
SCRIPT = "import sys; sys.argv[0] = 'mcp-loadtest'; from loadtest.__main__ import main; main()"


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and sdist from a copy: the builder leaves no file in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("loadtest", "k6"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "requirements/all.txt"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=HANG_SECONDS)
    return folder


@pytest.fixture(scope="session")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel, as an installer does."""
    folder = tmp_path_factory.mktemp("site packages")
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def run(installed: Path) -> Run:
    """Run a Python command with the installed package, in a folder of the user's."""

    def run(folder: Path, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(installed),
                "COLUMNS": "120",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )

    return run


@pytest.fixture
def script(run: Run) -> Run:
    """Run `mcp-loadtest` with the installed package."""
    return lambda folder, *arguments, **variables: run(
        folder, "-c", SCRIPT, *arguments, **variables
    )
