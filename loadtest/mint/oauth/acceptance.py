"""Check that a token is what was requested, and that the endpoint accepts it."""

import time
from collections.abc import Mapping
from typing import Any

import httpx2

from loadtest.common.access import build_authorization
from loadtest.common.http import explain, open_client
from loadtest.common.parsing import parse_json
from loadtest.common.redaction import SecretStr, learn
from loadtest.config.models import Environment
from loadtest.errors import MintError
from loadtest.mint.oauth.exchange import check_secure, describe_refusal, parse_object
from loadtest.mint.oauth.request import (
    REQUEST_SECONDS,
    SESSION_HEADER,
    Endpoint,
    IssuedToken,
    build_initialize,
    build_mcp_headers,
    build_requests_after_initialize,
)
from loadtest.mint.oauth.verification import STEP, Expected, check_claims, verify
from loadtest.state.bearers import Bearer, parse_claims

# The assumed lifetime of an opaque token without expires_in (RFC 6749, section 5.1).
UNKNOWN_LIFE_SECONDS = 300.0
# Scopes of the authorization server, which no resource grants.
NOT_OF_THE_RESOURCE = frozenset({"offline_access", "openid", "profile", "email"})
TELL_SKEW_SECONDS = 5.0


def accept_token(endpoint: Endpoint, grant: IssuedToken) -> Bearer:
    """Verify a token by its issuer's keys and return it as a bearer."""
    with open_client(REQUEST_SECONDS) as http:
        return check_token(endpoint, grant, http)


def check_token(
    endpoint: Endpoint, grant: IssuedToken, http: httpx2.Client, *, taken: bool = False
) -> Bearer:
    """Verify the token by its issuer's keys and return it as a bearer, else raise MintError.

    If the token endpoint sent it and the MCP endpoint has accepted it (`taken`), only the claims
    are checked: TLS replaces the signature (OpenID Connect Core, section 3.1.3.7).
    """
    claims = _verify(endpoint, grant, http, taken=taken)
    if abs(grant.skew_seconds) > TELL_SKEW_SECONDS:
        endpoint.tell(
            f"this machine's clock is {abs(grant.skew_seconds):.0f} s "
            f"{'behind' if grant.skew_seconds > 0 else 'ahead of'} the server's"
        )
    life_seconds = grant.life_seconds or UNKNOWN_LIFE_SECONDS
    return Bearer(
        access_token=grant.access_token,
        expires_at=float(claims["exp"]) - grant.skew_seconds
        if claims
        else time.time() + life_seconds,
        mcp_url=endpoint.mcp_url,
        scope=str((claims or {}).get("scope") or grant.scope or ""),
        via=grant.via,
        workspace_id=endpoint.workspace_id,
        issuer=grant.metadata.get("issuer"),
        audience=grant.audience,
        client_id=grant.client_id,
    )


def check_taken(endpoint: Endpoint, access_token: SecretStr, http: httpx2.Client) -> None:
    """Open a session with the bearer, list the tools, close it; raise MintError at a refusal.

    Some servers let anyone initialize: there, only the list shows whether the bearer is valid.
    """
    refusal = _find_refusal(endpoint.mcp_url, access_token, http)
    if refusal is not None:
        raise MintError(f"{endpoint.mcp_url} refuses the bearer: {refusal}", STEP)


def check_let_in(mcp_url: str, environment: Environment, http: httpx2.Client) -> None:
    """Do the same without a bearer, as an environment with another `auth` does."""
    refusal = _find_refusal(mcp_url, SecretStr(""), http)
    if refusal is not None:
        raise MintError(f"{describe_closed(mcp_url, environment)}: {refusal}", STEP)


def describe_closed(mcp_url: str, environment: Environment) -> str:
    """Return why a server that takes no bearer may have answered 401 or 403."""
    if environment.auth == "header":
        return f"{mcp_url} refuses the key in the headers {', '.join(environment.headers)}"
    return f'{mcp_url} needs credentials, but the environment has auth = "none"'


def _find_refusal(mcp_url: str, access_token: SecretStr, http: httpx2.Client) -> str | None:
    try:
        answer = list_tools(mcp_url, access_token, http)
    except httpx2.HTTPError as failure:
        raise MintError(f"{mcp_url} does not answer ({explain(failure)})", STEP) from None
    if answer.status_code not in {401, 403}:
        return None
    return describe_refusal(answer.status_code, parse_object(answer.content))


def list_tools(mcp_url: str, access_token: SecretStr, http: httpx2.Client) -> httpx2.Response:
    """Open a session, list the tools, close it; return the last response, or the refusal."""
    headers = build_mcp_headers() | build_authorization(access_token)
    try:
        for body in (build_initialize(), *build_requests_after_initialize()):
            answer = http.post(mcp_url, json=body, headers=headers)
            if answer.status_code in {401, 403, 429}:
                break
            learn(answer.headers.get(SESSION_HEADER))
            if SESSION_HEADER in answer.headers:
                headers[SESSION_HEADER] = answer.headers[SESSION_HEADER]
    finally:
        if SESSION_HEADER in headers:
            http.delete(mcp_url, headers=headers)
    return answer


def _verify(
    endpoint: Endpoint, grant: IssuedToken, http: httpx2.Client, *, taken: bool
) -> Mapping[str, Any] | None:
    """Return the claims of a JWT; None for an opaque token, if the environment allows one."""
    jwks_uri = grant.metadata.get("jwks_uri")
    token = grant.access_token.get_secret_value()
    is_jwt = token.count(".") == 2 and jwks_uri is not None
    if not is_jwt and endpoint.environment.workspace_claim is None:
        return None
    asked = frozenset((endpoint.environment.scope or "").split())
    expected = Expected(
        issuer=grant.metadata["issuer"],
        audience=grant.audience,
        scopes=asked - NOT_OF_THE_RESOURCE,
        workspace_claim=endpoint.environment.workspace_claim,
        workspace_id=endpoint.workspace_id,
    )
    if taken:
        claims = parse_claims(token) or {}
        check_claims(claims, expected)
        return claims
    if jwks_uri is None:
        raise MintError("the authorization server names no jwks_uri", STEP)
    check_secure(jwks_uri, STEP, endpoint.mcp_url)
    try:
        keys = parse_json(http.get(jwks_uri).content)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as failure:
        raise MintError(f"no keys at {jwks_uri} ({explain(failure)})", STEP) from None
    return verify(token, keys, expected)
