"""Provision a server in production: a second factor, a verification mail, a captcha."""

import base64
import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from loadtest.common.redaction import SecretStr
from loadtest.common.totp import Totp
from loadtest.config.env_file import parse_env_file
from loadtest.errors import ConfigError, LoadtestError, ProvisionError
from loadtest.provision.provisioner import render_credentials
from loadtest.reference.seeds import SeedUser
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient
from loadtest.state.credentials import CredentialsFile
from loadtest.target.rest_client import Accounts, OneTimeCodeError, SecondFactor
from tests.support.github_server import GithubServer

from .conftest import EMAIL, Place, states

Make = Callable[..., Place]

GIVEN = "a given canary password"
SIGN_UP = "/api/auth/sign-up/email"
VERIFY = "/api/auth/two-factor/verify-totp"


class Time:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def invent_secret() -> str:
    return base64.b32encode(secrets.token_bytes(20)).decode()


@pytest.fixture
def produce(place: Make) -> Make:
    """Make places whose target asks owners for a second factor, and whose clock waits move."""

    def make(*, totp_secret: str | None = None, **given: Any) -> Place:
        clock = Time()
        seed = SeedUser(
            EMAIL, GIVEN, must_change_password=False, workspace="seeded", totp_secret=totp_secret
        )
        users = [seed] if totp_secret else []
        knobs = {"second_factor": "required", "self_mint": "not-allowlisted"} | given
        made = place(users, clock=clock, **knobs)
        made.pause = clock.pause
        made.variables["LOADTEST_SIGN_IN_ORIGINS"] = made.target.web_url
        if totp_secret:
            made.variables |= {"LOADTEST_PASSWORD": GIVEN, "LOADTEST_TOTP_SECRET": totp_secret}
            made.variables["LOADTEST_WORKSPACE_ID"] = made.target.workspaces()[0].id
        return made

    return make


def register(here: Place) -> str:
    """Register a client with a session, as mint does; return its id."""
    settings = here.settings
    assert settings.credentials.password is not None
    second_factor = SecondFactor(settings.credentials.totp_secret, (here.target.web_url,))
    metadata = {
        "client_name": "tests",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    with Accounts(
        here.gate.url, print, second_factor=second_factor, pause=here.pause, clock=here.clock
    ) as accounts:
        assert accounts.sign_in(EMAIL, settings.credentials.password)
        accounts.ensure_workspace(EMAIL, settings.credentials.workspace_id)
        endpoint = f"{here.gate.url}/api/auth/oauth2/register"
        client_id: str = accounts.register_client_with_session(endpoint, metadata)["client_id"]
    remembered = StoredClient(client=ClientInformation(client_id=client_id))
    ClientStore(settings.state_dir).keep(0, remembered)
    return client_id


def read_quota_step(here: Place) -> str:
    (state,) = [step.state for step in here.provision().steps if step.what.startswith("quota")]
    return state


def test_with_the_secret_of_an_authenticator_the_quota_is_raised(produce: Make) -> None:
    here = produce(totp_secret=invent_secret())
    assert states(here.provision())["user"] == "already there"
    client_id = register(here)
    assert read_quota_step(here) == "made"
    quotas = {client.id: client.requests_per_minute for client in here.target.clients()}
    assert quotas == {client_id: 3600}
    # Each of three sign-ins used its own code, and none left a session.
    assert here.target.sign_ins() == []


def test_a_code_that_another_process_used_is_followed_by_the_next(produce: Make) -> None:
    secret = invent_secret()
    here = produce(totp_secret=secret)
    body = {"email": EMAIL, "password": GIVEN}
    with httpx.Client(base_url=here.target.api_url) as http:
        http.post("/api/auth/sign-in/email", json=body)
        # Another process does not know which codes this one used.
        totp = Totp(secret, here.clock)
        code, origin = totp.build_code(totp.find_step()), here.target.web_url
        assert http.post(VERIFY, json={"code": code}, headers={"Origin": origin}).is_success
    assert states(here.provision())["user"] == "already there"
    assert any("for the next one-time code" in line for line in here.said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"LOADTEST_TOTP_SECRET": ""}, "asks for a one-time code: set LOADTEST_TOTP_SECRET"),
        ({"LOADTEST_TOTP_SECRET": "canary!"}, "LOADTEST_TOTP_SECRET is neither base32 nor"),
        ({"LOADTEST_SIGN_IN_ORIGINS": ""}, "set LOADTEST_SIGN_IN_ORIGINS to the origin of its"),
    ],
)
def test_what_a_sign_in_with_a_code_lacks_is_named_in_one_line(
    produce: Make, change: dict[str, str], message: str
) -> None:
    here = produce(totp_secret=invent_secret())
    here.variables |= change
    with pytest.raises(LoadtestError, match=message) as caught:
        here.provision()
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_wrong_secret_is_tried_only_twice(produce: Make) -> None:
    here = produce(totp_secret=invent_secret())
    here.variables["LOADTEST_TOTP_SECRET"] = invent_secret()
    with pytest.raises(OneTimeCodeError, match=r"is refused: HTTP 401: INVALID_CODE.*clock"):
        here.provision()
    assert here.gate.passed.count(VERIFY) == 2


def test_without_a_configured_origin_the_server_s_own_is_tried(produce: Make) -> None:
    here = produce(totp_secret=invent_secret())
    settings = here.settings
    second_factor = SecondFactor(settings.credentials.totp_secret)
    with Accounts(
        here.target.api_url, print, second_factor=second_factor, clock=here.clock
    ) as accounts:
        assert accounts.sign_in(EMAIL, SecretStr(GIVEN))


def test_the_message_about_a_demanded_second_factor_says_where_to_enrol_one(produce: Make) -> None:
    here = produce()
    here.provision()
    register(here)
    state = read_quota_step(here)
    assert state.startswith("not raised (")
    assert "mfa_enrollment_required: Two-factor authentication is required" in state
    assert f"enrol one at {here.target.web_url}/admin/settings/security" in state
    assert "inv provision --enroll-totp" in state
    with pytest.raises(ProvisionError, match=r"mfa_enrollment_required.*--enroll-totp"):
        here.rotate()
    assert here.signs_in(here.password)


def test_an_authenticator_is_enrolled_once_and_used_at_every_sign_in(produce: Make) -> None:
    here = produce()
    done = here.provision(enroll_totp=True)
    assert states(done)["authenticator"] == "made"
    secret = here.settings.credentials.totp_secret
    assert secret is not None
    assert secret.get_secret_value() in here.settings.credentials_file.read_text()
    register(here)
    assert read_quota_step(here) == "made"
    assert states(here.provision(enroll_totp=True))["authenticator"] == "already there"
    assert here.settings.credentials.totp_secret == secret
    password = here.password
    here.rotate()
    assert here.password != password
    assert f"LOADTEST_TOTP_SECRET={secret.get_secret_value()}" in render_credentials(here.settings)
    assert not any(secret.get_secret_value() in line for line in here.said)


@pytest.mark.parametrize("side", ["before", "after"])
def test_no_secret_is_lost_when_an_enrolment_is_cut_off(produce: Make, side: Any) -> None:
    here = produce()
    here.gate.at(VERIFY, side, lambda: False)
    with pytest.raises(ProvisionError, match="does not answer"):
        here.provision(enroll_totp=True)
    done = states(here.provision(enroll_totp=True))
    assert done["authenticator"] == ("made" if side == "before" else "already there")
    assert states(here.provision())["user"] == "already there"


def test_the_totp_secret_is_stored_at_github_before_it_is_confirmed(
    produce: Make, github: GithubServer
) -> None:
    here = produce()
    here.variables |= github.variables
    github.refuse("PUT LOADTEST_TOTP_SECRET", 403, times=1)
    with pytest.raises(ProvisionError, match=r"no authenticator was enrolled: .*HTTP 403"):
        here.provision(github_secrets=True, enroll_totp=True)
    assert not here.target.users()[0].totp_enabled
    assert here.settings.credentials.totp_secret is None
    here.provision(github_secrets=True, enroll_totp=True)
    assert here.target.users()[0].totp_enabled
    secret = here.settings.credentials.totp_secret
    assert secret is not None
    assert github.secrets["LOADTEST_TOTP_SECRET"] == secret.get_secret_value()


def test_a_totp_secret_that_would_be_lost_is_not_enrolled(produce: Make) -> None:
    here = produce()
    here.provision()
    here.variables |= {"GITHUB_ACTIONS": "true", "LOADTEST_PASSWORD": here.password}
    with pytest.raises(ConfigError, match="add --github-secrets"):
        here.provision(enroll_totp=True)
    del here.variables["GITHUB_ACTIONS"]
    here.variables["LOADTEST_TOTP_SECRET"] = invent_secret()
    with pytest.raises(ConfigError, match="has no authenticator: unset it"):
        here.provision(enroll_totp=True)
    assert not here.target.users()[0].totp_enabled


def test_the_password_is_kept_until_the_verification_mail_is_opened(place: Make) -> None:
    here = place(email_verification=True, self_mint="not-allowlisted")
    for _ in range(2):
        with pytest.raises(ProvisionError, match=f"open the link that was mailed to {EMAIL}"):
            here.provision()
    password = here.password
    mail = here.target.mails[-1]
    assert httpx.get(mail.link).status_code == 302
    assert states(here.provision())["user"] == "already there"
    assert here.password == password
    assert here.gate.passed.count(SIGN_UP) == 1
    # The user was made by us, even though that run failed.
    assert (here.settings.state_dir / "owned.json").exists()


def test_the_password_is_kept_at_github_until_the_verification_mail_is_opened(
    place: Make, github: GithubServer
) -> None:
    here = place(email_verification=True, self_mint="not-allowlisted")
    here.variables |= github.variables
    with pytest.raises(ProvisionError, match="open the link"):
        here.provision(github_secrets=True)
    assert github.secrets == {"LOADTEST_PASSWORD_NEXT": here.password}
    httpx.get(here.target.mails[-1].link)
    here.provision(github_secrets=True)
    assert github.secrets["LOADTEST_PASSWORD"] == here.password
    assert not CredentialsFile(here.settings).read().pending


def test_a_captcha_at_sign_up_is_left_to_a_person(place: Make) -> None:
    here = place(sign_up_captcha=True)
    with pytest.raises(ProvisionError, match=r"Missing CAPTCHA.*make the user by hand.*PASSWORD"):
        here.provision()
    assert "LOADTEST_PASSWORD" not in parse_env_file(here.settings.credentials_file)
