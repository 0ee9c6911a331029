"""Knobs of the token endpoint, of scopes and of time."""

from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.reference.visitor import (
    ALL_SCOPES,
    PASSWORD,
    Clock,
    Launch,
    claims_of,
    error_of,
    query_of,
)

CHALLENGE = (
    'Bearer realm="mcp", error="insufficient_scope", scope="mcp:read mcp:write",'
    ' resource_metadata="{api}/.well-known/oauth-protected-resource/mcp/{workspace}"'
)


@pytest.mark.parametrize(
    ("knob", "kind"),
    [
        ("garbage", "application/json"),
        ("html", "text/html; charset=utf-8"),
        ("no-access-token", "application/json"),
        ("dpop", "application/json"),
    ],
)
def test_a_token_reply_can_be_useless_and_uses_up_the_code(
    launch: Launch, join: Any, knob: str, kind: str
) -> None:
    visitor = join(launch(token_replies=knob), demo=False)
    client_id = visitor.register()["client_id"]
    code = visitor.code(client_id)
    answer = visitor.redeem(client_id, code)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    if knob in ("garbage", "html"):
        with pytest.raises(ValueError, match="Expecting"):
            answer.json()
    else:
        assert ("access_token" in answer.json()) == (knob == "dpop")
        assert answer.json()["token_type"] == ("DPoP" if knob == "dpop" else "Bearer")
    assert error_of(visitor.redeem(client_id, code)) == (401, "invalid_grant")


def test_a_knob_delays_a_token_request(launch: Launch, join: Any) -> None:
    visitor = join(launch(token_delay_seconds=0.2), demo=False)
    client_id = visitor.register()["client_id"]
    answer = visitor.redeem(client_id, visitor.code(client_id))
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.2


@pytest.mark.parametrize(
    ("retry_after", "value"),
    [("missing", None), ("nonsense", "soon"), ("huge", "86400"), ("right", "1")],
)
def test_a_knob_rate_limits_the_first_requests_of_a_sign_in(
    launch: Launch, join: Any, retry_after: str, value: str | None
) -> None:
    target = launch(token_rate_limited=2, retry_after=retry_after)
    visitor = join(target, demo=False)
    for path in ("/api/auth/oauth2/token", "/api/auth/oauth2/register", "/api/auth/sign-in/email"):
        answers = [visitor.post(path, {}, signed_in=False) for _ in range(3)]
        assert [answer.status_code == 429 for answer in answers] == [True, True, False]
        assert answers[1].headers.get("retry-after") == value
        assert answers[1].headers["content-type"] == "application/octet-stream"
    assert target.registrations == 0


def test_the_first_authorizations_can_get_a_429_that_browsers_do_not_show(
    launch: Launch, join: Any
) -> None:
    visitor = join(launch(authorize_rate_limited=2, retry_after="nonsense"), demo=False)
    answers = [visitor.http.get("/api/auth/oauth2/authorize") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 302]
    assert answers[0].headers["content-type"] == "application/octet-stream"
    assert answers[0].headers["x-retry-after"] == "-1"
    assert answers[0].json() == {"message": "Too many requests. Please try again later."}
    assert visitor.post("/api/auth/oauth2/token", {}, signed_in=False).status_code != 429


def test_default_endpoints_share_the_limits(launch: Launch, join: Any) -> None:
    visitor = join(launch(token_rate_limited=1, server_metadata="nowhere"), demo=False)
    assert visitor.post("/register", {}).status_code == 429
    assert visitor.post("/api/auth/oauth2/register", {}).status_code == 400


def test_fewer_scopes_can_be_granted_than_requested(launch: Launch, join: Any) -> None:
    visitor = join(launch(granted_scope="offline_access mcp:write openid"))
    client_id = visitor.register()["client_id"]
    tokens = visitor.redeem(client_id, visitor.code(client_id)).json()
    assert tokens["scope"] == claims_of(tokens["access_token"])["scope"] == "openid offline_access"
    refused = visitor.mcp(tokens["access_token"]).initialize()
    assert error_of(refused) == (403, "insufficient_scope")
    assert "www-authenticate" not in refused.headers
    assert visitor.authorize(client_id).startswith("http://127.0.0.1/callback?code=")
    visitor.decide(visitor.authorize(client_id, scope="mcp:read"))
    nothing = query_of(visitor.authorize(client_id, scope="mcp:read"))
    assert nothing["error"] == "invalid_scope"
    own = visitor.register(
        signed_in=True,
        grant_types=["client_credentials"],
        token_endpoint_auth_method="client_secret_post",
    )
    form = {"client_id": own["client_id"], "client_secret": own["client_secret"]}
    answer = visitor.exchange(grant_type="client_credentials", **form)
    assert answer.json()["scope"] == "mcp:write"
    none = visitor.exchange(grant_type="client_credentials", scope="mcp:read", **form)
    assert error_of(none) == (400, "invalid_scope")


@pytest.mark.parametrize(("knob", "wide_status"), [("once", 200), ("always", 403)])
def test_a_step_up_names_the_scope_in_a_challenge(
    launch: Launch, join: Any, knob: str, wide_status: int
) -> None:
    target = launch(step_up=knob)
    visitor = join(target)
    client_id = visitor.register()["client_id"]
    challenge = CHALLENGE.format(api=target.api_url, workspace=visitor.workspace_id)
    for scope, status in ((ALL_SCOPES, 403), (ALL_SCOPES + " mcp:write", wide_status)):
        code = visitor.code(client_id, scope=scope)
        bearer = visitor.redeem(client_id, code).json()["access_token"]
        answer = visitor.mcp(bearer).initialize()
        assert answer.status_code == status
        if status == 403:
            assert error_of(answer) == (403, "insufficient_scope")
            assert answer.json()["scope"] == "mcp:read mcp:write"
            assert answer.headers["www-authenticate"] == challenge


def test_every_refresh_and_every_reuse_is_counted(launch: Launch, join: Any) -> None:
    target = launch()
    visitor = join(target, demo=False)
    client_id = visitor.register()["client_id"]
    first = visitor.redeem(client_id, visitor.code(client_id)).json()["refresh_token"]
    assert (target.refreshes, target.refresh_reuses, target.registrations) == (0, 0, 1)
    assert visitor.refresh(client_id, first).json()["refresh_token"] != first
    assert error_of(visitor.refresh(client_id, first)) == (401, "invalid_grant")
    assert error_of(visitor.refresh(client_id, "unknown")) == (401, "invalid_grant")
    assert (target.refreshes, target.refresh_reuses) == (3, 1)


def test_a_refresh_token_can_be_kept(launch: Launch, join: Any) -> None:
    target = launch(refresh="kept")
    visitor = join(target, demo=False)
    client_id = visitor.register()["client_id"]
    token = visitor.redeem(client_id, visitor.code(client_id)).json()["refresh_token"]
    for _ in range(2):
        answer = visitor.refresh(client_id, token)
        assert answer.status_code == 200
        assert "refresh_token" not in answer.json()
    assert (target.refreshes, target.refresh_reuses) == (2, 0)
    visitor.http.post(
        "/api/auth/oauth2/revoke", data={"token": token, "client_id": client_id}
    ).raise_for_status()
    assert error_of(visitor.refresh(client_id, token)) == (401, "invalid_grant")


def test_every_refresh_can_be_refused(launch: Launch, join: Any) -> None:
    target = launch(refresh="refused")
    visitor = join(target, demo=False)
    client_id = visitor.register()["client_id"]
    token = visitor.redeem(client_id, visitor.code(client_id)).json()["refresh_token"]
    assert error_of(visitor.refresh(client_id, token)) == (401, "invalid_grant")
    assert (target.refreshes, target.refresh_reuses) == (1, 0)


@pytest.mark.parametrize(("knob", "status"), [("accepted", 200), ("refused", 401)])
def test_a_knob_decides_whether_a_revoked_bearer_is_refused(
    launch: Launch, join: Any, knob: str, status: int
) -> None:
    target = launch(revoked_bearers=knob)
    visitor = join(target)
    client_id = visitor.register()["client_id"]
    bearer = visitor.redeem(client_id, visitor.code(client_id)).json()["access_token"]
    assert ("jti" in claims_of(bearer)) == (knob == "refused")
    client = visitor.mcp(bearer).open()
    form = {"token": bearer, "token_type_hint": "access_token", "client_id": client_id}
    other = visitor.register()["client_id"]
    for asking in (other, client_id):
        answer = visitor.http.post("/api/auth/oauth2/revoke", data=form | {"client_id": asking})
        assert answer.status_code == 200
        assert client.request("ping").status_code == (200 if asking == other else status)
    facts = visitor.http.post("/api/auth/oauth2/introspect", data=form).json()
    assert facts["active"] == (knob == "accepted")
    assert target.revocations == (knob == "refused")
    assert visitor.mcp().initialize().status_code == 200


@pytest.mark.parametrize("skew", [-90, 3600])
def test_a_clock_skew_shows_in_tokens_and_in_the_date(launch: Launch, join: Any, skew: int) -> None:
    clock = Clock()
    visitor = join(launch(clock=clock, clock_skew_seconds=skew))
    answer = visitor.post("/api/v1/me/load-test/mcp-token", {})
    claims = claims_of(answer.json()["bearer"])
    assert claims["iat"] == clock.now + skew
    assert claims["exp"] == clock.now + skew + 300
    for response in (answer, visitor.mcp().initialize(), visitor.http.get(visitor.target.web_url)):
        assert response.headers.get_list("date") == [response.headers["date"]]
        assert parsedate_to_datetime(response.headers["date"]).timestamp() == clock.now + skew


def test_without_skew_the_date_is_sent_once(launch: Launch, join: Any) -> None:
    visitor = join(launch(), demo=False)
    assert len(visitor.http.get("/api/health").headers.get_list("date")) == 1
    assert PASSWORD not in repr(visitor.target.knobs)
