"""A place to provision: a target behind a gate, a checkout, the printed lines and the waits."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import mcp  # noqa: F401 (importing it in two threads at once fails)
import pytest
from sqlalchemy import delete

from loadtest.config.loading import load_settings
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Settings
from loadtest.provision import provisioner as stage
from loadtest.provision.provisioner import Provisioned, ProvisionStep
from loadtest.provision.teardown import teardown
from loadtest.reference.accounts import (
    Client,
    Consent,
    Entity,
    Grant,
    Member,
    SignIn,
    User,
    Workspace,
)
from loadtest.reference.knobs import Knobs
from loadtest.reference.seeds import SeedUser, seed_user
from loadtest.reference.server import ReferenceTarget
from tests.provision.gate import Gate, open_gate
from tests.support.checkout import ROOT
from tests.support.waiting import HANG_SECONDS

EMAIL = "loadtest@example.com"

# What `inv provision` does, without the half second that Invoke takes to start.
STAGE_ALONE = """
import sys
from pathlib import Path
from loadtest.config.loading import load_settings
from loadtest.provision import provisioner as stage
settings = load_settings(Path.cwd(), "staging", "smoke")
getattr(stage, sys.argv[1])(settings, settings.base_url, print)
"""


class Place:
    """A checkout that points at a gated target; `variables` are those of its processes."""

    def __init__(self, root: Path, target: ReferenceTarget, gate: Gate) -> None:
        self.root = root
        self.target = target
        self.gate = gate
        self.variables = {"LOADTEST_BASE_URL": gate.url, "LOADTEST_EMAIL": EMAIL}
        self.said: list[str] = []
        self.waited: list[float] = []
        self.pause: Callable[[float], None] = self.waited.append
        self.clock: Callable[[], float] = time.time

    @property
    def settings(self) -> Settings:
        """Settings as a new process would read them."""
        return load_settings(self.root, "staging", "smoke", process_env=self.variables)

    @property
    def password(self) -> str:
        """The password that counts."""
        password = self.settings.credentials.password
        assert password is not None
        return password.get_secret_value()

    def provision(self, **options: Any) -> Provisioned:
        """Provision in this process."""
        settings = self.settings
        return stage.provision(
            *(settings, self.gate.url, self.said.append),
            pause=self.pause,
            clock=self.clock,
            **options,
        )

    def rotate(self, **options: Any) -> ProvisionStep:
        """Rotate in this process."""
        settings = self.settings
        return stage.rotate(
            *(settings, self.gate.url, self.said.append),
            pause=self.pause,
            clock=self.clock,
            **options,
        )

    def teardown(self) -> dict[str, str]:
        """Tear down in this process; return each thing with its state."""
        steps = teardown(
            *(self.settings, self.gate.url, self.said.append), pause=self.pause, clock=self.clock
        )
        return {step.what: step.state for step in steps}

    def inv(self, *options: str, env: str = "staging") -> "subprocess.Popen[str]":
        """Start `inv provision` as its own process."""
        command = [sys.executable, "-u", "-m", "invoke", "provision", "--env", env, *options]
        return self.start(command)

    def run(self, *options: str, env: str = "staging") -> tuple[int, str, str]:
        """Run `inv provision`; return exit code, stdout and stderr."""
        with self.inv(*options, env=env) as process:
            out, err = process.communicate(timeout=HANG_SECONDS)
        return process.returncode, out, err

    def run_killed(
        self, arm: Callable[[Callable[[], None]], None], stage: str = "provision"
    ) -> None:
        """Run `provision` or `rotate` as a process, killed where `arm` calls the kill."""
        started: list[subprocess.Popen[str]] = []

        def kill() -> None:
            started[0].kill()
            started[0].wait()

        arm(kill)
        with self.start([sys.executable, "-c", STAGE_ALONE, stage]) as process:
            started.append(process)
            _, err = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == -9, err

    def start(self, command: list[str]) -> "subprocess.Popen[str]":
        """Start a process in the checkout, with the variables."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={"PATH": os.environ["PATH"], "COLUMNS": "300"} | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def signs_in(self, password: str) -> bool:
        """Return whether the target accepts this password."""
        body = {"email": self.variables["LOADTEST_EMAIL"], "password": password}
        answer = httpx.post(f"{self.target.api_url}/api/auth/sign-in/email", json=body)
        return answer.status_code == 200

    def count_entities(self) -> int:
        """Return how many entities all workspaces have."""
        store = self.target._deployment.store
        return sum(len(store.entity_names(each.id)) for each in self.target.workspaces())


def states(done: Provisioned) -> dict[str, str]:
    """Return the steps by their first word."""
    return {step.what.split()[0]: step.state for step in done.steps}


@pytest.fixture(scope="session")
def serve_empty(
    new_state: Callable[[], Path],
) -> Iterator[Callable[..., ReferenceTarget]]:
    """Serve targets without users; tests with the same knobs share one."""
    shared: dict[Knobs, ReferenceTarget] = {}
    with ExitStack() as running:

        def launch(knobs: Knobs, **options: Any) -> ReferenceTarget:
            target = ReferenceTarget(knobs, state_dir=new_state(), **options)
            return running.enter_context(target)

        def serve(knobs: Knobs, **options: Any) -> ReferenceTarget:
            if options:
                return launch(knobs, **options)
            target = shared[knobs] = shared.get(knobs) or launch(knobs)
            with target._deployment.store.begin() as db:
                for kind in (Consent, Grant, SignIn, Entity, Member, Workspace, Client, User):
                    db.execute(delete(kind))
            return target

        yield serve


@pytest.fixture
def place(
    tmp_path: Path, serve_empty: Callable[..., ReferenceTarget]
) -> Iterator[Callable[..., Place]]:
    """Make places, from the target's knobs, `users` and `clock`."""
    with ExitStack() as running:

        def make(users: Sequence[SeedUser] = (), **given: Any) -> Place:
            options = {"clock": given.pop("clock")} if "clock" in given else {}
            target = serve_empty(Knobs(**{"account_limits": False} | given), **options)
            for user in users:
                seed_user(target._deployment, user)
            gate = running.enter_context(open_gate(target.api_url))
            root = tmp_path / "a checkout"
            root.mkdir()
            for name in ("loadtest", "k6", "tasks.py", CONFIG_FILE):
                (root / name).symlink_to(ROOT / name)
            made = Place(root, target, gate)
            made.clock = options.get("clock", made.clock)
            return made

        yield make
