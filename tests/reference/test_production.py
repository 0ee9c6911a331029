"""What the product asks for in production: a second factor, a mail's link, a captcha."""

import base64
import secrets
from typing import Any

import httpx
import pytest

from loadtest.common.totp import Totp
from loadtest.reference.server import ReferenceTarget, SeedUser
from tests.reference.visitor import NO_TLS, PASSWORD, Clock, Launch, Visitor, claims_of, error_of

SIGN_IN = "/api/auth/sign-in/email"
VERIFY = "/api/auth/two-factor/verify-totp"
CLIENTS = "/api/v1/admin/oauth-clients"


def read_uri(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    assert len(reply.json()["backupCodes"]) == 10
    uri: str = reply.json()["totpURI"]
    return uri


def enroll(visitor: Visitor, clock: Clock) -> str:
    """Enrol an authenticator; return its URI. The visitor continues with the new session."""
    uri = read_uri(visitor.post("/api/auth/two-factor/enable", {"password": PASSWORD}))
    code = Totp(uri, clock).take()
    visitor.token = visitor.post(VERIFY, {"code": code}).json()["token"]
    return uri


def answer_challenge(http: httpx.Client, code: str, **headers: str) -> httpx.Response:
    return http.post(VERIFY, json={"code": code}, headers=headers)


def test_admin_routes_require_a_second_factor_of_an_owner(
    launch: Launch, join: type[Visitor]
) -> None:
    clock = Clock()
    visitor = join(launch(second_factor="required", clock=clock))
    client_id = visitor.register(signed_in=True)["client_id"]
    limit, body = f"{CLIENTS}/{client_id}/rate-limit", {"requestsPerMinute": 3600}

    def ask() -> httpx.Response:
        return visitor.http.patch(limit, json=body, headers=visitor.bearer_header)

    refused = ask()
    assert error_of(refused) == (403, "mfa_enrollment_required")
    assert set(refused.json()) == {"error", "message", "enrollmentUrl", "requestId"}
    password = {"currentPassword": PASSWORD, "newPassword": "another password"}
    refused = visitor.post("/api/v1/admin/me/password", password)
    assert error_of(refused) == (403, "mfa_enrollment_required")
    wrong = visitor.post("/api/auth/two-factor/enable", {"password": "not it, sorry"})
    assert error_of(wrong) == (400, "INVALID_PASSWORD")
    enroll(visitor, clock)
    assert ask().status_code == 200


def test_an_enabled_secret_that_was_never_verified_asks_for_no_code(visitor: Visitor) -> None:
    read_uri(visitor.post("/api/auth/two-factor/enable", {"password": PASSWORD}))
    body = {"email": visitor.email, "password": PASSWORD}
    assert visitor.post(SIGN_IN, body, signed_in=False).json()["token"]
    assert error_of(visitor.post(VERIFY, {"code": "12345"})) == (401, "INVALID_CODE")


def test_a_sign_in_with_an_authenticator_needs_a_code_with_cookies_from_the_pages_origin(
    launch: Launch, join: type[Visitor]
) -> None:
    clock = Clock()
    visitor = join(launch(clock=clock))
    codes = Totp(enroll(visitor, clock), clock)
    web = visitor.target.web_url
    body = {"email": visitor.email, "password": PASSWORD}
    challenge = visitor.http.post(SIGN_IN, json=body)
    assert challenge.status_code == 200
    assert challenge.json()["twoFactorRedirect"] is True
    assert "token" not in challenge.json()
    clock.now += 30
    code = codes.take()
    refused = answer_challenge(visitor.http, code)
    assert error_of(refused) == (403, "MISSING_OR_NULL_ORIGIN")
    refused = answer_challenge(visitor.http, code, Origin="https://elsewhere.example")
    assert error_of(refused) == (403, "INVALID_ORIGIN")
    wrong = answer_challenge(visitor.http, f"{(int(code) + 1) % 10**6:06}", Origin=web)
    assert error_of(wrong) == (401, "INVALID_CODE")
    done = answer_challenge(visitor.http, code, Origin=web)
    assert done.status_code == 200
    assert set(done.json()) == {"token", "user"}
    assert visitor.http.post("/api/auth/sign-out", headers={"Origin": web}).status_code == 200


def test_a_code_is_accepted_once_and_only_around_its_time(
    launch: Launch, join: type[Visitor]
) -> None:
    clock = Clock()
    target = launch(clock=clock)
    codes = Totp(enroll(join(target), clock), clock)
    step = codes.find_step()

    def sign_in(code: str) -> int:
        with httpx.Client(base_url=target.api_url, verify=NO_TLS) as http:
            http.post(SIGN_IN, json={"email": "ada@novamart.example", "password": PASSWORD})
            return answer_challenge(http, code, Origin=target.web_url).status_code

    assert sign_in(codes.build_code(step)) == 401
    assert sign_in(codes.build_code(step + 2)) == 401
    assert sign_in(codes.build_code(step + 1)) == 200
    assert sign_in(codes.build_code(step + 1)) == 401
    clock.now += 3 * 30
    assert sign_in(codes.build_code(step + 1)) == 401
    with httpx.Client(base_url=target.api_url, verify=NO_TLS) as http:
        assert error_of(answer_challenge(http, "123456")) == (401, "INVALID_TWO_FACTOR_COOKIE")


def test_an_authenticator_may_be_enrolled_from_the_start(launch: Launch) -> None:
    secret = base64.b32encode(secrets.token_bytes(20)).decode()
    seed = SeedUser("ada@novamart.example", PASSWORD, totp_secret=secret, workspace="seeded")
    assert secret not in repr(seed)
    target = launch(users=[seed])
    body = {"email": seed.email, "password": PASSWORD}
    answer = httpx.post(f"{target.api_url}{SIGN_IN}", json=body, verify=NO_TLS)
    assert answer.json()["twoFactorRedirect"] is True


def test_a_user_cannot_sign_in_before_opening_the_mailed_link(launch: Launch) -> None:
    target = launch(email_verification=True)
    body = {"email": "new@novamart.example", "password": PASSWORD, "name": "New"}
    with httpx.Client(base_url=target.api_url, verify=NO_TLS) as http:
        made = http.post("/api/auth/sign-up/email", json=body)
        assert made.status_code == 200
        assert set(made.json()) == {"token", "user"}
        assert made.json()["token"] is None
        assert error_of(http.post(SIGN_IN, json=body)) == (403, "EMAIL_NOT_VERIFIED")
        wrong = body | {"password": "not it, sorry"}
        assert error_of(http.post(SIGN_IN, json=wrong)) == (401, "INVALID_EMAIL_OR_PASSWORD")
        (mail,) = target.mails
        assert mail.to == body["email"]
        assert mail.link not in repr(mail)
        opened = http.get(mail.link)
        assert opened.headers["location"] == f"{target.web_url}/"
        assert error_of(http.get(mail.link)) == (401, "INVALID_TOKEN")
        assert http.post(SIGN_IN, json=body).json()["token"]


def test_a_captcha_keeps_programs_from_signing_up(launch: Launch) -> None:
    target = launch(sign_up_captcha=True)
    body = {"email": "new@novamart.example", "password": PASSWORD, "name": "New"}
    answer = httpx.post(f"{target.api_url}/api/auth/sign-up/email", json=body, verify=NO_TLS)
    assert answer.status_code == 400
    assert answer.json()["message"] == "Missing CAPTCHA response"
    assert target.users() == []


def test_an_owner_lists_and_revokes_the_clients_of_the_workspace(visitor: Visitor) -> None:
    client = visitor.register(signed_in=True)["client_id"]
    visitor.register()

    def list_ids() -> list[str]:
        listed = visitor.http.get(CLIENTS, headers=visitor.bearer_header)
        return [each["clientId"] for each in listed.json()["clients"]]

    tokens = visitor.redeem(client, visitor.code(client)).json()
    assert list_ids() == [client]
    revoked = visitor.post(f"{CLIENTS}/{client}/revoke", {})
    assert revoked.json() == {"success": True, "tokensRevoked": 1}
    assert list_ids() == []
    assert error_of(visitor.post(f"{CLIENTS}/{client}/revoke", {})) == (404, "not_found")
    assert visitor.refresh(client, tokens["refresh_token"]).status_code == 401
    # The JWT stays valid, because it is verified without a lookup.
    assert visitor.mcp(tokens["access_token"]).initialize().status_code == 200
    assert claims_of(tokens["access_token"])["azp"] == client


def test_revoking_other_sessions_ends_all_but_the_requesting_one(
    launch: Launch, join: type[Visitor]
) -> None:
    target: ReferenceTarget = launch()
    ada, ben = join(target, "ada"), join(target, "ben")
    body: dict[str, Any] = {"email": ada.email, "password": PASSWORD}
    for _ in range(2):
        ada.post(SIGN_IN, body, signed_in=False)
    assert len(target.sign_ins()) == 4
    assert ada.post("/api/auth/revoke-other-sessions", {}).json() == {"status": True}
    assert len(target.sign_ins()) == 2
    for visitor in (ada, ben):
        listed = visitor.http.get("/api/auth/organization/list", headers=visitor.bearer_header)
        assert listed.status_code == 200
    refused = ada.post("/api/auth/revoke-other-sessions", {}, signed_in=False)
    assert error_of(refused) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("knob", ["missing", "right"])
def test_a_knob_rate_limits_the_first_revocation(launch: Launch, knob: str) -> None:
    target = launch(token_rate_limited=1, retry_after=knob)
    form = {"token": "unknown", "client_id": "unknown"}
    with httpx.Client(base_url=target.api_url, verify=NO_TLS) as http:
        first = http.post("/api/auth/oauth2/revoke", data=form)
        assert first.status_code == 429
        assert first.headers.get("retry-after") == ("1" if knob == "right" else None)
        assert http.post("/api/auth/oauth2/revoke", data=form).status_code == 401
