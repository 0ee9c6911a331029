"""Scenarios for the benches: something to ask, and what k6 took of the machine to ask it."""

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from loadtest.common.redaction import SecretStr
from loadtest.config.loading import load_settings
from loadtest.config.project import CONFIG_FILE
from loadtest.k6.binary import find_k6
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.distributed.segments import open_segments
from loadtest.k6.plan import Runners, build_plan
from loadtest.k6.scenario import RunScenario, ScenarioRun, run_scenario
from loadtest.results.run import Row
from loadtest.state.bearers import Bearer, read_bearers, write_bearers
from loadtest.target.process import serve_reference
from tests.k6.running import name_knobs
from tests.support.checkout import ROOT

_T = TypeVar("_T")
BEARER_SECONDS = "3600"  # longer than any run here
QUIET = ("--no-tool-quota", "--no-account-limits", "--session-cap", "1000")


@dataclass(frozen=True)
class Place:
    """An MCP endpoint with a bearer, a folder for the files of runs, and its own k6.

    With `streams`, the sessions of its runs hold one each.
    """

    mcp_url: str
    bearer_file: Path
    folder: Path
    k6: Path | None = None
    streams: bool = True

    def measure(self, scenario: str, kind: str, name: str, **knobs: str) -> Row:
        """Run a scenario and return one of its rows; every call must have been answered ok."""
        return pick(self.run(scenario, segments=0, **knobs), kind, name)

    def run(
        self, scenario: str, *, segments: int = 0, outputs: Sequence[str] = (), **knobs: str
    ) -> ScenarioRun:
        """Run a scenario with one k6, or with several segments."""
        binary = find_k6({**os.environ, "K6_BIN": str(self.k6)} if self.k6 else os.environ)
        variables = {"PATH": os.environ["PATH"], **name_knobs(knobs)}
        settings = load_settings(ROOT, "local", "smoke", process_env=variables)
        runners = Runners("segments", segments) if segments else Runners()
        plan = build_plan(
            replace(settings, root=self.folder),
            (scenario,),
            self.mcp_url,
            runners=runners,
            outputs=tuple(outputs),
        )
        run: RunScenario = (
            partial(run_fleet, launch=open_segments(binary, variables))
            if segments
            else partial(run_scenario, binary=binary, variables=variables)
        )
        with tempfile.TemporaryDirectory(dir=self.folder) as out_dir:
            return run(
                replace(plan, bearer_file=self.bearer_file, streams=self.streams),
                scenario,
                out_dir=Path(out_dir),
                watcher=None,
                renewal_url=None,
            )


def pick(run: ScenarioRun, kind: str, name: str) -> Row:
    """Return one row of a run in which every call was answered ok."""
    rows = [row for row in run.rows if (row.kind, row.name) == (kind, name)]
    if run.result.outcome != "ok" or [row.failures for row in rows] != [{}]:
        raise SystemExit(f"{run.result.name} went wrong: {run.result}, {rows}")
    return rows[0]


@dataclass(frozen=True)
class Usage:
    """What child processes took: CPU time, user and system, and the most memory of one of them."""

    cpu_seconds: float
    peak_mb: float


@contextmanager
def serve_target(*options: str) -> Iterator[Place]:
    """Serve the reference target in its own process, without quota or limits."""
    with (
        tempfile.TemporaryDirectory() as name,
        serve_reference(Path(name) / "target", *QUIET, *options) as target,
    ):
        root = Path(name) / "checkout"
        root.mkdir()
        for part in ("loadtest", "tasks.py", CONFIG_FILE):
            (root / part).symlink_to(ROOT / part)
        email = "bench@novamart.example"
        how = ("--env", "staging", "--via", "session", "--ttl", BEARER_SECONDS)
        subprocess.run(
            [sys.executable, "-m", "invoke", "mint", *how],
            cwd=root,
            env={**os.environ, "LOADTEST_BASE_URL": target.api_url, "LOADTEST_EMAIL": email},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        bearer_file = root / ".loadtest" / "staging" / "bearer.json"
        yield Place(read_bearers(bearer_file)[0].mcp_url, bearer_file, Path(name))


@contextmanager
def serve_fixed(framing: str, result: str) -> Iterator[Place]:
    """Serve one JSON result as the answer to every tool call, framed as `sse` or `json`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "result.json").write_text(result, encoding="utf-8")
        module = (sys.executable, "-m", "tests.bench.fixed_server")
        with subprocess.Popen(
            [*module, framing, str(folder / "result.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            try:
                mcp_url = server.stdout.readline().strip()
                bearer = Bearer(SecretStr("none"), time.time() + 86_400, mcp_url, "", "given")
                write_bearers(folder / "bearer.json", (bearer,))
                yield Place(mcp_url, folder / "bearer.json", folder)
            finally:
                server.stdin.close()


def run_apart(action: Callable[..., _T], *arguments: object, **more: object) -> tuple[_T, Usage]:
    """Call a function of a module in a fresh process; return what its own children took, too."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_run_here, action, arguments, more).result()


def _run_here(
    action: Callable[..., _T], arguments: tuple[object, ...], more: Mapping[str, object]
) -> tuple[_T, Usage]:
    found = action(*arguments, **more)
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found, Usage(taken.ru_utime + taken.ru_stime, find_peak_mb(resource.RUSAGE_CHILDREN))


def find_peak_mb(who: int) -> float:
    """Return the most memory that this process, or one of its children, has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e6
