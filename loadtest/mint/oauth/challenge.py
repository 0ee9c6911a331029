"""Requests that make an MCP endpoint ask for a bearer, early or late."""

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, OAuthRegistrationError
from mcp.client.auth.exceptions import OAuthTokenError
from mcp.client.auth.utils import (
    build_protected_resource_metadata_discovery_urls,
    handle_protected_resource_response,
)

from loadtest.common.http import explain
from loadtest.common.redaction import learn
from loadtest.errors import LoadtestError, MintError
from loadtest.mint.oauth.exchange import Exchange
from loadtest.mint.oauth.request import (
    SESSION_HEADER,
    ToolCall,
    build_initialize,
    build_mcp_headers,
    build_requests_after_initialize,
)


class _AsChallenged(httpx2.Auth):
    """Runs the SDK's flow for a request that the server answers without a challenge."""

    requires_response_body = True

    def __init__(self, provider: OAuthClientProvider) -> None:
        self._provider = provider

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Answer the flow's first request with 401 ourselves, then let it continue."""
        flow = self._provider.async_auth_flow(request)
        await anext(flow)
        answer = httpx2.Response(401, request=request)
        while True:
            try:
                following = await flow.asend(answer)
            except StopAsyncIteration:
                return
            answer = yield following


async def ask_endpoint(
    client: httpx2.AsyncClient,
    mcp_url: str,
    provider: OAuthClientProvider,
    exchange: Exchange,
    call: ToolCall | None = None,
) -> httpx2.Response:
    """Send requests until one makes the SDK get a token; errors name the step at which they occur.

    Most servers challenge `initialize`. If anyone may initialize, the tools are listed, then
    `call` is sent: the first 401 or 403 starts the flow, and later requests carry the new bearer.
    If none is challenged and the server publishes protected-resource metadata (RFC 9728), the
    flow starts from these. Returns the response that refuses the new bearer, else the last one;
    the session is closed.
    """
    try:
        return await _ask(client, mcp_url, provider, call)
    except LoadtestError:
        raise
    except httpx2.HTTPError as failure:
        raise MintError(
            f"{mcp_url} or its authorization server does not answer ({explain(failure)})",
            exchange.step,
        ) from None
    except (OAuthFlowError, OAuthRegistrationError, OAuthTokenError, ValueError) as failure:
        message = (
            exchange.describe_refusal() or exchange.describe_name(mcp_url) or _describe(failure)
        )
        reason = "rate_limited" if exchange.refusal_status == 429 else None
        raise MintError(message, exchange.step, reason=reason, code=exchange.refusal_code) from None


async def _ask(
    client: httpx2.AsyncClient, mcp_url: str, provider: OAuthClientProvider, call: ToolCall | None
) -> httpx2.Response:
    context, session = provider.context, _Session(client, mcp_url, provider)
    try:
        answer = await session.send(build_initialize())
        if context.current_tokens is not None or not answer.is_success:
            return answer
        for body in build_requests_after_initialize(call):
            answer = await session.send(body)
            if context.current_tokens is not None and answer.status_code in {401, 403}:
                return answer
        if context.current_tokens is None and await _has_metadata(client, mcp_url):
            await session.close()
            answer = await session.send(build_initialize(), _AsChallenged(provider))
        return answer
    finally:
        await session.close()


class _Session:
    """The MCP session of one flow, from anonymous to authorized."""

    def __init__(
        self, client: httpx2.AsyncClient, mcp_url: str, provider: OAuthClientProvider
    ) -> None:
        self._client = client
        self._mcp_url = mcp_url
        self._provider = provider
        self._id: str | None = None

    async def send(self, body: dict[str, Any], auth: httpx2.Auth | None = None) -> httpx2.Response:
        """Send a request: with the token if there is one, else with the SDK's flow.

        The SDK answers one challenge per request; we handle a refused token ourselves.
        """
        if auth is None and self._provider.context.current_tokens is None:
            auth = self._provider
        answer = await self._client.post(
            self._mcp_url,
            json=body,
            headers=self._build_headers(),
            auth=auth or httpx2.USE_CLIENT_DEFAULT,
        )
        self._id = answer.headers.get(SESSION_HEADER, self._id)
        learn(self._id)
        return answer

    async def close(self) -> None:
        """Close the session if one is open; if that fails, the server ends it later."""
        if self._id is not None:
            with suppress(httpx2.HTTPError):
                await self._client.delete(self._mcp_url, headers=self._build_headers())
        self._id = None

    def _build_headers(self) -> dict[str, str]:
        token = self._provider.context.current_tokens
        headers = build_mcp_headers()
        if token is not None:
            headers["Authorization"] = f"Bearer {token.access_token}"
        return headers | ({SESSION_HEADER: self._id} if self._id else {})


async def _has_metadata(client: httpx2.AsyncClient, mcp_url: str) -> bool:
    """Return whether protected-resource metadata exist (RFC 9728, section 3.1)."""
    for url in build_protected_resource_metadata_discovery_urls(None, mcp_url):
        if await handle_protected_resource_response(await client.get(url)) is not None:
            return True
    return False


def _describe(failure: Exception) -> str:
    """Describe an error without quoting responses: the SDK's messages may contain them."""
    # Not its subclasses: they quote the responses of the token and registration endpoints.
    if type(failure) is OAuthFlowError and "State parameter" not in str(failure):
        return " ".join(str(failure).split())
    return "the authorization server's answer does not match the request"
