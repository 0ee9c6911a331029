"""Teardown: what it removes, what it cannot remove, and what it must not remove."""

from collections.abc import Callable

import pytest
from filelock import FileLock
from sqlalchemy import delete

from loadtest.errors import ProvisionError, TargetError
from loadtest.reference.accounts import Entity, Member, SignIn, User, Workspace
from loadtest.reference.seeds import SeedUser
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient
from tests.support.github_server import REPOSITORY, GithubServer

from .conftest import EMAIL, Place

Make = Callable[..., Place]

LOCAL = "local files of environment staging"


def delete_all(here: Place, *kinds: type) -> None:
    """Delete rows in the target's database, for which it has no endpoint."""
    with here.target._deployment.store.begin() as db:
        for kind in kinds:
            db.execute(delete(kind))


def test_what_the_server_cannot_remove_is_listed_and_its_credentials_stay(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    workspace_id = here.provision().credentials.workspace_id
    password = here.password
    done = here.teardown()
    assert done[f"workspace {workspace_id} with its data"].startswith("cannot be removed (HTTP 404")
    assert done[f"user {EMAIL}"].startswith("cannot be removed (HTTP 404")
    assert done[LOCAL] == "removed"
    # The password of a user that stays is not lost.
    assert done[".loadtest/staging/credentials.env"] == "kept (its content still works)"
    assert here.password == password
    assert here.signs_in(password)
    assert sorted(path.name for path in here.settings.state_dir.iterdir()) == [
        "credentials.env",
        "owned.json",
    ]
    # What is kept is enough to try again.
    assert here.teardown()[f"user {EMAIL}"].startswith("cannot be removed (HTTP 404")


def test_user_and_workspace_are_removed_if_the_server_has_the_endpoints(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    workspace_id = here.provision().credentials.workspace_id
    here.gate.answer(
        "/api/auth/organization/delete", 200, lambda: delete_all(here, Entity, Member, Workspace)
    )
    here.gate.answer("/api/auth/delete-user", 200, lambda: delete_all(here, SignIn, User))
    done = here.teardown()
    assert done[f"workspace {workspace_id} with its data"] == "removed"
    assert done[f"user {EMAIL}"] == "removed"
    assert here.target.users() == []


def test_a_server_that_reports_a_removal_without_making_it_is_detected(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    here.provision()
    here.gate.answer("/api/auth/organization/delete", 200)
    here.gate.answer("/api/auth/delete-user", 200)
    done = here.teardown()
    claims = [state for what, state in done.items() if what.startswith(("user", "workspace"))]
    assert all("but it still" in state for state in claims)


def test_a_user_and_a_workspace_that_existed_before_are_not_removed(place: Make) -> None:
    password = "a given canary password"
    seed = SeedUser(EMAIL, password, must_change_password=False, workspace="seeded")
    here = place(users=[seed])
    here.variables |= {
        "LOADTEST_PASSWORD": password,
        "LOADTEST_WORKSPACE_ID": here.target.workspaces()[0].id,
    }
    here.provision()
    done = here.teardown()
    assert [state for what, state in done.items() if what != LOCAL] == ["left (not made by us)"] * 2
    assert not any("delete" in path for path in here.gate.passed)


def test_github_secrets_are_removed_with_the_token(place: Make, github: GithubServer) -> None:
    here = place(self_mint="not-allowlisted")
    here.variables |= github.variables
    here.provision(github_secrets=True)
    github.secrets["SOMEBODY_ELSES"] = "stays"
    assert here.teardown()[f"GitHub secrets of {REPOSITORY}"] == "removed"
    assert github.secrets == {"SOMEBODY_ELSES": "stays"}


def test_without_the_token_github_secrets_are_listed(place: Make, github: GithubServer) -> None:
    here = place(self_mint="not-allowlisted")
    here.variables |= github.variables
    here.provision(github_secrets=True)
    del here.variables["GITHUB_TOKEN"]
    state = here.teardown()[f"GitHub secrets of {REPOSITORY}"]
    assert state.startswith("cannot be removed")
    assert "GITHUB_TOKEN is missing" in state


@pytest.mark.slow
def test_the_embedded_target_is_removed_with_its_state(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    state = here.root / ".loadtest" / "local"
    (state / "target").mkdir(parents=True)
    (state / "credentials.env").touch(0o600)
    with FileLock(state / "target" / "lock"):
        code, _, err = here.run("--teardown", env="local")
        assert code == TargetError.exit_code
        assert "is in use by a running target" in err
    code, out, err = here.run("--teardown", env="local")
    assert (code, err) == (0, "")
    assert "removed: local files of environment local" in out
    assert not state.exists()


@pytest.mark.slow
def test_teardown_cannot_be_combined_with_another_option(place: Make) -> None:
    code, _, err = place().run("--teardown", "--rotate")
    assert code == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("path", ["/api/auth/sign-in/email"])
def test_without_a_known_password_teardown_does_not_sign_in(place: Make, path: str) -> None:
    here = place(self_mint="not-allowlisted")
    done = here.teardown()
    assert any("no known password works" in state for state in done.values())
    assert path not in here.gate.passed


@pytest.mark.slow
def test_teardown_first_revokes_what_mint_left(place: Make) -> None:
    here = place()
    here.provision()
    remembered = StoredClient(client=ClientInformation(client_id="a-client"), refresh_token="r")
    ClientStore(here.settings.state_dir).keep(0, remembered)
    code, out, err = here.run("--teardown")
    assert code == ProvisionError.exit_code
    assert "stays: client 1's refresh token" in out
    assert "stays: client 1's registration" in out
    assert "ended: the user's other sessions" in out
    assert f"not removed: user {EMAIL} (see above); credentials that still work are kept in" in err
    kept = {path.name for path in here.settings.state_dir.iterdir()}
    assert kept == {"clients.json", "credentials.env", "owned.json"}


def test_a_password_that_we_gave_a_user_of_others_is_kept(place: Make) -> None:
    here = place(users=[SeedUser(EMAIL, "an old canary password", workspace="seeded")])
    here.variables["LOADTEST_PASSWORD"] = "an old canary password"
    here.provision()
    password = here.password
    assert here.teardown()[f"user {EMAIL}"] == "left (not made by us)"
    assert here.password == password
    assert here.signs_in(password)


def test_the_password_of_a_user_who_cannot_sign_in_yet_is_kept(place: Make) -> None:
    here = place(email_verification=True, self_mint="not-allowlisted")
    with pytest.raises(ProvisionError, match="open the link"):
        here.provision()
    password = here.password
    state = here.teardown()[f"user {EMAIL} and its workspaces"]
    assert "open the link that was mailed" in state
    assert here.password == password
