"""Accounts, workspaces, demo data and self-mint, as provisioning meets them."""

from pathlib import Path

import httpx
import pytest

from loadtest.reference.server import SeedUser
from tests.reference.visitor import NO_TLS, PASSWORD, Clock, Launch, Visitor, claims_of, error_of


def test_sign_up_answers_with_a_token_and_the_user(visitor: Visitor) -> None:
    body = {"email": "New@NovaMart.example", "password": PASSWORD, "name": "New"}
    response = visitor.post("/api/auth/sign-up/email", body, signed_in=False)
    assert response.status_code == 200
    assert response.json()["user"]["email"] == "new@novamart.example"
    assert set(response.json()) == {"token", "user"}
    again = visitor.post("/api/auth/sign-up/email", body, signed_in=False)
    assert error_of(again) == (422, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL")
    assert "error" not in again.json()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"password": "short"}, "PASSWORD_TOO_SHORT"),
        ({"password": "x" * 129}, "PASSWORD_TOO_LONG"),
        ({"email": "no address"}, "VALIDATION_ERROR"),
        ({"name": None}, "VALIDATION_ERROR"),
    ],
)
def test_a_bad_sign_up_is_refused(visitor: Visitor, change: dict[str, object], code: str) -> None:
    body = {"email": "bad@novamart.example", "password": PASSWORD, "name": "Bad", **change}
    assert error_of(visitor.post("/api/auth/sign-up/email", body)) == (400, code)


def test_a_body_that_is_not_json_is_refused(visitor: Visitor) -> None:
    response = visitor.http.post("/api/auth/sign-in/email", content=b"{")
    assert error_of(response) == (400, "VALIDATION_ERROR")


def test_sign_in_does_not_reveal_whether_the_user_or_the_password_was_wrong(
    visitor: Visitor,
) -> None:
    def sign_in(email: str, password: str) -> tuple[int, str]:
        body = {"email": email, "password": password}
        response = visitor.post("/api/auth/sign-in/email", body, signed_in=False)
        return (200, "") if response.status_code == 200 else error_of(response)

    assert sign_in(visitor.email.upper(), PASSWORD) == (200, "")
    assert sign_in(visitor.email, "not it, sorry") == (401, "INVALID_EMAIL_OR_PASSWORD")
    assert sign_in("nobody@novamart.example", PASSWORD) == (401, "INVALID_EMAIL_OR_PASSWORD")


def test_a_new_organization_is_listed_and_active_in_later_sign_ins(visitor: Visitor) -> None:
    taken = visitor.post("/api/auth/organization/create", {"name": "x", "slug": "other-slug"})
    assert taken.json()["slug"] == "other-slug"
    again = visitor.post("/api/auth/organization/create", {"name": "x", "slug": "other-slug"})
    assert error_of(again) == (400, "ORGANIZATION_ALREADY_EXISTS")
    listed = visitor.http.get("/api/auth/organization/list", headers=visitor.bearer_header)
    assert [each["id"] for each in listed.json()] == [visitor.workspace_id, taken.json()["id"]]
    session = visitor.http.get("/api/auth/get-session", headers=visitor.bearer_header).json()
    assert session["session"]["activeOrganizationId"] == taken.json()["id"]
    body = {"organizationId": visitor.workspace_id}
    assert visitor.post("/api/auth/organization/set-active", body).status_code == 200
    assert visitor.post("/api/auth/organization/list", {}).status_code == 405


def test_choosing_an_organization_of_others_clears_the_active_one(
    launch: Launch, join: type[Visitor]
) -> None:
    target = launch()
    ada, ben = join(target, "ada"), join(target, "ben")
    body = {"organizationId": ben.workspace_id}
    refused = ada.post("/api/auth/organization/set-active", body)
    assert error_of(refused) == (403, "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION")
    refused = ada.post("/api/v1/onboarding/use-demo", {})
    assert error_of(refused) == (400, "no_organization")
    refused = ada.post("/api/v1/me/load-test/mcp-token", {})
    assert error_of(refused) == (400, "no_active_workspace")


def test_a_second_demo_import_duplicates_every_entity(visitor: Visitor) -> None:
    client = visitor.mcp().open()
    assert '"count": 13' in client.call("listEntities")["content"][0]["text"]
    again = visitor.post("/api/v1/onboarding/use-demo", {})
    assert again.status_code == 201
    assert again.json()["entitiesImported"] == 13
    assert again.json()["partialFailures"] == []
    assert '"count": 26' in client.call("listEntities")["content"][0]["text"]
    described = client.call("describeEntity", name="orders")
    assert '"ambiguous_term"' in described["content"][0]["text"]


def test_rest_errors_carry_a_request_id(visitor: Visitor) -> None:
    response = visitor.post("/api/v1/onboarding/use-demo", {}, signed_in=False)
    assert error_of(response) == (401, "auth_error")
    assert set(response.json()) == {"error", "message", "requestId"}
    assert error_of(visitor.http.get("/api/nowhere")) == (404, "not_found")
    assert visitor.http.get("/api/health").status_code == 200


def test_an_administrators_user_must_change_the_password_first(launch: Launch) -> None:
    seed = SeedUser("new@novamart.example", PASSWORD, workspace="seeded")
    target = launch(users=[seed])
    assert PASSWORD not in repr(seed)
    with httpx.Client(base_url=target.api_url) as http:
        body = {"email": seed.email, "password": PASSWORD}
        token = http.post("/api/auth/sign-in/email", json=body).json()["token"]
        http.cookies.clear()
        headers = {"Authorization": f"Bearer {token}"}
        mint = "/api/v1/me/load-test/mcp-token"
        refused = http.post(mint, json={}, headers=headers)
        assert error_of(refused) == (403, "auth_error")
        assert "password_change_required" in refused.json()["message"]
        change = "/api/v1/admin/me/password"
        wrong = {"currentPassword": "not it, sorry", "newPassword": "another password"}
        assert error_of(http.post(change, json=wrong, headers=headers))[0] == 400
        right = {"currentPassword": PASSWORD, "newPassword": "another password"}
        assert http.post(change, json=right, headers=headers).status_code == 200
        assert http.post(mint, json={}, headers=headers).status_code == 200
        body["password"] = "another password"
        assert http.post("/api/auth/sign-in/email", json=body).status_code == 200


def test_a_locked_account_is_distinguished_from_a_wrong_password(launch: Launch) -> None:
    seed = SeedUser("locked@novamart.example", PASSWORD, locked=True)
    target = launch(users=[seed])
    for password, refusal in (
        (PASSWORD, (403, "ACCOUNT_LOCKED")),
        ("not it, sorry", (401, "INVALID_EMAIL_OR_PASSWORD")),
    ):
        body = {"email": seed.email, "password": password}
        answer = httpx.post(f"{target.api_url}/api/auth/sign-in/email", json=body, verify=NO_TLS)
        assert error_of(answer) == refusal
        assert not answer.cookies


def test_a_user_who_must_change_the_password_is_redirected_to_its_page(
    launch: Launch, join: type[Visitor]
) -> None:
    seed = SeedUser("new@novamart.example", PASSWORD, workspace="seeded")
    target = launch(users=[seed])
    ada = join(target)
    page = ada.authorize_signed_out(ada.register()["client_id"])
    change = f"{target.web_url}/change-password"
    with httpx.Client(base_url=target.web_url, verify=NO_TLS) as web:
        assert web.get("/change-password").headers["location"] == f"{target.web_url}/login"
        body = {"email": seed.email, "password": PASSWORD, "oauth_query": page.partition("?")[2]}
        answer = web.post(
            f"{target.api_url}/api/auth/sign-in/email",
            json=body,
            headers={"Origin": target.web_url},
        )
        assert answer.json()["url"].startswith(f"{change}?")
        assert web.get("/").headers["location"] == change
        assert web.get("/oauth2/consent?a=b").headers["location"] == f"{change}?a=b"
        assert "Change your password" in web.get("/change-password").text


def test_a_cookie_without_an_origin_changes_nothing(visitor: Visitor) -> None:
    body = {"email": visitor.email, "password": PASSWORD}
    visitor.http.post("/api/auth/sign-in/email", json=body)
    sign_out = "/api/auth/sign-out"
    assert error_of(visitor.http.post(sign_out)) == (403, "MISSING_OR_NULL_ORIGIN")
    null = visitor.http.post(sign_out, headers={"Origin": "null"})
    assert error_of(null) == (403, "MISSING_OR_NULL_ORIGIN")
    foreign = visitor.http.post(sign_out, headers={"Origin": "http://elsewhere.example"})
    assert error_of(foreign) == (403, "INVALID_ORIGIN")
    trusted = visitor.http.post(sign_out, headers={"Origin": visitor.target.web_url})
    assert trusted.status_code == 200
    assert trusted.headers["access-control-allow-origin"] == visitor.target.web_url


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/auth/sign-in/email", 10),
        ("/api/auth/sign-up/email", 5),
        ("/api/auth/oauth2/register", 5),
        ("/api/auth/oauth2/token", 20),
    ],
)
def test_each_minute_has_its_limit(
    launch: Launch, join: type[Visitor], path: str, limit: int
) -> None:
    clock = Clock()
    visitor = join(launch(clock=clock))
    clock.now += 61
    statuses = [visitor.post(path, {}).status_code for _ in range(limit + 1)]
    assert statuses.index(429) == limit
    refused = visitor.post(path, {})
    assert refused.headers["content-type"] == "application/octet-stream"
    assert "retry-after" not in refused.headers
    assert int(refused.headers["x-retry-after"]) < 0
    clock.now += 60
    assert visitor.post(path, {}).status_code != 429


def test_authorize_is_limited_too(launch: Launch, join: type[Visitor]) -> None:
    visitor = join(launch())
    statuses = [visitor.http.get("/api/auth/oauth2/authorize").status_code for _ in range(31)]
    assert statuses == [302] * 30 + [429]


def test_self_mint_gives_a_bearer_of_the_workspace(visitor: Visitor) -> None:
    answer = visitor.post("/api/v1/me/load-test/mcp-token", {"ttlSeconds": 60}).json()
    assert set(answer) == {
        "bearer", "workspaceId", "audience", "issuer", "expiresAt", "sub", "scope",
    }  # fmt: skip
    claims = claims_of(answer["bearer"])
    assert claims["exp"] - claims["iat"] == 60
    assert claims["azp"] == "atlas-load-test"
    assert claims["aud"] == answer["audience"] == visitor.resource
    assert claims["sub"].startswith(f"loadtest:{visitor.workspace_id}:")
    claims = claims_of(visitor.mint())
    assert claims["exp"] - claims["iat"] == 300


def test_self_mint_accepts_only_a_bearer_and_only_lifetimes_in_range(visitor: Visitor) -> None:
    mint = "/api/v1/me/load-test/mcp-token"
    for ttl in (59, 3601, "300"):
        assert error_of(visitor.post(mint, {"ttlSeconds": ttl})) == (400, "invalid_body")
    assert error_of(visitor.post(mint, {}, signed_in=False)) == (401, "auth_error")
    body = {"email": visitor.email, "password": PASSWORD}
    visitor.http.post("/api/auth/sign-in/email", json=body)
    assert error_of(visitor.http.post(mint, json={})) == (401, "bearer_required")


def test_self_mint_is_limited_and_sends_retry_after(launch: Launch, join: type[Visitor]) -> None:
    visitor = join(launch())
    for _ in range(10):
        visitor.mint()
    refused = visitor.post("/api/v1/me/load-test/mcp-token", {})
    assert error_of(refused) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "60"


@pytest.mark.parametrize(("knob", "status"), [("not-allowlisted", 404), ("no-jwks", 503)])
def test_self_mint_can_be_closed(
    launch: Launch, join: type[Visitor], knob: str, status: int
) -> None:
    refused = join(launch(self_mint=knob)).post("/api/v1/me/load-test/mcp-token", {})
    assert refused.status_code == status
    assert refused.headers["content-type"].startswith("text/plain" if status == 404 else "app")


def test_the_accounts_database_has_no_secret_in_clear(
    launch: Launch, join: type[Visitor], tmp_path: Path
) -> None:
    target = launch()
    visitor = join(target)
    client = visitor.register()["client_id"]
    tokens = visitor.redeem(client, visitor.code(client)).json()
    target.stop()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("accounts*"))
    assert visitor.email.encode() in stored
    secrets = (visitor.token, PASSWORD, tokens["access_token"], tokens["refresh_token"])
    assert not any(secret.encode() in stored for secret in secrets)
