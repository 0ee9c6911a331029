"""The sign-in page for the doctor: found by redirects, checked by its HTML, never filled in."""

from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.errors import MintError
from loadtest.mint.browser.sign_in_probe import (
    SignInPage,
    build_authorization_url,
    fetch_sign_in_page,
)
from loadtest.mint.oauth.discovery import REDIRECT_URI
from tests.mint.browser.page_server import Page, PageServer, Reply, page, to

FORM = page('<form><input name="user"><input type="password" name="secret"></form>')
HOST = "https://login.elsewhere.example"


def look(story: Mapping[str, Page], origins: frozenset[str] | None = None) -> SignInPage:
    with PageServer(story) as server:
        own = frozenset({server.origin}) if origins is None else origins
        url = server.build_authorization_url(REDIRECT_URI, "a state")
        found = fetch_sign_in_page(url, own)
        assert found.origin == server.origin
        assert not server.sent
        return found


def refuse(story: Mapping[str, Page], origins: frozenset[str] | None = None) -> MintError:
    with pytest.raises(MintError) as caught:
        look(story, origins)
    assert caught.value.step == "sign-in"
    assert "\n" not in str(caught.value)
    return caught.value


def test_redirects_lead_to_a_page_with_a_form() -> None:
    found = look({"/authorize": to("/login?sig=1"), "/login": FORM})
    assert found.has_form
    assert not found.has_scripts


@pytest.mark.parametrize(
    ("body", "has_form", "has_scripts"),
    [
        (page("<input type=EMAIL>"), True, False),
        (page("<script src=app.js></script><div id=root></div>"), False, True),
        (page("<p>Welcome</p><input type=hidden><input type=checkbox>"), False, False),
        ("<![if !IE]><input><![unknown[", True, False),
        ("", False, False),
    ],
)
def test_a_page_with_a_text_field_has_a_form(body: str, has_form: bool, has_scripts: bool) -> None:
    found = look({"/authorize": body})
    assert (found.has_form, found.has_scripts) == (has_form, has_scripts)


def test_no_request_goes_to_an_origin_that_is_not_expected() -> None:
    failure = refuse({"/authorize": to(f"{HOST}/login?ticket=canary")})
    assert failure.reason == "unexpected_origin"
    assert HOST in str(failure)
    assert "canary" not in str(failure)


def test_an_authorize_endpoint_on_another_origin_gets_no_request() -> None:
    with PageServer({"/authorize": FORM}) as server:
        with pytest.raises(MintError) as caught:
            fetch_sign_in_page(server.build_authorization_url(REDIRECT_URI, "s"), frozenset({HOST}))
        assert caught.value.reason == "unexpected_origin"
        assert not server.visits


def test_all_ports_of_this_machine_count_as_one_origin() -> None:
    with PageServer({"/login": FORM}) as other:
        story = {"/authorize": to(f"{other.origin}/login")}
        with PageServer(story) as server:
            url = server.build_authorization_url(REDIRECT_URI, "a state")
            found = fetch_sign_in_page(url, frozenset({server.origin}))
    assert found.origin == other.origin


@pytest.mark.parametrize(
    ("reply", "words", "code"),
    [
        (to("/error?error=invalid_client"), "invalid_client", "invalid_client"),
        (to(f"{REDIRECT_URI}?error=invalid_scope&state=s"), "invalid_scope", "invalid_scope"),
        (to(f"{REDIRECT_URI}?code=canary&state=s"), "no page", "no page"),
        (Reply("gone", 500), "HTTP 500", None),
        (to("/authorize"), "redirects", None),
        (to("http://[::1"), "does not answer", None),
        (to("javascript:alert(1)"), "an invalid address", None),
        (to("http://127.0.0.1:9/"), "does not answer", None),
    ],
)
def test_a_response_that_is_not_a_page_is_one_line(
    reply: Reply, words: str, code: str | None
) -> None:
    failure = refuse({"/authorize": reply})
    assert words in str(failure)
    assert failure.code == code
    assert "canary" not in str(failure)


def test_a_rate_limit_is_waited_out_and_named_if_it_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadtest.common.retry_after.RATE_WAITS_SECONDS", (0.01, 0.01))
    limit = Reply('{"message":"Later."}', 429, content_type="application/octet-stream")
    assert look({"/authorize": lambda visit: limit if visit.number < 3 else FORM}).has_form
    failure = refuse({"/authorize": lambda visit: limit if visit.number < 4 else FORM})
    assert failure.reason == "rate_limited"
    assert "HTTP 429" in str(failure)


@settings(max_examples=25)
@given(location=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
def test_no_redirect_makes_a_traceback(location: str) -> None:
    with PageServer({"/authorize": to(location)}) as server:
        url = server.build_authorization_url(REDIRECT_URI, "a state")
        with suppress(MintError):
            fetch_sign_in_page(url, frozenset({server.origin}))


def test_our_client_requests_the_configured_scope() -> None:
    url = "https://a.example/authorize?client_id=discovery&scope=all&state=s&resource=r"
    ours = build_authorization_url(url, "ours", "mcp:read")
    query = parse_qs(urlsplit(ours).query)
    expected = {"client_id": ["ours"], "scope": ["mcp:read"], "state": ["s"], "resource": ["r"]}
    assert query == expected
    assert "scope=all" in build_authorization_url(url, "ours", None)


def test_our_client_uses_its_registered_redirect_uri() -> None:
    url = "https://a.example/authorize?client_id=discovery&redirect_uri=http%3A%2F%2Fnowhere"
    ours = build_authorization_url(url, "ours", None, "http://127.0.0.1:8/callback")
    assert parse_qs(urlsplit(ours).query)["redirect_uri"] == ["http://127.0.0.1:8/callback"]
