"""Reference targets for these tests: one that all share, and a way to launch others."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loadtest.reference import novamart
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from tests.reference.visitor import Launch, Visitor


@pytest.fixture(scope="session")
def target(new_state: Callable[[], Path]) -> Iterator[ReferenceTarget]:
    """A target without limits that every test of the session may use."""
    knobs = Knobs(account_limits=False, tool_quota=False)
    with ReferenceTarget(knobs, state_dir=new_state()) as running:
        yield running


@pytest.fixture(scope="session")
def resident(target: ReferenceTarget) -> Iterator[Visitor]:
    """A user on the shared target, for tests that do not change the account."""
    made = Visitor(target, "resident")
    with closing(made.http):
        yield made


@pytest.fixture
def visitor(target: ReferenceTarget) -> Iterator[Visitor]:
    """A new person with a workspace and data on the shared target."""
    made = Visitor(target, secrets.token_hex(6))
    with closing(made.http):
        yield made


@pytest.fixture(scope="session")
def stop_later() -> Iterator[Callable[[ReferenceTarget], None]]:
    """Stop targets while the next tests run: most of that is uvicorn's sleeping."""
    stops: list[Future[None]] = []
    with ThreadPoolExecutor(4) as pool:
        yield lambda target: stops.append(pool.submit(target.stop))
        for stop in stops:
            stop.result()


@pytest.fixture
def launch(
    tmp_path: Path, data_file: Path, stop_later: Callable[[ReferenceTarget], None]
) -> Iterator[Launch]:
    """Launch a target of one's own: knobs by name, and the constructor's options."""
    running: list[ReferenceTarget] = []
    options = {"users", "clients", "clock", "query_seconds", "state_dir", "port", "preferred_port"}

    def start(**given: Any) -> ReferenceTarget:
        chosen = {name: given.pop(name) for name in options & set(given)}
        folder = chosen.setdefault("state_dir", tmp_path / "state")
        folder.mkdir(exist_ok=True)
        if not (folder / novamart.FILE_NAME).exists():
            shutil.copy(data_file, folder)
        target = ReferenceTarget(Knobs(**given), **chosen)
        target.start()
        running.append(target)
        return target

    yield start
    for target in running:
        stop_later(target)


@pytest.fixture
def join(request: pytest.FixtureRequest) -> Any:
    """Make people on a launched target; their connections close with the test."""

    def make(target: ReferenceTarget, name: str = "ada", **options: Any) -> Visitor:
        made = Visitor(target, name, **options)
        request.addfinalizer(made.http.close)
        return made

    return make
