"""Clients registered as the workspace's own, whose quota is raised before their first call."""

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from loadtest.accounts import WrongPasswordError
from loadtest.browser import RECORD_VERSION, BrowserChoice
from loadtest.config import Settings
from loadtest.files import write_json
from loadtest.mint.options import MintOptions
from loadtest.mint.pool import Order, mint_slots
from loadtest.redaction import SecretStr
from loadtest.reference.server import ReferenceTarget

pytestmark = pytest.mark.slow

Serve = Callable[..., ReferenceTarget]
Provisioned = Callable[[ReferenceTarget], Settings]


def order(settings: Settings, target: ReferenceTarget, told: list[str]) -> Order:
    mcp_url = settings.build_mcp_url(target.api_url, settings.credentials.workspace_id)
    return Order(settings, MintOptions(), mcp_url, 60, told.append)


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


def test_a_wrong_password_is_not_tried_on_the_page_too(
    serve: Serve, provisioned: Provisioned
) -> None:
    target = serve()
    settings = provisioned(target)
    wrong = replace(settings.credentials, password=SecretStr("not the password"))
    with pytest.raises(WrongPasswordError, match="wrong password for"):
        mint_slots(order(replace(settings, credentials=wrong), target, []), (0,))
