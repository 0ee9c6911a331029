"""Clients registered with a session, whose quota is raised before their first call."""

import base64
import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from loadtest.common.files import write_json
from loadtest.common.redaction import SecretStr
from loadtest.config.settings import Settings
from loadtest.mint.browser.launcher import RECORD_VERSION, BrowserChoice
from loadtest.mint.options import MintOptions
from loadtest.mint.pool import MintRequest, mint_slots
from loadtest.reference.accounts import User
from loadtest.reference.server import ReferenceTarget
from loadtest.target.rest_client import WrongPasswordError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_browser")]

Serve = Callable[..., ReferenceTarget]
Provisioned = Callable[[ReferenceTarget], Settings]


def enroll(target: ReferenceTarget, uri: str) -> None:
    """Give the only user of a target an authenticator."""
    with target._deployment.store.begin() as db:
        user = db.get_one(User, target.users()[0].id)
        user.totp_secret, user.totp_enabled = uri, True


def order(settings: Settings, target: ReferenceTarget, told: list[str]) -> MintRequest:
    mcp_url = settings.build_mcp_url(target.api_url, settings.credentials.workspace_id)
    return MintRequest(settings, MintOptions(), mcp_url, 60, told.append)


def test_a_pool_of_clients_has_its_quota_raised_and_is_registered_once(
    serve: Serve, provisioned: Provisioned, browser_choice: BrowserChoice
) -> None:
    told: list[str] = []
    target = serve(account_limits=False)
    settings = provisioned(target)
    write_json(settings.browser_record, RECORD_VERSION, asdict(browser_choice))
    bearers, _ = mint_slots(order(settings, target, told), (0, 1))
    clients = {client.id: client for client in target.clients()}
    assert {bearer.client_id for bearer in bearers.values()} == clients.keys()
    assert [client.requests_per_minute for client in clients.values()] == [3600, 3600]
    assert [client.application_type for client in clients.values()] == ["native", "native"]
    assert sum("quota 3600 a minute" in line for line in told) == 2
    mint_slots(order(settings, target, told), (0, 1))
    assert target.registrations == 2
    assert target.open_sessions == 0


def test_a_client_that_the_server_no_longer_knows_is_registered_again_with_the_session(
    serve: Serve, provisioned: Provisioned, browser_choice: BrowserChoice
) -> None:
    target = serve(account_limits=False)
    settings = provisioned(target)
    write_json(settings.browser_record, RECORD_VERSION, asdict(browser_choice))
    told: list[str] = []
    ordered = replace(order(settings, target, told), options=MintOptions(via="browser"))
    mint_slots(ordered, (0,))
    target.forget_clients()
    mint_slots(ordered, (0,))
    assert any("no longer knows our registration" in line for line in told)
    (client,) = target.clients()
    assert client.requests_per_minute == 3600


def test_a_client_that_needs_more_scope_is_registered_again_with_the_session(
    serve: Serve, provisioned: Provisioned, browser_choice: BrowserChoice, tmp_path: Path
) -> None:
    # Provisioning uses the workspace with fewer scopes than the target requires afterwards.
    target = serve(tmp_path / "target", account_limits=False)
    settings = provisioned(target)
    target.stop()
    target = serve(tmp_path / "target", account_limits=False, step_up="once")
    write_json(settings.browser_record, RECORD_VERSION, asdict(browser_choice))
    told: list[str] = []
    ordered = replace(order(settings, target, told), options=MintOptions(via="browser"))
    (bearer,) = mint_slots(ordered, (0,))[0].values()
    assert "mcp:write" in bearer.scope.split()
    assert sum("requires more scope" in line for line in told) == 1
    quotas = {client.id: client.requests_per_minute for client in target.clients()}
    assert len(quotas) == 2
    assert bearer.client_id is not None
    assert quotas[bearer.client_id] == 3600


def test_a_user_with_an_authenticator_registers_signs_in_and_mints(
    serve: Serve, provisioned: Provisioned, browser_choice: BrowserChoice
) -> None:
    target = serve(account_limits=False, second_factor="required")
    settings = provisioned(target)
    variables = {**settings.variables, "LOADTEST_SIGN_IN_ORIGINS": target.web_url}
    # A code every five seconds: the next one comes soon.
    secret = base64.b32encode(secrets.token_bytes(20)).decode()
    uri = f"otpauth://totp/test?secret={secret}&period=5"
    enroll(target, uri)
    credentials = replace(settings.credentials, totp_secret=SecretStr(uri))
    settings = replace(settings, variables=variables, credentials=credentials)
    write_json(settings.browser_record, RECORD_VERSION, asdict(browser_choice))
    told: list[str] = []
    ordered = order(settings, target, told)
    (bearer,) = mint_slots(ordered, (0,))[0].values()
    assert bearer.via == "browser"
    (client,) = target.clients()
    assert client.requests_per_minute == 3600
    session = replace(ordered, options=MintOptions(via="session"))
    (bearer,) = mint_slots(session, (0,))[0].values()
    assert bearer.via == "session"


def test_a_wrong_password_is_not_tried_on_the_page_too(
    serve: Serve, provisioned: Provisioned
) -> None:
    target = serve()
    settings = provisioned(target)
    wrong = replace(settings.credentials, password=SecretStr("not the password"))
    with pytest.raises(WrongPasswordError, match="wrong password for"):
        mint_slots(order(replace(settings, credentials=wrong), target, []), (0,))
