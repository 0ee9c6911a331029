"""Rotate the password everywhere or nowhere: whatever fails, a known password signs in."""

from collections.abc import Callable

import pytest

from loadtest.errors import ConfigError, LoadtestError, ProvisionError
from loadtest.provision.records import was_verified
from loadtest.state.credentials import CredentialsFile
from tests.provision.gate import Side
from tests.support.github_server import REPOSITORY, GithubServer

from .conftest import Place

Make = Callable[..., Place]

CHANGE = "/api/v1/admin/me/password"
GIVEN = "a given canary password"


@pytest.fixture
def here(place: Make, github: GithubServer) -> Place:
    """A place whose credentials are stored at the loopback GitHub."""
    made = place(self_mint="not-allowlisted")  # rotating a password needs no tool calls
    made.variables |= github.variables
    made.provision(github_secrets=True)
    return made


def check_consistent(here: Place, github: GithubServer, password: str) -> None:
    """Assert that this password is the only one, everywhere."""
    assert here.password == password
    assert here.signs_in(password)
    assert github.secrets["LOADTEST_PASSWORD"] == password
    assert "LOADTEST_PASSWORD_NEXT" not in github.secrets
    assert not CredentialsFile(here.settings).read().pending


def test_a_rotation_changes_server_file_and_github(here: Place, github: GithubServer) -> None:
    old = here.password
    step = here.rotate()
    assert here.password != old
    check_consistent(here, github, here.password)
    assert not here.signs_in(old)
    assert f"GitHub secrets of {REPOSITORY}" in step.what
    assert here.password not in step.what


@pytest.mark.parametrize(
    "what",
    [
        "GET public-key",
        "PUT LOADTEST_PASSWORD_NEXT",
        "PUT LOADTEST_PASSWORD",
    ],
)
def test_if_github_refuses_the_old_password_stays_everywhere(
    here: Place, github: GithubServer, what: str
) -> None:
    old = here.password
    github.refuse(what, 403, times=1)
    with pytest.raises(ProvisionError, match=r"the old one stays|was not changed"):
        here.rotate()
    check_consistent(here, github, old)


def test_if_the_server_refuses_the_old_password_stays_everywhere(
    here: Place, github: GithubServer
) -> None:
    old = here.password
    here.gate.answer(CHANGE, 400)
    with pytest.raises(ProvisionError, match="the old password stays"):
        here.rotate()
    check_consistent(here, github, old)


def test_a_server_that_reports_a_change_without_making_it_is_detected(
    here: Place, github: GithubServer
) -> None:
    old = here.password
    here.gate.answer(CHANGE, 200)
    with pytest.raises(ProvisionError, match="the old one stays"):
        here.rotate()
    check_consistent(here, github, old)


def test_a_change_without_an_answer_is_proved_and_stored_everywhere(
    here: Place, github: GithubServer
) -> None:
    old = here.password
    here.gate.at(CHANGE, "after", lambda: False)
    here.rotate()
    assert here.password != old
    check_consistent(here, github, here.password)


def test_if_a_change_never_arrives_the_old_password_stays(
    here: Place, github: GithubServer
) -> None:
    old = here.password
    here.gate.at(CHANGE, "before", lambda: False)
    with pytest.raises(ProvisionError, match="the old one stays"):
        here.rotate()
    check_consistent(here, github, old)


def test_the_next_run_finishes_a_roll_back_that_failed(here: Place, github: GithubServer) -> None:
    old = here.password
    github.refuse("PUT LOADTEST_PASSWORD", 403)

    def refuse_from_now_on() -> bool:
        here.gate.answer(CHANGE, 500)
        return True

    here.gate.at(CHANGE, "after", refuse_from_now_on)
    with pytest.raises(ProvisionError, match="run `inv provision --verify` again"):
        here.rotate()
    assert not here.signs_in(old)
    assert not was_verified(here.settings)
    github.accept_all()
    here.provision()
    check_consistent(here, github, here.password)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "after"])
def test_the_next_run_finishes_a_rotation_killed_at_the_server(
    here: Place, github: GithubServer, side: Side
) -> None:
    old = here.password
    here.run_killed(lambda kill: here.gate.at(CHANGE, side, kill), "rotate")
    assert here.signs_in(old) is (side == "before")
    assert not was_verified(here.settings)
    here.provision()
    assert (here.password == old) is (side == "before")
    check_consistent(here, github, here.password)


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    ["PUT LOADTEST_PASSWORD_NEXT", "PUT LOADTEST_PASSWORD", "DELETE LOADTEST_PASSWORD_NEXT"],
)
def test_the_next_run_finishes_a_rotation_killed_at_github(
    here: Place, github: GithubServer, what: str
) -> None:
    here.run_killed(lambda kill: github.before(what, kill), "rotate")
    here.provision(github_secrets=True)
    check_consistent(here, github, here.password)


def test_a_rotation_without_the_token_that_it_needs_changes_nothing(
    here: Place, github: GithubServer
) -> None:
    old = here.password
    del here.variables["GITHUB_TOKEN"]
    with pytest.raises(ConfigError, match="GITHUB_TOKEN is missing"):
        here.rotate()
    check_consistent(here, github, old)


@pytest.mark.slow
def test_an_incomplete_rotation_waits_for_the_token_and_the_chain_continues(
    here: Place, github: GithubServer
) -> None:
    here.run_killed(lambda kill: github.before("PUT LOADTEST_PASSWORD", kill), "rotate")
    token = here.variables.pop("GITHUB_TOKEN")
    here.provision()
    assert any("may be out of date" in line for line in here.said)
    assert here.signs_in(here.password)
    here.variables["GITHUB_TOKEN"] = token
    here.provision()
    check_consistent(here, github, here.password)


@pytest.mark.parametrize("name", [".env", ".env.staging"])
def test_a_password_in_the_env_file_is_changed_there(place: Make, name: str) -> None:
    here = place(self_mint="not-allowlisted")
    (here.root / name).write_text(f"# mine\nLOADTEST_PASSWORD='{GIVEN}'\nSTAGES=1\n")
    here.provision()
    here.rotate()
    assert here.password != GIVEN
    assert here.signs_in(here.password)
    lines = (here.root / name).read_text().splitlines()
    assert lines == ["# mine", f"LOADTEST_PASSWORD={here.password}", "STAGES=1"]


def test_a_password_that_is_a_variable_of_the_process_is_not_rotated(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    here.variables["LOADTEST_PASSWORD"] = GIVEN
    here.provision()
    with pytest.raises(ConfigError, match="is a variable of this process"):
        here.rotate()
    assert here.signs_in(GIVEN)


def test_a_variable_that_comes_from_a_secret_is_rotated_with_it(
    place: Make, github: GithubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    here = place(self_mint="not-allowlisted")
    here.variables |= github.variables | {"GITHUB_ACTIONS": "true", "LOADTEST_PASSWORD": GIVEN}
    here.provision(github_secrets=True)
    here.rotate(github_secrets=True)
    # The rest of the job still has the old variable, but uses the new password.
    check_consistent(here, github, here.password)
    assert here.password != GIVEN
    printed = capsys.readouterr().out.splitlines()
    assert f"::add-mask::{here.password}" in printed
    assert all(line.startswith("::add-mask::") for line in printed)


def test_without_a_password_that_signs_in_nothing_is_rotated(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    with pytest.raises(LoadtestError, match="with any known password"):
        here.rotate()
    assert here.target.users() == []
