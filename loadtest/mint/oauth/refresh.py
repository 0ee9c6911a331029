"""A bearer from a refresh token (RFC 6749, section 6), without browser and without the MCP SDK.

Importing the SDK takes longer than a refresh. The token is removed from the file before it is
sent: if the process dies, the token is lost. A token sent twice would revoke the whole grant
(RFC 9700, section 4.14.2).
"""

import time
from collections.abc import Iterable
from typing import Any

import httpx2

from loadtest.common.http import explain, open_client
from loadtest.common.redaction import SecretStr
from loadtest.common.retry_after import wait_out
from loadtest.errors import MintError
from loadtest.mint.oauth.acceptance import check_taken, check_token
from loadtest.mint.oauth.exchange import check_secure, describe_refusal, measure_skew, parse_object
from loadtest.mint.oauth.request import REQUEST_SECONDS, UNKNOWN_CLIENT, ClientRequest, IssuedToken
from loadtest.state.bearers import Bearer
from loadtest.state.clients import ClientStore, StoredClient

STEP = "refresh"


def refresh_slots(request: ClientRequest, slots: Iterable[int]) -> dict[int, Bearer]:
    """Return a verified bearer for each slot whose refresh token the server still accepts."""
    bearers = {slot: _refresh(request, slot) for slot in slots}
    return {slot: bearer for slot, bearer in bearers.items() if bearer is not None}


def _refresh(request: ClientRequest, slot: int) -> Bearer | None:
    store = ClientStore(request.state_dir)
    found = store.find(slot, request.client_id)
    # The refresh token of another workspace would return a bearer for that workspace.
    if found is None or found.refresh_token is None or found.mcp_url != request.mcp_url:
        return None
    endpoint = found.metadata.get("token_endpoint")
    if not isinstance(endpoint, str) or found.audience is None:
        return None
    check_secure(endpoint, STEP, request.mcp_url)
    with open_client(REQUEST_SECONDS) as http:
        grant = _spend(request, store, slot, found, endpoint, http)
        if grant is None:
            return None
        try:
            check_taken(request, grant.access_token, http)
            return check_token(request, grant, http, taken=True)
        except MintError as failure:
            request.tell(f"the refreshed bearer does not work ({failure.message}): signing in")
            return None


def _spend(
    request: ClientRequest,
    store: ClientStore,
    slot: int,
    found: StoredClient,
    endpoint: str,
    http: httpx2.Client,
) -> IssuedToken | None:
    """Exchange the refresh token; return None if the browser must sign in instead."""
    audience = found.audience
    assert audience is not None
    store.keep(slot, found.model_copy(update={"refresh_token": None}))
    sent_at = time.time()
    try:
        answer = _post(request, found, endpoint, http)
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as failure:
        store.keep(slot, found)  # it was never sent
        raise MintError(f"{endpoint} does not answer ({explain(failure)})", STEP) from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
        request.tell(f"the refresh was not answered ({explain(failure)}): signing in instead")
        return None
    body = parse_object(answer.content)
    token = body.get("access_token")
    if answer.status_code != 200 or not isinstance(token, str) or not _is_bearer(body):
        refusal = describe_refusal(answer.status_code, body)
        if str(body.get("error")) in UNKNOWN_CLIENT and not found.given:
            request.tell("the server no longer knows our registration: registering again")
            store.keep(slot, None)
        else:
            request.tell(f"the refresh is refused ({refusal}): signing in instead")
        return None
    rotated = body.get("refresh_token")
    for secret in (token, rotated):
        if isinstance(secret, str):
            request.hide(SecretStr(secret))
    scope = body.get("scope")
    kept: dict[str, Any] = {
        "refresh_token": rotated if isinstance(rotated, str) else found.refresh_token,
        "scope": scope if isinstance(scope, str) else found.scope,
    }
    store.keep(slot, found.model_copy(update=kept))
    life = body.get("expires_in")
    return IssuedToken(
        access_token=SecretStr(token),
        via="refresh",
        audience=audience,
        metadata=found.metadata,
        scope=kept["scope"],
        life_seconds=life if isinstance(life, int | float) else None,
        client_id=found.client.client_id,
        skew_seconds=measure_skew(answer.headers.get("date"), sent_at),
    )


def _is_bearer(body: dict[str, Any]) -> bool:
    """Return whether the token is used as a bearer (RFC 6750, section 4)."""
    return str(body.get("token_type", "")).lower() == "bearer"


def _post(
    request: ClientRequest, found: StoredClient, endpoint: str, http: httpx2.Client
) -> httpx2.Response:
    """Send the refresh token; a 429 did not use it, so wait and send it again."""
    secret = request.client_secret
    auth, members = found.client.build_auth(secret.get_secret_value() if secret else None)
    form = {
        "grant_type": "refresh_token",
        "refresh_token": found.refresh_token,
        "resource": found.audience,
        **members,
    }
    return wait_out(
        lambda: http.post(endpoint, data=form, auth=auth), "the token endpoint", request.tell
    )
