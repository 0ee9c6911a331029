"""The whole OAuth flow in a real browser against the reference target and its knobs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.common.redaction import SecretStr
from loadtest.config.settings import Settings
from loadtest.errors import BrowserError
from loadtest.mint.browser.launcher import BrowserChoice
from loadtest.mint.browser.session import SignInRequest
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import Bearer
from tests.mint.minting import mint, refuse

pytestmark = pytest.mark.slow
in_one_browser = pytest.mark.usefixtures("one_browser")

Serve = Callable[..., ReferenceTarget]
Provisioned = Callable[[ReferenceTarget], Settings]


@pytest.fixture
def request_for(
    provisioned: Provisioned, browser_choice: BrowserChoice, tmp_path: Path
) -> Callable[[ReferenceTarget], SignInRequest]:
    def build(target: ReferenceTarget) -> SignInRequest:
        settings = provisioned(target)
        who = settings.credentials
        assert who.email is not None
        assert who.password is not None
        assert who.workspace_id is not None
        return SignInRequest(
            mcp_url=settings.build_mcp_url(target.api_url, who.workspace_id),
            environment=settings.environment,
            email=who.email,
            password=who.password,
            workspace_id=who.workspace_id,
            browser=browser_choice,
            state_dir=tmp_path / "state",
            tell=lambda _: None,
        )

    return build


RequestFor = Callable[[ReferenceTarget], SignInRequest]


def call_initialize(bearer: Bearer) -> httpx.Response:
    return httpx.post(
        bearer.mcp_url,
        headers={
            "Authorization": f"Bearer {bearer.access_token.get_secret_value()}",
            "Accept": "application/json, text/event-stream",
        },
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        },
    )


def test_the_endpoint_accepts_a_minted_bearer(serve: Serve, request_for: RequestFor) -> None:
    target = serve()
    request = request_for(target)
    bearer, timings = mint(request)
    assert target.open_sessions == 0
    assert call_initialize(bearer).status_code == 200
    assert bearer.audience == f"{target.api_url}/mcp"
    assert bearer.scope == "mcp:read offline_access"
    assert bearer.access_token.get_secret_value() not in repr(bearer)
    assert timings.total_seconds > timings.browser_seconds + timings.pages_seconds


def test_the_debug_output_of_the_driver_is_off_so_that_no_password_is_printed(
    serve: Serve,
    request_for: RequestFor,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DEBUG", "pw:api")
    request = request_for(serve())
    mint(request)
    assert request.password.get_secret_value() not in capfd.readouterr().err


@in_one_browser
def test_the_second_mint_uses_the_registration_of_the_first(
    serve: Serve, request_for: RequestFor
) -> None:
    target = serve()
    request = request_for(target)
    first, _ = mint(request)
    second, _ = mint(request)
    assert first.client_id == second.client_id
    assert len(target.clients()) == 1


@in_one_browser
def test_a_server_that_accepts_only_the_registered_port_works_a_second_time(
    serve: Serve, request_for: RequestFor
) -> None:
    target = serve(redirect_ports="registered", refresh="refused")
    request = request_for(target)
    mint(request)
    _, timings = mint(request)
    assert timings.browser_seconds
    assert len(target.clients()) == 1


@in_one_browser
def test_the_sign_in_recovers_from_the_home_page_behind_a_tour(
    serve: Serve, request_for: RequestFor
) -> None:
    told: list[str] = []
    request = replace(request_for(serve(race_share=1.0, tour=True)), tell=told.append)
    bearer, _ = mint(request)
    assert call_initialize(bearer).status_code == 200
    assert any("opening the authorize URL again" in line for line in told)


@in_one_browser
def test_a_wrong_password_is_named_and_the_masked_page_is_kept(
    serve: Serve, request_for: RequestFor
) -> None:
    wrong = SecretStr("a wrong canary")
    request = replace(request_for(serve()), password=wrong)
    failure = refuse(request)
    assert failure.step == "sign-in"
    assert "the sign-in page says" in str(failure)
    kept = sorted((request.state_dir / "failures").iterdir())
    assert [path.suffix for path in kept] == [".png", ".txt"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)
    assert "a wrong canary" not in kept[1].read_text()


@in_one_browser
@pytest.mark.parametrize(
    ("knobs", "step", "words"),
    [
        ({"wrong_issuer": "response"}, "callback", "iss"),
        ({"wrong_issuer": "token"}, "verification", "iss is"),
    ],
)
def test_an_error_names_the_step_at_which_the_server_misbehaves(
    serve: Serve, request_for: RequestFor, knobs: dict[str, Any], step: str, words: str
) -> None:
    failure = refuse(request_for(serve(**knobs)))
    assert words in str(failure)
    assert failure.step == step


@in_one_browser
def test_a_consent_that_the_server_denies_is_named(serve: Serve, request_for: RequestFor) -> None:
    failure = refuse(request_for(serve(deny_consent=True)))
    assert (failure.step, failure.reason) == ("callback", "consent_denied")
    assert failure.code == "access_denied"


@in_one_browser
def test_a_target_that_does_not_run_fails_at_discovery(
    serve: Serve, request_for: RequestFor
) -> None:
    target = serve()
    request = request_for(target)
    target.stop()
    failure = refuse(request)
    assert failure.step == "discovery"
    assert "does not answer" in str(failure)


def test_a_browser_that_does_not_start_is_reported_with_the_remedy(
    serve: Serve, request_for: RequestFor, tmp_path: Path
) -> None:
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    request = request_for(serve())
    broken = replace(request.browser, source="system", executable=str(fake))
    with pytest.raises(BrowserError, match="does not start") as caught:
        mint(replace(request, browser=broken))
    assert "apt-get install chromium" in str(caught.value)
