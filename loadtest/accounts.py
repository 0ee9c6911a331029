"""The target's account and workspace endpoints, as its own pages call them."""

import hashlib
import time
from collections.abc import Callable
from typing import Any, Literal, Self

import httpx
from pydantic import SecretStr

from loadtest.errors import ProvisionError

REQUEST_SECONDS = 30.0
# The target's windows are a minute long and its Retry-After cannot be trusted (wire contract).
RATE_WAITS_SECONDS = (5.0, 15.0, 20.0, 30.0)
LOOK_TTL_SECONDS = 60


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
