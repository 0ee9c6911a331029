"""Records of earlier runs of provisioning, so that a later run can use or continue them."""

import time
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from loadtest.common.files import read_valid, write_json
from loadtest.config.env_file import parse_env_file
from loadtest.config.settings import Credentials, Settings
from loadtest.errors import MintError, ProvisionError
from loadtest.state.clients import ClientStore
from loadtest.state.credentials import NEXT

PROVISION_VERSION = 1
RECORD_SECONDS = 3600
# The longest time that an import from a killed run can still take on the server.
IMPORT_SECONDS = 120.0
REPOSITORIES_FILE = "handed.json"
OWNED_FILE = "owned.json"


class RepositoryAddress(TypedDict):
    api_url: str
    repository: str


class _Data(TypedDict):
    workspace_id: str
    state: str
    since: float


_Record = TypedDict("_Record", {"for": dict[str, str | None], "verified_at": float})
_RECORD, _DATA, _TEXT = TypeAdapter(_Record), TypeAdapter(_Data), TypeAdapter(str)
_REPOSITORIES = TypeAdapter(list[RepositoryAddress])


def was_verified(settings: Settings) -> bool:
    """Return whether exactly these credentials were verified within the last hour."""
    path = settings.state_dir / "provision.json"
    if not path.exists() or NEXT in parse_env_file(settings.credentials_file):
        return False
    body = read_valid(path, PROVISION_VERSION, _RECORD, ProvisionError)
    age_seconds = time.time() - body["verified_at"]
    return 0 <= age_seconds < RECORD_SECONDS and body["for"] == build_subject(
        settings.base_url, settings.credentials
    )


def build_subject(base_url: str | None, credentials: Credentials) -> dict[str, str | None]:
    """Return what a verification is for; a reference target has no fixed origin."""
    who = {"email": credentials.email, "workspace_id": credentials.workspace_id}
    return {"base_url": base_url} | who


class DataRecord:
    """What was done with a workspace's data, so that a later run can continue a killed one."""

    def __init__(self, path: Path, workspace_id: str) -> None:
        self._path = path
        self._workspace_id = workspace_id
        self.state: str | None = None
        self._since = 0.0
        if path.exists():
            body = read_valid(path, PROVISION_VERSION, _DATA, ProvisionError)
            if body["workspace_id"] == workspace_id:
                self.state, self._since = body["state"], body["since"]

    def note(self, state: str) -> None:
        """Record `none` (made by us, empty), `attaching` or `attached`."""
        self.state, self._since = state, time.time()
        body = {"workspace_id": self._workspace_id, "state": state, "since": self._since}
        write_json(self._path, PROVISION_VERSION, body, private=True)

    def unsettled_seconds(self) -> float:
        """Return how long an import that was started may still take."""
        if self.state != "attaching":
            return 0.0
        return min(max(self._since + IMPORT_SECONDS - time.time(), 0), IMPORT_SECONDS)


def read_client_ids(state_dir: Path) -> list[str]:
    """Return the OAuth clients that mint stored; mint itself reports a damaged file."""
    try:
        remembered = ClientStore(state_dir).read().values()
    except MintError:
        return []
    return [each.client.client_id for each in remembered]


def read_repositories(settings: Settings) -> list[RepositoryAddress]:
    """Return the repositories whose secrets hold the credentials."""
    path = settings.state_dir / REPOSITORIES_FILE
    if not path.exists():
        return []
    return read_valid(path, PROVISION_VERSION, _REPOSITORIES, ProvisionError, "repositories")


def read_owner(settings: Settings) -> str | None:
    """Return the user that we made, None if the user existed before."""
    path = settings.state_dir / OWNED_FILE
    if not path.exists():
        return None
    return read_valid(path, PROVISION_VERSION, _TEXT, ProvisionError, "user")
