"""Every way in which a server may be found, read by hand and walked by the SDK's own client."""

import asyncio
from typing import Any

import httpx
import httpx2
import pytest
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from tests.reference.visitor import (
    ALL_SCOPES,
    NO_TLS,
    REDIRECT,
    Launch,
    Visitor,
    claims_of,
    error_of,
    query_of,
)

WELL_KNOWN = "/.well-known"
RFC8414 = f"{WELL_KNOWN}/oauth-authorization-server"
OPENID = f"{WELL_KNOWN}/openid-configuration"
RESOURCE = f"{WELL_KNOWN}/oauth-protected-resource"
PLACES = (
    *(f"{RFC8414}/api/auth", f"{OPENID}/api/auth", f"/api/auth{OPENID}", RFC8414, OPENID),
    *(f"{RESOURCE}/mcp", f"{RESOURCE}/mcp/any", RESOURCE),
)


def places_of(visitor: Visitor) -> set[str]:
    """Which of the well-known documents are served."""
    return {path for path in PLACES if visitor.http.get(path).status_code == 200}


@pytest.mark.parametrize(
    ("knobs", "members"),
    [
        (
            {"challenge": "scope"},
            ', scope="mcp:read", resource_metadata="{api}{resource}/mcp/{workspace}"',
        ),
        ({"challenge": "scope", "resource_metadata": "nowhere"}, ', scope="mcp:read"'),
        ({"challenge": "bare"}, ""),
        ({"resource_metadata": "root"}, ', resource_metadata="{api}{resource}"'),
    ],
)
def test_the_knobs_set_what_a_challenge_contains(
    launch: Launch, knobs: dict[str, str], members: str
) -> None:
    target = launch(**knobs)
    refused = httpx.post(f"{target.api_url}/mcp/some-workspace", verify=NO_TLS)
    assert error_of(refused) == (401, "missing_bearer")
    parts = {"api": target.api_url, "resource": RESOURCE, "workspace": "some-workspace"}
    assert refused.headers["www-authenticate"] == 'Bearer realm="mcp"' + members.format(**parts)


def test_at_the_root_the_whole_origin_is_the_resource(launch: Launch, join: Any) -> None:
    target = launch(resource_metadata="root")
    visitor = join(target)
    assert RESOURCE in places_of(visitor)
    assert f"{RESOURCE}/mcp" not in places_of(visitor)
    assert visitor.http.get(RESOURCE).json()["resource"] == target.api_url
    client_id = visitor.register()["client_id"]
    assert query_of(visitor.authorize(client_id))["error"] == "invalid_target"
    code = visitor.code(client_id, resource=target.api_url)
    bearer = visitor.redeem(client_id, code, resource=target.api_url).json()["access_token"]
    assert target.api_url in claims_of(bearer)["aud"]
    assert visitor.mcp(bearer).initialize().status_code == 200


def test_without_resource_metadata_a_resource_indicator_is_ignored(
    launch: Launch, join: Any
) -> None:
    visitor = join(launch(resource_metadata="nowhere"))
    client_id = visitor.register()["client_id"]
    for resource in ("", "http://127.0.0.1/other"):
        code = visitor.code(client_id, resource=resource)
        tokens = visitor.redeem(client_id, code, resource=resource).json()
        assert visitor.resource in claims_of(tokens["access_token"])["aud"]
        again = visitor.refresh(client_id, tokens["refresh_token"], resource=resource).json()
        assert visitor.mcp(again["access_token"]).initialize().status_code == 200


@pytest.mark.parametrize(
    ("knob", "promised", "sent"),
    [
        ("promised", True, True),
        ("withheld", True, False),
        ("unpromised", False, True),
        ("absent", False, False),
    ],
)
def test_iss_is_promised_and_sent_by_its_knob(
    launch: Launch, join: Any, knob: str, promised: bool, sent: bool
) -> None:
    visitor = join(launch(iss_parameter=knob), demo=False)
    metadata = visitor.http.get(f"{RFC8414}/api/auth").json()
    assert metadata.get("authorization_response_iss_parameter_supported", False) == promised
    page = visitor.authorize(visitor.register()["client_id"])
    for accept in (False, True):
        answer = query_of(visitor.decide(page, accept=accept).json()["url"])
        assert ("iss" in answer) == sent


@pytest.mark.parametrize(
    ("knob", "listed"), [("listed", ["S256"]), ("plain", ["plain"]), ("absent", None)]
)
def test_the_listed_pkce_method_works(
    launch: Launch, join: Any, knob: str, listed: list[str] | None
) -> None:
    visitor = join(launch(s256=knob), demo=False)
    metadata = visitor.http.get(f"{RFC8414}/api/auth").json()
    assert metadata.get("code_challenge_methods_supported") == listed
    client_id = visitor.register()["client_id"]
    works, fails = ("plain", "S256") if knob == "plain" else ("S256", "plain")
    refused = visitor.authorize(client_id, code_challenge_method=fails)
    assert query_of(refused)["error"] == "invalid_request"
    if knob == "plain":
        code = visitor.code(client_id, code_challenge="c" * 43, code_challenge_method="plain")
        answer = visitor.redeem(client_id, code, code_verifier="c" * 43)
    else:
        answer = visitor.redeem(client_id, visitor.code(client_id, code_challenge_method=works))
    assert answer.status_code == 200


class Memory:
    """Where the SDK's client keeps what it was given."""

    def __init__(self, client: OAuthClientInformationFull | None) -> None:
        self.tokens: OAuthToken | None = None
        self.client = client

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def walk(
    visitor: Visitor, *, requests: int = 1, client: OAuthClientInformationFull | None = None
) -> tuple[list[int], Memory]:
    """Initialize with the SDK's client and consent; return statuses and what it stored."""
    memory = Memory(client)
    callbacks: list[str] = []

    async def redirect(url: str) -> None:
        response = visitor.http.get(url, headers=visitor.bearer_header)
        page = response.headers["location"]
        asked = "/oauth2/consent" in page
        callbacks.append(visitor.decide(page).json()["url"] if asked else page)

    async def callback() -> AuthorizationCodeResult:
        answer = query_of(callbacks[-1])
        return AuthorizationCodeResult(
            code=answer.get("code", ""), state=answer.get("state"), iss=answer.get("iss")
        )

    provider = OAuthClientProvider(
        f"{visitor.target.api_url}/mcp/{visitor.workspace_id}",
        OAuthClientMetadata(redirect_uris=[AnyUrl(REDIRECT)], scope=ALL_SCOPES),
        memory,
        redirect,
        callback,
    )

    async def initialize() -> list[int]:
        path = f"/mcp/{visitor.workspace_id}"
        headers = {"Accept": "application/json, text/event-stream"}
        info = {"name": "tests", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        message = {"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": params}
        url = f"{visitor.target.api_url}{path}"
        async with httpx2.AsyncClient(auth=provider, trust_env=False) as http:
            return [
                (await http.post(url, json=message, headers=headers)).status_code
                for _ in range(requests)
            ]

    return asyncio.run(initialize()), memory


def endpoints_of(visitor: Visitor) -> list[int]:
    """Check how the default endpoints of MCP 2025-03-26 answer a wrong request."""
    return [
        visitor.post("/register", {}, signed_in=False).status_code,
        visitor.http.get("/authorize").status_code,
        visitor.http.post("/token", data={"grant_type": "x", "client_id": "x"}).status_code,
    ]


INSERTED, OPENID_INSERTED = f"{RFC8414}/api/auth", f"{OPENID}/api/auth"
OPENID_APPENDED = f"/api/auth{OPENID}"


@pytest.mark.parametrize(
    ("knobs", "server_places", "default_endpoints"),
    [
        ({"challenge": "bare"}, {INSERTED, OPENID_APPENDED}, False),
        ({"server_metadata": "inserted"}, {INSERTED}, False),
        ({"server_metadata": "openid-inserted"}, {OPENID_INSERTED}, False),
        ({"server_metadata": "openid-appended"}, {OPENID_APPENDED}, False),
        ({"server_metadata": "openid-appended", "issuer_path": False}, {OPENID}, False),
        (
            {"resource_metadata": "root", "challenge": "bare", "issuer_path": False},
            {RFC8414, OPENID},
            False,
        ),
        (
            {
                "resource_metadata": "nowhere",
                "server_metadata": "inserted",
                "issuer_path": False,
            },
            {RFC8414},
            False,
        ),
        (
            {
                "resource_metadata": "nowhere",
                "server_metadata": "openid-appended",
                "issuer_path": False,
            },
            {OPENID},
            True,
        ),
        ({"resource_metadata": "nowhere"}, {INSERTED, OPENID_APPENDED}, True),
        ({"server_metadata": "nowhere"}, set(), True),
        ({"server_metadata": "nowhere", "resource_metadata": "nowhere"}, set(), True),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_the_sdks_client_finds_the_metadata_at_every_place(
    launch: Launch,
    join: Any,
    knobs: dict[str, Any],
    server_places: set[str],
    default_endpoints: bool,
) -> None:
    visitor = join(launch(**knobs), demo=False)
    resource_places = {
        "path": {f"{RESOURCE}/mcp", f"{RESOURCE}/mcp/any"},
        "root": {RESOURCE},
        "nowhere": set(),
    }[knobs.get("resource_metadata", "path")]
    assert places_of(visitor) == server_places | resource_places
    for path in server_places:
        metadata = visitor.http.get(path).json()
        issuer = visitor.issuer if knobs.get("issuer_path", True) else visitor.target.api_url
        assert metadata["issuer"] == issuer
        assert metadata["token_endpoint"] == f"{visitor.issuer}/oauth2/token"
    assert endpoints_of(visitor) == ([400, 302, 401] if default_endpoints else [404, 404, 404])
    assert walk(visitor)[0] == [200]
    assert visitor.target.registrations == 1


@pytest.mark.parametrize(
    "knobs",
    [
        {"iss_parameter": "absent"},
        {"iss_parameter": "unpromised", "registration_auth": "client_secret_basic"},
        {"registration_auth": "client_secret_post", "registration_management": True},
    ],
    ids=lambda knobs: " ".join(knobs.values() if "iss_parameter" in knobs else knobs),
)
def test_the_sdks_client_accepts_what_the_specification_allows(
    launch: Launch, join: Any, knobs: dict[str, Any]
) -> None:
    assert walk(join(launch(**knobs), demo=False))[0] == [200]


@pytest.mark.parametrize(("knob", "statuses"), [("once", [403, 200]), ("always", [403, 403])])
def test_the_sdks_client_steps_up_when_the_challenge_names_a_scope(
    launch: Launch, join: Any, knob: str, statuses: list[int]
) -> None:
    visitor = join(launch(step_up=knob, challenge="scope"), demo=False)
    # The SDK would register only for the first scope, and could not request more later.
    client = OAuthClientInformationFull.model_validate(visitor.register())
    seen, memory = walk(visitor, requests=2, client=client)
    assert seen == statuses
    assert memory.tokens is not None
    assert set((memory.tokens.scope or "").split()) == {"mcp:read", "mcp:write", "offline_access"}


@pytest.mark.parametrize(
    "knobs",
    [
        {"resource_mismatch": "host"},
        {"resource_mismatch": "path"},
        {"iss_parameter": "withheld"},
        {"wrong_issuer": "response"},
    ],
    ids=lambda knobs: "=".join(*knobs.items()),
)
def test_the_sdks_client_refuses_an_untrustworthy_server(
    launch: Launch, join: Any, knobs: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    target = launch(**knobs)
    visitor = join(target, demo=False)
    with pytest.raises(OAuthFlowError):
        walk(visitor)
    named = visitor.http.get(f"{RESOURCE}/mcp").json()["resource"]
    assert named == {
        "host": "https://mcp.elsewhere.example/mcp",
        "path": f"{target.api_url}/mc",
    }.get(knobs.get("resource_mismatch", ""), visitor.resource)


def test_a_closed_registration_is_not_advertised_and_refuses(launch: Launch, join: Any) -> None:
    visitor = join(launch(registration="closed"), demo=False)
    assert "registration_endpoint" not in visitor.http.get(f"{RFC8414}/api/auth").json()
    for signed_in in (False, True):
        refused = visitor.post("/api/auth/oauth2/register", {}, signed_in=signed_in)
        assert error_of(refused) == (403, "access_denied")
    assert visitor.target.clients() == []


def test_a_server_with_only_client_credentials_refuses_other_grants(
    launch: Launch, join: type[Visitor]
) -> None:
    visitor = join(launch(grant_types="client_credentials"))
    metadata = visitor.http.get(f"{RFC8414}/api/auth").json()
    assert metadata["grant_types_supported"] == ["client_credentials"]
    client_id = visitor.register()["client_id"]
    refused = visitor.redeem(client_id, visitor.code(client_id))
    assert error_of(refused) == (400, "unsupported_grant_type")
