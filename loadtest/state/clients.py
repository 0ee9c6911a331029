"""`clients.json`: our registration with an issuer, and its refresh token, per client of the pool.

Each client registers once and is used again, so that weekly runs do not pile up registrations.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx2
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from loadtest.common.files import check_private, ensure_private_dir, read_valid, write_json
from loadtest.common.redaction import SecretText
from loadtest.errors import MintError

CLIENTS_FILE = "clients.json"
CLIENTS_VERSION = 1


class ClientInformation(BaseModel):
    """A complete client information response (RFC 7591, section 3.2.1); we use these members."""

    model_config = ConfigDict(extra="allow")

    client_id: str
    client_secret: SecretText | None = Field(default=None, repr=False)
    token_endpoint_auth_method: str | None = None
    redirect_uris: list[str] | None = None

    @property
    def redirect_uri(self) -> str | None:
        """Return the redirect URI of the registration."""
        return self.redirect_uris[0] if self.redirect_uris else None

    def build_auth(self, given_secret: str | None = None) -> tuple[httpx2.Auth, dict[str, str]]:
        """Return how a request authenticates, and its form members (RFC 6749, section 2.3.1)."""
        members = {"client_id": self.client_id}
        secret = self.client_secret or given_secret
        if secret is None:
            return httpx2.Auth(), members  # sends the request as it is
        if self.token_endpoint_auth_method == "client_secret_post":  # noqa: S105 (a method)
            return httpx2.Auth(), members | {"client_secret": secret}
        # Form-encoded first.
        return httpx2.BasicAuth(quote_plus(self.client_id), quote_plus(secret)), members


class StoredClient(BaseModel):
    """What is stored of a client after its flow.

    `metadata` is the authorization server's (RFC 8414); the refresh token is valid for `mcp_url`
    and `audience`; `given` marks a client that we did not register; `management_url` and
    `management_token` delete a registration, if the server issues them (RFC 7592).
    """

    client: ClientInformation
    issuer: str | None = None
    given: bool = False
    refresh_token: SecretText | None = Field(default=None, repr=False)
    scope: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    mcp_url: str | None = None
    audience: str | None = None
    management_url: str | None = None
    management_token: SecretText | None = Field(default=None, repr=False)


class _Slot(StoredClient):
    slot: int


_SLOTS = TypeAdapter(list[_Slot])


class ClientStore:
    """The whole file: slot 0 is the client of a mint without a pool."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / CLIENTS_FILE

    def read(self) -> dict[int, StoredClient]:
        """Return the stored clients by slot."""
        if not self.path.exists():
            return {}
        check_private(self.path, MintError, "delete it and mint again")
        entries = read_valid(self.path, CLIENTS_VERSION, _SLOTS, MintError, "clients")
        return {entry.slot: StoredClient.model_validate(dict(entry)) for entry in entries}

    def find(self, slot: int, given_client_id: str | None) -> StoredClient | None:
        """Return the client of a slot if it is the one used now: the given one, or our own."""
        found = self.read().get(slot)
        if found is None or found.given != (given_client_id is not None):
            return None
        return found if given_client_id in {None, found.client.client_id} else None

    def keep(self, slot: int, remembered: StoredClient | None) -> None:
        """Replace one slot; None removes it."""
        slots = self.read()
        slots.pop(slot, None)
        if remembered is not None:
            slots[slot] = remembered
        ensure_private_dir(self.path.parent)
        entries = [
            {"slot": slot} | entry.model_dump(mode="json", exclude_none=True)
            for slot, entry in sorted(slots.items())
        ]
        write_json(self.path, CLIENTS_VERSION, {"clients": entries}, private=True)
