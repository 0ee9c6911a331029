"""What our clients may do a minute: raised once per client, where its owner may."""

from pathlib import Path
from typing import Literal

from loadtest.accounts import Accounts
from loadtest.errors import ProvisionError
from loadtest.files import read_json, write_json

QUOTA_VERSION = 1
# The most that the first user's server grants (wire contract, "quota").
MOST_REQUESTS_PER_MINUTE = 3600

Raise = Literal["was there", "made", "not ours to raise"]


def ensure_quota(accounts: Accounts, state_dir: Path, client_id: str) -> Raise:
    """Raise a client's quota, unless `quota.json` says that it was; too late after its first call.

    `accounts` is signed in as an owner of the workspace that the client was registered with.
    """
    path = state_dir / "quota.json"
    raised = read_json(path, QUOTA_VERSION, ProvisionError)["raised"] if path.exists() else {}
    if raised.get(client_id) == MOST_REQUESTS_PER_MINUTE:
        return "was there"
    if not accounts.raise_quota(client_id, MOST_REQUESTS_PER_MINUTE):
        return "not ours to raise"
    raised[client_id] = MOST_REQUESTS_PER_MINUTE
    write_json(path, QUOTA_VERSION, {"raised": raised}, private=True)
    return "made"
