"""Tasks as they are typed in a checkout of its own, and where its runs lie."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.publish.delivering import Inv
from tests.support.github_server import TOKEN
from tests.support.waiting import HANG_SECONDS


@pytest.fixture
def inv(checkout: Path) -> Inv:
    """Run a task of the checkout; return its exit code and all that it said."""

    def run(*arguments: str, **variables: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=checkout,
            env={"PATH": os.environ["PATH"], "COLUMNS": "100"} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )
        assert TOKEN not in done.stdout
        return done.returncode, done.stdout

    return run


@pytest.fixture
def runs_dir(checkout: Path) -> Path:
    return checkout / ".loadtest" / "runs"
