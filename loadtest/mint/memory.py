"""What outlives one flow: our registration with each issuer, so that none is made twice."""

from pathlib import Path

from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import ValidationError

from loadtest.errors import MintError
from loadtest.files import ensure_private_dir, read_json, write_json

CLIENTS_VERSION = 1


class ClientMemory:
    """The SDK's token storage: remembers the client (0600), keeps tokens in memory only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        """Return the tokens of this flow."""
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Take the tokens of this flow."""
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the remembered registration; the SDK drops it when the issuer differs."""
        if not self._path.exists():
            return None
        body = read_json(self._path, CLIENTS_VERSION, MintError)
        try:
            return OAuthClientInformationFull.model_validate(body.get("client"))
        except ValidationError:
            raise MintError(f"{self._path} is damaged: delete it and mint again") from None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Remember a new registration."""
        ensure_private_dir(self._path.parent)
        client = client_info.model_dump(mode="json", exclude_none=True)
        write_json(self._path, CLIENTS_VERSION, {"client": client}, private=True)

    def forget_client(self) -> None:
        """Drop a registration that the server no longer knows."""
        self._path.unlink(missing_ok=True)
