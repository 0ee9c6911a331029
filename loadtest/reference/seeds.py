"""Users and clients that exist from the start."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from loadtest.errors import UsageError
from loadtest.reference.accounts import Client, Entity, Member, User, Workspace
from loadtest.reference.deployment import SCOPES, Deployment
from loadtest.reference.novamart import ENTITIES
from loadtest.reference.registration import AUTH_METHODS
from loadtest.reference.responses import new_id
from loadtest.reference.tokens import hash_secret


@dataclass(frozen=True)
class SeedUser:
    """A user that exists from the start, as if an administrator had created it.

    With a `workspace` slug, the user owns that workspace, with NovaMart attached. If `locked`, even
    the right password is refused. `totp_secret` (base32 or an otpauth URI) is that of an
    authenticator app that is already enrolled.
    """

    email: str
    password: str
    name: str = "Load Test"
    must_change_password: bool = True
    workspace: str | None = None
    locked: bool = False
    totp_secret: str | None = None

    def __repr__(self) -> str:
        return f"SeedUser({self.email!r})"


@dataclass(frozen=True)
class SeedClient:
    """An OAuth client that was registered by hand; seeding it again replaces it.

    It authenticates with its `secret` (by `auth_method`, by default basic), with the keys in `jwks`
    (RFC 7523), or not at all. Its own tokens are for the `workspace` with that slug, which is made,
    with NovaMart and without members, if it does not exist. Raises
    `UsageError` for a client that could not authenticate.
    """

    id: str
    secret: str | None = None
    jwks: Mapping[str, Any] | None = None
    redirect_uris: Sequence[str] = ()
    grant_types: Sequence[str] = ("authorization_code", "refresh_token")
    auth_method: str | None = None
    scope: str = " ".join(SCOPES)
    workspace: str | None = None
    name: str = "Given client"

    def __post_init__(self) -> None:
        """Refuse a combination that cannot authenticate."""
        usual = "private_key_jwt" if self.jwks else "client_secret_basic" if self.secret else "none"
        method = self.auth_method or usual
        fits = {
            "none": not self.secret and not self.jwks,
            "client_secret_basic": bool(self.secret) and not self.jwks,
            "client_secret_post": bool(self.secret) and not self.jwks,
            "private_key_jwt": bool(self.jwks) and not self.secret,
        }
        if not fits.get(method, False):
            raise UsageError(f"client {self.id!r} cannot authenticate by {method!r}")
        object.__setattr__(self, "auth_method", method)

    def __repr__(self) -> str:
        return f"SeedClient({self.id!r}, {self.auth_method!r})"


def seed_user(deployment: Deployment, seed: SeedUser) -> None:
    """Make the user unless it already exists."""
    now = deployment.clock()
    with deployment.store.begin() as db:
        if db.scalars(select(User.id).where(User.email == seed.email.lower())).first():
            return
        user = User(
            email=seed.email.lower(),
            name=seed.name,
            password_hash=deployment.hasher.hash(seed.password),
            must_change_password=seed.must_change_password,
            locked=seed.locked,
            totp_secret=seed.totp_secret,
            totp_enabled=seed.totp_secret is not None,
            created_at=now,
        )
        db.add(user)
        if seed.workspace is None:
            return
        workspace = _make_workspace(db, seed.workspace, now)
        db.add(Member(workspace_id=workspace.id, user_id=user.id, role="owner"))


def seed_clients(deployment: Deployment, seeds: Sequence[SeedClient]) -> None:
    """Make or replace the clients, and remember that they were given, not registered."""
    now = deployment.clock()
    with deployment.store.begin() as db:
        for seed in seeds:
            workspace = _find_workspace(db, seed.workspace, now) if seed.workspace else None
            client = Client(
                id=seed.id,
                name=seed.name,
                redirect_uris=list(seed.redirect_uris),
                grant_types=list(seed.grant_types),
                auth_method=seed.auth_method or "none",
                secret_hash=hash_secret(seed.secret) if seed.secret else None,
                scope=seed.scope,
                workspace_id=workspace.id if workspace else None,
                requests_per_minute=None,
                jwks=json.dumps(dict(seed.jwks)) if seed.jwks else None,
                created_at=now,
            )
            db.merge(client)
    deployment.seeded_clients = frozenset(seed.id for seed in seeds)
    deployment.auth_methods = _list_auth_methods(deployment, seeds)


def _list_auth_methods(deployment: Deployment, seeds: Sequence[SeedClient]) -> tuple[str, ...]:
    """Return the authentication methods that a client can use here, for the metadata."""
    knobs = deployment.knobs
    assigned: list[str] = []
    if knobs.registration == "open":
        asked = knobs.registration_auth
        assigned += AUTH_METHODS if asked == "as-asked" else (asked,)
    if knobs.client_metadata_documents:
        assigned += ["none", "private_key_jwt"]
    assigned += [seed.auth_method or "none" for seed in seeds]
    return tuple(dict.fromkeys(assigned)) or AUTH_METHODS


def _find_workspace(db: Session, slug: str, now: float) -> Workspace:
    found = db.scalars(select(Workspace).where(Workspace.slug == slug)).first()
    return found or _make_workspace(db, slug, now)


def _make_workspace(db: Session, slug: str, now: float) -> Workspace:
    """Make a workspace with NovaMart attached."""
    workspace = Workspace(name=slug, slug=slug, created_at=now)
    db.add(workspace)
    db.flush()
    connection_id = new_id()
    db.add_all(
        Entity(workspace_id=workspace.id, connection_id=connection_id, name=name)
        for name in ENTITIES
    )
    return workspace
