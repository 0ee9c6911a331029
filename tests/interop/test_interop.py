"""The whole flow against another project's authorization server (npm: oidc-provider)."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from loadtest.common.redaction import SecretStr
from loadtest.config.models import Environment, Limits, Pages
from loadtest.errors import MintError
from loadtest.mint.browser.launcher import BrowserChoice
from loadtest.mint.browser.session import SignInRequest
from loadtest.mint.oauth.non_interactive import MachineClient, mint_by_client_credentials
from loadtest.mint.oauth.revocation import revoke_all
from loadtest.state.bearers import bearer_path, read_bearers, write_bearers
from loadtest.state.clients import ClientStore
from tests.mint.minting import mint

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
# The package's fields have placeholders, but no labels.
PAGES = Pages(
    email_label=("css=input[name=login]",),
    password_label=("css=input[name=password]",),
    sign_in_button=("Sign-in",),
    approve_button=("Continue",),
)


class Observed(BaseModel):
    """What the server has seen so far, and the open MCP sessions.

    A grant is listed with its type and the client authentication method.
    """

    registrations: int
    deletions: int
    revocations: int
    grants: list[tuple[str, str]]
    sessions: int


class ForeignServer(BaseModel):
    """A running server as its ready line describes it; `secrets` are by client id."""

    origin: str
    login: str
    password: SecretStr
    workspace_claim: str
    workspace_id: str
    client_document: str
    secrets: dict[str, SecretStr]
    machine_key: SecretStr

    def observe(self) -> Observed:
        """Ask the server what it has seen."""
        return Observed.model_validate(httpx.get(f"{self.origin}/observed").json())


Serve = Callable[..., ForeignServer]
RequestFor = Callable[..., SignInRequest]


@pytest.fixture
def serve_foreign(node: str, tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts a server with these client authentication methods."""
    with ExitStack() as running:

        def start(*client_auth: str) -> ForeignServer:
            return running.enter_context(run_server(node, tmp_path / "server.log", client_auth))

        yield start


@contextmanager
def run_server(node: str, log: Path, client_auth: tuple[str, ...]) -> Iterator[ForeignServer]:
    """Run the server inside the block; it ends when its standard input closes."""
    command = [node, str(Path(__file__).with_name("server.mjs")), *client_auth]
    with (
        log.open("w", encoding="utf-8") as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            yield ForeignServer.model_validate_json(read_line(process) or log.read_text())
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            finally:
                process.kill()
    assert process.returncode == 0


def read_line(process: "subprocess.Popen[str]") -> str:
    """Return the ready line; empty if the process ended, or was late and killed."""
    assert process.stdout is not None
    with ThreadPoolExecutor(1) as pool:
        line = pool.submit(process.stdout.readline)
        try:
            return line.result(READY_SECONDS)
        finally:
            if not line.done():
                process.kill()


@pytest.fixture
def request_for(browser_choice: BrowserChoice, tmp_path: Path) -> RequestFor:
    """Return a function that builds a request for a bearer of an MCP endpoint."""

    def build(server: ForeignServer, path: str = "/mcp", **changes: Any) -> SignInRequest:
        environment = Environment(
            target="hosted",
            default_profile="smoke",
            limits=Limits(max_vus=1, max_rps=1, max_duration_seconds=1),
            scope="mcp:read offline_access",
            workspace_claim=server.workspace_claim,
            pages=PAGES,
        )
        return SignInRequest(
            mcp_url=server.origin + path,
            environment=environment.model_copy(update=changes),
            email=server.login,
            password=server.password,
            workspace_id=server.workspace_id,
            browser=browser_choice,
            state_dir=tmp_path / "state",
            tell=lambda _: None,
        )

    return build


def give_client(request: SignInRequest, server: ForeignServer, client_id: str) -> SignInRequest:
    return replace(request, client_id=client_id, client_secret=server.secrets[client_id])


def refuse(request: SignInRequest) -> MintError:
    with pytest.raises(MintError) as caught:
        mint(request)
    assert request.password.get_secret_value() not in str(caught.value)
    return caught.value


def test_a_bearer_is_minted_by_registration(serve_foreign: Serve, request_for: RequestFor) -> None:
    server = serve_foreign()
    bearer, _ = mint(request_for(server))
    assert bearer.issuer == server.origin
    assert bearer.audience == f"{server.origin}/mcp"
    assert bearer.scope == "mcp:read"
    seen = server.observe()
    assert seen.grants == [("authorization_code", "none")]
    assert (seen.registrations, seen.sessions) == (1, 0)


def test_the_second_and_the_third_mint_refresh(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    server = serve_foreign()
    bearers = [mint(request_for(server))[0] for _ in range(3)]
    assert [bearer.via for bearer in bearers] == ["browser", "refresh", "refresh"]
    assert len({bearer.access_token.get_secret_value() for bearer in bearers}) == 3
    seen = server.observe()
    assert [grant for grant, _ in seen.grants] == [
        "authorization_code",
        "refresh_token",
        "refresh_token",
    ]
    assert (seen.registrations, seen.sessions) == (1, 0)


def test_a_second_sign_in_uses_the_first_registration_with_another_port(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    server = serve_foreign()
    request = request_for(server, scope="mcp:read")
    first, second = (mint(request)[0] for _ in range(2))
    assert (first.via, second.via) == ("browser", "browser")
    assert first.client_id == second.client_id
    assert server.observe().registrations == 1


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_given_client_mints_and_refreshes_with_the_method_of_the_server(
    serve_foreign: Serve, request_for: RequestFor, method: str
) -> None:
    server = serve_foreign(method)
    request = give_client(request_for(server), server, f"given {method}")
    bearers = [mint(request)[0] for _ in range(2)]
    assert [bearer.via for bearer in bearers] == ["browser", "refresh"]
    assert {bearer.client_id for bearer in bearers} == {f"given {method}"}
    seen = server.observe()
    assert seen.grants == [("authorization_code", method), ("refresh_token", method)]
    assert seen.registrations == 0


def test_a_client_id_metadata_document_needs_no_registration(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    server = serve_foreign()
    bearer, _ = mint(request_for(server, client_metadata_url=server.client_document))
    assert bearer.client_id == server.client_document
    assert server.observe().registrations == 0


def test_an_opaque_token_is_accepted_if_it_need_not_name_a_workspace(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    server = serve_foreign()
    bearer, _ = mint(request_for(server, "/opaque/mcp", workspace_claim=None))
    assert bearer.access_token.get_secret_value().count(".") == 0
    assert bearer.audience == f"{server.origin}/opaque/mcp"
    assert 0 < bearer.seconds_left() <= 600


def test_an_unknown_resource_is_refused_with_the_server_s_message(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    failure = refuse(request_for(serve_foreign(), "/unknown/mcp"))
    assert failure.step == "callback"
    assert "invalid_target" in str(failure)
    assert "issues no tokens for that resource" in str(failure)


def test_an_endpoint_with_another_resource_is_refused_before_any_registration(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    server = serve_foreign()
    failure = refuse(request_for(server, "/mislabelled/mcp"))
    assert failure.step == "discovery"
    assert f"{server.origin}/elsewhere" in str(failure)
    assert server.observe().registrations == 0


def test_a_wrong_password_is_reported_with_the_message_of_the_page(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    server = serve_foreign()
    failure = refuse(replace(request_for(server), password=SecretStr("a wrong canary")))
    assert failure.step == "sign-in"
    assert "Wrong login or password." in str(failure)
    assert server.observe().grants == []


@pytest.mark.parametrize("method", ["client_secret_basic", "private_key_jwt"])
def test_client_credentials_work_with_a_secret_and_with_a_key(
    serve_foreign: Serve, request_for: RequestFor, tmp_path: Path, method: str
) -> None:
    server = serve_foreign()
    key_file = tmp_path / "machine.pem"
    key_file.touch(mode=0o600)
    key_file.write_text(server.machine_key.get_secret_value())
    name = f"machine {method}"
    by_key = method == "private_key_jwt"
    machine = MachineClient(
        client_id=name,
        issuer=server.origin,
        secret=None if by_key else server.secrets[name],
        key_file=key_file if by_key else None,
    )
    bearer = mint_by_client_credentials(request_for(server, scope="mcp:read"), machine)
    assert (bearer.client_id, bearer.scope) == (name, "mcp:read")
    assert server.observe().grants == [("client_credentials", method)]


def test_revoking_ends_the_grant_and_deletes_the_registration(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    server = serve_foreign()
    request = request_for(server)
    bearer, _ = mint(request)
    write_bearers(bearer_path(request.state_dir), [bearer])
    results = {each.what: each.state for each in revoke_all(request.state_dir)}
    assert results["client 1's refresh token"] == "revoked"
    assert results["client 1's registration"] == "deleted"
    seen = server.observe()
    assert (seen.revocations, seen.deletions) == (1, 1)
    # A JWT is valid until it expires, so it is kept until then.
    assert read_bearers(bearer_path(request.state_dir)) == (bearer,)


def test_a_registration_that_the_server_has_forgotten_is_repeated_once(
    serve_foreign: Serve, request_for: RequestFor
) -> None:
    server = serve_foreign()
    request = request_for(server, scope="mcp:read")
    first, _ = mint(request)
    remembered = ClientStore(request.state_dir).read()[0]
    assert remembered.management_url is not None
    assert remembered.management_token is not None
    token = remembered.management_token
    httpx.delete(remembered.management_url, headers={"Authorization": f"Bearer {token}"})
    second, _ = mint(request)
    assert first.client_id != second.client_id
    assert server.observe().registrations == 2
