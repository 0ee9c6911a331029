"""A bearer for a reference target without a browser, and runs of single scenarios against it."""

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.console import Console
from loadtest.context import Chain
from loadtest.k6.binary import K6Binary, find_k6
from loadtest.k6.progress import Watcher
from loadtest.k6.scenario import ScenarioRun
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from tests.k6 import running
from tests.k6.running import Endpoint, build_settings, mint_by_session, plan_run, run_alone
from tests.support.loopback import serve_loopback


@pytest.fixture(scope="session", autouse=True)
def _no_state_in_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the state of runs out of the checkout, also of runs that several tests share."""
    running.state_root = tmp_path_factory.mktemp("root")


@pytest.fixture(autouse=True)
def _state_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test a state of its own: an earlier one may have left sessions open."""
    running.state_root = tmp_path_factory.mktemp("root")


@pytest.fixture(scope="session")
def binary() -> K6Binary:
    """Find the real k6."""
    return find_k6(os.environ)


@pytest.fixture(scope="module")
def open_endpoint(
    tmp_path_factory: pytest.TempPathFactory, new_state: Callable[[], Path]
) -> Iterator[Callable[..., Endpoint]]:
    """Start reference targets with the knobs given, each with a workspace and a bearer for it."""
    with ExitStack() as running:

        def build(clock: Callable[[], float] = time.time, **knobs: Any) -> Endpoint:
            knobs = {"tool_quota": False, **knobs}
            target = ReferenceTarget(Knobs(**knobs), state_dir=new_state(), clock=clock)
            running.enter_context(target)
            bearer_file = tmp_path_factory.mktemp("bearer") / "bearer.json"
            return Endpoint(target, mint_by_session(target.api_url, bearer_file), bearer_file)

        yield build


@pytest.fixture
def measure(tmp_path: Path, binary: K6Binary) -> Callable[..., ScenarioRun]:
    """Run one scenario, shortened and with the knobs given; its files lie in `tmp_path`."""

    def run(
        scenario: str, endpoint: Endpoint, watcher: Watcher | None = None, **knobs: str
    ) -> ScenarioRun:
        plan = plan_run(build_settings(**knobs), endpoint.mcp_url, endpoint.bearer_file)
        return run_alone(plan, scenario, binary, tmp_path / scenario, watcher=watcher)

    return run


@pytest.fixture(scope="module")
def echo_url() -> Iterator[str]:
    """Serve a loopback page that answers a POST with its own body and the status in X-Status."""

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(int(self.headers["X-Status"] or 200))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serve_loopback(Echo) as origin:
        yield f"{origin}/"


@pytest.fixture
def chain() -> Iterator[Chain]:
    """Give a chain whose lines `read_lines` returns."""
    with ExitStack() as resources:
        yield Chain(Console(file=io.StringIO(), width=1000), resources)
