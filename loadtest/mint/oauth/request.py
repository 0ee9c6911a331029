"""The parameters of a mint, and its unchecked result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.common.redaction import SecretStr
from loadtest.config.models import Environment

CLIENT_NAME = "mcp-loadtest"
REQUEST_SECONDS = 30.0
PROTOCOL_VERSION = "2025-11-25"
SESSION_HEADER = "mcp-session-id"
# The errors of an authorization server that does not know our client (any more).
UNKNOWN_CLIENT = frozenset({"invalid_client", "unauthorized_client", "client_not_found"})


@dataclass(frozen=True)
class ToolCall:
    """A tool of the environment's table, and arguments for it."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """The endpoint that must accept the bearer.

    `tell` prints one line of progress; `hide` gets every secret that a server issues, before its
    first use; `call` is a tool that may be called to find out whether it needs a bearer, None if
    no tool is configured.
    """

    mcp_url: str
    environment: Environment
    workspace_id: str | None
    tell: Callable[[str], None]
    hide: Callable[[SecretStr], None] = field(default=lambda _: None, kw_only=True)
    call: ToolCall | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class ClientRequest(Endpoint):
    """The OAuth client that mints; it is stored in `state_dir`.

    `client_id`, `client_secret` and `issuer` belong to a client that was given to us. `register`
    registers clients with a session for slots without one, with a scope; the flow registers
    the others.
    """

    state_dir: Path
    client_id: str | None = None
    client_secret: SecretStr | None = None
    issuer: str | None = None
    register: Callable[[tuple[int, ...], str | None], None] = lambda _slots, _scope: None


@dataclass(frozen=True)
class IssuedToken:
    """The response of a token endpoint; the token is not checked yet.

    `audience` is the requested resource indicator (RFC 8707), `metadata` the authorization
    server's (RFC 8414), `skew_seconds` the server's clock minus ours.
    """

    access_token: SecretStr
    via: str
    audience: str
    metadata: Mapping[str, Any]
    scope: str | None = None
    life_seconds: float | None = None
    client_id: str | None = None
    skew_seconds: float = 0.0


@dataclass
class Timings:
    """Seconds spent: on starting and closing the browser, on the pages, and in total."""

    browser_seconds: float = 0.0
    pages_seconds: float = 0.0
    total_seconds: float = 0.0

    @property
    def protocol_seconds(self) -> float:
        """Return the time for discovery, registration, exchange and checks."""
        return self.total_seconds - self.browser_seconds - self.pages_seconds


def build_client_metadata(redirect_uri: str, scope: str | None) -> dict[str, Any]:
    """Return the metadata of our registration (RFC 7591, section 2): a public native client."""
    metadata = {
        "client_name": CLIENT_NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    return metadata | ({"scope": scope} if scope else {})


def build_initialize() -> dict[str, Any]:
    """Return the request that opens an MCP session; every bearer must be valid for it."""
    client = {"name": CLIENT_NAME, "version": "1"}
    params = {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": client}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def build_requests_after_initialize(call: ToolCall | None = None) -> tuple[dict[str, Any], ...]:
    """Return the requests that may need a bearer on a server where anyone may initialize."""
    initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    if call is None:
        return initialized, listing
    params = {"name": call.name, "arguments": dict(call.arguments)}
    return (
        initialized,
        listing,
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params},
    )


def build_mcp_headers() -> dict[str, str]:
    """Return the headers of all our MCP requests."""
    return {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": PROTOCOL_VERSION,
    }
