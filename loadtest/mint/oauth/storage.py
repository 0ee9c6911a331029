"""The MCP SDK's token storage: one that writes `clients.json`, and one that stores nothing."""

from collections.abc import Callable
from urllib.parse import urlsplit

from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from loadtest.common.redaction import SecretStr
from loadtest.mint.oauth.exchange import Exchange
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient


class SlotStorage:
    """One slot of `clients.json`; `given` is a client that was given to us."""

    def __init__(
        self,
        store: ClientStore,
        slot: int,
        given: OAuthClientInformationFull | None,
        exchange: Exchange,
        hide: Callable[[SecretStr], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._slot = slot
        self._given = given
        self._exchange = exchange
        self._hide = hide

    @property
    def remembered(self) -> StoredClient | None:
        """Return the stored client that is used now."""
        return self._store.find(self._slot, self._given.client_id if self._given else None)

    @property
    def redirect_port(self) -> int | None:
        """Return the port of our registered redirect URI."""
        uri = self.remembered.client.redirect_uri if self.remembered else None
        return urlsplit(uri).port if uri else None

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the given client, else the stored one; the SDK checks its issuer."""
        found = self.remembered
        return self._given or (_to_sdk(found.client) if found else None)

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Store a new registration at once, even if the flow fails later."""
        reply = self._exchange.registration
        remembered = StoredClient(
            client=_from_sdk(client_info),
            issuer=client_info.issuer,
            management_url=reply.get("registration_client_uri"),
            management_token=reply.get("registration_access_token"),
        )
        self._store.keep(self._slot, remembered)

    async def get_tokens(self) -> OAuthToken | None:
        """Return none: a refresh token was tried before the SDK's flow began."""
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep the new refresh token at once."""
        if tokens.refresh_token is not None:
            self._hide(SecretStr(tokens.refresh_token))
        found = self.remembered or (
            StoredClient(
                client=_from_sdk(self._given.model_copy(update={"client_secret": None})), given=True
            )
            if self._given
            else None
        )
        if found is not None:
            update = {"refresh_token": tokens.refresh_token, "scope": tokens.scope}
            self._store.keep(self._slot, found.model_copy(update=update))

    def keep_origin(self, mcp_url: str, audience: str) -> None:
        """Store where the tokens are valid, so that a refresh needs no discovery."""
        found = self.remembered
        metadata = self._exchange.metadata
        if found is not None and metadata:
            update = {"metadata": metadata, "mcp_url": mcp_url, "audience": audience}
            self._store.keep(self._slot, found.model_copy(update=update))

    def widen(self, scope: str) -> None:
        """Drop our registration if it was made for less than this scope."""
        found = self.remembered
        registered = (found.client.model_extra or {}).get("scope") if found else None
        if found and not found.given and not set(scope.split()) <= set(str(registered).split()):
            self.forget()

    def forget(self) -> None:
        """Drop a registration that the server no longer knows."""
        self._store.keep(self._slot, None)


class NullStorage:
    """Token storage that stores nothing; `client` is used, and none is registered."""

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


def _to_sdk(client: ClientInformation) -> OAuthClientInformationFull:
    return OAuthClientInformationFull.model_validate(client.model_dump())


def _from_sdk(client: OAuthClientInformationFull) -> ClientInformation:
    return ClientInformation.model_validate(client.model_dump(mode="json", exclude_none=True))
