"""The bearer on disk: one 0600 file that mint writes and k6 reads."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import SecretStr, TypeAdapter, ValidationError

from loadtest.errors import MintError
from loadtest.files import ensure_private_dir, read_json, write_json

BEARER_VERSION = 1


@dataclass(frozen=True)
class Bearer:
    """An access token and what it is good for; `expires_at` is in seconds since the epoch.

    `audience` is the resource indicator (RFC 8707) that the token was asked for; `mcp_url` is the
    endpoint that accepted it.
    """

    access_token: SecretStr
    expires_at: float
    mcp_url: str
    issuer: str
    audience: str
    scope: str
    client_id: str
    workspace_id: str | None

    def seconds_left(self) -> float:
        """Return how long the bearer lives on; negative once it has expired."""
        return self.expires_at - time.time()


def write_bearer(path: Path, bearer: Bearer) -> None:
    """Write the bearer atomically, readable by its owner alone."""
    ensure_private_dir(path.parent)
    body = asdict(bearer) | {"access_token": bearer.access_token.get_secret_value()}
    write_json(path, BEARER_VERSION, body, private=True)


def read_bearer(path: Path) -> Bearer | None:
    """Read the bearer back; None when there is none; MintError when others could read it."""
    if not path.exists():
        return None
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise MintError(f"{path} can be read by others: delete it and mint again")
    body = read_json(path, BEARER_VERSION, MintError)
    body.pop("version")
    try:
        return TypeAdapter(Bearer).validate_python(body)
    except ValidationError:
        raise MintError(f"{path} is damaged: delete it and mint again") from None
