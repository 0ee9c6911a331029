"""`clients.json`: our registration with an issuer, and its refresh token, per client of the pool.

One registration is made per client and used for ever after, so that a weekly run leaves no litter.
A refresh token is taken out of the file before it is sent: should we die, it is lost, and never
sent twice, which would revoke the whole family (RFC 9700, section 4.14.2).
"""

from pathlib import Path
from typing import Any

from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import BaseModel, Field, ValidationError

from loadtest.errors import MintError
from loadtest.files import ensure_private_dir, read_json, write_json
from loadtest.mint.exchange import Exchange

CLIENTS_VERSION = 1


class Remembered(BaseModel):
    """What outlives a flow.

    `metadata` is the authorization server's (RFC 8414), `resource` the protected resource's
    (RFC 9728); `given` marks a client that is not ours to register; `management_url` and
    `management_token` delete a registration, where the server gives them (RFC 7592).
    """

    client: OAuthClientInformationFull
    issuer: str | None = None
    given: bool = False
    refresh_token: str | None = Field(default=None, repr=False)
    scope: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    resource: dict[str, Any] | None = None
    management_url: str | None = None
    management_token: str | None = Field(default=None, repr=False)


class ClientStore:
    """The file as a whole: slot 0 is the one client of a plain mint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[int, Remembered]:
        """Return what is remembered, by slot."""
        if not self.path.exists():
            return {}
        body = read_json(self.path, CLIENTS_VERSION, MintError)
        try:
            return {
                int(entry["slot"]): Remembered.model_validate(entry) for entry in body["clients"]
            }
        except (ValidationError, KeyError, TypeError, ValueError):
            raise MintError(f"{self.path} is damaged: delete it and mint again") from None

    def keep(self, slot: int, remembered: Remembered | None) -> None:
        """Replace one slot; None forgets it."""
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


class SlotStorage:
    """One slot as the SDK's token storage."""

    def __init__(
        self,
        store: ClientStore,
        slot: int,
        given: OAuthClientInformationFull | None,
        exchange: Exchange,
    ) -> None:
        self._store = store
        self._slot = slot
        self._given = given
        self._exchange = exchange
        self.tokens: OAuthToken | None = None

    @property
    def remembered(self) -> Remembered | None:
        """Return what the slot holds for the client that is used now."""
        found = self._store.read().get(self._slot)
        if found is None or self._given is None:
            return None if found is not None and found.given else found
        return found if found.client.client_id == self._given.client_id else None

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the given client, else the remembered one; the SDK checks its issuer."""
        found = self.remembered
        return self._given or (found.client if found else None)

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Remember a new registration at once, whatever becomes of the flow."""
        reply = self._exchange.registration
        remembered = Remembered(
            client=client_info,
            issuer=client_info.issuer,
            management_url=reply.get("registration_client_uri"),
            management_token=reply.get("registration_access_token"),
        )
        self._store.keep(self._slot, remembered)

    async def get_tokens(self) -> OAuthToken | None:
        """Take the refresh token out of the file; the access token beside it is spent."""
        found = self.remembered
        if found is None or found.refresh_token is None:
            return None
        self._store.keep(self._slot, found.model_copy(update={"refresh_token": None}))
        return OAuthToken(
            access_token="spent",  # noqa: S106 (a placeholder: the SDK wants one)
            refresh_token=found.refresh_token,
            scope=found.scope,
        )

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep the tokens of this flow, and the new refresh token at once."""
        self.tokens = tokens
        found = self.remembered or (
            Remembered(client=self._given.model_copy(update={"client_secret": None}), given=True)
            if self._given
            else None
        )
        if found is not None:
            update = {"refresh_token": tokens.refresh_token, "scope": tokens.scope}
            self._store.keep(self._slot, found.model_copy(update=update))

    def keep_origin(self, resource: dict[str, Any] | None) -> None:
        """Remember where the tokens came from, so that a refresh needs no discovery."""
        found = self.remembered
        metadata = self._exchange.metadata
        if found is not None and metadata:
            update = {"issuer": metadata["issuer"], "metadata": metadata, "resource": resource}
            self._store.keep(self._slot, found.model_copy(update=update))

    def forget(self) -> None:
        """Drop a registration that the server no longer knows."""
        self._store.keep(self._slot, None)


class Unkept:
    """Token storage that remembers nothing; `client` is used as it is, and none registered."""

    def __init__(self, client: OAuthClientInformationFull | None = None) -> None:
        self._client = client

    async def get_tokens(self) -> OAuthToken | None:
        """Return none: every flow starts from nothing."""
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep none."""

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the client."""
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep none."""
