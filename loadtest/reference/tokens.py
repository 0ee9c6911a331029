"""Signing keys and the JWTs made with them."""

import hashlib
import json
import secrets
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import Key, KeySet, OKPKey
from joserfc.jws import JWSRegistry
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from loadtest.reference.accounts import SigningKey, Store
from loadtest.reference.rate_limits import Clock

WORKSPACE_CLAIM = "https://atlas.useatlas.dev/workspace_id"
WORKSPACES_CLAIM = "https://atlas.useatlas.dev/workspace_ids"


class Algorithms(JWSRegistry):
    """Support only the given algorithms, also `EdDSA`, which RFC 9864 deprecates."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._names = names

    def get_alg(self, name: str) -> Any:
        if name not in self._names:
            raise UnsupportedAlgorithmError(f"{name} is not one of {', '.join(self._names)}")
        return self.algorithms[name]


def new_secret() -> str:
    """Return a new opaque token of 256 bits."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return the hash under which an opaque token is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keyring:
    """The target's Ed25519 keys, stored in the database so that bearers survive a restart."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._clock = clock
        self._registry = Algorithms("EdDSA")
        self.generation = 0
        with store.begin() as db:
            rows = db.scalars(select(SigningKey).order_by(SigningKey.id)).all()
            self._keys: list[Key] = [OKPKey.import_key(json.loads(row.jwk)) for row in rows]
            if not self._keys:
                self.rotate(db, keep=True)

    def rotate(self, db: Session, *, keep: bool) -> None:
        """Sign with a new key from now on; with `keep`, the older ones stay in the JWKS."""
        key = OKPKey.generate_key(
            "Ed25519", {"use": "sig", "alg": "EdDSA", "kid": secrets.token_urlsafe(12)}
        )
        if not keep:
            db.execute(delete(SigningKey))
            self._keys.clear()
        db.add(SigningKey(jwk=json.dumps(key.as_dict(private=True))))
        self._keys.append(key)
        self.generation += 1

    def public_jwks(self) -> dict[str, Any]:
        """Return the public parts of the JSON Web Key Set (RFC 7517, section 5)."""
        return {"keys": [key.as_dict(private=False) for key in self._keys]}

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a JWT of the claims, signed with the newest key."""
        key = self._keys[-1]
        header = {"alg": "EdDSA", "kid": key.kid, "typ": "JWT"}
        return jwt.encode(header, claims, key, registry=self._registry)

    def verify(self, token: str, issuer: str, audience: str | None = None) -> dict[str, Any] | None:
        """Return the claims of our JWT if it has not expired, without leeway; else None."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token, KeySet(self._keys), registry=self._registry
            ).claims
        except (JoseError, ValueError):
            return None
        expires_at = claims.get("exp")
        if not isinstance(expires_at, int) or self._clock() >= expires_at:
            return None
        audiences = claims.get("aud")
        listed = audiences if isinstance(audiences, list) else [audiences]
        if claims.get("iss") != issuer or (audience is not None and audience not in listed):
            return None
        return claims
