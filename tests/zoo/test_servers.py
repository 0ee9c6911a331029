"""The whole chain against servers that others wrote: sign-in, preflight, scenarios, report."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

import psutil
import pytest

from loadtest.compare.knee import find_knee
from loadtest.compare.lost_sessions import find_losses
from loadtest.config.project import CONFIG_FILE
from loadtest.errors import ConfigError
from loadtest.k6.preflight import DRAFT_FILE
from loadtest.k6.scenario import EXIT_THRESHOLDS
from loadtest.results.run import REFUSALS
from loadtest.results.run_folder import RunFolder, read_run_folder
from tests.support.waiting import HANG_SECONDS
from tests.zoo.catalog import SERVERS_OF_OTHERS, Places, Server, Shown
from tests.zoo.page import compare_row, read_names
from tests.zoo.proxy import Proxy, serve_proxy
from tests.zoo.running import run_server

CONFIG = """\
version = 1
default_environment = "zoo"
docs_pages = ["docs/mcp-performance.mdx"]

[environment.zoo]
target = "hosted"
default_profile = "short"
provision = "none"
mcp_path = "{path}"
auth = "{auth}"
pace_seconds = {pace_seconds}
limits = {{ max_vus = 10, max_rps = 50, max_duration_seconds = 60 }}

[profile.short]
cold_start = {{ iterations = 6, vus = 2 }}
sessions = {{ stages = {stages}, stage_seconds = 4 }}
tools = {{ vus = 2, duration_seconds = 3 }}
"""
# What `inv doctor` says of replicas that share no sessions.
FORGETFUL = "answered as if the session did not exist"
each_server = pytest.mark.parametrize("server", SERVERS_OF_OTHERS, ids=lambda each: each.name)


@contextmanager
def run_replicas(server: Server, places: Places, logs: Path) -> Iterator[Proxy]:
    """Run all replicas of a server inside the block, behind a proxy."""
    logs.mkdir()
    with ExitStack() as running:
        proxy = running.enter_context(serve_proxy())
        variables = {"PUBLIC_ORIGIN": proxy.origin, **server.variables(places)}
        proxy.ports = tuple(
            running.enter_context(
                run_server(server.command(places), variables, logs / f"{number}.log")
            )
            for number in range(server.replicas)
        )
        yield proxy


Inv = Callable[..., "subprocess.CompletedProcess[str]"]


def describe_checkout(checkout: Path, server: Server, origin: str, temporary: Path) -> Inv:
    """Make the server the only environment of a checkout; return a function that runs a task."""
    auth = "bearer" if server.signs_in else "none"
    config = CONFIG.format(
        path=server.path, auth=auth, pace_seconds=server.pace_seconds, stages=list(server.stages)
    )
    (checkout / CONFIG_FILE).unlink()
    (checkout / CONFIG_FILE).write_text(config, encoding="utf-8")
    variables = {name: os.environ[name] for name in ("PATH", "K6_BIN") if name in os.environ} | {
        "COLUMNS": "200",
        "TMPDIR": str(temporary),
        "LOADTEST_BASE_URL": origin,
    }
    if server.signs_in:
        variables |= {"LOADTEST_EMAIL": "loadtest@example.com", "LOADTEST_PASSWORD": "any"}

    def inv(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=checkout,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )

    return inv


def draft_table(inv: Inv, checkout: Path, server: Server) -> None:
    """Write the table of tools from the draft that a run without a table leaves."""
    done = inv("k6", "--draft-tools", ",".join(server.tools))
    assert done.returncode == ConfigError.exit_code, done.stdout + done.stderr
    draft = json.loads((checkout / ".loadtest" / "zoo" / DRAFT_FILE).read_text(encoding="utf-8"))
    tools = {name: draft["tools"].get(name, draft["left_out"].get(name)) for name in server.tools}
    assert {tool["tried"] for tool in tools.values()} == {"ok"}
    (checkout / "tools.json").write_text(
        json.dumps({"tools": tools, **server.beside}), encoding="utf-8"
    )


def read_shown(folder: RunFolder) -> Shown:
    """Return what a run showed."""
    knee = find_knee(folder.run, folder.rows)
    sustained = None if knee is None else knee.sustained
    losses = find_losses(folder.rows)
    return Shown(
        revision=folder.run.target.protocol_version or "",
        sustained=None if sustained is None else int(sustained.name),
        failures=tuple(sorted({reason for row in folder.rows for reason in row.failures})),
        lost_by=None if losses is None else losses.cause,
    )


def find_processes(folder: Path) -> list[str]:
    """Return the processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(" ".join(process.cmdline()))
    return found


@each_server
@pytest.mark.timeout(2 * HANG_SECONDS)
def test_a_server_is_measured_and_nothing_is_left_behind(
    server: Server, places: Places, checkout: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with run_replicas(server, places, tmp_path / "logs") as proxy:
        inv = describe_checkout(checkout, server, proxy.origin, temporary)
        draft_table(inv, checkout, server)
        assert (FORGETFUL in inv("doctor").stdout) == (server.replicas > 1)
        done = inv("loadtest", "--tools", "tools.json")
        opened, left = proxy.opened, len(proxy.open)
    failed = set(server.shown.failures) - set(REFUSALS)
    assert done.returncode == (EXIT_THRESHOLDS if failed else 0), done.stdout + done.stderr
    (folder,) = map(read_run_folder, (checkout / ".loadtest" / "runs").iterdir())
    shown = read_shown(folder)
    assert shown == server.shown
    if shown.sustained is not None:
        called = {row.name for row in folder.rows if row.scenario == "tools" and row.ok}
        assert called >= {*server.tools, *chain.from_iterable(server.beside.values())}
    assert opened > 0 or folder.run.target.era == "stateless"
    # A replica keeps a session of which the other one, asked to close it, knows nothing.
    assert left == 0 or server.replicas > 1
    assert find_processes(tmp_path) == []
    assert [*temporary.iterdir()] == []
    compare_row(server, shown)


def test_the_page_lists_these_servers() -> None:
    assert read_names() == [server.title for server in SERVERS_OF_OTHERS]
