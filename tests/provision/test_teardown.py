"""What is removed, what cannot be, and what is not ours to remove."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from github_server import REPOSITORY, GithubServer
from sqlalchemy import delete

from loadtest.config import CONFIG_FILE
from loadtest.errors import TargetError
from loadtest.files import write_json
from loadtest.reference.accounts import Entity, Member, SignIn, User, Workspace
from loadtest.reference.seeds import SeedUser

from .conftest import EMAIL, Place

Make = Callable[..., Place]

LOCAL = "local files of environment staging"


def delete_all(here: Place, *kinds: type) -> None:
    """Do on the target what it has no endpoint for."""
    with here.target._deployment.store.begin() as db:
        for kind in kinds:
            db.execute(delete(kind))


def test_what_the_server_cannot_remove_is_listed_and_local_files_go(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    workspace_id = here.provision().credentials.workspace_id
    clients = [{"client": {"client_id": "a-client"}}]
    write_json(here.settings.state_dir / "clients.json", 1, {"clients": clients}, private=True)
    done = here.teardown()
    assert done[f"workspace {workspace_id} with its data"].startswith("cannot be removed (HTTP 404")
    assert done[f"user {EMAIL}"].startswith("cannot be removed (HTTP 404")
    assert done["OAuth client a-client"].startswith("cannot be removed")
    assert done[LOCAL] == "removed"
    assert not here.settings.state_dir.exists()


def test_where_the_server_has_the_endpoints_user_and_workspace_are_removed(place: Make) -> None:
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


def test_a_server_that_only_says_that_it_removed_is_found_out(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    here.provision()
    here.gate.answer("/api/auth/organization/delete", 200)
    here.gate.answer("/api/auth/delete-user", 200)
    done = here.teardown()
    assert all("yet it" in state for what, state in done.items() if what != LOCAL)


def test_a_user_and_a_workspace_that_were_there_before_us_are_left(place: Make) -> None:
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


def test_github_secrets_go_where_the_token_is_there(place: Make, github: GithubServer) -> None:
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


def test_the_embedded_target_goes_with_its_state(place: Make) -> None:
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


def test_teardown_goes_with_no_other_option(place: Make) -> None:
    code, _, err = place().run("--teardown", "--rotate")
    assert code == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("path", ["/api/auth/sign-in/email"])
def test_without_a_known_password_nothing_is_claimed(place: Make, path: str) -> None:
    here = place(self_mint="not-allowlisted")
    done = here.teardown()
    assert any("no known password signs in" in state for state in done.values())
    assert path not in here.gate.passed


def test_teardown_first_undoes_what_mint_left(place: Make) -> None:
    here = place()
    here.provision()
    clients = [{"slot": 0, "client": {"client_id": "a-client"}, "refresh_token": "r"}]
    write_json(here.settings.state_dir / "clients.json", 1, {"clients": clients}, private=True)
    code, out, err = here.run("--teardown")
    assert (code, err) == (0, "")
    assert "stays: client 1's refresh token" in out
    assert "stays: client 1's registration" in out
    assert not here.settings.state_dir.exists()


def list_all(folder: Path) -> dict[str, str | None]:
    """Return every file below a folder with its content, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != "provision.lock"
    }


@pytest.mark.parametrize("address", ["https://../mcp", "https://runs/mcp", "https://staging/mcp"])
@pytest.mark.parametrize("options", [(), ("--env", "staging")])
def test_a_typed_address_removes_nothing_of_anybody_else(
    place: Make, address: str, options: tuple[str, ...]
) -> None:
    here = place()
    for name in ("staging/credentials.env", "runs/a-run/run.json", "browser.json"):
        path = here.root / ".loadtest" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    before = list_all(here.root / ".loadtest")
    command = [sys.executable, "-m", "invoke", "provision", "--teardown", "--mcp-url", address]
    with here.start([*command, *options]) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode in {0, 10, 11}, err
    assert (here.root / CONFIG_FILE).exists()
    after = list_all(here.root / ".loadtest")
    assert before.items() <= after.items()
    assert all(name.startswith("url-") for name in after.keys() - before.keys())


def test_what_is_not_ours_stays_and_is_named(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    here.provision()
    state = here.settings.state_dir
    mine = (state / "notes.txt", state / "failures" / "deep" / "picture.png")
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (state / "failures" / "20260101T000000Z-sign-in.txt").write_text("ours")
    (state / ".bearer.json.ab12cd_x").write_text("of a process that was killed as it wrote")
    done = here.teardown()
    assert done[".loadtest/staging/notes.txt"] == "left (not made by us)"
    assert done[".loadtest/staging/failures"] == "left (not made by us)"
    assert {path for path in state.rglob("*") if path.is_file()} == set(mine)


def test_nothing_is_removed_through_a_link(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    here.provision()
    state, elsewhere = here.settings.state_dir, here.root / "elsewhere"
    elsewhere.mkdir()
    for name in ("a.txt", "a.png", "clients.json"):
        (elsewhere / name).write_text("not yours")
    (state / "failures").symlink_to(elsewhere)
    (state / "quota.json").symlink_to(elsewhere / "clients.json")
    before = list_all(elsewhere)
    assert here.teardown()[".loadtest/staging/failures"] == "left (not made by us)"
    assert list_all(elsewhere) == before
    assert [path.name for path in state.iterdir()] == ["failures"]


@pytest.mark.parametrize("link", [".loadtest", ".loadtest/local"])
@pytest.mark.parametrize("task", [("provision", "--teardown"), ("revoke",)])
def test_a_state_folder_that_lies_elsewhere_is_left_whole(
    place: Make, link: str, task: tuple[str, ...]
) -> None:
    here = place()
    elsewhere = here.root / "elsewhere"
    inside = elsewhere / "local" if link == ".loadtest" else elsewhere
    inside.mkdir(parents=True)
    for name in ("bearer.json", "credentials.env"):
        (inside / name).write_text("")
        (inside / name).chmod(0o600)
    (here.root / link).parent.mkdir(exist_ok=True)
    (here.root / link).symlink_to(elsewhere)
    with here.start([sys.executable, "-m", "invoke", *task]) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 10, err
    assert "is reached by a link" in err
    assert {"bearer.json", "credentials.env"} <= {path.name for path in inside.iterdir()}
