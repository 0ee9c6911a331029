"""Revocation: what still works is reported and kept, and an owner deletes all our clients."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.redaction import SecretStr
from loadtest.common.retry_after import RATE_WAITS_SECONDS
from loadtest.errors import MintError
from loadtest.mint.oauth.revocation import RevocationResult, count, revoke_all
from loadtest.reference.knobs import Knobs
from loadtest.reference.seeds import SeedClient
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import Bearer, bearer_path, read_bearers, write_bearers
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient
from loadtest.target.rest_client import Accounts, open_session
from tests.reference.visitor import PASSWORD, REDIRECT, Visitor

SIGN_IN = "/api/auth/sign-in/email"


@dataclass
class Minted:
    """A target, a user with a client there, and the files of a mint."""

    target: ReferenceTarget
    visitor: Visitor
    state_dir: Path

    @property
    def bearer_file(self) -> Path:
        """Return where the bearers are."""
        return bearer_path(self.state_dir)

    @property
    def clients_file(self) -> Path:
        """Return where the clients are."""
        return ClientStore(self.state_dir).path

    def mint(self, slot: int = 0, *, with_session: bool = True, **changes: Any) -> Bearer:
        """Register a client, get tokens for it, and store them, as a mint does."""
        client = self.visitor.register(signed_in=with_session, client_name="mcp-loadtest")
        return self.keep(slot, client, **changes)

    def keep(self, slot: int, client: dict[str, Any], **changes: Any) -> Bearer:
        """Get tokens for a client, and store them."""
        visitor, client_id = self.visitor, client["client_id"]
        tokens = visitor.redeem(client_id, visitor.code(client_id)).json()
        metadata = {"revocation_endpoint": f"{visitor.issuer}/oauth2/revoke"}
        remembered = StoredClient(
            client=ClientInformation.model_validate(client),
            issuer=visitor.issuer,
            refresh_token=tokens["refresh_token"],
            metadata=metadata,
            management_url=client.get("registration_client_uri"),
            management_token=client.get("registration_access_token"),
        )
        ClientStore(self.state_dir).keep(slot, remembered.model_copy(update=changes))
        bearer = self.build_bearer(tokens["access_token"], client_id=client_id)
        write_bearers(self.bearer_file, (*read_bearers(self.bearer_file), bearer))
        return bearer

    def build_bearer(self, access_token: str, via: str = "browser", **changes: Any) -> Bearer:
        """Return a bearer of the workspace, valid for an hour."""
        url = f"{self.target.api_url}/mcp/{self.visitor.workspace_id}"
        arguments: dict[str, Any] = {
            "expires_at": time.time() + 3600,
            "mcp_url": url,
            "scope": "mcp:read",
        }
        return Bearer(SecretStr(access_token), via=via, **(arguments | changes))

    @contextmanager
    def open_owner(self) -> Iterator[Accounts]:
        """Sign in as the visitor, who owns the workspace."""
        who = (self.visitor.email, SecretStr(PASSWORD), self.visitor.workspace_id)
        with open_session(self.target.api_url, *who, print) as owner:
            yield owner

    def revoke(self, **options: Any) -> dict[str, RevocationResult]:
        """Revoke; return the result of each thing."""
        results = revoke_all(self.state_dir, **options)
        assert len(results) == len({thing.what for thing in results})
        return {thing.what: thing for thing in results}


Start = Callable[..., Minted]


@pytest.fixture
def start(tmp_path: Path, new_state: Callable[[], Path]) -> Iterator[Start]:
    """Start a target with knobs; return it with a new user."""
    running: list[Minted] = []

    def build(clients: tuple[SeedClient, ...] = (), **knobs: Any) -> Minted:
        chosen = Knobs(**{"account_limits": False} | knobs)
        target = ReferenceTarget(chosen, state_dir=new_state(), clients=clients)
        target.start()
        visitor = Visitor(target, f"ada-{secrets.token_hex(4)}", demo=False)
        state = tmp_path / ".loadtest" / "staging"
        made = Minted(target, visitor, state)
        running.append(made)
        return made

    yield build
    for made in running:
        made.visitor.http.close()
        made.target.stop()


def states(results: dict[str, RevocationResult]) -> dict[str, str]:
    return {what: thing.state for what, thing in results.items()}


def test_a_bearer_that_still_works_is_kept_and_reported_with_its_expiry(start: Start) -> None:
    here = start()
    bearer = here.mint()
    results = here.revoke()
    assert states(results) == {
        "client 1's refresh token": "revoked",
        "client 1's registration": "stays",
        "bearer by browser": "stays",
    }
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(bearer.expires_at))
    said = results["bearer by browser"].describe()
    assert said == (
        f"stays: bearer by browser (the server still accepts it; it expires at {until})"
    )
    assert not results["bearer by browser"].lasts
    assert read_bearers(here.bearer_file) == (bearer,)
    (kept,) = ClientStore(here.state_dir).read().values()
    assert kept.refresh_token is None
    assert kept.client.client_id == bearer.client_id
    assert here.target.open_sessions == 0


def test_nothing_is_kept_if_the_server_revokes_everything(start: Start) -> None:
    here = start(revoked_bearers="refused", registration_management=True)
    here.mint()
    results = here.revoke()
    assert states(results) == {
        "client 1's refresh token": "revoked",
        "client 1's registration": "deleted",
        "bearer by browser": "revoked",
    }
    assert list(count(tuple(results.values()))) == ["2 revoked", "1 deleted"]
    assert here.target.clients() == []
    assert not here.bearer_file.exists()
    assert not here.clients_file.exists()
    assert here.revoke() == {}


def test_an_owner_deletes_our_clients_and_ends_all_other_sessions(start: Start) -> None:
    here = start(revoked_bearers="refused")
    here.mint(0)
    here.mint(1)
    here.visitor.register(signed_in=True, client_name="mcp-loadtest")
    here.visitor.register(signed_in=True, client_name="somebody else's")
    body = {"email": here.visitor.email, "password": PASSWORD}
    here.visitor.post(SIGN_IN, body, signed_in=False)
    results = revoke_all(here.state_dir, open_owner=here.open_owner)
    lines = [thing.describe() for thing in results]
    for number in (1, 2):
        assert f"revoked: client {number}'s refresh token" in lines
        assert f"deleted: client {number}'s registration" in lines
    assert "ended: the user's other sessions" in lines
    assert (
        "left: 1 other clients of the workspace are named mcp-loadtest "
        "(not registered from this folder)"
    ) in lines
    assert len(here.target.clients()) == 2
    assert here.target.sign_ins() == []
    assert not here.bearer_file.exists()
    assert not here.clients_file.exists()


def test_a_client_of_another_workspace_stays_and_the_message_quotes_the_server(
    start: Start,
) -> None:
    here = start()
    here.mint(with_session=False)
    results = here.revoke(open_owner=here.open_owner)
    said = results["client 1's registration"]
    assert said.state == "stays"
    assert "HTTP 404: not_found: no such client in this workspace" in said.why
    assert results["the user's other sessions"].state == "ended"


def test_an_owner_without_a_second_factor_still_ends_sessions(start: Start) -> None:
    here = start(second_factor="required")
    here.mint()
    results = here.revoke(open_owner=here.open_owner)
    assert "mfa_enrollment_required" in results["client 1's registration"].why
    assert "inv provision --enroll-totp" in results["client 1's registration"].why
    assert results["the user's other sessions"].state == "ended"


def test_the_reason_is_shown_if_the_owner_cannot_sign_in(start: Start) -> None:
    here = start()
    here.mint()

    @contextmanager
    def open_nobody() -> Iterator[Accounts]:
        who = (here.visitor.email, SecretStr("not the password"), here.visitor.workspace_id)
        with open_session(here.target.api_url, *who, print) as owner:
            yield owner

    results = here.revoke(open_owner=open_nobody)
    assert "wrong password for" in results["client 1's registration"].why
    assert results["the user's other sessions"].lasts


def test_a_rate_limit_is_waited_out(start: Start) -> None:
    here = start(token_rate_limited=1)
    here.visitor.post("/api/auth/oauth2/register", {})
    here.visitor.exchange(grant_type="authorization_code")
    here.mint()
    waited: list[float] = []
    told: list[str] = []
    results = here.revoke(tell=told.append, pause=waited.append)
    assert results["client 1's refresh token"].state == "revoked"
    assert waited == [RATE_WAITS_SECONDS[0]]
    assert "oauth2/revoke is rate limited: waiting 5 s" in told[0]


def test_without_the_server_everything_is_kept(start: Start) -> None:
    here = start()
    bearer = here.mint()
    before = here.clients_file.read_text()
    here.target.stop()
    results = here.revoke(open_owner=here.open_owner)
    assert set(states(results).values()) == {"stays"}
    assert results["client 1's refresh token"].lasts
    assert "does not answer" in results["bearer by browser"].why
    assert read_bearers(here.bearer_file) == (bearer,)
    assert here.clients_file.read_text() == before


def test_only_the_grant_of_a_given_client_is_revoked(start: Start) -> None:
    here = start(clients=(SeedClient("given", redirect_uris=(REDIRECT,)),))
    here.keep(0, {"client_id": "given", "redirect_uris": [REDIRECT]}, given=True)
    results = here.revoke(open_owner=here.open_owner)
    assert results["client 1's refresh token"].state == "revoked"
    assert results["client 1's registration"].state == "left"
    assert [client.id for client in here.target.clients()] == ["given"]
    assert not here.clients_file.exists()


@pytest.mark.parametrize("right", [True, False])
def test_a_given_client_uses_its_secret_to_revoke(start: Start, right: bool) -> None:
    secret = secrets.token_urlsafe(24)
    client = SeedClient("given", secret=secret, redirect_uris=(REDIRECT,))
    here = start(clients=(client,))
    found = {"client_id": "given", "redirect_uris": [REDIRECT]}
    visitor = here.visitor
    code = visitor.code("given")
    tokens = visitor.http.post(
        "/api/auth/oauth2/token",
        data={
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": "v" * 43,
            "redirect_uri": REDIRECT,
            "resource": visitor.resource,
        },
        auth=("given", secret),
    ).json()
    remembered = StoredClient(
        client=ClientInformation.model_validate(found),
        issuer=visitor.issuer,
        given=True,
        refresh_token=tokens["refresh_token"],
        metadata={"revocation_endpoint": f"{visitor.issuer}/oauth2/revoke"},
    )
    ClientStore(here.state_dir).keep(0, remembered)
    results = here.revoke(given_secret=SecretStr(secret if right else "another secret"))
    state = "revoked" if right else "stays"
    assert results["client 1's refresh token"].state == state
    assert here.clients_file.exists() is not right


def test_bearers_that_were_given_or_have_expired_are_not_kept(start: Start) -> None:
    here = start()
    fresh = here.visitor.mint()
    bearers = (
        here.build_bearer(fresh, "given"),
        here.build_bearer(fresh, "refresh", expires_at=time.time() - 1),
        here.build_bearer(fresh, "session"),
    )
    write_bearers(here.bearer_file, bearers)
    results = here.revoke()
    assert states(results) == {
        "bearer by given": "left",
        "bearer by refresh": "ended",
        "bearer by session": "stays",
    }
    assert read_bearers(here.bearer_file) == bearers[2:]


def test_a_damaged_file_is_an_error_and_is_kept(start: Start) -> None:
    here = start()
    here.mint()
    here.clients_file.write_text('{"version": 1, "clients": [{}]}')
    with pytest.raises(MintError, match="is damaged"):
        here.revoke()
    assert here.bearer_file.exists()
