"""Two real processes and one environment."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtest.errors import BusyError
from loadtest.state.run_lock import lock_environment
from tests.support.checkout import ROOT

HOLD = """
import sys
from pathlib import Path
from loadtest.state.run_lock import lock_environment
with lock_environment(Path(sys.argv[1]), "staging"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def hold(state_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    """Have another process hold the environment until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_an_environment_in_use_is_refused_with_the_holders_pid_and_start(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        started = json.loads((tmp_path / "holder.json").read_text(encoding="utf-8"))["started"]
        words = f"environment staging is in use by process {process.pid}, since {started}"
        with (
            pytest.raises(BusyError, match=words),
            lock_environment(tmp_path, "staging"),
        ):
            raise AssertionError("held twice")
        process.communicate()
        with lock_environment(tmp_path, "staging"):
            pass
    assert not (tmp_path / "holder.json").exists()


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        process.kill()
        process.wait()
        assert (tmp_path / "holder.json").exists()
        with lock_environment(tmp_path, "staging"):
            body = json.loads((tmp_path / "holder.json").read_text(encoding="utf-8"))
            assert body["pid"] != process.pid


def test_a_holder_that_has_not_written_its_file_yet_still_holds(tmp_path: Path) -> None:
    with hold(tmp_path):
        (tmp_path / "holder.json").unlink()
        with (
            pytest.raises(BusyError, match="in use by another process"),
            lock_environment(tmp_path, "staging"),
        ):
            raise AssertionError("held twice")
