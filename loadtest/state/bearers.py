"""The bearers on disk: one 0600 file that mint writes and k6 reads, one bearer per client."""

import base64
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from loadtest.common.files import check_private, ensure_private_dir, read_valid, write_json
from loadtest.common.parsing import parse_json
from loadtest.common.redaction import SecretStr
from loadtest.errors import MintError

# A bearer must outlive the scheduled time by this: cold start, gaps and clean-up.
SPARE_SECONDS = 120
BEARER_FILE = "bearer.json"
BEARER_VERSION = 2


@dataclass(frozen=True)
class Bearer:
    """An access token and where it is valid; `expires_at` is in seconds since the epoch.

    `audience` is the resource indicator (RFC 8707) of the token request; `mcp_url` is the endpoint
    that accepted the token; `via` is the grant type. `issuer`, `audience` and `client_id` are None
    if the grant type does not reveal them.
    """

    access_token: SecretStr
    expires_at: float
    mcp_url: str
    scope: str
    via: str
    workspace_id: str | None = None
    issuer: str | None = None
    audience: str | None = None
    client_id: str | None = None

    def seconds_left(self) -> float:
        """Return how long the bearer is still valid; negative after it has expired."""
        return self.expires_at - time.time()


def build_anonymous(mcp_url: str) -> Bearer:
    """Return the caller of a server that takes no bearer; it sends none and is never stored."""
    return Bearer(SecretStr(""), math.inf, mcp_url, scope="", via="none")


_BEARERS = TypeAdapter(tuple[Bearer, ...])


def find_soonest(bearers: Sequence[Bearer]) -> Bearer:
    """Return the bearer that expires first."""
    return min(bearers, key=lambda bearer: bearer.expires_at)


def bearer_path(state_dir: Path) -> Path:
    """Return the file that mint writes and k6 reads."""
    return state_dir / BEARER_FILE


def write_bearers(path: Path, bearers: Sequence[Bearer]) -> None:
    """Write the bearers atomically, readable only by their owner."""
    ensure_private_dir(path.parent)
    entries = [
        asdict(bearer) | {"access_token": bearer.access_token.get_secret_value()}
        for bearer in bearers
    ]
    write_json(path, BEARER_VERSION, {"bearers": entries}, private=True)


def read_bearers(path: Path) -> tuple[Bearer, ...]:
    """Return the stored bearers, none without a file; raise MintError if others can read it."""
    if not path.exists():
        return ()
    check_private(path, MintError, "delete it and mint again")
    return read_valid(path, BEARER_VERSION, _BEARERS, MintError, "bearers")


def read_callers(path: Path | None, mcp_url: str) -> tuple[Bearer, ...]:
    """Return the stored bearers; without a file, the caller of a target that takes none."""
    return (build_anonymous(mcp_url),) if path is None else read_bearers(path)


def render_bearers(bearers: Iterable[Bearer], serial: int) -> str:
    """Return the content of a bearer file for k6; `serial` distinguishes newer from older."""
    entries = [
        {"access_token": bearer.access_token.get_secret_value(), "expires_at": bearer.expires_at}
        for bearer in bearers
    ]
    return json.dumps({"version": BEARER_VERSION, "serial": serial, "bearers": entries})


def parse_claims(access_token: str) -> dict[str, Any] | None:
    """Return the claims of a JWT without verifying it; None for an opaque token."""
    parts = access_token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = parse_json(base64.urlsafe_b64decode(payload))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None
