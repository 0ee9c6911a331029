"""Store the credentials in GitHub Actions secrets; print them."""

from collections.abc import Callable

import pytest

from loadtest.errors import LoadtestError, ProvisionError, UsageError
from loadtest.reference.seeds import SeedUser
from tests.support.github_server import REPOSITORY, TOKEN, GithubServer

from .conftest import EMAIL, Place

Make = Callable[..., Place]

NAMES = {"LOADTEST_BASE_URL", "LOADTEST_EMAIL", "LOADTEST_PASSWORD", "LOADTEST_WORKSPACE_ID"}


@pytest.fixture
def here(place: Make, github: GithubServer) -> Place:
    """A place whose variables name the loopback GitHub."""
    made = place(self_mint="not-allowlisted")  # storing secrets needs no tool calls
    made.variables |= github.variables
    return made


def refuse(here: Place) -> str:
    with pytest.raises(LoadtestError) as caught:
        here.provision(github_secrets=True)
    message = str(caught.value)
    assert "\n" not in message
    assert TOKEN not in message
    return message


def test_the_four_credentials_arrive_encrypted_under_their_names(
    here: Place, github: GithubServer
) -> None:
    done = here.provision(github_secrets=True)
    assert github.secrets == {
        "LOADTEST_BASE_URL": here.gate.url,
        "LOADTEST_EMAIL": EMAIL,
        "LOADTEST_PASSWORD": here.password,
        "LOADTEST_WORKSPACE_ID": done.credentials.workspace_id,
    }
    assert done.steps[-1].state == "made"
    assert done.steps[-1].what.startswith(f"GitHub secrets of {REPOSITORY}")
    again = here.provision(github_secrets=True)
    assert again.steps[-1].state == "already there, written again"


def test_an_invented_password_is_stored_at_github_before_the_user_is_made(
    here: Place, github: GithubServer
) -> None:
    here.gate.at("/api/auth/sign-up/email", "before", lambda: False)
    with pytest.raises(ProvisionError, match="does not answer"):
        here.provision(github_secrets=True)
    assert github.secrets == {"LOADTEST_PASSWORD_NEXT": here.password}
    here.provision(github_secrets=True)
    assert set(github.secrets) == NAMES


def test_a_ci_runner_that_lost_its_disk_continues_with_the_next_password(
    here: Place, github: GithubServer
) -> None:
    here.variables["GITHUB_ACTIONS"] = "true"
    here.gate.at("/api/auth/sign-up/email", "after", lambda: False)
    with pytest.raises(ProvisionError, match="does not answer"):
        here.provision(github_secrets=True)
    here.settings.credentials_file.unlink()
    here.variables["LOADTEST_PASSWORD_NEXT"] = github.secrets["LOADTEST_PASSWORD_NEXT"]
    here.provision(github_secrets=True)
    assert here.signs_in(github.secrets["LOADTEST_PASSWORD"])
    assert set(github.secrets) == NAMES


def test_a_valid_secret_is_not_overwritten_by_a_password_that_no_user_got(
    place: Make, github: GithubServer
) -> None:
    here = place(users=[SeedUser(EMAIL, "an old canary password")])
    here.variables |= github.variables
    github.secrets["LOADTEST_PASSWORD"] = "an old canary password"
    assert "already has an account" in refuse(here)
    assert github.secrets == {"LOADTEST_PASSWORD": "an old canary password"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"GITHUB_TOKEN": "a wrong one"}, "HTTP 401: GITHUB_TOKEN is wrong or has expired"),
        ({"GITHUB_REPOSITORY": "octo/other"}, "HTTP 404: GITHUB_REPOSITORY does not exist"),
        ({"GITHUB_REPOSITORY": "loadtest"}, "GITHUB_REPOSITORY is not of the form owner/name"),
        ({"GITHUB_TOKEN": ""}, "GITHUB_TOKEN is missing"),
        ({"GITHUB_REPOSITORY": ""}, "GITHUB_REPOSITORY is missing"),
        ({"GITHUB_API_URL": "http://api.example.com"}, "GITHUB_API_URL must be https"),
    ],
)
def test_a_wrong_variable_is_one_line_and_nothing_is_made(
    here: Place, change: dict[str, str], message: str
) -> None:
    here.variables |= change
    assert message in refuse(here)
    assert here.target.users() == []


def test_a_github_that_does_not_answer_is_one_line(here: Place) -> None:
    # Port 9 (discard) is privileged: no test server can listen on it.
    here.variables["GITHUB_API_URL"] = "http://127.0.0.1:9"
    assert "http://127.0.0.1:9 does not answer" in refuse(here)
    assert here.waited == [1, 5, 20]


@pytest.mark.parametrize("what", ["GET secrets", "GET public-key"])
def test_an_address_that_is_not_github_is_one_line(
    here: Place, github: GithubServer, what: str
) -> None:
    github.refuse(what, 200)
    assert "does not answer as GitHub does" in refuse(here)
    assert here.target.users() == []


@pytest.mark.parametrize("what", ["GET secrets", "GET public-key", "PUT LOADTEST_PASSWORD_NEXT"])
def test_the_message_names_the_permission_that_a_token_lacks(
    here: Place, github: GithubServer, what: str
) -> None:
    github.refuse(what, 403)
    message = refuse(here)
    assert "HTTP 403: GITHUB_TOKEN may not write them" in message
    assert "'Secrets: read and write'" in message
    assert here.target.users() == []
    github.accept_all()
    here.provision(github_secrets=True)
    assert here.signs_in(github.secrets["LOADTEST_PASSWORD"])


def test_a_short_outage_is_waited_out(here: Place, github: GithubServer) -> None:
    github.refuse("PUT LOADTEST_PASSWORD", 502, times=1)
    github.refuse("PUT LOADTEST_EMAIL", 403, times=1, retry_after="7")
    here.provision(github_secrets=True)
    assert set(github.secrets) == NAMES
    assert here.waited == [7, 1]


def test_a_rate_limit_that_does_not_end_is_distinguished_from_a_missing_permission(
    here: Place, github: GithubServer
) -> None:
    github.refuse("GET secrets", 403, x_ratelimit_remaining="0")
    assert "rate limit is used up" in refuse(here)


@pytest.mark.slow
def test_the_embedded_target_has_no_github_secrets(here: Place) -> None:
    code, _, err = here.run("--github-secrets", env="local")
    assert code == UsageError.exit_code
    assert "--github-secrets is for hosted environments" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_printing_credentials_outside_a_terminal_warns(here: Place) -> None:
    here.provision()
    code, out, err = here.run("--print")
    assert code == 0
    assert f"LOADTEST_PASSWORD={here.password}\n" in out
    assert f"LOADTEST_BASE_URL={here.gate.url}\n" in out
    assert err.splitlines() == ["warning: printing a password, and not to a terminal"]
    code, out, err = here.run()
    assert (code, err) == (0, "")
    assert here.password not in out
