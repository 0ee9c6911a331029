"""Every variant of the MCP authorization specification, by the reference target's knobs."""

import json
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.common.redaction import SecretStr
from loadtest.config.loading import load_settings
from loadtest.config.project import CONFIG_FILE
from loadtest.errors import MintError
from loadtest.mint.browser.launcher import BrowserChoice
from loadtest.mint.browser.session import SignInRequest
from loadtest.mint.oauth.discovery import discover
from loadtest.mint.oauth.exchange import CLIENT_CREDENTIALS_ONLY
from loadtest.mint.oauth.non_interactive import take_given
from loadtest.mint.oauth.request import ToolCall, build_initialize, build_requests_after_initialize
from loadtest.mint.options import MintOptions
from loadtest.mint.pool import MintRequest, mint_pool, mint_slots
from loadtest.reference.seeds import SeedClient
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import Bearer
from loadtest.state.clients import ClientStore
from tests.mint.minting import SLUG, build_request, build_target, mint, refuse
from tests.reference.documents import host_documents
from tests.support.checkout import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_browser")]

Start = Callable[..., tuple[ReferenceTarget, SignInRequest]]


@pytest.fixture
def start(
    browser_choice: BrowserChoice, tmp_path: Path, new_state: Callable[[], Path]
) -> Iterator[Start]:
    """Start a target with knobs; return it with a request to mint on it."""
    with ExitStack() as running:

        def build(
            clients: tuple[SeedClient, ...] = (),
            environment: dict[str, Any] | None = None,
            request: dict[str, Any] | None = None,
            user: dict[str, Any] | None = None,
            **knobs: Any,
        ) -> tuple[ReferenceTarget, SignInRequest]:
            target = running.enter_context(build_target(clients, user, new_state(), **knobs))
            state = tmp_path / "state"
            made = build_request(
                target, browser_choice, state, environment=environment, **(request or {})
            )
            return target, made

        yield build


def accepts(bearer: Bearer) -> bool:
    """Request a stream without a session: 400 if the bearer is accepted, else 401."""
    headers = {
        "Authorization": f"Bearer {bearer.access_token.get_secret_value()}",
        "Accept": "application/json, text/event-stream",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    return httpx.post(bearer.mcp_url, headers=headers, json=body).status_code == 400


def call_tool(bearer: Bearer) -> httpx.Response:
    headers = {
        "Authorization": f"Bearer {bearer.access_token.get_secret_value()}",
        "Accept": "application/json, text/event-stream",
    }
    with httpx.Client(headers=headers) as http:
        opened = http.post(bearer.mcp_url, json=build_initialize())
        http.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        *_, calling = build_requests_after_initialize(LIST_ENTITIES)
        answer = http.post(bearer.mcp_url, json=calling)
        http.delete(bearer.mcp_url)
    return answer


@pytest.mark.parametrize(
    "knobs",
    [
        {"challenge": "bare"},
        {"challenge": "bare", "resource_metadata": "root"},
        {"challenge": "scope"},
        {"server_metadata": "inserted"},
        {"server_metadata": "openid-appended"},
        {"server_metadata": "openid-inserted", "issuer_path": True},
        {"issuer_path": False},
        {"registration_auth": "client_secret_basic"},
        {"registration_auth": "client_secret_post"},
        {"iss_parameter": "unpromised"},
        {"iss_parameter": "absent"},
        {"client_metadata_documents": True},
        {"refresh": "kept"},
    ],
    ids=lambda knobs: " ".join(f"{name}={value}" for name, value in knobs.items()),
)
def test_a_variant_that_the_specification_allows_gives_a_bearer(
    start: Start, knobs: dict[str, Any]
) -> None:
    target, request = start(**knobs)
    bearer, _ = mint(request)
    assert accepts(bearer)
    assert target.open_sessions == 0


LIST_ENTITIES = ToolCall("listEntities", {})


@pytest.mark.parametrize(
    ("first_challenge", "call"),
    [("tools/list", None), ("tools/call", LIST_ENTITIES), ("tools/call", None), ("never", None)],
)
def test_a_server_that_lets_anyone_initialize_gives_a_bearer(
    start: Start, first_challenge: str, call: ToolCall | None
) -> None:
    target, request = start(first_challenge=first_challenge, request={"call": call})
    bearer, _ = mint(request)
    answer = call_tool(bearer)
    assert answer.status_code == 200
    assert target.open_sessions == 0


def test_a_server_that_lets_anyone_initialize_is_asked_for_its_metadata(start: Start) -> None:
    _, request = start(first_challenge="never")
    found = discover(request.mcp_url)
    assert found.issuer.endswith("/api/auth")


def test_a_server_without_challenge_and_metadata_does_not_ask_for_a_bearer(start: Start) -> None:
    target, request = start(first_challenge="never", resource_metadata="nowhere")
    failure = refuse(request)
    assert failure.step == "discovery"
    assert "did not ask for a bearer" in str(failure)
    assert target.open_sessions == 0


def test_insufficient_scope_after_an_open_initialize_widens_the_granted_scope(
    start: Start,
) -> None:
    _, request = start(environment={"scope": None}, first_challenge="tools/list", step_up="once")
    bearer, _ = mint(request)
    assert {"mcp:read", "mcp:write"} <= set(bearer.scope.split())


def test_a_scope_that_never_suffices_is_requested_once(start: Start) -> None:
    told: list[str] = []
    _, request = start(
        request={"tell": told.append}, first_challenge="tools/list", step_up="always"
    )
    assert refuse(request).code == "insufficient_scope"
    assert sum("requires more scope" in line for line in told) == 1


def test_a_given_bearer_is_tested_after_an_open_initialize(start: Start) -> None:
    _, request = start(first_challenge="tools/list")
    with pytest.raises(MintError, match="refuses the bearer: HTTP 401"):
        take_given(request, SecretStr("not a bearer of this server"))


def test_a_server_with_client_credentials_only_issues_a_bearer_to_the_client(
    start: Start, tmp_path: Path
) -> None:
    secret = "a machine secret canary"
    machine = SeedClient(
        "machine", secret=secret, grant_types=("client_credentials",), workspace=SLUG
    )
    target, request = start(clients=(machine,), grant_types="client_credentials")
    failure = refuse(request)
    assert (failure.step, failure.reason) == ("discovery", CLIENT_CREDENTIALS_ONLY)
    assert target.registrations == 0
    variables = {
        "LOADTEST_BASE_URL": target.api_url,
        "LOADTEST_WORKSPACE_ID": str(request.workspace_id),
        "LOADTEST_CLIENT_ID": "machine",
        "LOADTEST_CLIENT_SECRET": secret,
        "LOADTEST_ISSUER": f"{target.api_url}/api/auth",
    }
    shutil.copy(ROOT / CONFIG_FILE, tmp_path)
    settings = load_settings(tmp_path, "staging", "smoke", process_env=variables)
    order = MintRequest(settings, MintOptions(), request.mcp_url, 60, lambda _: None)
    made, _ = mint_slots(order, (0,))
    assert made[0].via == "client-credentials"


def test_a_server_of_2025_03_26_without_any_metadata_is_signed_in_to(start: Start) -> None:
    _, request = start(
        environment={"workspace_claim": None},
        challenge="bare",
        resource_metadata="nowhere",
        server_metadata="nowhere",
        issuer_path=False,
    )
    bearer, _ = mint(request)
    assert accepts(bearer)


@pytest.mark.parametrize(
    ("knobs", "step", "words"),
    [
        ({"resource_mismatch": "host"}, "discovery", "the server's metadata name"),
        ({"resource_mismatch": "path"}, "discovery", "does not match"),
        ({"iss_parameter": "withheld"}, "callback", "iss"),
        ({"s256": "plain"}, "discovery", "PKCE with S256"),
        ({"s256": "absent"}, "discovery", "PKCE with S256"),
        ({"registration": "closed"}, "registration", "HTTP 40"),
        ({"granted_scope": "offline_access"}, "verification", "insufficient_scope"),
        ({"token_replies": "garbage"}, "exchange", "does not match the request"),
        ({"token_replies": "html"}, "exchange", "does not match the request"),
        ({"token_replies": "no-access-token"}, "exchange", "does not match the request"),
        ({"token_replies": "dpop"}, "exchange", "does not match the request"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_variant_that_is_not_allowed_is_refused_at_its_step(
    start: Start, knobs: dict[str, Any], step: str, words: str
) -> None:
    _, request = start(**knobs)
    failure = refuse(request)
    assert words in str(failure)
    assert failure.step == step


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_a_client_that_was_given_is_used_and_none_is_registered(start: Start, method: str) -> None:
    secret = None if method == "none" else "a client secret canary"
    client = SeedClient(
        "given",
        secret=secret,
        auth_method=method,
        redirect_uris=("http://127.0.0.1/callback",),
    )
    target, request = start(
        (client,),
        {"client_auth": method if secret else None},
        {"client_id": "given", "client_secret": SecretStr(secret) if secret else None},
    )
    bearer, _ = mint(request)
    assert accepts(bearer)
    assert bearer.client_id == "given"
    assert target.registrations == 0
    assert "a client secret canary" not in (request.state_dir / "clients.json").read_text()


def test_a_refresh_needs_no_browser_and_rotates(start: Start) -> None:
    target, request = start()
    first, _ = mint(request)
    before = (request.state_dir / "clients.json").read_text()
    second, timings = mint(request)
    assert (first.via, second.via) == ("browser", "refresh")
    assert timings.browser_seconds == 0
    assert accepts(second)
    assert (target.refreshes, target.refresh_reuses) == (1, 0)
    assert (request.state_dir / "clients.json").read_text() != before


def change_token_endpoint(request: SignInRequest, url: str) -> None:
    path = request.state_dir / "clients.json"
    body = json.loads(path.read_text())
    body["clients"][0]["metadata"]["token_endpoint"] = url
    path.write_text(json.dumps(body))


def read_refresh_token(request: SignInRequest) -> str | None:
    found = ClientStore(request.state_dir).find(0, None)
    assert found is not None
    return found.refresh_token


def test_a_refresh_token_that_was_never_sent_is_kept(start: Start) -> None:
    target, request = start()
    mint(request)
    before = read_refresh_token(request)
    target.stop()
    with pytest.raises(MintError, match=r"refresh: .* does not answer"):
        mint(request)
    assert before is not None
    assert read_refresh_token(request) == before


def test_a_refresh_token_is_never_sent_again_after_a_lost_response(start: Start) -> None:
    seen: list[str | None] = []
    target, request = start()
    mint(request)

    class Deaf(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            seen.append(read_refresh_token(request))

    with socketserver.TCPServer(("127.0.0.1", 0), Deaf) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        change_token_endpoint(request, f"http://127.0.0.1:{server.server_address[1]}/token")
        bearer, _ = mint(request)
    assert seen == [None]
    assert bearer.via == "browser"
    assert target.refreshes == 0


def test_a_refresh_token_of_another_workspace_is_not_used(start: Start) -> None:
    target, request = start()
    mint(request)
    path = request.state_dir / "clients.json"
    path.write_text(path.read_text().replace(request.mcp_url, f"{request.mcp_url}-other"))
    bearer, _ = mint(request)
    assert bearer.via == "browser"
    assert target.refreshes == 0


def test_a_refused_refresh_falls_back_to_the_browser(start: Start) -> None:
    target, request = start(refresh="refused")
    mint(request)
    bearer, _ = mint(request)
    assert bearer.via == "browser"
    assert accepts(bearer)
    assert target.registrations == 1


def test_a_client_that_the_server_no_longer_knows_registers_again_once(start: Start) -> None:
    told: list[str] = []
    target, request = start(request={"tell": told.append})
    first, _ = mint(request)
    target.forget_clients()
    second, _ = mint(request)
    assert accepts(second)
    assert first.client_id != second.client_id
    assert target.registrations == 2
    assert any("no longer knows our registration" in line for line in told)


@pytest.mark.parametrize("retry_after", ["missing", "nonsense", "huge"])
def test_a_rate_limit_without_a_sensible_retry_after_is_waited_out(
    start: Start, monkeypatch: pytest.MonkeyPatch, retry_after: str
) -> None:
    for module in ("mint.oauth.authorization_code", "common.retry_after"):
        monkeypatch.setattr(f"loadtest.{module}.RATE_WAITS_SECONDS", (0.01, 0.01))
    told: list[str] = []
    _, request = start(request={"tell": told.append}, token_rate_limited=1, retry_after=retry_after)
    bearer, _ = mint(request)
    assert accepts(bearer)


def test_a_rate_limit_on_the_sign_in_itself_is_waited_out(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.mint.oauth.authorization_code.RATE_WAITS_SECONDS", (0.01, 0.01))
    told: list[str] = []
    _, request = start(request={"tell": told.append}, authorize_rate_limited=2)
    bearer, _ = mint(request)
    assert accepts(bearer)
    assert told.count("sign-in is rate limited: starting over in 0 s") == 2
    assert not (request.state_dir / "failures").exists()


def test_a_rate_limit_on_the_sign_in_that_does_not_end_is_named(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.mint.oauth.authorization_code.RATE_WAITS_SECONDS", (0.01, 0.01))
    _, request = start(authorize_rate_limited=3)
    failure = refuse(request)
    assert failure.reason == "rate_limited"
    assert "/oauth2/authorize answers HTTP 429: wait before the next try" in str(failure)


def test_a_server_whose_clock_is_ahead_is_tolerated_and_reported(start: Start) -> None:
    told: list[str] = []
    _, request = start(request={"tell": told.append}, clock_skew_seconds=50)
    bearer, _ = mint(request)
    assert any("clock is 50 s behind" in line or "clock is 49 s behind" in line for line in told)
    assert bearer.seconds_left() <= 3600


@pytest.mark.parametrize("scope", ["mcp:read offline_access", None])
def test_insufficient_scope_is_answered_by_one_request_for_more(
    start: Start, scope: str | None
) -> None:
    _, request = start(
        environment={"scope": scope}, step_up="once", challenge="scope", granted_scope=""
    )
    bearer, _ = mint(request)
    assert "mcp:write" in bearer.scope.split()


def test_an_endpoint_that_always_wants_more_scope_ends_in_an_error(start: Start) -> None:
    _, request = start(step_up="always")
    assert "insufficient_scope" in str(refuse(request))


def test_a_client_registers_as_a_native_client(start: Start) -> None:
    target, request = start()
    mint(request)
    (client,) = target.clients()
    assert client.application_type == "native"
    assert client.requests_per_minute is None


def test_a_client_metadata_document_is_preferred_to_registration(start: Start) -> None:
    with host_documents() as host:
        url = host.serve("/client.json", redirect_uris=["http://127.0.0.1/callback"])
        target, request = start(
            environment={"client_metadata_url": url}, client_metadata_documents=True
        )
        bearer, _ = mint(request)
    assert bearer.client_id == url
    assert accepts(bearer)
    assert target.registrations == 0


def test_a_pool_has_one_bearer_per_client_and_signs_in_once(start: Start) -> None:
    target, request = start(account_limits=False)
    bearers, _ = mint_pool(request, (0, 1, 2), lambda _: request)
    assert len({bearer.client_id for bearer in bearers.values()}) == 3
    assert all(accepts(bearer) for bearer in bearers.values())
    again, _ = mint_pool(request, (0, 1, 2), lambda _: request)
    assert [bearer.via for bearer in again.values()] == ["refresh"] * 3
    assert target.registrations == 3


@pytest.mark.parametrize(
    ("user", "reason"),
    [({"locked": True}, "account_locked"), ({"must_change_password": True}, "password_change")],
)
def test_each_reason_why_a_user_cannot_sign_in_has_its_own_name(
    start: Start, user: dict[str, Any], reason: str
) -> None:
    _, request = start(user=user)
    assert refuse(request).reason == reason
