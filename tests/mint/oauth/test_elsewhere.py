"""A target on another host, reached through a proxy, must not send requests to this machine."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from loadtest.common import tls
from loadtest.common.http import open_client
from loadtest.common.redaction import SecretStr
from loadtest.errors import ConfigError, MintError
from loadtest.mint.oauth.acceptance import check_token
from loadtest.mint.oauth.discovery import discover
from loadtest.mint.oauth.exchange import Exchange
from loadtest.mint.oauth.non_interactive import MachineClient, mint_by_client_credentials
from loadtest.mint.oauth.refresh import refresh_slots
from loadtest.mint.oauth.request import ClientRequest, Endpoint, IssuedToken
from loadtest.mint.oauth.revocation import revoke_all
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient
from tests.mint.minting import build_environment
from tests.support.certificates import build_server_tls
from tests.support.hostile_server import HostileServer, Request, send_json
from tests.support.proxy_server import ProxyServer

HOST = "mcp.example.com"
ORIGIN = f"https://{HOST}"
MCP_URL = f"{ORIGIN}/mcp"


@dataclass
class Elsewhere:
    """A target on another host; `documents` is what it serves, `challenge` where it points to.

    `neighbour` is somebody else's server on this machine.
    """

    documents: dict[str, Any]
    neighbour: HostileServer
    proxy: ProxyServer
    challenge: str = f"{ORIGIN}/.well-known/oauth-protected-resource/mcp"

    def answer(self, request: Request) -> Iterator[bytes]:
        found = self.documents.get(request.path)
        if found is not None:
            yield send_json(found)
        elif request.path == "/mcp":
            head = f'WWW-Authenticate: Bearer resource_metadata="{self.challenge}"\r\n'
            yield send_json({}, head=head.encode(), status=b"401 Unauthorized")
        else:
            yield send_json({}, status=b"404 Not Found")

    def name(self, **metadata: str) -> None:
        """Make the authorization server name other endpoints."""
        self.documents["/.well-known/oauth-authorization-server"] |= metadata


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    resource = {"resource": MCP_URL, "authorization_servers": [ORIGIN]}
    server = {
        "issuer": ORIGIN,
        "authorization_endpoint": f"{ORIGIN}/authorize",
        "token_endpoint": f"{ORIGIN}/token",
        "registration_endpoint": f"{ORIGIN}/register",
        "jwks_uri": f"{ORIGIN}/jwks",
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    }
    documents: dict[str, Any] = {
        "/.well-known/oauth-protected-resource/mcp": resource,
        "/.well-known/oauth-authorization-server": server,
    }
    context = build_server_tls(tmp_path, HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    tls._verifying.cache_clear()
    with (
        HostileServer(lambda _: iter([send_json({"not": "yours"})])) as neighbour,
        ProxyServer() as proxy,
    ):
        found = Elsewhere(documents, neighbour, proxy)
        with HostileServer(found.answer, tls=context) as target:
            proxy.routes = {f"{HOST}:443": target.port}
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            yield found
        assert neighbour.seen == []
    tls._verifying.cache_clear()


def refuse(act: Any, *arguments: Any) -> str:
    with pytest.raises(MintError) as caught:
        act(*arguments)
    return str(caught.value)


def words(elsewhere: Elsewhere) -> str:
    return f"{HOST} names {elsewhere.neighbour.url}, which is this machine: nothing is sent there"


def test_a_remote_target_is_reached_through_the_proxy(elsewhere: Elsewhere) -> None:
    found = discover(MCP_URL)
    assert found.issuer.rstrip("/") == ORIGIN
    assert set(elsewhere.proxy.seen) == {f"CONNECT {HOST}:443"}


def test_a_socks_proxy_for_a_remote_target_is_an_error_of_one_line(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"^HTTPS_PROXY is a SOCKS proxy"):
        discover(MCP_URL)
    assert elsewhere.proxy.seen == []


def test_metadata_of_the_resource_on_this_machine_are_not_requested(elsewhere: Elsewhere) -> None:
    elsewhere.challenge = f"{elsewhere.neighbour.url}/metadata"
    assert refuse(discover, MCP_URL) == f"mint failed at discovery: {words(elsewhere)}"


def test_an_authorization_server_on_this_machine_gets_no_request(elsewhere: Elsewhere) -> None:
    resource = elsewhere.documents["/.well-known/oauth-protected-resource/mcp"]
    resource["authorization_servers"] = [elsewhere.neighbour.url]
    assert words(elsewhere) in refuse(discover, MCP_URL)


def test_the_browser_is_not_sent_to_this_machine(elsewhere: Elsewhere) -> None:
    elsewhere.name(authorization_endpoint=f"{elsewhere.neighbour.url}/authorize")
    assert words(elsewhere) in refuse(discover, MCP_URL)


def test_no_secret_goes_to_a_token_endpoint_on_this_machine(elsewhere: Elsewhere) -> None:
    elsewhere.name(token_endpoint=f"{elsewhere.neighbour.url}/token")
    endpoint = Endpoint(MCP_URL, build_environment(), None, print)
    machine = MachineClient("client", ORIGIN, SecretStr("canary word"))
    assert words(elsewhere) in refuse(mint_by_client_credentials, endpoint, machine)


def test_keys_on_this_machine_are_not_fetched(elsewhere: Elsewhere) -> None:
    metadata = {"issuer": ORIGIN, "jwks_uri": f"{elsewhere.neighbour.url}/jwks"}
    grant = IssuedToken(SecretStr("a.b.c"), "browser", MCP_URL, metadata)
    endpoint = Endpoint(MCP_URL, build_environment(), None, print)
    with open_client(10) as http:
        assert words(elsewhere) in refuse(check_token, endpoint, grant, http)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:9/register", "http://localhost:9/register", "http://[::1]:9/token"),
        *("https://127.0.0.1/token", "https://127.9.9.9/", "https://a.localhost/register"),
        *("https://[::ffff:127.0.0.1]/", "https://0/", "https://2130706433/.well-known/x"),
    ],
)
def test_no_request_of_a_flow_goes_to_this_machine_redirects_included(
    url: str, method: str
) -> None:
    exchange = Exchange(MCP_URL)
    with pytest.raises(MintError, match=f"{HOST} names .*, which is this machine"):
        asyncio.run(exchange.note_request(httpx2.Request(method, url)))


def test_stored_tokens_are_not_sent_to_this_machine_either(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    url = elsewhere.neighbour.url
    remembered = StoredClient(
        client=ClientInformation(client_id="client"),
        issuer=ORIGIN,
        refresh_token="canary token",
        metadata={"token_endpoint": f"{url}/token", "revocation_endpoint": f"{url}/revoke"},
        mcp_url=MCP_URL,
        audience=MCP_URL,
        management_url=f"{url}/register/client",
        management_token="canary token",
    )
    store = ClientStore(tmp_path / "state")
    store.keep(0, remembered)
    request = ClientRequest(MCP_URL, build_environment(), None, print, state_dir=store.path.parent)
    assert words(elsewhere) in refuse(refresh_slots, request, [0])
    results = [each.describe() for each in revoke_all(store.path.parent)]
    assert json.dumps(results).count("stays: ") == 2
