"""Verify an access token before a measurement uses it."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from loadtest.common.command_name import spell
from loadtest.errors import MintError

if TYPE_CHECKING:
    from joserfc.jwk import KeySetSerialization

STEP = "verification"
ALGORITHMS = ["EdDSA", "Ed25519", "ES256", "ES384", "RS256", "PS256"]
SKEW_SECONDS = 60
LATEST_EXPIRY = 10**11  # in seconds: some thousand years from now


@dataclass(frozen=True)
class Expected:
    """The required claims; without `workspace_claim` or its value, any workspace is accepted."""

    issuer: str
    audience: str
    scopes: frozenset[str]
    workspace_claim: str | None
    workspace_id: str | None


def verify(access_token: str, jwks: Mapping[str, Any], expected: Expected) -> dict[str, Any]:
    """Check signature, `iss`, `aud`, `exp`, scope and workspace (RFC 9068, section 4; RFC 8707).

    Returns the claims. Raises MintError that names the wrong claim with its value, but never
    shows the token.
    """
    if access_token.count(".") != 2:
        raise MintError("the access token is opaque, not a JWT: was `resource` accepted?", STEP)
    # Importing these takes longer than a refresh, which does not need them.
    from joserfc import jwt
    from joserfc.errors import JoseError, SecurityWarning
    from joserfc.jwk import KeySet

    try:
        with warnings.catch_warnings():
            # Servers still use the name EdDSA for Ed25519 (RFC 9864).
            warnings.simplefilter("ignore", SecurityWarning)
            keys = KeySet.import_key_set(cast("KeySetSerialization", jwks))
            token = jwt.decode(access_token, keys, ALGORITHMS)
    # The server sends the keys: joserfc raises other errors if they are not a key set.
    except (JoseError, LookupError, TypeError, ValueError, AttributeError) as failure:
        raise MintError(f"the signature does not verify ({type(failure).__name__})", STEP) from None
    claims = dict(token.claims)
    check_claims(claims, expected)
    return claims


def check_claims(claims: Mapping[str, Any], expected: Expected) -> None:
    """Raise MintError for the first claim that is not as expected."""
    if claims.get("iss") != expected.issuer:
        raise MintError(f"iss is {claims.get('iss')!r}, expected {expected.issuer!r}", STEP)
    audience = claims.get("aud")
    if expected.audience not in (audience if isinstance(audience, list) else [audience]):
        raise MintError(f"aud is {audience!r}, expected {expected.audience!r}", STEP)
    expiry = claims.get("exp")
    if not isinstance(expiry, int | float) or isinstance(expiry, bool):
        raise MintError("exp is missing", STEP)
    if not 0 <= expiry <= LATEST_EXPIRY:
        raise MintError("exp is not a valid time", STEP)
    if expiry <= time.time() - SKEW_SECONDS:
        raise MintError("the token has expired already: check this machine's clock", STEP)
    granted = frozenset(str(claims.get("scope", "")).split())
    if not expected.scopes <= granted:
        lacking = " ".join(sorted(expected.scopes - granted))
        raise MintError(f"scope lacks {lacking}: granted {' '.join(sorted(granted))}", STEP)
    if expected.workspace_claim is None or expected.workspace_id is None:
        return
    workspace = claims.get(expected.workspace_claim)
    if workspace != expected.workspace_id:
        raise MintError(
            f"workspace is {workspace!r}, expected {expected.workspace_id!r}: "
            f"make it the user's active workspace ({spell('provision')})",
            STEP,
        )
