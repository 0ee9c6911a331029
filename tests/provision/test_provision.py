"""User, workspace, data, quota and tools are made once, even if a run was killed between."""

import stat
from collections.abc import Callable

import pytest

from loadtest.common.redaction import SecretStr
from loadtest.common.retry_after import RATE_WAITS_SECONDS
from loadtest.config.loading import load_settings
from loadtest.errors import ConfigError, ProvisionError
from loadtest.provision.records import was_verified
from loadtest.reference.seeds import SeedUser
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient
from loadtest.target.mcp_client import QUOTA_WAITS
from loadtest.target.rest_client import Accounts, open_session
from tests.provision.gate import Side
from tests.support.waiting import HANG_SECONDS

from .conftest import EMAIL, Place, states

Make = Callable[..., Place]

OLD = "an old canary password"
ALL_MADE = {"user": "made", "workspace": "made", "NovaMart": "made", "listEntities,": "answered"}
ALL_THERE = {
    "user": "already there",
    "workspace": "already there",
    "NovaMart": "already there",
    "listEntities,": "answered",
}


def test_a_second_run_makes_nothing(place: Make) -> None:
    here = place()
    assert states(here.provision()) == ALL_MADE
    assert was_verified(here.settings)
    assert states(here.provision()) == ALL_THERE
    assert here.count_entities() == 13
    assert stat.S_IMODE(here.settings.credentials_file.stat().st_mode) == 0o600
    assert here.signs_in(here.password)


def test_provision_leaves_no_session_open(place: Make) -> None:
    here = place()
    here.provision()
    assert here.gate.passed[-1] == "/api/auth/sign-out"
    assert here.target.open_sessions == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "side"),
    [
        ("/api/auth/sign-up/email", "before"),
        ("/api/auth/sign-up/email", "after"),
        ("/api/auth/organization/create", "after"),
        ("/api/v1/onboarding/use-demo", "before"),
        ("/api/v1/onboarding/use-demo", "after"),
    ],
)
def test_the_next_run_continues_a_killed_one(place: Make, path: str, side: Side) -> None:
    here = place()
    here.run_killed(lambda kill: here.gate.at(path, side, kill))
    password = here.password
    here.provision()
    assert here.password == password
    assert len(here.target.users()) == len(here.target.workspaces()) == 1
    assert here.count_entities() == 13
    assert states(here.provision()) == ALL_THERE


@pytest.mark.slow
def test_an_import_that_a_killed_run_started_is_waited_for(place: Make) -> None:
    here = place()
    here.run_killed(lambda kill: here.gate.at("/api/v1/onboarding/use-demo", "before", kill))

    def pause(_: float) -> None:
        settings = here.settings
        assert settings.credentials.password is not None
        who = (EMAIL, settings.credentials.password, settings.credentials.workspace_id)
        with open_session(here.target.api_url, *who, print) as accounts:
            accounts.attach_data()

    here.pause = pause
    assert states(here.provision())["NovaMart"] == "already there"
    assert here.count_entities() == 13


def test_an_attach_without_an_answer_is_checked_and_not_repeated(place: Make) -> None:
    here = place()
    here.gate.at("/api/v1/onboarding/use-demo", "after", lambda: False)
    assert states(here.provision())["NovaMart"] == "made"
    assert here.count_entities() == 13
    assert any("checking whether the data is attached" in line for line in here.said)


@pytest.mark.slow
def test_two_runs_that_race_attach_the_data_once(place: Make) -> None:
    here = place()
    second = []

    def hold() -> bool:
        process = here.inv()
        second.append(process)
        assert process.stdout is not None
        assert any("another process is provisioning" in line for line in process.stdout)
        return True

    here.gate.at("/api/v1/onboarding/use-demo", "before", hold)
    code, out, err = here.run()
    assert code == 0, err
    assert "made: NovaMart data (13 entities)" in out
    with second[0] as process:
        out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, err
    assert "already there: NovaMart data (13 entities)" in out
    assert here.count_entities() == 13


def test_data_that_others_attached_twice_is_an_error(place: Make) -> None:
    here = place()
    here.provision()
    settings = here.settings
    assert settings.credentials.password is not None
    with open_session(
        here.target.api_url, EMAIL, settings.credentials.password, None, print
    ) as accounts:
        accounts.attach_data()
    with pytest.raises(ProvisionError, match="attached more than once"):
        here.provision()


def test_without_self_mint_the_data_is_attached_once_and_remembered(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    assert states(here.provision())["NovaMart"] == "made"
    assert states(here.provision())["NovaMart"] == "already there"
    assert here.count_entities() == 13


def test_without_self_mint_a_workspace_of_unknown_content_is_not_changed(place: Make) -> None:
    seed = SeedUser(EMAIL, OLD, must_change_password=False, workspace="seeded")
    here = place(self_mint="not-allowlisted", users=[seed])
    here.variables |= {
        "LOADTEST_PASSWORD": OLD,
        "LOADTEST_WORKSPACE_ID": here.target.workspaces()[0].id,
    }
    assert states(here.provision())["NovaMart"] == "not checked"
    assert here.count_entities() == 13
    assert not was_verified(here.settings)


def test_without_self_mint_a_given_bearer_reads_the_data(place: Make, data_file: object) -> None:
    del data_file
    here = place()
    here.provision()
    (here.settings.state_dir / "data.json").unlink()
    settings = here.settings
    who = settings.credentials
    assert who.password is not None
    with open_session(here.target.api_url, EMAIL, who.password, None, print) as accounts:
        bearer = accounts.mint_short_bearer()
    here.gate.answer("/api/v1/me/load-test/mcp-token", 404)
    assert states(here.provision(bearer=bearer)) == ALL_THERE


def test_a_user_whom_an_administrator_made_gets_a_new_password(place: Make) -> None:
    here = place(users=[SeedUser(EMAIL, OLD, workspace="seeded")])
    here.variables |= {
        "LOADTEST_PASSWORD": OLD,
        "LOADTEST_WORKSPACE_ID": here.target.workspaces()[0].id,
    }
    done = states(here.provision())
    assert done == ALL_THERE | {"new": "made"}
    # The variable still holds the old password, which is no longer used.
    assert here.password != OLD
    assert here.signs_in(here.password)
    assert not here.signs_in(OLD)
    assert states(here.provision()) == ALL_THERE
    assert any("value of LOADTEST_PASSWORD no longer signs in" in line for line in here.said)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "after"])
def test_no_password_is_lost_when_a_run_is_killed_in_a_demanded_change(
    place: Make, side: Side
) -> None:
    here = place(users=[SeedUser(EMAIL, OLD, workspace="seeded")])
    here.variables |= {
        "LOADTEST_PASSWORD": OLD,
        "LOADTEST_WORKSPACE_ID": here.target.workspaces()[0].id,
    }
    path = "/api/v1/admin/me/password"
    here.run_killed(lambda kill: here.gate.at(path, side, kill))
    assert here.signs_in(OLD) is (side == "before")
    here.provision()
    assert here.password != OLD
    assert here.signs_in(here.password)
    assert "LOADTEST_PASSWORD_NEXT" not in here.settings.credentials_file.read_text()


def test_a_change_without_an_answer_is_proved_by_a_sign_in(place: Make) -> None:
    here = place(users=[SeedUser(EMAIL, OLD)])
    here.variables["LOADTEST_PASSWORD"] = OLD
    here.gate.at("/api/v1/admin/me/password", "after", lambda: False)
    here.provision()
    assert here.signs_in(here.password)


def test_a_ci_runner_whose_disk_is_deleted_invents_no_password(place: Make) -> None:
    here = place(users=[SeedUser(EMAIL, OLD)])
    here.variables |= {"GITHUB_ACTIONS": "true", "LOADTEST_PASSWORD": OLD}
    with pytest.raises(ConfigError, match="add --github-secrets"):
        here.provision()
    assert here.signs_in(OLD)
    here.variables["LOADTEST_EMAIL"] = "new@example.com"
    del here.variables["LOADTEST_PASSWORD"]
    with pytest.raises(ConfigError, match="add --github-secrets"):
        here.provision()
    assert len(here.target.users()) == 1


def test_a_wrong_password_is_an_error_and_changes_nothing(place: Make) -> None:
    here = place(users=[SeedUser(EMAIL, OLD)])
    here.variables["LOADTEST_PASSWORD"] = "another canary password"
    with pytest.raises(ProvisionError, match="wrong password for") as caught:
        here.provision()
    assert "canary" not in str(caught.value)


def test_a_password_invented_for_somebody_elses_account_is_not_kept(place: Make) -> None:
    here = place(users=[SeedUser(EMAIL, OLD)])
    with pytest.raises(ProvisionError, match="already has an account"):
        here.provision()
    assert here.settings.credentials.password is None


def test_another_users_credentials_are_set_aside_and_restored(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    here.provision()
    first = here.password
    here.variables["LOADTEST_EMAIL"] = "other@example.com"
    assert states(here.provision())["user"] == "made"
    assert here.password != first
    here.variables["LOADTEST_EMAIL"] = EMAIL
    assert states(here.provision())["user"] == "already there"
    assert here.password == first


def test_the_quota_of_a_client_registered_with_the_session_is_raised(place: Make) -> None:
    here = place(self_mint="not-allowlisted")
    here.provision()
    settings = here.settings
    assert settings.credentials.password is not None
    metadata = {
        "client_name": "tests",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    endpoint = f"{here.gate.url}/api/auth/oauth2/register"
    who = (EMAIL, settings.credentials.password, settings.credentials.workspace_id)
    with open_session(here.gate.url, *who, print) as accounts:
        ours = accounts.register_client_with_session(endpoint, metadata)
    with Accounts(here.gate.url, print) as nobody:
        foreign = nobody.register_client_with_session(endpoint, metadata)
    for slot, each in enumerate((ours, foreign)):
        remembered = StoredClient(client=ClientInformation(client_id=each["client_id"]))
        ClientStore(settings.state_dir).keep(slot, remembered)

    def read_quota_steps() -> list[str]:
        return [step.state for step in here.provision().steps if step.what.startswith("quota")]

    foreign_refusal = "not raised (HTTP 404: not_found: no such client in this workspace)"
    assert read_quota_steps() == ["made", foreign_refusal]
    assert read_quota_steps() == ["already there", foreign_refusal]
    quotas = {client.id: client.requests_per_minute for client in here.target.clients()}
    assert quotas == {ours["client_id"]: 3600, foreign["client_id"]: None}


def test_the_session_is_never_sent_to_a_registration_endpoint_elsewhere(place: Make) -> None:
    here = place()
    with (
        Accounts(here.gate.url, print) as accounts,
        pytest.raises(ProvisionError, match="not at the target"),
    ):
        accounts.register_client_with_session("https://elsewhere.example/register", {})


def test_a_quota_that_is_too_small_is_waited_for_twice_and_then_an_error(place: Make) -> None:
    here = place(quota_units=4)
    with pytest.raises(ProvisionError, match=r"is rate limited .* the quota of this client"):
        here.provision()
    assert len(here.waited) >= QUOTA_WAITS
    assert max(here.waited) <= 61
    # Data and user exist: the next run does not make them again.
    assert here.count_entities() == 13


def test_a_quota_used_up_by_others_is_waited_out(place: Make) -> None:
    now = [1_800_000_000.0]
    here = place(quota_units=10, clock=lambda: now[0])

    def pause(seconds: float) -> None:
        now[0] += seconds

    here.pause = pause
    assert states(here.provision()) == ALL_MADE
    assert any("is over the quota: waiting" in line for line in here.said)


def test_account_limits_without_a_usable_retry_after_are_waited_out(place: Make) -> None:
    now = [1_800_000_000.0]
    here = place(account_limits=True, clock=lambda: now[0])

    def pause(seconds: float) -> None:
        here.waited.append(seconds)
        now[0] += seconds

    here.pause = pause
    with Accounts(here.gate.url, here.said.append, pause=here.pause) as accounts:
        for number in range(6):
            assert accounts.sign_up(f"user{number}@example.com", SecretStr(OLD))
    assert here.waited == list(RATE_WAITS_SECONDS)[: len(here.waited)]
    assert sum(here.waited) >= 60


def test_a_limit_that_never_ends_is_an_error_in_one_line(place: Make) -> None:
    here = place()
    here.gate.answer("/api/auth/sign-in/email", 429)
    here.variables["LOADTEST_PASSWORD"] = OLD
    with pytest.raises(ProvisionError, match=r"sign-in of \S+ failed: HTTP 429"):
        here.provision()
    assert here.waited == list(RATE_WAITS_SECONDS)


@pytest.mark.slow
def test_an_environment_may_have_nothing_to_provision(place: Make) -> None:
    here = place()
    path = here.root / "loadtest.toml"
    text = path.read_text().replace(
        "[environment.staging]\n", '[environment.staging]\nprovision = "none"\n'
    )
    path.unlink()
    path.write_text(text)
    assert load_settings(here.root, "staging", process_env={}).environment.provision == "none"
    here.variables.clear()
    code, out, err = here.run()
    assert (code, err) == (0, "")
    assert "nothing to provision in environment staging" in out
    assert len(out.splitlines()) == 1


def test_a_secret_that_we_make_is_masked_in_actions_and_printed_nowhere_else(
    place: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    here = place(users=[SeedUser(EMAIL, OLD, must_change_password=False, workspace="seeded")])
    here.variables |= {
        "GITHUB_ACTIONS": "true",
        "LOADTEST_PASSWORD": OLD,
        "LOADTEST_WORKSPACE_ID": here.target.workspaces()[0].id,
    }
    here.provision()
    lines = capsys.readouterr().out.splitlines()
    # The session's token and the bearer that read the data.
    assert len(lines) == 2
    assert all(line.startswith("::add-mask::") for line in lines)
    masked = [line.removeprefix("::add-mask::") for line in lines]
    assert not any(secret in line for line in here.said for secret in [*masked, OLD])
