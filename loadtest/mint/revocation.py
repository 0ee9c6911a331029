"""Undo a mint: revoke tokens (RFC 7009), delete our registrations (RFC 7592), wipe the files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2

from loadtest.errors import MintError
from loadtest.http import explain, open_client
from loadtest.mint.bearer import Bearer, read_bearers
from loadtest.mint.clients import ClientStore, Remembered
from loadtest.mint.exchange import check_secure
from loadtest.state_files import check_own, remove_known

REQUEST_SECONDS = 30.0


@dataclass(frozen=True)
class Undone:
    """One thing that mint left, and what became of it."""

    what: str
    state: Literal["revoked", "deleted", "wiped", "stays"]
    why: str = ""

    def describe(self) -> str:
        """Return one line."""
        return f"{self.state}: {self.what}{f' ({self.why})' if self.why else ''}"


def revoke_all(bearer_file: Path, clients_file: Path) -> Iterator[Undone]:
    """Undo what can be undone, saying each; files are wiped even when the server is gone.

    Tokens first, refresh before access: a server may end all of a grant with its refresh token.
    """
    check_own(bearer_file.parent)
    store = ClientStore(clients_file)
    try:
        remembered = store.read()
        bearers = read_bearers(bearer_file)
    except MintError as failure:
        remembered, bearers = {}, ()
        yield Undone("what the files held", "stays", str(failure))
    with open_client(REQUEST_SECONDS) as http:
        for slot, entry in remembered.items():
            own = [bearer for bearer in bearers if bearer.client_id == entry.client.client_id]
            yield from _revoke_client(http, slot, entry, own)
    for bearer in bearers:
        if bearer.client_id not in {entry.client.client_id for entry in remembered.values()}:
            yield Undone(f"bearer by {bearer.via}", "stays", "it ends by its own expiry")
    for path in remove_known(bearer_file.parent, (bearer_file.name, clients_file.name)):
        yield Undone(path.name, "wiped")


def _revoke_client(
    http: httpx2.Client, slot: int, entry: Remembered, bearers: list[Bearer]
) -> Iterator[Undone]:
    name = f"client {slot + 1}"
    tokens = [(f"{name}'s refresh token", "refresh_token", entry.refresh_token)] + [
        (f"{name}'s bearer", "access_token", bearer.access_token.get_secret_value())
        for bearer in bearers
    ]
    for what, hint, token in tokens:
        if token is not None:
            yield _revoke_token(http, entry, what, hint, token)
    yield _delete_registration(http, entry, f"{name}'s registration")


def _revoke_token(
    http: httpx2.Client, entry: Remembered, what: str, hint: str, token: str
) -> Undone:
    endpoint = entry.metadata.get("revocation_endpoint")
    if not isinstance(endpoint, str):
        return Undone(what, "stays", "the server revokes nothing; it ends by its own expiry")
    if entry.given:
        return Undone(what, "stays", "its client was given to us: revoke it where it was made")
    auth, members = entry.client.build_auth()
    form = {"token": token, "token_type_hint": hint, **members}
    try:
        check_secure(endpoint, "revocation", entry.mcp_url or entry.issuer or "")
        answer = http.post(endpoint, data=form, auth=auth)
    except (httpx2.HTTPError, MintError) as failure:
        return Undone(what, "stays", f"the server does not answer ({explain(failure)})")
    if answer.status_code != 200:
        return Undone(what, "stays", f"the server answers HTTP {answer.status_code}")
    return Undone(what, "revoked")


def _delete_registration(http: httpx2.Client, entry: Remembered, what: str) -> Undone:
    if entry.given:
        return Undone(what, "stays", "it was given to us")
    address, token = entry.management_url, entry.management_token
    if address is None or token is None:
        return Undone(what, "stays", "the server gives no way to delete it")
    try:
        check_secure(address, "revocation", entry.mcp_url or entry.issuer or "")
        answer = http.delete(address, headers={"Authorization": f"Bearer {token}"})
    except (httpx2.HTTPError, MintError) as failure:
        return Undone(what, "stays", f"the server does not answer ({explain(failure)})")
    if answer.status_code not in {204, 404}:
        return Undone(what, "stays", f"the server answers HTTP {answer.status_code}")
    return Undone(what, "deleted")
