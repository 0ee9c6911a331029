"""A load-test user and a workspace with the NovaMart data: look first, act second, look again."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import httpx
from pydantic import SecretStr

from loadtest.config import Credentials, Settings, parse_env_file
from loadtest.errors import ProvisionError
from loadtest.files import ensure_private_dir, read_json, write_json, write_text

RECORD_VERSION = 1
RECORD_SECONDS = 3600
REQUEST_SECONDS = 30.0
# The target's windows are a minute long and its Retry-After cannot be trusted (wire contract).
RATE_WAITS_SECONDS = (5.0, 15.0, 20.0, 30.0)
REFERENCE_EMAIL = "loadtest@novamart.example"
LOOK_TTL_SECONDS = 60


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


class Accounts:
    """The target's account and workspace endpoints, called with a bearer and no cookie jar.

    A request that carries cookies without an `Origin` is refused, hence no jar (wire contract,
    "Accounts, workspace, data").
    """

    def __init__(self, base_url: str, tell: Callable[[str], None]) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=REQUEST_SECONDS)
        self._token = SecretStr("")
        self._tell = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def enter(self, email: str, password: SecretStr) -> Literal["was there", "made"]:
        """Sign in, else sign up."""
        body = {"email": email, "password": password.get_secret_value()}
        answer = self._ask("POST", "/api/auth/sign-in/email", body)
        if answer.status_code == 200:
            self._token = SecretStr(_member(answer, "token"))
            return "was there"
        if _code(answer) != "INVALID_EMAIL_OR_PASSWORD":
            raise ProvisionError(f"sign-in of {email} failed: {_words(answer)}")
        answer = self._ask("POST", "/api/auth/sign-up/email", body | {"name": "Load test"})
        if _code(answer) == "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL":
            raise ProvisionError(f"wrong password for {email}: correct LOADTEST_PASSWORD")
        if answer.status_code != 200:
            raise ProvisionError(f"sign-up of {email} failed: {_words(answer)}")
        self._token = SecretStr(_member(answer, "token"))
        return "made"

    def ensure_workspace(
        self, email: str, workspace_id: str | None
    ) -> tuple[str, Literal["was there", "made"]]:
        """Make the given workspace, or ours, the active one; create ours when it is missing."""
        slug = f"loadtest-{hashlib.sha256(email.encode()).hexdigest()[:12]}"
        answer = self._ask("GET", "/api/auth/organization/list")
        if answer.status_code != 200 or not isinstance(answer.json(), list):
            raise ProvisionError(f"the workspaces of {email} cannot be listed: {_words(answer)}")
        # Only a listed workspace is made active: a foreign id would clear the active one.
        for found in answer.json():
            if found["id"] == workspace_id or (workspace_id is None and found["slug"] == slug):
                body = {"organizationId": found["id"]}
                answer = self._ask("POST", "/api/auth/organization/set-active", body)
                if answer.status_code != 200:
                    raise ProvisionError(
                        f"workspace {found['id']} cannot be made active: {_words(answer)}"
                    )
                return str(found["id"]), "was there"
        if workspace_id is not None:
            raise ProvisionError(
                f"workspace {workspace_id} is not one of {email}'s: correct LOADTEST_WORKSPACE_ID"
            )
        body = {"name": "MCP load test", "slug": slug}
        answer = self._ask("POST", "/api/auth/organization/create", body)
        if answer.status_code != 200:
            raise ProvisionError(f"workspace {slug} cannot be created: {_words(answer)}")
        return _member(answer, "id"), "made"

    def attach_data(self) -> None:
        """Attach the NovaMart data; once per workspace, or every entity is there twice."""
        answer = self._ask("POST", "/api/v1/onboarding/use-demo", {})
        if answer.status_code != 201:
            raise ProvisionError(f"the demo data cannot be attached: {_words(answer)}")
        if answer.json().get("partialFailures"):
            raise ProvisionError("the demo data was attached in part only: see the target's log")

    def mint_look_bearer(self) -> SecretStr | None:
        """Mint a short bearer to look at the data with; None where the target offers none."""
        path = "/api/v1/me/load-test/mcp-token"
        answer = self._ask("POST", path, {"ttlSeconds": LOOK_TTL_SECONDS})
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise ProvisionError(f"no bearer to look at the data with: {_words(answer)}")
        return SecretStr(_member(answer, "bearer"))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        token = self._token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        for wait_seconds in (*RATE_WAITS_SECONDS, None):
            try:
                answer = self._http.request(method, path, json=body, headers=headers)
            except httpx.HTTPError as failure:
                raise ProvisionError(
                    f"{self._http.base_url}{path} does not answer ({type(failure).__name__})"
                ) from None
            self._http.cookies.clear()
            if answer.status_code != 429 or wait_seconds is None:
                return answer
            self._tell(f"{path} is rate limited: waiting {wait_seconds:.0f} s")
            time.sleep(wait_seconds)
        raise AssertionError("the last wait is None")


def _ensure_data(accounts: Accounts, mcp_url: str, workspace: str) -> Step:
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
    try:
        return asyncio.run(_list_entities(mcp_url, bearer))
    except* (OSError, httpx.HTTPError) as failures:
        raise ProvisionError(f"{mcp_url} does not answer ({failures.exceptions[0]})") from None


async def _list_entities(mcp_url: str, bearer: SecretStr) -> list[str]:
    import json

    import httpx2
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    headers = {"Authorization": f"Bearer {bearer.get_secret_value()}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=REQUEST_SECONDS) as http,
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


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _code(answer: httpx.Response) -> str | None:
    code = _body(answer).get("code")
    return code if isinstance(code, str) else None


def _words(answer: httpx.Response) -> str:
    """Quote an error in any of the target's three dialects, and nothing else of the reply."""
    body = _body(answer)
    said = [str(body[key]) for key in ("code", "error", "message") if body.get(key)]
    return ": ".join([f"HTTP {answer.status_code}", *said])[:300]


def _member(answer: httpx.Response, name: str) -> str:
    value = _body(answer).get(name)
    if not isinstance(value, str) or not value:
        raise ProvisionError(f"{answer.request.url.path} answered without '{name}'")
    return value
