"""Grant types without a user: a given bearer, and client credentials."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)

from loadtest.common.files import read_whole
from loadtest.common.http import open_client
from loadtest.common.interruption import run_coroutine
from loadtest.common.redaction import SecretStr, learn
from loadtest.errors import ConfigError
from loadtest.mint.oauth.acceptance import accept_token, check_taken
from loadtest.mint.oauth.challenge import ask_endpoint
from loadtest.mint.oauth.exchange import Exchange
from loadtest.mint.oauth.request import REQUEST_SECONDS, Endpoint
from loadtest.mint.oauth.sdk import FixedScope, open_sdk_client, take_token
from loadtest.mint.oauth.storage import NullStorage
from loadtest.state.bearers import Bearer, parse_claims

# The assumed lifetime of a given opaque bearer, which contains no expiry.
GIVEN_LIFE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class MachineClient:
    """A client that signs in as itself: with a secret, or with a private key (RFC 7523).

    `issuer` is the authorization server that knows it: no other server gets the secret.
    """

    client_id: str
    issuer: str
    secret: SecretStr | None = None
    key_file: Path | None = None


def mint_by_client_credentials(endpoint: Endpoint, machine: MachineClient) -> Bearer:
    """Get a token for the client itself (MCP extension "OAuth client credentials")."""
    return run_coroutine(_mint_by_client_credentials(endpoint, machine))


async def _mint_by_client_credentials(endpoint: Endpoint, machine: MachineClient) -> Bearer:
    exchange = Exchange(endpoint.mcp_url, needs_person=False)
    provider = _build_provider(endpoint, machine)
    async with open_sdk_client(endpoint.tell, exchange) as client:
        answer = await ask_endpoint(client, endpoint.mcp_url, provider, exchange, endpoint.call)
        grant = take_token(endpoint, provider, exchange, answer)
    return accept_token(endpoint, replace(grant, via="client-credentials"))


def _build_provider(endpoint: Endpoint, machine: MachineClient) -> OAuthClientProvider:
    provider = _build_authenticated(endpoint, machine)
    scope = _find_scope(endpoint)
    if scope is not None:
        metadata = provider.context.client_metadata.model_dump() | {"scope": scope}
        provider.context.client_metadata = FixedScope.model_validate(metadata)
    return provider


def _build_authenticated(endpoint: Endpoint, machine: MachineClient) -> OAuthClientProvider:
    if machine.key_file is not None:
        pem, algorithm = _read_key(machine.key_file)
        signer = SignedJWTParameters(
            issuer=machine.client_id,
            subject=machine.client_id,
            signing_key=pem,
            signing_algorithm=algorithm,
        )
        return PrivateKeyJWTOAuthProvider(
            endpoint.mcp_url,
            NullStorage(),
            machine.client_id,
            signer.create_assertion_provider(),
            issuer=machine.issuer,
        )
    if machine.secret is None:
        raise ConfigError("LOADTEST_CLIENT_SECRET or LOADTEST_CLIENT_KEY_FILE is needed")
    return ClientCredentialsOAuthProvider(
        endpoint.mcp_url,
        NullStorage(),
        machine.client_id,
        machine.secret.get_secret_value(),
        issuer=machine.issuer,
    )


def _find_scope(endpoint: Endpoint) -> str | None:
    """Return the configured scope without offline access (RFC 6749, section 4.4.3)."""
    asked = (endpoint.environment.scope or "").split()
    return " ".join(scope for scope in asked if scope != "offline_access") or None


def _read_key(path: Path) -> tuple[str, str]:
    """Return a PEM private key and the JWS algorithm (RFC 7518, RFC 8037) that fits it."""
    try:
        pem = read_whole(path).decode("ascii")
        learn(pem)
        key = load_pem_private_key(pem.encode(), password=None)
    except (OSError, ValueError, TypeError) as failure:
        raise ConfigError(
            f"LOADTEST_CLIENT_KEY_FILE {path} is not a readable PEM key ({type(failure).__name__})"
        ) from None
    if isinstance(key, rsa.RSAPrivateKey):
        return pem, "RS256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return pem, "ES256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return pem, "EdDSA"
    raise ConfigError(
        f"LOADTEST_CLIENT_KEY_FILE {path}: only RSA, P-256 and Ed25519 keys are supported"
    )


def take_given(endpoint: Endpoint, access_token: SecretStr) -> Bearer:
    """Check that the endpoint accepts a given bearer."""
    with open_client(REQUEST_SECONDS) as http:
        check_taken(endpoint, access_token, http)
    claims = parse_claims(access_token.get_secret_value()) or {}
    expiry = claims.get("exp")
    return Bearer(
        access_token=access_token,
        expires_at=float(expiry)
        if isinstance(expiry, int | float)
        else time.time() + GIVEN_LIFE_SECONDS,
        mcp_url=endpoint.mcp_url,
        scope=str(claims.get("scope", "")),
        via="given",
        workspace_id=endpoint.workspace_id,
    )
