"""The quotas of our clients per minute: raised once per client, if the user may do that."""

from pathlib import Path

from pydantic import TypeAdapter

from loadtest.common.files import read_valid, write_json
from loadtest.errors import ProvisionError
from loadtest.target.rest_client import Accounts, SecondFactorRequiredError

QUOTA_FILE = "quota.json"
QUOTA_VERSION = 1
# The maximum that the server grants (wire contract, "quota").
MOST_REQUESTS_PER_MINUTE = 3600
_RAISED = TypeAdapter(dict[str, int])


def read_raised(state_dir: Path) -> dict[str, int]:
    """Return the quota per minute of each client whose quota was raised."""
    path = state_dir / QUOTA_FILE
    if not path.exists():
        return {}
    return read_valid(path, QUOTA_VERSION, _RAISED, ProvisionError, "raised")


def ensure_quota(accounts: Accounts, state_dir: Path, client_id: str) -> str:
    """Raise a client's quota unless `quota.json` records it; after the first call it is too late.

    `accounts` is signed in as an owner of the workspace that the client was registered with.
    Returns `made`, `already there`, or `not raised` with the server's message.
    """
    raised = read_raised(state_dir)
    if raised.get(client_id) == MOST_REQUESTS_PER_MINUTE:
        return "already there"
    try:
        refusal = accounts.raise_quota(client_id, MOST_REQUESTS_PER_MINUTE)
    except SecondFactorRequiredError as failure:
        refusal = str(failure)
    if refusal is not None:
        return f"not raised ({refusal})"
    raised[client_id] = MOST_REQUESTS_PER_MINUTE
    write_json(state_dir / QUOTA_FILE, QUOTA_VERSION, {"raised": raised}, private=True)
    return "made"
