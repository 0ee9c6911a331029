"""The parts that every room of the reference target shares."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from argon2 import PasswordHasher
from sqlalchemy import delete, select, update

from loadtest.reference.accounts import Client, Consent, Grant, Store
from loadtest.reference.knobs import Knobs
from loadtest.reference.replies import AccountLimits, Clock, FirstRefusals, Minute
from loadtest.reference.tokens import Keyring, hash_secret, new_secret

MCP_SCOPE = "mcp:read"
GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
SCOPES = ("openid", "profile", "email", "offline_access", "mcp:read", "mcp:write")


@dataclass(frozen=True)
class Mail:
    """A mail that was sent: to whom, and the link in it."""

    to: str
    link: str = field(repr=False)


@dataclass
class Deployment:
    """One running target: where it answers, what it remembers, how it was set to misbehave."""

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
    """Hash of a cookie between password and one-time code → user."""
    typed_codes: dict[str, int] = field(default_factory=dict)
    """User → time step of the last one-time code: none is taken twice (RFC 6238 §5.2)."""
    verdicts: int = 0
    """Grows when a bearer that was accepted before may not be any more."""

    def __post_init__(self) -> None:
        """Load the keys and set every counter to zero."""
        self.keys = Keyring(self.store, self.clock)
        self.limits = AccountLimits(self.clock)
        self.first_refusals = FirstRefusals(
            self.knobs.token_rate_limited, self.knobs.authorize_rate_limited, self.knobs.retry_after
        )
        self.minted = Minute(self.clock)
        self.rng = random.Random(self.knobs.seed)  # noqa: S311 - misbehaviour, not secrets
        # OWASP's least costly Argon2id setting: a sign-in takes some 20 ms of one core.
        self.hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        self._entities: dict[str, tuple[str, ...]] = {}

    @property
    def grant_types(self) -> tuple[str, ...]:
        """The grants that the token endpoint gives."""
        return GRANT_TYPES if self.knobs.grant_types == "all" else (self.knobs.grant_types,)

    @property
    def auth_url(self) -> str:
        """Below this lie the authorization server's endpoints."""
        return f"{self.api_url}/api/auth"

    @property
    def issuer(self) -> str:
        """The authorization server's issuer identifier (RFC 8414 §2)."""
        return self.auth_url if self.knobs.issuer_path else self.api_url

    @property
    def claimed_issuer(self) -> str:
        """The issuer as access tokens name it; foreign when the knob says so."""
        return self.foreign_issuer if self.knobs.wrong_issuer == "token" else self.issuer

    @property
    def foreign_issuer(self) -> str:
        """An issuer that is not this one."""
        return f"{self.issuer}/other"

    @property
    def resource(self) -> str:
        """The one protected resource: all workspaces share it (RFC 8707 §2)."""
        at_root = self.knobs.resource_metadata == "root"
        return self.api_url if at_root else f"{self.api_url}/mcp"

    @property
    def knows_resources(self) -> bool:
        """Whether resource indicators mean anything here; in revision 2025-03-26 they do not."""
        return self.knobs.resource_metadata != "nowhere"

    @property
    def pkce_method(self) -> str:
        """The one PKCE method that works here (RFC 7636 §4.3)."""
        return "plain" if self.knobs.s256 == "plain" else "S256"

    def narrow_scope(self, scope: str) -> str:
        """What is granted of the scope asked for."""
        if not self.knobs.granted_scope:
            return scope
        allowed = self.knobs.granted_scope.split()
        return " ".join(each for each in scope.split() if each in allowed)

    @cached_property
    def query_key(self) -> bytes:
        """The key that signs queries handed to the pages."""
        return self.store.ensure_setting("query_key", new_secret()).encode()

    def entity_names(self, workspace_id: str) -> tuple[str, ...]:
        """A workspace's entities, kept in memory for the tools."""
        found = self._entities.get(workspace_id)
        if found is None:
            found = self._entities[workspace_id] = self.store.entity_names(workspace_id)
        return found

    def forget_entities(self, workspace_id: str) -> None:
        """Read a workspace's entities anew next time."""
        self._entities.pop(workspace_id, None)

    def is_revoked(self, bearer: str) -> bool:
        """Whether a bearer of ours was revoked, where that ends it."""
        if self.knobs.revoked_bearers == "accepted":
            return False
        with self.store.begin() as db:
            grant = db.get(Grant, hash_secret(bearer))
            return grant is not None and grant.used

    def forget_clients(self, client_ids: Sequence[str] | None = None) -> int:
        """Forget these clients, or all that were not given from the start, with their grants.

        Returns how many there were.
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
