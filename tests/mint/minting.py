"""Requests to mint for tests: a seeded user and workspace, no provisioning."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.redaction import SecretStr
from loadtest.config.models import Environment, Limits
from loadtest.errors import MintError
from loadtest.mint.browser.launcher import BrowserChoice
from loadtest.mint.browser.session import SignInRequest
from loadtest.mint.oauth.request import Timings
from loadtest.mint.pool import mint_pool
from loadtest.reference.knobs import Knobs
from loadtest.reference.seeds import SeedClient, SeedUser
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import Bearer

EMAIL = "minter@novamart.example"
PASSWORD = "a password canary"
SLUG = "minting"
CLAIM = "https://atlas.useatlas.dev/workspace_id"


def build_target(
    clients: Sequence[SeedClient] = (),
    user: dict[str, Any] | None = None,
    state_dir: Path | None = None,
    **knobs: Any,
) -> ReferenceTarget:
    """Return a target, not yet started, with one user who owns one workspace."""
    seed: dict[str, Any] = {"must_change_password": False, "workspace": SLUG} | (user or {})
    users = [SeedUser(EMAIL, PASSWORD, **seed)]
    return ReferenceTarget(Knobs(**knobs), state_dir=state_dir, users=users, clients=clients)


def build_environment(**changes: Any) -> Environment:
    """Return an environment of the first user's kind."""
    arguments: dict[str, Any] = {
        "target": "hosted",
        "default_profile": "smoke",
        "limits": Limits(max_vus=1, max_rps=1, max_duration_seconds=1),
        "scope": "mcp:read offline_access",
        "workspace_claim": CLAIM,
    }
    return Environment(**(arguments | changes))


def build_request(
    target: ReferenceTarget,
    browser: BrowserChoice,
    state_dir: Path,
    tell: Callable[[str], None] = lambda _: None,
    environment: dict[str, Any] | None = None,
    **changes: Any,
) -> SignInRequest:
    """Return a request to mint for the seeded user's workspace."""
    (workspace,) = (found for found in target.workspaces() if found.slug == SLUG)
    arguments: dict[str, Any] = {
        "mcp_url": f"{target.api_url}/mcp/{workspace.id}",
        "environment": build_environment(**(environment or {})),
        "workspace_id": workspace.id,
        "tell": tell,
        "email": EMAIL,
        "password": SecretStr(PASSWORD),
        "browser": browser,
        "state_dir": state_dir,
    }
    return SignInRequest(**(arguments | changes))


def mint(request: SignInRequest) -> tuple[Bearer, Timings]:
    """Mint for one client: by refresh if possible, else by the browser."""
    bearers, timings = mint_pool(request, (0,), lambda _: request)
    return bearers[0], timings


def refuse(request: SignInRequest) -> MintError:
    """Mint in vain; return the error, which is one line without the password."""
    with pytest.raises(MintError) as caught:
        mint(request)
    assert "\n" not in str(caught.value)
    assert request.password.get_secret_value() not in str(caught.value)
    return caught.value
