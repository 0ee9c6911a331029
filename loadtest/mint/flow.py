"""The authorization-code flow: the MCP SDK speaks OAuth, Chromium signs in, we check the result."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, OAuthRegistrationError
from mcp.client.auth.exceptions import OAuthTokenError
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import AnyUrl, SecretStr, ValidationError

from loadtest.browser import BrowserChoice, launch
from loadtest.config import Environment, parse_origin
from loadtest.errors import LoadtestError, MintError
from loadtest.mint.bearer import Bearer
from loadtest.mint.callback import Callback, listen
from loadtest.mint.clients import ClientStore, Remembered, SlotStorage
from loadtest.mint.evidence import keep_evidence
from loadtest.mint.exchange import Exchange, check_secure
from loadtest.mint.pages import SignIn
from loadtest.mint.transport import RATE_WAITS_SECONDS, PatientTransport
from loadtest.mint.verification import Expected, verify

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

CLIENT_NAME = "mcp-loadtest"
REQUEST_SECONDS = 30.0
PROTOCOL_VERSION = "2025-11-25"
# An opaque token whose life the server does not tell is taken for this long (RFC 6749, 5.1).
UNKNOWN_LIFE_SECONDS = 300.0
# Scopes that ask the authorization server for something, and are not the resource's to grant.
NOT_OF_THE_RESOURCE = frozenset({"offline_access", "openid", "profile", "email"})
# How an authorization server says that it does not know our client (any more).
UNKNOWN_CLIENT = frozenset({"invalid_client", "unauthorized_client", "client_not_found"})


@dataclass(frozen=True)
class Endpoint:
    """Where the bearer must work; `tell` gets one line for what a person would want to know."""

    mcp_url: str
    environment: Environment
    workspace_id: str | None
    tell: Callable[[str], None]


@dataclass(frozen=True)
class MintRequest(Endpoint):
    """Whom to sign in, and how; `state_dir` holds what is remembered.

    `client_id`, `client_secret` and its `issuer` are a client that was given to us;
    `sign_in_origins` are where credentials may be typed, beside the servers' own; `slow_ms` slows
    the browser down for a person who watches (`headed`); without `refresh` the browser signs in
    even where a refresh token would do.
    """

    email: str
    password: SecretStr
    browser: BrowserChoice
    state_dir: Path
    totp_secret: SecretStr | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    issuer: str | None = None
    sign_in_origins: frozenset[str] = frozenset()
    headed: bool = False
    slow_ms: float = 0.0
    refresh: bool = True


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


class _FixedScope(OAuthClientMetadata):
    """Client metadata whose scope stays as configured: the SDK would ask for all on offer."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "scope":
            super().__setattr__(name, value)


def mint(request: MintRequest) -> tuple[Bearer, Timings]:
    """Mint one bearer; see `mint_pool`."""
    bearers, timings = mint_pool(request, (0,))
    return bearers[0], timings


def mint_pool(request: MintRequest, slots: tuple[int, ...]) -> tuple[tuple[Bearer, ...], Timings]:
    """Mint a verified bearer per slot, and say where the time went.

    A slot's refresh token goes before the browser. Follows the MCP authorization specification
    (2025-03-26 to 2026-07-28): RFC 9728 and RFC 8414 discovery, RFC 7591 registration (once per
    client and issuer), RFC 7636 S256, RFC 9207 `iss`, RFC 8707 `resource`. Raises MintError, whose
    message names the step, and BrowserError.
    """
    # The SDK logs a traceback of what it also raises, with state and token replies in it.
    logging.getLogger("mcp.client.auth.oauth2").disabled = True
    return asyncio.run(_mint_pool(request, slots))


async def _mint_pool(
    request: MintRequest, slots: tuple[int, ...]
) -> tuple[tuple[Bearer, ...], Timings]:
    began = time.monotonic()
    timings = Timings()
    async with _SignInBrowser(request, timings) as browser:
        bearers = tuple([await _mint_slot(request, slot, browser) for slot in slots])
    timings.total_seconds = time.monotonic() - began
    return bearers, timings


async def _mint_slot(request: MintRequest, slot: int, browser: "_SignInBrowser") -> Bearer:
    """Mint for one client, starting over where that is the cure.

    A registration that the server has forgotten is made anew, once. A code exchange that met a
    rate limit is never repeated; after a wait a new code is asked for.
    """
    waits = list(RATE_WAITS_SECONDS)
    forgotten = False
    while True:
        exchange, storage = _begin(request, slot)
        is_ours = storage.remembered is not None and request.client_id is None
        try:
            return await _run_flow(request, storage, exchange, browser)
        except MintError as failure:
            if is_ours and failure.code in UNKNOWN_CLIENT and not forgotten:
                forgotten = True
                request.tell("the server has forgotten our registration: registering once more")
                storage.forget()
            elif failure.reason == "rate_limited" and waits:
                wait = waits.pop(0)
                request.tell(f"{failure.step} is rate limited: starting over in {wait:.0f} s")
                await asyncio.sleep(wait)
            else:
                raise


def _begin(request: MintRequest, slot: int) -> tuple[Exchange, SlotStorage]:
    exchange = Exchange()
    given = _build_given_client(request)
    storage = SlotStorage(ClientStore(request.state_dir / "clients.json"), slot, given, exchange)
    remembered = storage.remembered
    if given is not None and given.client_secret is not None and remembered is not None:
        # A refresh comes before discovery: go by what was discovered last time.
        exchange.metadata = remembered.metadata
        given.token_endpoint_auth_method = _pick_method(request, exchange)
    return exchange, storage


async def _run_flow(
    request: MintRequest, storage: SlotStorage, exchange: Exchange, browser: "_SignInBrowser"
) -> Bearer:
    remembered = storage.remembered
    async with listen() as callback:
        provider = build_provider(request, storage, callback, exchange, browser)
        if remembered is not None and remembered.metadata and request.refresh:
            _prepare_refresh(provider, exchange, remembered)
        async with open_client(request.tell, exchange) as client:
            answer = await ask_endpoint(client, request.mcp_url, provider, exchange)
            bearer = await check_tokens(request, provider, exchange, client, answer)
    resource = provider.context.protected_resource_metadata
    storage.keep_origin(resource.model_dump(mode="json", exclude_none=True) if resource else None)
    return bearer


@asynccontextmanager
async def open_client(
    tell: Callable[[str], None],
    exchange: Exchange,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[httpx2.AsyncClient]:
    """Open a client that waits out rate limits and lets `exchange` see what crosses."""
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [exchange.note_request],
        "response": [exchange.note_response],
    }
    async with httpx2.AsyncClient(
        timeout=REQUEST_SECONDS,
        event_hooks=hooks,
        transport=transport or PatientTransport(tell),
    ) as client:
        yield client


async def ask_endpoint(
    client: httpx2.AsyncClient, mcp_url: str, auth: httpx2.Auth, exchange: Exchange
) -> httpx2.Response:
    """Send `initialize`, which makes the SDK get a token; errors name the step they came at."""
    try:
        return await client.post(mcp_url, json=_initialize(), headers=mcp_headers(), auth=auth)
    except LoadtestError:
        raise
    except httpx2.HTTPError as failure:
        raise MintError(
            f"{mcp_url} or its authorization server does not answer ({type(failure).__name__})",
            exchange.step,
        ) from None
    except (OAuthFlowError, OAuthRegistrationError, OAuthTokenError, ValueError) as failure:
        words = exchange.describe_refusal() or _describe(failure)
        reason = "rate_limited" if exchange.refusal_status == 429 else None
        raise MintError(words, exchange.step, reason=reason, code=exchange.refusal_code) from None


def build_provider(
    request: MintRequest,
    storage: SlotStorage,
    callback: Callback,
    exchange: Exchange,
    browser: "_SignInBrowser",
) -> OAuthClientProvider:
    """Hand the SDK our browser as its redirect handler and our listener as its callback."""

    async def open_browser(authorization_url: str) -> None:
        context = provider.context
        exchange.check_pkce()
        check_secure(authorization_url, exchange.step)
        if request.client_secret is not None and context.client_info is not None:
            context.client_info.token_endpoint_auth_method = _pick_method(request, exchange)
        callback.expect(authorization_url)
        exchange.step = "sign-in"
        await browser.sign_in(authorization_url, callback, _expected_origins(request, exchange))
        exchange.step = "callback"

    async def take_answer() -> AuthorizationCodeResult:
        answer = callback.answer.result()
        if answer.code is None:
            words = ": ".join(w for w in (answer.error, answer.error_description) if w)
            raise MintError(
                f"the authorization server answers {words or 'no code'}",
                exchange.step,
                code=answer.error,
            )
        return AuthorizationCodeResult(code=answer.code, state=answer.state, iss=answer.iss)

    scope = request.environment.scope
    provider = OAuthClientProvider(
        server_url=request.mcp_url,
        client_metadata=(_FixedScope if scope else OAuthClientMetadata)(
            client_name=CLIENT_NAME,
            redirect_uris=[AnyUrl(callback.redirect_uri)],
            token_endpoint_auth_method="none",  # noqa: S106 (a public client has no secret)
            scope=scope,
        ),
        storage=storage,
        redirect_handler=open_browser,
        callback_handler=take_answer,
    )
    # Set past the constructor, which takes https alone: the specification's loopback exception.
    provider.context.client_metadata_url = request.environment.client_metadata_url
    return provider


def _prepare_refresh(
    provider: OAuthClientProvider, exchange: Exchange, remembered: Remembered
) -> None:
    """Let the SDK start with a refresh: it needs the endpoints that discovery found last time."""
    context = provider.context
    try:
        context.oauth_metadata = OAuthMetadata.model_validate(remembered.metadata)
        if remembered.resource is not None:
            context.protected_resource_metadata = ProtectedResourceMetadata.model_validate(
                remembered.resource
            )
    except ValidationError:
        return  # discovery finds what holds today
    exchange.metadata = remembered.metadata
    context.auth_server_url = remembered.issuer
    context.token_expiry_time = 1.0  # long ago


def _build_given_client(request: MintRequest) -> OAuthClientInformationFull | None:
    if request.client_id is None:
        return None
    secret = request.client_secret
    return OAuthClientInformationFull(
        client_id=request.client_id,
        client_secret=secret.get_secret_value() if secret else None,
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
    )


def _pick_method(request: MintRequest, exchange: Exchange) -> str:
    return request.environment.client_auth or exchange.pick_secret_method()


def _expected_origins(request: MintRequest, exchange: Exchange) -> frozenset[str]:
    """Return where credentials may be typed: the servers' own origins, and those configured."""
    known = [request.mcp_url, exchange.metadata.get("issuer"), exchange.authorization_endpoint]
    return request.sign_in_origins | {parse_origin(str(url)) for url in known if url}


class _SignInBrowser:
    """A browser started at the first sign-in and kept for those that follow in the same flow.

    One context for all: who signed in for the first client need not type a password again.
    """

    def __init__(self, request: MintRequest, timings: Timings) -> None:
        self._request = request
        self._timings = timings
        self._context: BrowserContext | None = None
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> "_SignInBrowser":
        return self

    async def __aexit__(self, *_: object) -> None:
        began = time.monotonic()
        await self._resources.aclose()
        if self._context is not None:
            self._timings.browser_seconds += time.monotonic() - began

    async def sign_in(
        self, authorization_url: str, callback: Callback, origins: frozenset[str]
    ) -> None:
        """Go through the pages; on failure keep what they showed and say where."""
        request = self._request
        page = await self._open_page()
        sign_in = SignIn(
            page,
            request.environment.pages,
            request.email,
            request.password,
            request.tell,
            totp_secret=request.totp_secret,
            origins=origins,
            workspace=(request.workspace_id,) if request.workspace_id else (),
        )
        began = time.monotonic()
        try:
            await sign_in.run(authorization_url, callback)
        except MintError as failure:
            folder = request.state_dir / "failures"
            kept = await keep_evidence(page, folder, sign_in.step, sign_in.secrets)
            raise MintError(
                f"{failure.message}; the page is kept in {kept}",
                failure.step,
                reason=failure.reason,
                code=failure.code,
            ) from None
        finally:
            self._timings.pages_seconds += time.monotonic() - began

    async def _open_page(self) -> "Page":
        from playwright.async_api import async_playwright

        began = time.monotonic()
        if self._context is None:
            request = self._request
            playwright = await self._resources.enter_async_context(async_playwright())
            browser = await launch(
                playwright, request.browser, headed=request.headed, slow_ms=request.slow_ms
            )
            self._resources.push_async_callback(browser.close)
            self._context = await browser.new_context(locale="en-US")
            request.tell(f"signing in with {request.browser.browser_version}")
        page = await self._context.new_page()
        self._timings.browser_seconds += time.monotonic() - began
        return page


async def check_tokens(
    request: Endpoint,
    provider: OAuthClientProvider,
    exchange: Exchange,
    client: httpx2.AsyncClient,
    answer: httpx2.Response,
) -> Bearer:
    """Verify the token by its issuer's keys, and that the endpoint took it."""
    tokens = provider.context.current_tokens
    if tokens is None:
        raise MintError(
            f"{request.mcp_url} asked for no bearer (HTTP {answer.status_code})", "discovery"
        )
    exchange.step = "verification"
    if answer.status_code in {401, 403}:
        refusal = exchange.describe_refusal()
        raise MintError(f"{request.mcp_url} refuses the new bearer: {refusal}", exchange.step)
    await close_session(client, request.mcp_url, answer, tokens.access_token)
    claims = await _verify(request, provider, exchange, client, tokens)
    skew_seconds = exchange.skew_seconds
    if abs(skew_seconds) > exchange.TELL_SKEW_SECONDS:
        request.tell(
            f"this machine's clock is {abs(skew_seconds):.0f} s "
            f"{'behind' if skew_seconds > 0 else 'ahead of'} the server's"
        )
    life_seconds = tokens.expires_in or UNKNOWN_LIFE_SECONDS
    expires_at = float(claims["exp"]) - skew_seconds if claims else time.time() + life_seconds
    info = provider.context.client_info
    return Bearer(
        access_token=SecretStr(tokens.access_token),
        expires_at=expires_at,
        mcp_url=request.mcp_url,
        scope=str((claims or {}).get("scope") or tokens.scope or ""),
        via="refresh" if exchange.refreshed else "browser",
        workspace_id=request.workspace_id,
        issuer=exchange.metadata.get("issuer"),
        audience=provider.context.get_resource_url(),
        client_id=info.client_id if info else None,
    )


async def _verify(
    request: Endpoint,
    provider: OAuthClientProvider,
    exchange: Exchange,
    client: httpx2.AsyncClient,
    tokens: OAuthToken,
) -> Mapping[str, Any] | None:
    """Return the claims of a JWT; None for an opaque token, where the environment allows one."""
    jwks_uri = exchange.metadata.get("jwks_uri")
    is_jwt = tokens.access_token.count(".") == 2 and jwks_uri is not None
    if not is_jwt and request.environment.workspace_claim is None:
        return None
    if jwks_uri is None:
        raise MintError("the authorization server names no jwks_uri", exchange.step)
    check_secure(jwks_uri, exchange.step)
    try:
        keys = (await client.get(jwks_uri)).json()
    except (httpx2.HTTPError, ValueError) as failure:
        raise MintError(
            f"no keys at {jwks_uri} ({type(failure).__name__})", exchange.step
        ) from None
    asked = frozenset((request.environment.scope or "").split())
    expected = Expected(
        issuer=exchange.metadata["issuer"],
        audience=provider.context.get_resource_url(),
        scopes=asked - NOT_OF_THE_RESOURCE,
        workspace_claim=request.environment.workspace_claim,
        workspace_id=request.workspace_id,
    )
    return verify(tokens.access_token, keys, expected)


async def close_session(
    client: httpx2.AsyncClient, mcp_url: str, answer: httpx2.Response, access_token: str
) -> None:
    """End the session that `initialize` opened, where it opened one."""
    session_id = answer.headers.get("mcp-session-id")
    if session_id is not None:
        headers = {"Authorization": f"Bearer {access_token}", "Mcp-Session-Id": session_id}
        await client.delete(mcp_url, headers=mcp_headers() | headers)


def _describe(failure: Exception) -> str:
    """Say what went wrong without quoting replies: the SDK's messages may hold them whole."""
    # Not of its subclasses: they quote what the token and registration endpoints sent.
    if type(failure) is OAuthFlowError and "State parameter" not in str(failure):
        return " ".join(str(failure).split())
    return "the authorization server's answer does not fit the request"


def _initialize() -> dict[str, Any]:
    client = {"name": CLIENT_NAME, "version": "1"}
    params = {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": client}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def mcp_headers() -> dict[str, str]:
    """Return the headers that every MCP request of ours carries."""
    return {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": PROTOCOL_VERSION,
    }
