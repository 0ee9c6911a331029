"""The MCP SDK's OAuth client, shared by all grant types that use it."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthClientMetadata

from loadtest.common.http import open_async_client
from loadtest.common.redaction import SecretStr
from loadtest.errors import MintError
from loadtest.mint.oauth.exchange import Exchange
from loadtest.mint.oauth.request import REQUEST_SECONDS, Endpoint, IssuedToken
from loadtest.mint.oauth.transport import RetryTransport


class FixedScope(OAuthClientMetadata):
    """Client metadata with a fixed scope: the SDK would request all offered scopes."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "scope":
            super().__setattr__(name, value)


@asynccontextmanager
async def open_sdk_client(
    tell: Callable[[str], None],
    exchange: Exchange,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[httpx2.AsyncClient]:
    """Open a client that waits out rate limits and reports its traffic to `exchange`."""
    # The SDK logs tracebacks of errors that it also raises, with state and token responses.
    logging.getLogger("mcp.client.auth.oauth2").disabled = True
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [exchange.note_request],
        "response": [exchange.note_response],
    }
    async with open_async_client(
        REQUEST_SECONDS,
        transport=transport or RetryTransport(tell),
        event_hooks=hooks,
    ) as client:
        yield client


def take_token(
    request: Endpoint, provider: OAuthClientProvider, exchange: Exchange, answer: httpx2.Response
) -> IssuedToken:
    """Return the token that the endpoint accepted; raise MintError if it accepted none."""
    tokens = provider.context.current_tokens
    if tokens is None:
        answered = exchange.describe_refusal() or f"HTTP {answer.status_code}"
        hint = '; if it needs none: set auth = "none" for its environment'
        message = (
            f"{request.mcp_url} did not ask for a bearer: {answered}{hint * answer.is_success}"
        )
        raise MintError(message, "discovery")
    access_token = SecretStr(tokens.access_token)
    request.hide(access_token)
    exchange.step = "verification"
    if answer.status_code in {401, 403}:
        refusal = exchange.describe_refusal()
        raise MintError(
            f"{request.mcp_url} refuses the new bearer: {refusal}",
            exchange.step,
            code=exchange.refusal_code,
        )
    info = provider.context.client_info
    return IssuedToken(
        access_token=access_token,
        via="browser",
        audience=provider.context.get_resource_url(),
        metadata=exchange.metadata,
        scope=tokens.scope,
        life_seconds=tokens.expires_in,
        client_id=info.client_id if info else None,
        skew_seconds=exchange.skew_seconds,
    )
