"""The authorization-code flow: the MCP SDK speaks OAuth, Chromium signs in, we check the result."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.utils import extract_scope_from_www_auth, union_scopes
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
)

from loadtest.common.http import open_async_client, open_client
from loadtest.common.redaction import SecretStr
from loadtest.common.retry_after import RATE_WAITS_SECONDS
from loadtest.config.models import parse_origin
from loadtest.errors import MintError
from loadtest.mint.browser.driver import run
from loadtest.mint.browser.session import SignInBrowser
from loadtest.mint.oauth.acceptance import check_grant
from loadtest.mint.oauth.callback import Callback, listen
from loadtest.mint.oauth.challenge import ask_endpoint
from loadtest.mint.oauth.exchange import Exchange
from loadtest.mint.oauth.request import (
    REQUEST_SECONDS,
    UNKNOWN_CLIENT,
    Endpoint,
    Grant,
    MintRequest,
    Timings,
    build_client_metadata,
)
from loadtest.mint.oauth.storage import SlotStorage
from loadtest.mint.oauth.transport import PatientTransport
from loadtest.state.bearers import Bearer
from loadtest.state.clients import ClientStore

# How often a refusal for want of scope is answered by asking for more.
STEP_UPS = 2


class FixedScope(OAuthClientMetadata):
    """Client metadata whose scope stays as given: the SDK would ask for all on offer."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "scope":
            super().__setattr__(name, value)


class _WantsScopeError(Exception):
    """The endpoint refuses the token for want of scope; `scope` is what was asked for and more."""

    def __init__(self, scope: str, refusal: MintError) -> None:
        self.scope = scope
        self.refusal = refusal


def sign_in_slots(
    request: MintRequest, slots: tuple[int, ...]
) -> tuple[tuple[Bearer, ...], Timings]:
    """Mint a verified bearer per slot through the browser, and say where the time went.

    Follows the MCP authorization specification (2025-03-26 to 2026-07-28): RFC 9728 and RFC 8414
    discovery, RFC 7591 registration (once per client and issuer), RFC 7636 S256, RFC 9207 `iss`,
    RFC 8707 `resource`. Raises MintError, whose message names the step, and BrowserError.
    """
    # The SDK logs a traceback of what it also raises, with state and token replies in it.
    logging.getLogger("mcp.client.auth.oauth2").disabled = True
    return run(_sign_in_slots(request, slots))


async def _sign_in_slots(
    request: MintRequest, slots: tuple[int, ...]
) -> tuple[tuple[Bearer, ...], Timings]:
    began = time.monotonic()
    timings = Timings()
    async with SignInBrowser(request, timings, len(slots)) as browser:
        bearers = tuple([await _mint_slot(request, slot, browser) for slot in slots])
    timings.total_seconds = time.monotonic() - began
    return bearers, timings


async def _mint_slot(request: MintRequest, slot: int, browser: SignInBrowser) -> Bearer:
    """Mint for one client, starting over where that is the cure.

    A registration that the server has forgotten is made anew, once. A code exchange that met a
    rate limit is never repeated; after a wait a new code is asked for. Want of scope (RFC 6750,
    section 3.1) is answered by asking for more, a few times.
    """
    waits = list(RATE_WAITS_SECONDS)
    step_ups = STEP_UPS
    forgotten = False
    scope = request.environment.scope
    while True:
        exchange = Exchange(request.mcp_url)
        store = ClientStore(request.state_dir / "clients.json")
        storage = SlotStorage(store, slot, _build_given_client(request), exchange, request.hide)
        is_ours = storage.remembered is not None and request.client_id is None
        try:
            return await _run_flow(request, storage, exchange, browser, scope)
        except _WantsScopeError as wanting:
            if not step_ups:
                raise wanting.refusal from None
            step_ups -= 1
            scope = wanting.scope
            request.tell(f"the endpoint asks for more scope: signing in for {scope}")
            storage.widen(scope)
            await asyncio.to_thread(request.register, (slot,), scope)
        except MintError as failure:
            if is_ours and failure.code in UNKNOWN_CLIENT and not forgotten:
                forgotten = True
                request.tell("the server has forgotten our registration: registering once more")
                storage.forget()
                await asyncio.to_thread(request.register, (slot,), scope)
            elif failure.reason == "rate_limited" and waits:
                wait = waits.pop(0)
                request.tell(f"{failure.step} is rate limited: starting over in {wait:.0f} s")
                await asyncio.sleep(wait)
            else:
                raise


async def _run_flow(
    request: MintRequest,
    storage: SlotStorage,
    exchange: Exchange,
    browser: SignInBrowser,
    scope: str | None,
) -> Bearer:
    # Servers that do not know RFC 8252, section 7.3, take the registered port alone.
    async with listen(storage.redirect_port) as callback:
        provider = build_provider(request, storage, callback, exchange, browser, scope)
        async with open_sdk_client(request.tell, exchange) as client:
            answer = await ask_endpoint(client, request.mcp_url, provider, exchange, request.call)
            try:
                grant = take_grant(request, provider, exchange, answer)
            except MintError as refusal:
                asked_for = provider.context.client_metadata.scope
                wanted = extract_scope_from_www_auth(answer) or exchange.refusal_scope
                wider = union_scopes(asked_for, wanted)
                if refusal.code != "insufficient_scope" or wider is None or wider == asked_for:
                    raise
                raise _WantsScopeError(wider, refusal) from None
    bearer = accept(request, grant)
    storage.keep_origin(request.mcp_url, grant.audience)
    return bearer


def accept(endpoint: Endpoint, grant: Grant) -> Bearer:
    """Verify what the flow was given."""
    with open_client(REQUEST_SECONDS) as http:
        return check_grant(endpoint, grant, http)


@asynccontextmanager
async def open_sdk_client(
    tell: Callable[[str], None],
    exchange: Exchange,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[httpx2.AsyncClient]:
    """Open a client that waits out rate limits and lets `exchange` see what crosses."""
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [exchange.note_request],
        "response": [exchange.note_response],
    }
    async with open_async_client(
        REQUEST_SECONDS,
        transport=transport or PatientTransport(tell),
        event_hooks=hooks,
    ) as client:
        yield client


def build_provider(
    request: MintRequest,
    storage: SlotStorage,
    callback: Callback,
    exchange: Exchange,
    browser: SignInBrowser,
    scope: str | None,
) -> OAuthClientProvider:
    """Hand the SDK our browser as its redirect handler and our listener as its callback."""

    async def open_browser(authorization_url: str) -> None:
        context = provider.context
        exchange.check_pkce()
        exchange.check_secure(authorization_url)
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
                reason="consent_denied" if answer.error == "access_denied" else None,
                code=answer.error,
            )
        return AuthorizationCodeResult(code=answer.code, state=answer.state, iss=answer.iss)

    provider = OAuthClientProvider(
        server_url=request.mcp_url,
        client_metadata=(FixedScope if scope else OAuthClientMetadata).model_validate(
            build_client_metadata(callback.redirect_uri, scope)
        ),
        storage=storage,
        redirect_handler=open_browser,
        callback_handler=take_answer,
    )
    # Set past the constructor, which takes https alone: the specification's loopback exception.
    provider.context.client_metadata_url = request.environment.client_metadata_url
    return provider


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


def take_grant(
    request: Endpoint, provider: OAuthClientProvider, exchange: Exchange, answer: httpx2.Response
) -> Grant:
    """Return the token that the endpoint took; raise MintError where it took none."""
    tokens = provider.context.current_tokens
    if tokens is None:
        said = exchange.describe_refusal() or f"HTTP {answer.status_code}"
        hint = "; if it needs none: LOADTEST_BEARER=none inv mint --via given"
        words = f"{request.mcp_url} asked for no bearer: {said}{hint * answer.is_success}"
        raise MintError(words, "discovery")
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
    return Grant(
        access_token=access_token,
        via="browser",
        audience=provider.context.get_resource_url(),
        metadata=exchange.metadata,
        scope=tokens.scope,
        life_seconds=tokens.expires_in,
        client_id=info.client_id if info else None,
        skew_seconds=exchange.skew_seconds,
    )
