"""Authenticate clients by a signed assertion (RFC 7523, sections 2.2 and 3)."""

import base64
import json
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from loadtest.reference.accounts import Client
from loadtest.reference.rate_limits import Clock
from loadtest.reference.tokens import Algorithms

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("EdDSA", "ES256", "RS256")
LONGEST_SECONDS = 600
"""The longest life of an assertion; its `jti` is remembered until it expires."""


class Assertions:
    """Check assertions and remember each until it expires, so that none can be used twice."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._registry = Algorithms(*ALGORITHMS)
        self._seen: dict[tuple[str, str], float] = {}

    def find_problem(self, client: Client, assertion: str, audiences: set[str]) -> str | None:
        """Return what is wrong with the assertion, or None if it proves the client."""
        try:
            keys = KeySet.import_key_set(json.loads(client.jwks or '{"keys": []}'))
            claims = jwt.decode(assertion, keys, registry=self._registry).claims
        except (JoseError, ValueError):
            return "the assertion is not signed by a key of the client"
        if claims.get("iss") != client.id or claims.get("sub") != client.id:
            return "the assertion's iss and sub must be the client_id"
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if not audiences & {each for each in named if isinstance(each, str)}:
            return "the assertion's aud must be the issuer"
        return self._find_time_problem(client, claims)

    def _find_time_problem(self, client: Client, claims: dict[str, Any]) -> str | None:
        now = self._clock()
        expires_at, unique = claims.get("exp"), claims.get("jti")
        if not isinstance(expires_at, int | float) or not now < expires_at <= now + LONGEST_SECONDS:
            return f"the assertion's exp must be at most {LONGEST_SECONDS} s ahead"
        starts_at = claims.get("nbf", now)
        if not isinstance(starts_at, int | float) or starts_at > now:
            return "the assertion is not valid yet"
        if not isinstance(unique, str) or not unique:
            return "the assertion has no jti"
        self._seen = {key: until for key, until in self._seen.items() if until > now}
        if (client.id, unique) in self._seen:
            return "the assertion was used before"
        self._seen[client.id, unique] = expires_at
        return None


def read_subject(assertion: str) -> str:
    """Return the client ID in an assertion, without verifying it; empty if there is none."""
    try:
        part = assertion.split(".")[1]
        subject = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["sub"]
    except (ValueError, IndexError, KeyError, TypeError):
        return ""
    return subject if isinstance(subject, str) else ""
