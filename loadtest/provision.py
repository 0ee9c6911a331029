"""A load-test user and a workspace with the NovaMart data: look first, act second, look again."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import SecretStr

from loadtest.config import Credentials, Settings, parse_env_file
from loadtest.errors import ProvisionError
from loadtest.files import ensure_private_dir, read_json, write_json, write_text

if TYPE_CHECKING:
    from loadtest.accounts import Accounts

RECORD_VERSION = 1
RECORD_SECONDS = 3600
CALL_SECONDS = 30.0
REFERENCE_EMAIL = "loadtest@novamart.example"


@dataclass(frozen=True)
class Step:
    """One thing that provisioning needs, and whether it had to be made."""

    what: str
    state: Literal["was there", "made"]


@dataclass(frozen=True)
class Provisioned:
    """Who may sign in to which workspace, and what had to be done for it."""

    credentials: Credentials
    steps: tuple[Step, ...]


def was_verified(settings: Settings) -> bool:
    """Return whether these very credentials were seen to work within the last hour."""
    path = settings.state_dir / "provision.json"
    if not path.exists():
        return False
    body = read_json(path, RECORD_VERSION, ProvisionError)
    age_seconds = time.time() - float(body["verified_at"])
    return 0 <= age_seconds < RECORD_SECONDS and body["for"] == _subject(
        settings.base_url, settings.credentials
    )


def _subject(base_url: str | None, credentials: Credentials) -> dict[str, str | None]:
    """Return what a verification is about; a reference target has no fixed origin."""
    who = {"email": credentials.email, "workspace_id": credentials.workspace_id}
    return {"base_url": base_url} | who


def provision(settings: Settings, base_url: str, tell: Callable[[str], None]) -> Provisioned:
    """Make user, workspace and data where they are missing; verify by a tool call.

    A password that was not given is invented, and kept (0600) before the account is made, so that
    a run killed half-way is taken up by the next; a given one is not written. Raises
    ProvisionError.
    """
    from loadtest.accounts import Accounts

    given = settings.credentials
    email = given.email or REFERENCE_EMAIL
    password = given.password or SecretStr(secrets.token_urlsafe(24))
    invented = {} if given.password else {"LOADTEST_PASSWORD": password.get_secret_value()}
    _keep(settings.credentials_file, {"LOADTEST_EMAIL": email} | invented)
    with Accounts(base_url, tell) as accounts:
        user = Step(f"user {email}", accounts.enter(email, password))
        workspace_id, workspace = accounts.ensure_workspace(email, given.workspace_id)
        mcp_url = settings.build_mcp_url(base_url, workspace_id)
        data = _ensure_data(accounts, mcp_url, workspace)
    credentials = Credentials(email, password, workspace_id)
    _keep(settings.credentials_file, {"LOADTEST_WORKSPACE_ID": workspace_id})
    record = {"for": _subject(settings.base_url, credentials), "verified_at": time.time()}
    write_json(settings.state_dir / "provision.json", RECORD_VERSION, record, private=True)
    steps = (user, Step(f"workspace {workspace_id}", workspace), data)
    return Provisioned(credentials, steps)


def _ensure_data(accounts: "Accounts", mcp_url: str, workspace: str) -> Step:
    """Attach the data only to a workspace that was seen to be without."""
    bearer = accounts.mint_look_bearer()
    if bearer is None and workspace == "was there":
        raise ProvisionError(
            "the data of this workspace cannot be looked at (no self-mint here), and attaching it "
            "twice would damage it: attach it by hand once, then run `inv mint`"
        )
    names = fetch_entity_names(mcp_url, bearer) if bearer is not None else []
    state: Literal["was there", "made"] = "was there"
    if not names:
        accounts.attach_data()
        state = "made"
        names = fetch_entity_names(mcp_url, bearer) if bearer is not None else []
        if bearer is not None and not names:
            raise ProvisionError("the demo data was attached, yet listEntities finds no entity")
    if len(set(names)) != len(names):
        raise ProvisionError(
            "the demo data is attached more than once, which breaks look-ups: use a new workspace"
        )
    return Step(f"NovaMart data ({len(names)} entities)", state)


def fetch_entity_names(mcp_url: str, bearer: SecretStr) -> list[str]:
    """Return the workspace's entity names by a real `listEntities` call; empty without data."""
    import httpx2

    try:
        return asyncio.run(_list_entities(mcp_url, bearer))
    except* (OSError, httpx2.HTTPError) as failures:
        raise ProvisionError(f"{mcp_url} does not answer ({failures.exceptions[0]})") from None


async def _list_entities(mcp_url: str, bearer: SecretStr) -> list[str]:
    import json

    import httpx2
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    headers = {"Authorization": f"Bearer {bearer.get_secret_value()}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=CALL_SECONDS) as http,
        Client(streamable_http_client(mcp_url, http_client=http)) as client,
    ):
        result = await client.call_tool("listEntities", {})
    text = getattr(result.content[0], "text", "") if result.content else ""
    if result.is_error:
        raise ProvisionError(f"listEntities answers an error: {text[:200]}")
    return [str(entity["name"]) for entity in json.loads(text)["entities"]]


def _keep(path: Path, values: dict[str, str]) -> None:
    """Merge values into the env file that its owner alone can read."""
    ensure_private_dir(path.parent)
    merged = parse_env_file(path) | values
    text = "".join(f"{name}={value}\n" for name, value in merged.items())
    write_text(path, text, private=True)
