"""Discover the authorization of an MCP endpoint without registering or signing in."""

from dataclasses import dataclass

from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata
from pydantic import AnyUrl

from loadtest.common.interruption import run_coroutine
from loadtest.errors import MintError
from loadtest.mint.oauth.callback import CALLBACK_PATH
from loadtest.mint.oauth.challenge import ask_endpoint
from loadtest.mint.oauth.exchange import Exchange
from loadtest.mint.oauth.sdk import open_sdk_client
from loadtest.mint.oauth.storage import NullStorage

# Not a real client: with a stored client, the SDK registers none.
PLACEHOLDER_CLIENT = OAuthClientInformationFull(client_id="discovery")
# The reason of a MintError: the server refuses nothing, or not in a way that OAuth answers.
NO_CHALLENGE = "no_challenge"
# Nothing listens there: a native client may use any loopback port (RFC 8252, section 7.3).
REDIRECT_URI = f"http://127.0.0.1{CALLBACK_PATH}"


@dataclass(frozen=True)
class Discovered:
    """The authorization server; `skew_seconds` is its clock minus ours.

    `registration_endpoint` is None if the metadata name none. Without metadata, everything is where
    MCP 2025-03-26 has it by default, if it is anywhere.
    `authorization_url` is where a browser would be sent if `PLACEHOLDER_CLIENT` were registered.
    """

    issuer: str
    has_metadata: bool
    registration_endpoint: str | None
    takes_registrations: bool
    takes_documents: bool
    skew_seconds: float
    authorization_url: str

    def describe(self) -> str:
        """Return one line."""
        options = [
            *(["client ID metadata documents"] if self.takes_documents else []),
            *(["registration"] if self.takes_registrations else []),
        ]
        return f"{self.issuer}: PKCE S256, {' and '.join(options) or 'only given clients'}"


class _Reached(Exception):  # noqa: N818 (it ends the flow on purpose)
    """The flow would open the browser now: discovery is complete."""


def discover(mcp_url: str) -> Discovered:
    """Follow the specification's discovery up to the browser; raise MintError if it fails."""
    return run_coroutine(_discover(mcp_url))


async def _discover(mcp_url: str) -> Discovered:
    exchange = Exchange(mcp_url)
    reached: list[str] = []

    async def stop(url: str) -> None:
        exchange.check_secure(url)
        reached.append(url)
        raise _Reached

    async def unreachable() -> AuthorizationCodeResult:
        raise _Reached

    provider = OAuthClientProvider(
        server_url=mcp_url,
        client_metadata=OAuthClientMetadata(redirect_uris=[AnyUrl(REDIRECT_URI)]),
        storage=NullStorage(PLACEHOLDER_CLIENT),
        redirect_handler=stop,
        callback_handler=unreachable,
    )
    async with open_sdk_client(lambda _: None, exchange) as client:
        try:
            answer = await ask_endpoint(client, mcp_url, provider, exchange)
        except _Reached:
            exchange.check_pkce()
        else:
            raise MintError(
                f"it does not ask for a bearer (HTTP {answer.status_code})",
                "discovery",
                reason=NO_CHALLENGE,
            )
    metadata = exchange.metadata
    endpoint = metadata.get("registration_endpoint")
    return Discovered(
        issuer=str(metadata.get("issuer", "no metadata, default endpoints")),
        has_metadata=bool(metadata),
        registration_endpoint=endpoint if isinstance(endpoint, str) else None,
        takes_registrations=not metadata or "registration_endpoint" in metadata,
        takes_documents=metadata.get("client_id_metadata_document_supported") is True,
        skew_seconds=exchange.skew_seconds,
        authorization_url=reached[0],
    )
