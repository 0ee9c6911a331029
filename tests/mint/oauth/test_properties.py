"""For any response of a server, mint ends with a bearer or an error of one line, no traceback."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from pydantic import AnyUrl

from loadtest.errors import MintError
from loadtest.mint.oauth import refresh
from loadtest.mint.oauth.acceptance import check_token
from loadtest.mint.oauth.challenge import ask_endpoint
from loadtest.mint.oauth.exchange import Exchange
from loadtest.mint.oauth.refresh import refresh_slots
from loadtest.mint.oauth.request import ClientRequest, Endpoint
from loadtest.mint.oauth.sdk import open_sdk_client, take_token
from loadtest.mint.oauth.storage import SlotStorage
from loadtest.mint.oauth.verification import Expected, verify
from loadtest.state.bearers import parse_claims
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient
from tests.mint.minting import build_environment

MCP_URL = "http://127.0.0.1/mcp"
ISSUER = "http://127.0.0.1"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
VALUES = JSON | st.sampled_from(
    [ISSUER, MCP_URL, f"{ISSUER}/x", "Bearer", ["S256"], [ISSUER], 3600]
)


def documents(*names: str) -> st.SearchStrategy[bytes]:
    """Return bodies: objects with the known members and any values, or anything else."""
    objects = st.fixed_dictionaries({}, optional=dict.fromkeys(names, VALUES))
    return st.one_of(objects.map(json.dumps).map(str.encode), st.binary(max_size=40))


RESOURCE = documents("resource", "authorization_servers", "scopes_supported")
SERVER = documents(
    *("issuer", "authorization_endpoint", "token_endpoint", "registration_endpoint", "jwks_uri"),
    *("code_challenge_methods_supported", "scopes_supported", "grant_types_supported"),
)
CLIENT = documents("client_id", "client_secret", "token_endpoint_auth_method", "redirect_uris")
TOKENS = documents("access_token", "token_type", "expires_in", "refresh_token", "scope", "error")
KEYS = documents("keys")
CHALLENGES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    st.sampled_from(
        [
            "Bearer",
            f'Bearer resource_metadata="{ISSUER}/.well-known/oauth-protected-resource"',
            'Bearer resource_metadata="not a url", scope="',
            'Bearer error="insufficient_scope", scope="a b"',
        ]
    ),
)
STATUSES = st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 404, 500])


class Server(httpx2.AsyncBaseTransport):
    """Answers every request of a flow with generated data."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path == "/mcp":
            challenge = self._data.draw(CHALLENGES)
            status = self._data.draw(st.sampled_from([200, 401, 401, 401, 403]))
            return httpx2.Response(status, headers={"WWW-Authenticate": challenge})
        if "oauth-protected-resource" in path:
            body = RESOURCE
        elif "/.well-known/" in path:
            body = SERVER
        elif b"grant_type" in request.content:
            body = TOKENS
        else:
            body = CLIENT
        content = self._data.draw(body)
        headers = {"Content-Type": "application/json", "Date": self._data.draw(CHALLENGES)}
        return httpx2.Response(self._data.draw(STATUSES), content=content, headers=headers)

    def answer_keys(self, _: httpx2.Request) -> httpx2.Response:
        """Answer the request for the keys, without the SDK."""
        return httpx2.Response(self._data.draw(STATUSES), content=self._data.draw(KEYS))

    def answer_refresh(self, request: httpx2.Request) -> httpx2.Response:
        """Answer the token endpoint, the MCP endpoint and the keys."""
        body = TOKENS if b"grant_type" in request.content else KEYS
        headers = {"Date": self._data.draw(CHALLENGES), "Mcp-Session-Id": "s"}
        status = self._data.draw(STATUSES)
        return httpx2.Response(status, content=self._data.draw(body), headers=headers)


async def run(server: Server, state: Path) -> None:
    exchange = Exchange(MCP_URL)
    code = AuthorizationCodeResult(code="c", state="s")

    async def redirect(url: str) -> None:
        exchange.check_pkce()
        code.state = httpx2.URL(url).params.get("state")
        code.iss = exchange.metadata.get("issuer")

    async def answer() -> AuthorizationCodeResult:
        return code

    provider = OAuthClientProvider(
        server_url=MCP_URL,
        client_metadata=OAuthClientMetadata(redirect_uris=[AnyUrl("http://127.0.0.1/callback")]),
        storage=SlotStorage(ClientStore(state), 0, None, exchange),
        redirect_handler=redirect,
        callback_handler=answer,
    )
    endpoint = Endpoint(MCP_URL, build_environment(), "w", lambda _: None)
    async with open_sdk_client(endpoint.tell, exchange, server) as client:
        reply = await ask_endpoint(client, MCP_URL, provider, exchange)
        grant = take_token(endpoint, provider, exchange, reply)
    with httpx2.Client(transport=httpx2.MockTransport(server.answer_keys)) as http:
        check_token(endpoint, grant, http)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_reply_of_a_server_makes_a_traceback(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    said = ""
    try:
        asyncio.run(run(Server(data), tmp_path_factory.mktemp("state")))
    except MintError as failure:
        said = str(failure)
    assert "\n" not in said


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_reply_to_a_refresh_makes_a_traceback(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    told: list[str] = []
    environment = build_environment()
    request = ClientRequest(MCP_URL, environment, "w", told.append, tmp_path_factory.mktemp("s"))
    metadata = {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", "jwks_uri": ISSUER}
    remembered = StoredClient(
        client=ClientInformation(client_id="c"),
        refresh_token="r",
        metadata=metadata,
        mcp_url=MCP_URL,
        audience=MCP_URL,
    )
    ClientStore(request.state_dir).keep(0, remembered)
    transport = httpx2.MockTransport(Server(data).answer_refresh)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refresh, "open_client", lambda *_: httpx2.Client(transport=transport))
        assert refresh_slots(request, (0,)) == {}
    assert all("\n" not in line for line in told)


@given(st.text() | st.from_regex(r"[\w-]{0,20}\.[\w-]{0,20}\.[\w-]{0,20}", fullmatch=True))
def test_no_text_makes_the_claims_parser_fail(token: str) -> None:
    claims = parse_claims(token)
    assert claims is None or isinstance(claims, dict)


@given(
    st.text() | st.from_regex(r"[\w-]{0,30}\.[\w-]{0,30}\.[\w-]{0,30}", fullmatch=True),
    st.dictionaries(st.text(max_size=6), JSON, max_size=4) | st.just({"keys": [{"kty": "OKP"}]}),
)
def test_verification_of_any_token_with_any_keys_fails_in_one_line(
    token: str, keys: dict[str, Any]
) -> None:
    with pytest.raises(MintError) as caught:
        verify(token, keys, Expected(ISSUER, MCP_URL, frozenset(), None, None))
    assert "\n" not in str(caught.value)
