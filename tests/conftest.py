"""Real parts for every test: a reference target on its own ports, settings that point at it."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx._transports.default
import hypothesis

# The reference target loads the SDK in a thread: two threads that import it at once trip up.
import mcp.client  # noqa: F401
import pytest

from loadtest.common import access, redaction
from loadtest.common.secret_index import SecretIndex
from loadtest.config.loading import load_settings
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Settings
from loadtest.mint.browser.launcher import BrowserChoice, find_choice
from loadtest.provision.provisioner import provision
from loadtest.publish.tracking_issue.tracker import Tracker, open_tracker
from loadtest.reference import novamart
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from tests.support.checkout import ROOT
from tests.support.github_server import GithubServer, serve_github
from tests.support.shared_browser import SharedBrowser

EMAIL = "loadtest@novamart.example"
# What starts a browser or a k6; and a checkout, in which each task is a process of its own.
SLOW_FIXTURES = frozenset({"binary", "browser_choice", "checkout", "operator"})

# A shell that starts us in the background has Ctrl-C ignored, by us and by all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# To load the certificate authorities takes longer than most requests of a test: do it once.
setattr(httpx._transports.default, "create_ssl_context", cache(httpx.create_ssl_context))  # noqa: B010

# A busy machine may take long over any example.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run two workers per processor: slow tests wait for k6 or for a browser, others do not."""
    per_processor = 1 if config.option.markexpr == "not slow" else 2
    return per_processor * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a browser, a k6 or a task as slow, and start the longest tests first."""
    for item in items:
        if not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    items.sort(key=_get_timeout, reverse=True)


def _get_timeout(item: pytest.Item) -> float:
    """Return how long a test may take; slow tests come before all others."""
    timeout = item.get_closest_marker("timeout")
    return float(timeout.args[0]) if timeout else item.get_closest_marker("slow") is not None


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know no secret and no demand of a server of the test before: each is a process of its own."""
    monkeypatch.setattr(redaction, "known", SecretIndex())
    monkeypatch.setattr(access, "_accesses", {})


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the NovaMart file once: it takes as long as all else of a target's start."""
    path = tmp_path_factory.mktemp("novamart") / novamart.FILE_NAME
    novamart.build_novamart(path)
    return path


@pytest.fixture(scope="session")
def new_state(tmp_path_factory: pytest.TempPathFactory, data_file: Path) -> Callable[[], Path]:
    """Make folders in which reference targets find their data and keep their accounts."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("target")
        shutil.copy(data_file, folder)
        return folder

    return make


@pytest.fixture
def serve(new_state: Callable[[], Path]) -> Iterator[Callable[..., ReferenceTarget]]:
    """Start reference targets with the knobs given; they end with the test."""
    with ExitStack() as running:

        def start(state_dir: Path | None = None, **knobs: Any) -> ReferenceTarget:
            target = ReferenceTarget(Knobs(**knobs), state_dir=state_dir or new_state())
            return running.enter_context(target)

        yield start


@pytest.fixture
def settings_for(tmp_path: Path) -> Callable[[ReferenceTarget], Settings]:
    """Give settings of a hosted environment that points at a running reference target."""
    shutil.copy(ROOT / CONFIG_FILE, tmp_path)

    def build(target: ReferenceTarget) -> Settings:
        variables = {"LOADTEST_BASE_URL": target.api_url, "LOADTEST_EMAIL": EMAIL}
        return load_settings(tmp_path, "staging", "smoke", process_env=variables)

    return build


@pytest.fixture
def provisioned(
    settings_for: Callable[[ReferenceTarget], Settings],
) -> Callable[[ReferenceTarget], Settings]:
    """Give such settings with user, workspace and data made."""

    def build(target: ReferenceTarget) -> Settings:
        settings = settings_for(target)
        done = provision(settings, target.api_url, lambda _: None)
        return replace(settings, credentials=done.credentials)

    return build


@pytest.fixture(scope="session")
def browser_choice() -> BrowserChoice:
    """Name the browser that the sign-in uses."""
    return find_choice(ROOT / ".loadtest" / "browser.json")


@pytest.fixture(scope="session")
def shared_browser(browser_choice: BrowserChoice) -> Iterator[SharedBrowser]:
    """Share one browser between tests: to start one takes a second of the processor's time."""
    browser = SharedBrowser(browser_choice)
    yield browser
    browser.close()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a checkout of its own, with a space in its path and no state."""
    root = tmp_path / "a checkout"
    root.mkdir()
    for name in ("loadtest", "k6", "tasks.py", CONFIG_FILE):
        (root / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "docs", root / "docs")
    return root


@pytest.fixture(scope="session")
def github_server() -> Iterator[GithubServer]:
    """Serve one loopback GitHub for all tests: ghapi takes 0.4 s to get to know an address."""
    with serve_github() as server:
        yield server


@pytest.fixture
def github(github_server: GithubServer) -> GithubServer:
    """Give the loopback GitHub with nothing in it."""
    github_server.forget_all()
    return github_server


@pytest.fixture
def github_settings(github: GithubServer, tmp_path: Path) -> Callable[..., Settings]:
    """Give settings of a checkout that reports to the loopback GitHub."""
    shutil.copy(ROOT / CONFIG_FILE, tmp_path)

    def build(**variables: str) -> Settings:
        return load_settings(tmp_path, "prod", process_env={**github.variables, **variables})

    return build


@pytest.fixture
def pauses() -> list[float]:
    """Hold what was waited for GitHub, in seconds."""
    return []


@pytest.fixture
def new_tracker(
    github_settings: Callable[..., Settings], pauses: list[float]
) -> Callable[..., Tracker]:
    """Open trackers on the loopback GitHub, each as a process of its own would."""
    return lambda **variables: open_tracker(github_settings(**variables), pauses.append)
