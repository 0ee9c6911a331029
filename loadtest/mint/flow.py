"""The authorization-code flow: the MCP SDK speaks OAuth, Chromium signs in, we check the result."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, OAuthRegistrationError
from mcp.client.auth.exceptions import OAuthTokenError
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from pydantic import AnyUrl, SecretStr

from loadtest.browser import BrowserChoice, launch
from loadtest.config import Environment
from loadtest.errors import LoadtestError, MintError
from loadtest.files import ensure_private_dir, write_text
from loadtest.mint.bearer import Bearer
from loadtest.mint.callback import Callback, listen
from loadtest.mint.memory import ClientMemory
from loadtest.mint.pages import SignIn
from loadtest.mint.verification import Expected, verify

if TYPE_CHECKING:
    from playwright.async_api import Page

CLIENT_NAME = "mcp-loadtest"
REQUEST_SECONDS = 30.0
PROTOCOL_VERSION = "2025-11-25"
# Scopes that ask the authorization server for something, and are not the resource's to grant.
NOT_OF_THE_RESOURCE = frozenset({"offline_access", "openid", "profile", "email"})


@dataclass(frozen=True)
class MintRequest:
    """Whom to sign in, where, and with which browser; `state_dir` holds what is remembered."""

    mcp_url: str
    environment: Environment
    email: str
    password: SecretStr
    workspace_id: str | None
    browser: BrowserChoice
    state_dir: Path
    tell: Callable[[str], None]


@dataclass
class Timings:
    """Seconds spent: starting and closing the browser, on the pages, and all in all."""

    browser_seconds: float = 0.0
    pages_seconds: float = 0.0
    total_seconds: float = 0.0

    @property
    def protocol_seconds(self) -> float:
        """Return what is neither browser nor pages: discovery, registration, exchange, checks."""
        return self.total_seconds - self.browser_seconds - self.pages_seconds


@dataclass
class _Exchange:
    """What went over the wire, seen from the client's hooks: enough to name a failed step."""

    step: str = "discovery"
    metadata: dict[str, Any] = field(default_factory=dict)
    refusal: str | None = None

    async def note_request(self, request: httpx2.Request) -> None:
        """Take the step from the endpoint that is about to be asked."""
        url = str(request.url)
        if "/.well-known/" in url:
            self.step = "discovery"
        elif url == self.metadata.get("registration_endpoint"):
            self.step = "registration"
        elif url == self.metadata.get("token_endpoint"):
            self.step = "exchange"
        self.refusal = None

    async def note_response(self, response: httpx2.Response) -> None:
        """Keep the authorization server's metadata, and of a refusal only its OAuth words."""
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return
        await response.aread()
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            body = {}
        if response.status_code >= 400:
            words = [str(body[key]) for key in ("error", "error_description") if body.get(key)]
            self.refusal = ": ".join([f"HTTP {response.status_code}", *words])
        elif "/.well-known/" in str(response.request.url) and "token_endpoint" in body:
            self.metadata = body


class _FixedScope(OAuthClientMetadata):
    """Client metadata whose scope stays as configured: the SDK would ask for all on offer."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "scope":
            super().__setattr__(name, value)


def mint(request: MintRequest) -> tuple[Bearer, Timings]:
    """Run the whole flow and return a verified bearer and where the time went.

    Follows the MCP authorization specification (2025-11-25): RFC 9728 and RFC 8414 discovery,
    RFC 7591 registration (once per issuer), RFC 7636 S256, RFC 9207 `iss`, RFC 8707 `resource`.
    Raises MintError, whose message names the step, and BrowserError.
    """
    # The SDK logs a traceback of what it also raises, with state and token replies in it.
    logging.getLogger("mcp.client").disabled = True
    logging.getLogger("mcp.client.auth.oauth2").disabled = True
    return asyncio.run(_mint(request))


async def _mint(request: MintRequest) -> tuple[Bearer, Timings]:
    started = time.monotonic()
    timings = Timings()
    exchange = _Exchange()
    memory = ClientMemory(request.state_dir / "client.json")
    async with listen() as callback:
        provider = _build_provider(request, memory, callback, exchange, timings)
        hooks: dict[str, list[Callable[..., Any]]] = {
            "request": [exchange.note_request],
            "response": [exchange.note_response],
        }
        async with httpx2.AsyncClient(timeout=REQUEST_SECONDS, event_hooks=hooks) as client:
            try:
                answer = await client.post(
                    request.mcp_url, json=_initialize(), headers=_mcp_headers(), auth=provider
                )
                bearer = await _check(request, provider, exchange, client, answer)
            except LoadtestError:
                raise
            except httpx2.HTTPError as failure:
                raise MintError(
                    f"{request.mcp_url} or its authorization server does not answer "
                    f"({type(failure).__name__})",
                    exchange.step,
                ) from None
            except (OAuthFlowError, OAuthRegistrationError, OAuthTokenError, ValueError) as failure:
                raise MintError(_describe(exchange, failure), exchange.step) from None
    timings.total_seconds = time.monotonic() - started
    return bearer, timings


def _build_provider(
    request: MintRequest,
    memory: ClientMemory,
    callback: Callback,
    exchange: _Exchange,
    timings: Timings,
) -> OAuthClientProvider:
    """Hand the SDK our browser as its redirect handler and our listener as its callback."""

    async def open_browser(authorization_url: str) -> None:
        callback.expect(authorization_url)
        await _sign_in(request, authorization_url, callback, timings)

    async def take_answer() -> AuthorizationCodeResult:
        exchange.step = "callback"
        answer = callback.answer.result()
        if answer.code is None:
            words = ": ".join(w for w in (answer.error, answer.error_description) if w)
            raise MintError(f"the authorization server answers {words or 'no code'}", exchange.step)
        return AuthorizationCodeResult(code=answer.code, state=answer.state, iss=answer.iss)

    return OAuthClientProvider(
        server_url=request.mcp_url,
        client_metadata=_FixedScope(
            client_name=CLIENT_NAME,
            redirect_uris=[AnyUrl(callback.redirect_uri)],
            token_endpoint_auth_method="none",  # noqa: S106 (a public client has no secret)
            scope=request.environment.scope,
        ),
        storage=memory,
        redirect_handler=open_browser,
        callback_handler=take_answer,
    )


async def _sign_in(
    request: MintRequest, authorization_url: str, callback: Callback, timings: Timings
) -> None:
    began = time.monotonic()
    async with _fresh_page(request.browser) as page:
        request.tell(f"signing in with {request.browser.browser_version}")
        sign_in = SignIn(
            page, request.environment.pages, request.email, request.password, request.tell
        )
        opened = time.monotonic()
        try:
            await sign_in.run(authorization_url, callback)
        except MintError as failure:
            kept = await _keep_evidence(request, page, sign_in.step)
            words = f"{failure.message}; the page is kept in {kept}"
            raise MintError(words, failure.step) from None
        timings.pages_seconds = time.monotonic() - opened
    timings.browser_seconds = time.monotonic() - began - timings.pages_seconds


@asynccontextmanager
async def _fresh_page(choice: BrowserChoice) -> "AsyncIterator[Page]":
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await launch(playwright, choice)
        try:
            context = await browser.new_context(locale="en-US")
            yield await context.new_page()
        finally:
            await browser.close()


async def _keep_evidence(request: MintRequest, page: "Page", step: str) -> Path:
    """Keep a masked screenshot and the page's text, with what we typed taken out."""
    folder = ensure_private_dir(request.state_dir / "failures")
    stem = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{step}"
    text = await page.inner_text("body")
    for secret in (request.password.get_secret_value(), request.email):
        text = text.replace(secret, "***")
    write_text(stem.with_suffix(".txt"), text + "\n", private=True)
    picture = stem.with_suffix(".png")
    picture.touch(mode=0o600)
    await page.screenshot(path=picture, mask=[page.locator("input")])
    return folder


async def _check(
    request: MintRequest,
    provider: OAuthClientProvider,
    exchange: _Exchange,
    client: httpx2.AsyncClient,
    answer: httpx2.Response,
) -> Bearer:
    """Verify the token by its issuer's keys, and that the endpoint took it."""
    exchange.step = "verification"
    tokens = provider.context.current_tokens
    if tokens is None:
        raise MintError(
            f"{request.mcp_url} asked for no bearer (HTTP {answer.status_code})", "discovery"
        )
    if answer.status_code in {401, 403}:
        raise MintError(
            f"{request.mcp_url} refuses the new bearer ({exchange.refusal})", exchange.step
        )
    await _close_session(client, request.mcp_url, answer, tokens.access_token)
    if "jwks_uri" not in exchange.metadata:
        raise MintError("the authorization server names no jwks_uri", exchange.step)
    keys = await client.get(exchange.metadata["jwks_uri"])
    expected = Expected(
        issuer=exchange.metadata["issuer"],
        audience=provider.context.get_resource_url(),
        scopes=frozenset(request.environment.scope.split()) - NOT_OF_THE_RESOURCE,
        workspace_claim=request.environment.workspace_claim,
        workspace_id=request.workspace_id,
    )
    claims = verify(tokens.access_token, keys.json(), expected)
    assert provider.context.client_info is not None
    return Bearer(
        access_token=SecretStr(tokens.access_token),
        expires_at=float(claims["exp"]),
        mcp_url=request.mcp_url,
        issuer=expected.issuer,
        audience=expected.audience,
        scope=str(claims.get("scope", "")),
        client_id=provider.context.client_info.client_id,
        workspace_id=request.workspace_id,
    )


async def _close_session(
    client: httpx2.AsyncClient, mcp_url: str, answer: httpx2.Response, access_token: str
) -> None:
    session_id = answer.headers.get("mcp-session-id")
    if session_id is not None:
        headers = {"Authorization": f"Bearer {access_token}", "Mcp-Session-Id": session_id}
        await client.delete(mcp_url, headers=_mcp_headers() | headers)


def _describe(exchange: _Exchange, failure: Exception) -> str:
    """Say what went wrong without quoting replies: the SDK's messages may hold them whole."""
    if exchange.refusal is not None:
        return f"the authorization server answers {exchange.refusal}"
    if isinstance(failure, OAuthFlowError) and "State parameter" not in str(failure):
        return str(failure)
    return "the authorization server's answer does not fit the request"


def _initialize() -> dict[str, Any]:
    client = {"name": CLIENT_NAME, "version": "1"}
    params = {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": client}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def _mcp_headers() -> dict[str, str]:
    return {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": PROTOCOL_VERSION,
    }
