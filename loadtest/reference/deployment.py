"""The parts that every room of the reference target shares."""

import random
from dataclasses import dataclass, field
from functools import cached_property

from argon2 import PasswordHasher

from loadtest.reference.accounts import Store
from loadtest.reference.knobs import Knobs
from loadtest.reference.replies import AccountLimits, Clock, Minute
from loadtest.reference.tokens import Keyring, new_secret

MCP_SCOPE = "mcp:read"
SCOPES = ("openid", "profile", "email", "offline_access", "mcp:read", "mcp:write")


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
    minted: Minute = field(init=False)
    hasher: PasswordHasher = field(init=False)
    rng: random.Random = field(init=False)
    requests: int = 0
    tool_calls: int = 0

    def __post_init__(self) -> None:
        """Load the keys and set every counter to zero."""
        self.keys = Keyring(self.store, self.clock)
        self.limits = AccountLimits(self.clock)
        self.minted = Minute(self.clock)
        self.rng = random.Random(self.knobs.seed)  # noqa: S311 - misbehaviour, not secrets
        # OWASP's least costly Argon2id setting: a sign-in takes some 20 ms of one core.
        self.hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        self._entities: dict[str, tuple[str, ...]] = {}

    @property
    def issuer(self) -> str:
        """The authorization server's issuer identifier (RFC 8414 §2)."""
        return f"{self.api_url}/api/auth"

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
        return f"{self.api_url}/mcp"

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
