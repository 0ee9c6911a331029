"""The authorization server: discovery, registration, authorization, tokens."""

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from loadtest.reference.tokens import WORKSPACE_CLAIM, WORKSPACES_CLAIM
from tests.reference.visitor import (
    ALL_SCOPES,
    PASSWORD,
    REDIRECT,
    Clock,
    Launch,
    Visitor,
    claims_of,
    error_of,
    query_of,
)


@pytest.fixture
def visitor(resident: Visitor) -> Visitor:
    """Somebody who need not be new."""
    return resident


@pytest.fixture
def client_id(visitor: Visitor) -> str:
    """A public client."""
    found: str = visitor.register()["client_id"]
    return found


def test_both_discovery_documents_are_the_same(visitor: Visitor) -> None:
    inserted = visitor.http.get("/.well-known/oauth-authorization-server/api/auth")
    appended = visitor.http.get("/api/auth/.well-known/openid-configuration")
    metadata = inserted.json()
    assert metadata == appended.json()
    assert metadata["issuer"] == visitor.issuer
    for name in ("authorization", "token", "registration", "revocation", "introspection"):
        assert metadata[f"{name}_endpoint"].startswith(f"{visitor.issuer}/oauth2/")
    assert metadata["jwks_uri"] == f"{visitor.issuer}/jwks"
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert metadata["grant_types_supported"] == [
        "authorization_code",
        "refresh_token",
        "client_credentials",
    ]
    assert metadata["scopes_supported"] == [
        "openid", "profile", "email", "offline_access", "mcp:read", "mcp:write",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-protected-resource",
        "/.well-known/openid-configuration/api/auth",
    ],
)
def test_the_bare_well_known_paths_are_not_found(visitor: Visitor, path: str) -> None:
    assert visitor.http.get(path).status_code == 404


@pytest.mark.parametrize("suffix", ["", "/a-workspace", "/a-workspace/sse"])
def test_resource_metadata_always_name_the_shared_resource(visitor: Visitor, suffix: str) -> None:
    metadata = visitor.http.get(f"/.well-known/oauth-protected-resource/mcp{suffix}").json()
    assert metadata["resource"] == visitor.resource
    assert metadata["authorization_servers"] == [visitor.issuer]
    assert metadata["scopes_supported"] == ["mcp:read", "mcp:write", "offline_access"]


def test_the_web_origin_serves_no_metadata(visitor: Visitor) -> None:
    web = visitor.target.web_url
    for path in ("/api/health", "/.well-known/oauth-protected-resource/mcp", "/mcp/x", "/"):
        response = httpx.get(web + path)
        assert response.status_code == 302
        assert response.headers["location"] == f"{web}/login"


def test_registration_answers_200_without_any_secret(visitor: Visitor) -> None:
    client = visitor.register(token_endpoint_auth_method="client_secret_basic")
    assert client["token_endpoint_auth_method"] == "none"
    assert not {"client_secret", "registration_access_token"} & set(client)
    assert visitor.register(grant_types=["authorization_code"])["grant_types"] == [
        "authorization_code"
    ]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"redirect_uris": ["http://elsewhere.example/callback"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://x.example/callback#part"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"grant_types": ["password"]}, "invalid_client_metadata"),
        ({"scope": "admin"}, "invalid_client_metadata"),
        ({"redirect_uris": "a string"}, "VALIDATION_ERROR"),
    ],
)
def test_unusable_client_metadata_are_refused(
    visitor: Visitor, change: dict[str, object], error: str
) -> None:
    body = {"redirect_uris": [REDIRECT], **change}
    response = visitor.post("/api/auth/oauth2/register", body, signed_in=False)
    assert error_of(response) == (400, error)


def test_a_signed_out_user_is_redirected_to_sign_in_and_then_to_consent(
    visitor: Visitor, client_id: str
) -> None:
    page = visitor.authorize_signed_out(client_id)
    assert page.startswith(f"{visitor.target.web_url}/login?")
    body = {"email": visitor.email, "password": PASSWORD, "oauth_query": page.partition("?")[2]}
    answer = visitor.post("/api/auth/sign-in/email", body, signed_in=False).json()
    assert answer["url"].startswith(f"{visitor.target.web_url}/oauth2/consent?")


def test_consent_is_requested_once_and_every_callback_names_the_issuer(
    visitor: Visitor, client_id: str
) -> None:
    page = visitor.authorize(client_id)
    assert page.startswith(f"{visitor.target.web_url}/oauth2/consent?")
    callback = visitor.decide(page).json()["url"]
    assert callback.startswith(REDIRECT)
    assert set(query_of(callback)) == {"code", "state", "iss"}
    straight = visitor.authorize(client_id)
    assert straight.startswith(REDIRECT)
    assert query_of(straight)["iss"] == visitor.issuer
    assert query_of(straight)["state"] == "the-state"
    wider = visitor.authorize(client_id, scope=ALL_SCOPES + " mcp:write")
    assert "/oauth2/consent?" in wider


def test_a_denial_comes_back_as_access_denied(visitor: Visitor, client_id: str) -> None:
    answer = query_of(visitor.decide(visitor.authorize(client_id), accept=False).json()["url"])
    assert answer["error"] == "access_denied"
    assert answer["state"] == "the-state"
    assert answer["iss"] == visitor.issuer


def test_prompts_are_honoured(visitor: Visitor, client_id: str) -> None:
    signed_out = visitor.authorize_signed_out(client_id, prompt="none")
    assert query_of(signed_out)["error"] == "login_required"
    assert query_of(visitor.authorize(client_id, prompt="none"))["error"] == "consent_required"
    visitor.code(client_id)
    assert "code" in query_of(visitor.authorize(client_id, prompt="none"))
    assert "/oauth2/consent?" in visitor.authorize(client_id, prompt="consent")
    page = visitor.authorize(client_id, prompt="login")
    assert "/login?" in page
    body = {"email": visitor.email, "password": PASSWORD, "oauth_query": page.partition("?")[2]}
    answer = visitor.post("/api/auth/sign-in/email", body, signed_in=False).json()
    assert answer["url"].startswith(REDIRECT)


def test_a_wrong_client_or_redirect_uri_ends_on_the_issuers_error_page(
    visitor: Visitor, client_id: str
) -> None:
    for page in (
        visitor.authorize("unknown"),
        visitor.authorize(client_id, redirect_uri="http://127.0.0.1/elsewhere"),
        visitor.authorize(client_id, redirect_uri="http://127.0.0.1:99999/callback"),
        visitor.authorize(client_id, redirect_uri="http://elsewhere.example/callback"),
        visitor.authorize(client_id, redirect_uri=""),
    ):
        assert page.startswith(f"{visitor.issuer}/error?error=")
    assert visitor.http.get(page).status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"resource": "http://127.0.0.1/other"}, "invalid_target"),
    ],
)
def test_other_errors_are_sent_to_the_redirect_uri(
    visitor: Visitor, client_id: str, changes: dict[str, str], error: str
) -> None:
    answer = query_of(visitor.authorize(client_id, **changes))
    assert answer["error"] == error
    assert answer["state"] == "the-state"
    assert answer["iss"] == visitor.issuer


def test_one_registration_allows_any_loopback_port(visitor: Visitor, client_id: str) -> None:
    other = "http://127.0.0.1:54321/callback"
    code = visitor.code(client_id, redirect_uri=other)
    assert visitor.redeem(client_id, code, redirect_uri=other).status_code == 200


def test_a_forged_or_old_page_query_is_refused(launch: Launch, join: type[Visitor]) -> None:
    clock = Clock()
    visitor = join(launch(clock=clock))
    client_id = visitor.register()["client_id"]
    page = visitor.authorize(client_id)
    assert visitor.decide(page.replace("the-state", "another")).status_code == 401
    clock.now += 600
    assert visitor.decide(page).status_code == 401
    assert visitor.decide("/oauth2/consent?").status_code == 401


def test_the_access_token_carries_exactly_the_claims_of_the_contract(
    visitor: Visitor, client_id: str
) -> None:
    response = visitor.redeem(client_id, visitor.code(client_id, nonce="n"))
    tokens = response.json()
    assert set(tokens) == {
        "access_token", "expires_in", "token_type", "scope", "refresh_token", "id_token",
    }  # fmt: skip
    assert response.headers["cache-control"] == "no-store"
    claims = claims_of(tokens["access_token"])
    assert set(claims) == {
        "iss", "sub", "aud", "azp", "scope", "iat", "exp", "sid", WORKSPACE_CLAIM, WORKSPACES_CLAIM,
    }  # fmt: skip
    assert claims["exp"] - claims["iat"] == tokens["expires_in"] == 3600
    assert claims["azp"] == client_id
    assert visitor.resource in claims["aud"]
    assert len(claims["aud"]) == 2
    assert claims[WORKSPACE_CLAIM] == visitor.workspace_id
    assert claims_of(tokens["id_token"])["nonce"] == "n"
    jwks = visitor.http.get("/api/auth/jwks").json()
    assert all("d" not in key and key["kid"] for key in jwks["keys"])
    with pytest.warns(match="EdDSA is deprecated"):
        token = jwt.decode(
            tokens["access_token"], KeySet.import_key_set(jwks), algorithms=["EdDSA"]
        )
    assert token.header["alg"] == "EdDSA"


def test_without_openid_the_audience_is_a_string_and_there_is_no_id_token(
    visitor: Visitor, client_id: str
) -> None:
    tokens = visitor.redeem(client_id, visitor.code(client_id, scope="mcp:read")).json()
    assert claims_of(tokens["access_token"])["aud"] == visitor.resource
    assert not {"refresh_token", "id_token"} & set(tokens)


def test_without_resource_the_token_is_opaque_and_the_mcp_endpoint_refuses_it(
    visitor: Visitor, client_id: str
) -> None:
    tokens = visitor.redeem(client_id, visitor.code(client_id), resource="").json()
    assert "." not in tokens["access_token"]
    assert error_of(visitor.mcp(tokens["access_token"]).initialize()) == (401, "invalid_bearer")
    again = visitor.refresh(client_id, tokens["refresh_token"], resource="").json()
    assert "." not in again["access_token"]
    good = visitor.refresh(client_id, again["refresh_token"]).json()
    assert visitor.mcp(good["access_token"]).initialize().status_code == 200


@pytest.mark.parametrize(
    "mistake",
    [
        {"code_verifier": "w" * 43},
        {"resource": "http://127.0.0.1/other"},
        {"redirect_uri": "http://127.0.0.1:1/callback"},
    ],
)
def test_a_mistake_uses_up_the_code(
    visitor: Visitor, client_id: str, mistake: dict[str, str]
) -> None:
    code = visitor.code(client_id)
    assert visitor.redeem(client_id, code, **mistake).status_code in (400, 401)
    assert error_of(visitor.redeem(client_id, code)) == (401, "invalid_grant")


def test_a_code_works_once_and_only_for_its_client(visitor: Visitor, client_id: str) -> None:
    code = visitor.code(client_id)
    other = visitor.register()["client_id"]
    assert error_of(visitor.redeem(other, code)) == (401, "invalid_grant")
    assert visitor.redeem(client_id, code).status_code == 200
    assert error_of(visitor.redeem(client_id, code)) == (401, "invalid_grant")


def test_a_code_expires(launch: Launch, join: type[Visitor]) -> None:
    clock = Clock()
    visitor = join(launch(clock=clock))
    client_id = visitor.register()["client_id"]
    code = visitor.code(client_id)
    clock.now += 600
    assert error_of(visitor.redeem(client_id, code)) == (401, "invalid_grant")


def test_the_token_endpoint_accepts_only_forms(visitor: Visitor, client_id: str) -> None:
    token = "/api/auth/oauth2/token"
    response = visitor.http.post(token, json={"grant_type": "authorization_code"})
    assert error_of(response) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert error_of(visitor.exchange(client_id=client_id)) == (400, "VALIDATION_ERROR")
    unknown = visitor.exchange(grant_type="password", client_id=client_id)
    assert error_of(unknown) == (400, "unsupported_grant_type")
    assert "error_description" in unknown.json()
    unknown = visitor.exchange(grant_type="authorization_code", client_id="unknown")
    assert error_of(unknown) == (401, "invalid_client")


def test_using_a_rotated_refresh_token_again_revokes_the_whole_family(
    visitor: Visitor, client_id: str
) -> None:
    first = visitor.redeem(client_id, visitor.code(client_id)).json()["refresh_token"]
    second = visitor.refresh(client_id, first).json()["refresh_token"]
    assert second != first
    assert error_of(visitor.refresh(client_id, first)) == (401, "invalid_grant")
    assert error_of(visitor.refresh(client_id, second)) == (401, "invalid_grant")


def test_a_refresh_may_narrow_the_scope_but_not_widen_it(visitor: Visitor, client_id: str) -> None:
    first = visitor.redeem(client_id, visitor.code(client_id)).json()["refresh_token"]
    wide = visitor.refresh(client_id, first, scope="mcp:read mcp:write")
    assert error_of(wide) == (400, "invalid_scope")
    narrow = visitor.refresh(client_id, first, scope="mcp:read").json()
    assert narrow["scope"] == claims_of(narrow["access_token"])["scope"] == "mcp:read"


def test_a_client_without_the_refresh_grant_gets_no_refresh_token(visitor: Visitor) -> None:
    client_id = visitor.register(grant_types=["authorization_code"])["client_id"]
    assert "refresh_token" not in visitor.redeem(client_id, visitor.code(client_id)).json()


def test_a_revoked_refresh_token_is_refused(visitor: Visitor, client_id: str) -> None:
    token = visitor.redeem(client_id, visitor.code(client_id)).json()["refresh_token"]
    form = {"token": token, "token_type_hint": "refresh_token", "client_id": client_id}
    for _ in range(2):
        assert visitor.http.post("/api/auth/oauth2/revoke", data=form).status_code == 200
    assert error_of(visitor.refresh(client_id, token)) == (401, "invalid_grant")


def test_introspection_and_userinfo_accept_jwt_and_opaque_tokens(
    visitor: Visitor, client_id: str
) -> None:
    for resource in (visitor.resource, ""):
        tokens = visitor.redeem(client_id, visitor.code(client_id), resource=resource).json()
        form = {"token": tokens["access_token"], "client_id": client_id}
        facts = visitor.http.post("/api/auth/oauth2/introspect", data=form).json()
        assert facts["active"] is True
        assert facts["client_id"] == client_id
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        person = visitor.http.get("/api/auth/oauth2/userinfo", headers=headers).json()
        assert person["email"] == visitor.email
    form["token"] = "unknown"
    assert visitor.http.post("/api/auth/oauth2/introspect", data=form).json() == {"active": False}
    assert visitor.http.get("/api/auth/oauth2/userinfo").status_code == 401


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_client_registered_with_a_session_can_use_its_own_credentials(
    visitor: Visitor, method: str
) -> None:
    client = visitor.register(
        signed_in=True, grant_types=["client_credentials"], token_endpoint_auth_method=method
    )
    credentials = (client["client_id"], client["client_secret"])
    form = {"grant_type": "client_credentials", "resource": visitor.resource}
    if method == "client_secret_basic":
        auth = httpx.BasicAuth(*credentials)
        response = visitor.http.post("/api/auth/oauth2/token", data=form, auth=auth)
    else:
        response = visitor.exchange(**form, client_id=credentials[0], client_secret=credentials[1])
    token = response.json()["access_token"]
    claims = claims_of(token)
    assert claims["sub"] == claims["azp"] == client["client_id"]
    assert visitor.mcp(token).open().call("listEntities")["content"]
    wrong = visitor.exchange(**form, client_id=credentials[0], client_secret="wrong")
    assert error_of(wrong) == (401, "invalid_client")
    none = visitor.exchange(**form, client_id=credentials[0])
    assert error_of(none) == (401, "invalid_client")
