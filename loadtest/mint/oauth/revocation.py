"""Undo a mint: revoke tokens (RFC 7009), delete our clients, and try what still works.

What could not be revoked stays on disk: nothing that still works is removed there.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx2

from loadtest.common.http import explain, open_client
from loadtest.common.redaction import SecretStr
from loadtest.common.retry_after import wait_out
from loadtest.errors import ConfigError, MintError, ProvisionError
from loadtest.mint.oauth.acceptance import list_tools
from loadtest.mint.oauth.exchange import check_secure
from loadtest.mint.oauth.request import CLIENT_NAME
from loadtest.state.bearers import Bearer, bearer_path, read_bearers, write_bearers
from loadtest.state.clients import ClientStore, StoredClient
from loadtest.state.removal import check_own, remove_known
from loadtest.target.rest_client import Accounts

REQUEST_SECONDS = 30.0

OpenOwner = Callable[[], AbstractContextManager[Accounts]]


@dataclass(frozen=True)
class RevocationResult:
    """One thing that mint made, and the result of its revocation.

    `left`: it was not ours to revoke; `stays`: it could not be revoked. `lasts` is whether it is
    a credential that does not expire within hours, `refused` whether the server has an endpoint to
    revoke it, which did not do so.
    """

    what: str
    state: Literal["revoked", "deleted", "ended", "left", "stays"]
    why: str = ""
    lasts: bool = False
    refused: bool = False

    def describe(self) -> str:
        """Return one line."""
        return f"{self.state}: {self.what}{f' ({self.why})' if self.why else ''}"


def revoke_all(
    state_dir: Path,
    *,
    given_secret: SecretStr | None = None,
    open_owner: OpenOwner | None = None,
    tell: Callable[[str], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[RevocationResult, ...]:
    """Revoke what can be revoked, and keep the rest in its files.

    `given_secret` is the secret of a given client; `open_owner` signs in as an owner of the
    workspace, who may delete clients and end sessions if the server has routes for that.
    """
    check_own(state_dir)
    store, bearer_file = ClientStore(state_dir), bearer_path(state_dir)
    remembered, bearers = store.read(), read_bearers(bearer_file)
    if not remembered and not bearers:
        return ()
    with open_client(REQUEST_SECONDS) as http:
        work = _Revocation(http, given_secret, tell, pause)
        # Refresh tokens first: a server may revoke the whole grant with them.
        slots = {
            slot: work.revoke_client(f"client {slot + 1}", entry, bearers)
            for slot, entry in remembered.items()
        }
        if open_owner is not None:
            work.act_as_owner(open_owner, slots)
        for slot, entry in slots.items():
            store.keep(slot, work.close_slot(f"client {slot + 1}", entry))
        kept = tuple(bearer for bearer in bearers if not work.is_over(bearer))
    if kept:
        write_bearers(bearer_file, kept)
    gone = (*[bearer_file.name] * (not kept), *[store.path.name] * (not store.read()))
    remove_known(state_dir, gone)
    return tuple(work.results)


@dataclass
class _Revocation:
    """One revocation; `undone` grows as it goes on, `deleted` are clients that are gone.

    `refusal` is why an owner could not delete one.
    """

    http: httpx2.Client
    given_secret: SecretStr | None
    tell: Callable[[str], None]
    pause: Callable[[float], None]
    results: list[RevocationResult] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    refusal: str | None = None

    def revoke_client(
        self, name: str, entry: StoredClient, bearers: tuple[Bearer, ...]
    ) -> StoredClient:
        """Revoke a client's tokens and delete it with its own token; return what is left of it."""
        if entry.refresh_token is not None:
            what = f"{name}'s refresh token"
            refusal = self._revoke(entry, "refresh_token", entry.refresh_token)
            if refusal is None:
                entry = entry.model_copy(update={"refresh_token": None})
                self.results.append(RevocationResult(what, "revoked"))
            else:
                offered = "revocation_endpoint" in entry.metadata
                self.results.append(
                    RevocationResult(what, "stays", refusal, lasts=True, refused=offered)
                )
        for bearer in bearers:
            if bearer.client_id == entry.client.client_id and bearer.seconds_left() > 0:
                # A later request shows whether that revoked it.
                self._revoke(entry, "access_token", bearer.access_token.get_secret_value())
        if entry.management_url is not None and entry.management_token is not None:
            headers = {"Authorization": f"Bearer {entry.management_token}"}
            url = entry.management_url
            refusal = self._ask(entry, "DELETE", url, {204, 404}, headers=headers)
            if refusal is None:
                self.deleted.add(entry.client.client_id)
        return entry

    def act_as_owner(self, open_owner: OpenOwner, slots: dict[int, StoredClient]) -> None:
        """Delete our clients, with or without a session, and end all other sessions."""
        what = "the user's other sessions"
        try:
            with open_owner() as owner:
                self._delete_clients(owner, slots)
                refusal = owner.revoke_other_sessions()
        except (ConfigError, ProvisionError) as failure:
            self.refusal = self.refusal or str(failure)
            refusal = str(failure)
        if refusal is None:
            self.results.append(RevocationResult(what, "ended"))
        else:
            self.results.append(RevocationResult(what, "stays", refusal, lasts=True))

    def _delete_clients(self, owner: Accounts, slots: dict[int, StoredClient]) -> None:
        """Delete our clients of the workspace, and check the list again."""
        ours = {entry.client.client_id for entry in slots.values() if not entry.given}
        try:
            for client_id in ours - self.deleted:
                refusal = owner.revoke_client(client_id)
                self.refusal = self.refusal or refusal
                if refusal is None:
                    self.deleted.add(client_id)
            listed = owner.list_clients()
        except ProvisionError as failure:
            self.refusal = self.refusal or str(failure)
            return
        self.deleted -= listed.keys()
        others = [each for each, name in listed.items() if name == CLIENT_NAME and each not in ours]
        if others:
            what = f"{len(others)} other clients of the workspace are named {CLIENT_NAME}"
            self.results.append(RevocationResult(what, "left", "not registered from this folder"))

    def close_slot(self, name: str, entry: StoredClient) -> StoredClient | None:
        """Record the result of a client; return what must stay stored of it."""
        what = f"{name}'s registration"
        if entry.client.client_id in self.deleted:
            self.results.append(RevocationResult(what, "deleted"))
            return None
        if entry.given:
            self.results.append(RevocationResult(what, "left", "it was given to us"))
            return entry if entry.refresh_token else None
        why = f"{self.refusal or 'we are not allowed to delete it'}; the next mint uses it again"
        lasts = entry.client.client_secret is not None
        offered = entry.management_url is not None
        self.results.append(RevocationResult(what, "stays", why, lasts=lasts, refused=offered))
        return entry

    def is_over(self, bearer: Bearer) -> bool:
        """Try a bearer once; return whether it need not be kept."""
        what = f"bearer by {bearer.via}"
        if bearer.via == "given":
            self.results.append(RevocationResult(what, "left", "it was given to us"))
            return True
        if bearer.seconds_left() <= 0:
            self.results.append(RevocationResult(what, "ended", "it has expired"))
            return True
        until = datetime.fromtimestamp(bearer.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        try:
            status = self._wait_out(
                bearer.mcp_url,
                lambda: list_tools(bearer.mcp_url, bearer.access_token, self.http),
            ).status_code
        except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
            why = f"not tried: {bearer.mcp_url} does not answer ({explain(failure)})"
        else:
            if status == 401:
                self.results.append(RevocationResult(what, "revoked"))
                return True
            works = status < 300
            why = "the server still accepts it" if works else f"it was answered with HTTP {status}"
        self.results.append(RevocationResult(what, "stays", f"{why}; it expires at {until}"))
        return False

    def _revoke(self, entry: StoredClient, hint: str, token: str) -> str | None:
        """Revoke a token (RFC 7009, section 2.1); return why not."""
        endpoint = entry.metadata.get("revocation_endpoint")
        if not isinstance(endpoint, str):
            return "the server has no revocation endpoint; it expires on its own"
        secret = self.given_secret.get_secret_value() if self.given_secret else None
        auth, members = entry.client.build_auth(secret if entry.given else None)
        form = {"token": token, "token_type_hint": hint, **members}
        return self._ask(entry, "POST", endpoint, {200}, data=form, auth=auth)

    def _ask(
        self, entry: StoredClient, method: str, url: str, wanted: set[int], **given: Any
    ) -> str | None:
        """Send a request and wait out rate limits; return why the response is not a wanted one."""
        try:
            check_secure(url, "revocation", entry.mcp_url or entry.issuer or "")
            answer = self._wait_out(url, lambda: self.http.request(method, url, **given))
        except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
            return f"the server does not answer ({explain(failure)})"
        except MintError as failure:
            return str(failure)
        return None if answer.status_code in wanted else f"HTTP {answer.status_code}"

    def _wait_out(self, what: str, ask: Callable[[], httpx2.Response]) -> httpx2.Response:
        return wait_out(ask, what, self.tell, self.pause)


def count(results: tuple[RevocationResult, ...]) -> Iterator[str]:
    """Yield the number of things for each result."""
    for state in ("revoked", "deleted", "ended", "left", "stays"):
        found = sum(thing.state == state for thing in results)
        if found:
            yield f"{found} {state}"
