"""The state that all parts of the reference target share."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from argon2 import PasswordHasher
from sqlalchemy import delete, select, update

from loadtest.reference.accounts import Client, Consent, Grant, Store
from loadtest.reference.knobs import Knobs
from loadtest.reference.rate_limits import AccountLimits, Clock, FirstRefusals, Minute
from loadtest.reference.tokens import Keyring, hash_secret, new_secret

MCP_SCOPE = "mcp:read"
GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
SCOPES = ("openid", "profile", "email", "offline_access", "mcp:read", "mcp:write")


@dataclass(frozen=True)
class Mail:
    """A mail that was sent: its recipient and its link."""

    to: str
    link: str = field(repr=False)


@dataclass
class Deployment:
    """One running target: its addresses, its state and its knobs."""

    api_url: str
    web_url: str
    knobs: Knobs
    store: Store
    clock: Clock
    keys: Keyring = field(init=False)
    limits: AccountLimits = field(init=False)
    first_refusals: FirstRefusals = field(init=False)
    minted: Minute = field(init=False)
    hasher: PasswordHasher = field(init=False)
    rng: random.Random = field(init=False)
    seeded_clients: frozenset[str] = frozenset()
    auth_methods: tuple[str, ...] = ()
    requests: int = 0
    tool_calls: int = 0
    scans: int = 0
    quota_refusals: int = 0
    registrations: int = 0
    refreshes: int = 0
    refresh_reuses: int = 0
    revocations: int = 0
    mails: list[Mail] = field(default_factory=list)
    challenges: dict[str, str] = field(default_factory=dict)
    """Hash of the cookie between password and one-time code → user."""
    typed_codes: dict[str, int] = field(default_factory=dict)
    """User → time step of the last one-time code; each counts once (RFC 6238, section 5.2)."""
    verdicts: int = 0
    """Is increased when a bearer that was accepted before may now be refused."""

    def __post_init__(self) -> None:
        """Load the keys and set all counters to zero."""
        self.keys = Keyring(self.store, self.clock)
        self.limits = AccountLimits(self.clock)
        self.first_refusals = FirstRefusals(
            self.knobs.token_rate_limited, self.knobs.authorize_rate_limited, self.knobs.retry_after
        )
        self.minted = Minute(self.clock)
        self.rng = random.Random(self.knobs.seed)  # noqa: S311 - misbehaviour, not secrets
        # OWASP's cheapest Argon2id setting: a sign-in takes about 20 ms of one core.
        self.hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        self._entities: dict[str, tuple[str, ...]] = {}

    @property
    def grant_types(self) -> tuple[str, ...]:
        """Return the grant types that the token endpoint supports."""
        return GRANT_TYPES if self.knobs.grant_types == "all" else (self.knobs.grant_types,)

    @property
    def auth_url(self) -> str:
        """Return the base URL of the authorization server's endpoints."""
        return f"{self.api_url}/api/auth"

    @property
    def issuer(self) -> str:
        """Return the authorization server's issuer identifier (RFC 8414, section 2)."""
        return self.auth_url if self.knobs.issuer_path else self.api_url

    @property
    def claimed_issuer(self) -> str:
        """Return the issuer in access tokens; a knob makes it a foreign one."""
        return self.foreign_issuer if self.knobs.wrong_issuer == "token" else self.issuer

    @property
    def foreign_issuer(self) -> str:
        """Return another server's issuer."""
        return f"{self.issuer}/other"

    @property
    def resource(self) -> str:
        """Return the protected resource, which all workspaces share (RFC 8707, section 2)."""
        at_root = self.knobs.resource_metadata == "root"
        return self.api_url if at_root else f"{self.api_url}/mcp"

    @property
    def knows_resources(self) -> bool:
        """Return whether resource indicators are supported; MCP 2025-03-26 has none."""
        return self.knobs.resource_metadata != "nowhere"

    @property
    def pkce_method(self) -> str:
        """Return the only PKCE method that is accepted (RFC 7636, section 4.3)."""
        return "plain" if self.knobs.s256 == "plain" else "S256"

    def narrow_scope(self, scope: str) -> str:
        """Return the part of the requested scope that is granted."""
        if not self.knobs.granted_scope:
            return scope
        allowed = self.knobs.granted_scope.split()
        return " ".join(each for each in scope.split() if each in allowed)

    @cached_property
    def query_key(self) -> bytes:
        """Return the key that signs the queries of the pages."""
        return self.store.ensure_setting("query_key", new_secret()).encode()

    def entity_names(self, workspace_id: str) -> tuple[str, ...]:
        """Return a workspace's entity names; keep them in memory for the tools."""
        found = self._entities.get(workspace_id)
        if found is None:
            found = self._entities[workspace_id] = self.store.entity_names(workspace_id)
        return found

    def forget_entities(self, workspace_id: str) -> None:
        """Read a workspace's entities from the database next time."""
        self._entities.pop(workspace_id, None)

    def is_revoked(self, bearer: str) -> bool:
        """Return whether a bearer was revoked, if revocation has an effect."""
        if self.knobs.revoked_bearers == "accepted":
            return False
        with self.store.begin() as db:
            grant = db.get(Grant, hash_secret(bearer))
            return grant is not None and grant.used

    def forget_clients(self, client_ids: Sequence[str] | None = None) -> int:
        """Delete these clients and their grants, or all clients except those given at the start.

        Returns their number.
        """
        with self.store.begin() as db:
            if client_ids is None:
                known = db.scalars(select(Client.id)).all()
                client_ids = [each for each in known if each not in self.seeded_clients]
            theirs = Grant.client_id.in_(client_ids)
            db.execute(delete(Grant).where(theirs, Grant.kind.in_(("code", "access"))))
            db.execute(update(Grant).where(theirs).values(used=True))
            db.execute(delete(Consent).where(Consent.client_id.in_(client_ids)))
            db.execute(delete(Client).where(Client.id.in_(client_ids)))
        self.verdicts += 1
        return len(client_ids)
