"""The authorization-code flow: the MCP SDK speaks OAuth, a browser signs in, we check the token."""

import asyncio
from collections.abc import Awaitable, Callable

from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.utils import extract_scope_from_www_auth, union_scopes
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata

from loadtest.common.retry_after import RATE_WAITS_SECONDS
from loadtest.config.models import parse_origin
from loadtest.errors import MintError
from loadtest.mint.oauth.acceptance import accept_token
from loadtest.mint.oauth.callback import Callback, listen
from loadtest.mint.oauth.challenge import ask_endpoint
from loadtest.mint.oauth.exchange import Exchange
from loadtest.mint.oauth.request import UNKNOWN_CLIENT, ClientRequest, build_client_metadata
from loadtest.mint.oauth.sdk import FixedScope, open_sdk_client, take_token
from loadtest.mint.oauth.storage import SlotStorage
from loadtest.state.bearers import Bearer
from loadtest.state.clients import ClientStore

# Goes from an authorization URL to the callback; types credentials at these origins only.
SignIn = Callable[[str, Callback, frozenset[str]], Awaitable[None]]
# How often a refusal for insufficient scope is answered by a request for more scope.
STEP_UPS = 2


class _InsufficientScopeError(Exception):
    """The endpoint refuses the scope of the token; `scope` is a wider one."""

    def __init__(self, scope: str, refusal: MintError) -> None:
        self.scope = scope
        self.refusal = refusal


async def mint_slot(request: ClientRequest, slot: int, sign_in: SignIn) -> Bearer:
    """Mint for one client; start over if that helps.

    Follows the MCP authorization specification (2025-03-26 to 2026-07-28): RFC 9728 and RFC 8414
    discovery, RFC 7591 registration (once per client and issuer), RFC 7636 S256, RFC 9207 `iss`,
    RFC 8707 `resource`. Raises MintError, whose message names the step.

    A client that the server no longer knows is registered again, once. A code exchange that hits
    a rate limit is never repeated: after a wait, a new code is requested. Insufficient scope
    (RFC 6750, section 3.1) is answered by a request for more scope, a few times.
    """
    waits = list(RATE_WAITS_SECONDS)
    step_ups = STEP_UPS
    forgotten = False
    scope = request.environment.scope
    while True:
        exchange = Exchange(request.mcp_url)
        store = ClientStore(request.state_dir)
        storage = SlotStorage(store, slot, _build_given_client(request), exchange, request.hide)
        is_ours = storage.remembered is not None and request.client_id is None
        try:
            return await _run_flow(request, storage, exchange, sign_in, scope)
        except _InsufficientScopeError as wanting:
            if not step_ups:
                raise wanting.refusal from None
            step_ups -= 1
            scope = wanting.scope
            request.tell(f"the endpoint requires more scope: signing in with {scope}")
            storage.widen(scope)
            await asyncio.to_thread(request.register, (slot,), scope)
        except MintError as failure:
            if is_ours and failure.code in UNKNOWN_CLIENT and not forgotten:
                forgotten = True
                request.tell("the server no longer knows our registration: registering again")
                storage.forget()
                await asyncio.to_thread(request.register, (slot,), scope)
            elif failure.reason == "rate_limited" and waits:
                wait = waits.pop(0)
                request.tell(f"{failure.step} is rate limited: starting over in {wait:.0f} s")
                await asyncio.sleep(wait)
            else:
                raise


async def _run_flow(
    request: ClientRequest,
    storage: SlotStorage,
    exchange: Exchange,
    sign_in: SignIn,
    scope: str | None,
) -> Bearer:
    # Servers without RFC 8252, section 7.3, accept only the registered port.
    async with listen(storage.redirect_port) as callback:
        provider = build_provider(request, storage, callback, exchange, sign_in, scope)
        async with open_sdk_client(request.tell, exchange) as client:
            answer = await ask_endpoint(client, request.mcp_url, provider, exchange, request.call)
            try:
                grant = take_token(request, provider, exchange, answer)
            except MintError as refusal:
                asked_for = provider.context.client_metadata.scope
                wanted = extract_scope_from_www_auth(answer) or exchange.refusal_scope
                wider = union_scopes(asked_for, wanted)
                if refusal.code != "insufficient_scope" or wider is None or wider == asked_for:
                    raise
                raise _InsufficientScopeError(wider, refusal) from None
    bearer = accept_token(request, grant)
    storage.keep_origin(request.mcp_url, grant.audience)
    return bearer


def build_provider(
    request: ClientRequest,
    storage: SlotStorage,
    callback: Callback,
    exchange: Exchange,
    sign_in: SignIn,
    scope: str | None,
) -> OAuthClientProvider:
    """Return the SDK's provider, with our browser as redirect handler and our callback."""

    async def open_browser(authorization_url: str) -> None:
        context = provider.context
        exchange.check_pkce()
        exchange.check_secure(authorization_url)
        if request.client_secret is not None and context.client_info is not None:
            context.client_info.token_endpoint_auth_method = _pick_method(request, exchange)
        callback.expect(authorization_url)
        exchange.step = "sign-in"
        await sign_in(authorization_url, callback, _expected_origins(request, exchange))
        exchange.step = "callback"

    async def take_answer() -> AuthorizationCodeResult:
        answer = callback.answer.result()
        if answer.code is None:
            message = ": ".join(part for part in (answer.error, answer.error_description) if part)
            raise MintError(
                f"the authorization server answers {message or 'no code'}",
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
    # Set after the constructor, which only takes https; the specification allows loopback.
    provider.context.client_metadata_url = request.environment.client_metadata_url
    return provider


def _build_given_client(request: ClientRequest) -> OAuthClientInformationFull | None:
    if request.client_id is None:
        return None
    secret = request.client_secret
    return OAuthClientInformationFull(
        client_id=request.client_id,
        client_secret=secret.get_secret_value() if secret else None,
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
    )


def _pick_method(request: ClientRequest, exchange: Exchange) -> str:
    return request.environment.client_auth or exchange.pick_secret_method()


def _expected_origins(request: ClientRequest, exchange: Exchange) -> frozenset[str]:
    """Return where credentials may be typed: the servers' own origins."""
    known = [request.mcp_url, exchange.metadata.get("issuer"), exchange.authorization_endpoint]
    return frozenset(parse_origin(str(url)) for url in known if url)
