"""Plain HTTP clients for the reference target: a person with a workspace, and an MCP client."""

import base64
import hashlib
import json
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from loadtest.reference.server import ReferenceTarget

PASSWORD = "a password for tests"
REDIRECT = "http://127.0.0.1/callback"
VERIFIER = "v" * 43
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
)
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once: httpx would load the system's certificates for every client."""
ALL_SCOPES = "openid offline_access mcp:read"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


Launch = Callable[..., ReferenceTarget]


def error_of(response: httpx.Response) -> tuple[int, str]:
    """The status and the code of an error, in whichever dialect."""
    body = response.json()
    return response.status_code, body.get("code") or body["error"]


def claims_of(jwt: str) -> dict[str, Any]:
    """A JWT's claims, unverified."""
    part = jwt.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def query_of(url: str) -> dict[str, str]:
    """A URL's query parameters."""
    return dict(parse_qsl(urlsplit(url).query))


class Visitor:
    """A user of a target; by default it signs up with its own workspace."""

    def __init__(self, target: ReferenceTarget, name: str = "ada", *, demo: bool = True) -> None:
        self.target = target
        self.email = f"{name}@novamart.example"
        self.http = httpx.Client(base_url=target.api_url, timeout=30, verify=NO_TLS)
        self.token = self.post(
            "/api/auth/sign-up/email",
            {"email": self.email, "password": PASSWORD, "name": name},
            signed_in=False,
        ).json()["token"]
        made = self.post("/api/auth/organization/create", {"name": name, "slug": name})
        self.workspace_id: str = made.json()["id"]
        if demo:
            self.post("/api/v1/onboarding/use-demo", {})

    @property
    def issuer(self) -> str:
        return f"{self.target.api_url}/api/auth"

    @property
    def resource(self) -> str:
        return f"{self.target.api_url}/mcp"

    @property
    def bearer_header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def post(self, path: str, body: Any, *, signed_in: bool = True) -> httpx.Response:
        """POST JSON with the session token as bearer and without cookies."""
        headers = self.bearer_header if signed_in else {}
        response = self.http.post(path, json=body, headers=headers)
        self.http.cookies.clear()
        return response

    def mint(self) -> str:
        """A self-minted MCP bearer."""
        bearer: str = self.post("/api/v1/me/load-test/mcp-token", {}).json()["bearer"]
        return bearer

    def register(self, *, signed_in: bool = False, **metadata: Any) -> dict[str, Any]:
        """Register a client; `metadata` overrides the defaults."""
        body = {
            "client_name": "tests",
            "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none",
            **metadata,
        }
        response = self.post("/api/auth/oauth2/register", body, signed_in=signed_in)
        assert response.status_code == 200, response.text
        client: dict[str, Any] = response.json()
        return client

    def authorize(self, client_id: str, **changes: str) -> str:
        """Where the authorization endpoint redirects; a parameter given as "" is left out."""
        return self._authorize(client_id, changes, self.bearer_header)

    def authorize_signed_out(self, client_id: str, **changes: str) -> str:
        """The same as `authorize`, for a user who is not signed in."""
        return self._authorize(client_id, changes, {})

    def _authorize(self, client_id: str, changes: dict[str, str], headers: dict[str, str]) -> str:
        params = {
            "client_id": client_id,
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "state": "the-state",
            "scope": ALL_SCOPES,
            "resource": self.resource,
            **changes,
        }
        response = self.http.get(
            "/api/auth/oauth2/authorize",
            params={name: value for name, value in params.items() if value},
            headers=headers,
        )
        assert response.status_code == 302, response.text
        return response.headers["location"]

    def decide(self, page: str, *, accept: bool = True) -> httpx.Response:
        """What the consent page posts."""
        query = "?" + urlsplit(page).query
        return self.post("/api/auth/oauth2/consent", {"accept": accept, "oauth_query": query})

    def code(self, client_id: str, **changes: str) -> str:
        """A fresh authorization code, consenting on the way."""
        page = self.authorize(client_id, **changes)
        if "/oauth2/consent" in page:
            page = self.decide(page).json()["url"]
        return query_of(page)["code"]

    def exchange(self, **form: str) -> httpx.Response:
        """POST the token endpoint; a field given as "" is left out."""
        fields = {name: value for name, value in form.items() if value}
        return self.http.post("/api/auth/oauth2/token", data=fields)

    def redeem(self, client_id: str, code: str, **changes: str) -> httpx.Response:
        """Exchange a code."""
        form = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "code": code,
            "code_verifier": VERIFIER,
            "redirect_uri": REDIRECT,
            "resource": self.resource,
        }
        return self.exchange(**{**form, **changes})

    def refresh(self, client_id: str, token: str, **changes: str) -> httpx.Response:
        """Use a refresh token."""
        form = {
            "grant_type": "refresh_token",
            "client_id": client_id,
            "refresh_token": token,
            "resource": self.resource,
        }
        return self.exchange(**{**form, **changes})

    def mcp(self, bearer: str | None = None) -> "McpClient":
        """An MCP client of this workspace; self-mints unless given a bearer."""
        return McpClient(self, self.mint() if bearer is None else bearer)


class McpClient:
    """The least MCP client that shows every byte it was answered with."""

    def __init__(self, visitor: Visitor, bearer: str) -> None:
        self.http = visitor.http
        self.path = f"/mcp/{visitor.workspace_id}"
        self.headers = {
            "Authorization": f"Bearer {bearer}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }

    def send(self, body: Any, **headers: str) -> httpx.Response:
        """POST one JSON-RPC message."""
        return self.http.post(self.path, json=body, headers={**self.headers, **headers})

    def request(self, method: str, params: dict[str, Any] | None = None) -> httpx.Response:
        """POST one JSON-RPC request."""
        return self.send({"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}})

    def initialize(self, version: str = "2025-11-25") -> httpx.Response:
        """Ask for a session."""
        info = {"name": "tests", "version": "1"}
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": info}
        return self.request("initialize", params)

    def open(self) -> "McpClient":
        """Open a session and go on with it."""
        response = self.initialize()
        assert response.status_code == 200, response.text
        self.headers["Mcp-Session-Id"] = response.headers["mcp-session-id"]
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def delete(self) -> httpx.Response:
        """End the session."""
        return self.http.delete(self.path, headers=self.headers)

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of one tool call."""
        result: dict[str, Any] = event_of(
            self.request("tools/call", {"name": tool, "arguments": arguments})
        )["result"]
        return result

    def query(self, sql: str) -> dict[str, Any]:
        """What executeSQL answers: its body, or the failure's."""
        body: dict[str, Any] = json.loads(
            self.call("executeSQL", sql=sql, explanation="a test")["content"][0]["text"]
        )
        return body


def event_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON of a reply that is exactly one SSE event."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream"
    lines = response.text.split("\n")
    assert lines[0] == "event: message"
    assert lines[1].startswith("data: ")
    assert lines[2:] == ["", ""]
    event: dict[str, Any] = json.loads(lines[1].removeprefix("data: "))
    return event
