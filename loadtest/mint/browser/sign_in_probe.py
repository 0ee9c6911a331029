"""Fetch the page on which a browser would sign in: nothing is typed, no account is created."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit, urlunsplit

import httpx2

from loadtest.common.http import explain, open_client
from loadtest.common.retry_after import wait_out
from loadtest.config.models import parse_origin
from loadtest.errors import MintError
from loadtest.mint.browser.diagnosis import is_expected

STEP = "sign-in"
LOOK_SECONDS = 15.0
MAX_REDIRECTS = 10
# An input without a type is a text field (HTML, "the input element").
TYPED_INPUTS = frozenset({"", "email", "password", "tel", "text"})


@dataclass(frozen=True)
class SignInPage:
    """The page where credentials would be typed; only a browser sees a form that scripts draw."""

    origin: str
    has_form: bool
    has_scripts: bool


def build_authorization_url(
    url: str, client_id: str, scope: str | None, redirect_uri: str | None = None
) -> str:
    """Return an authorization URL as our client would open it."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    known = {"client_id": client_id, "scope": scope, "redirect_uri": redirect_uri}
    query |= {name: value for name, value in known.items() if value}
    return urlunsplit(parts._replace(query=urlencode(query)))


def fetch_sign_in_page(
    url: str, origins: frozenset[str], tell: Callable[[str], None] = lambda _: None
) -> SignInPage:
    """Follow an authorization URL to the page that a person would see, within `origins` only.

    Waits out rate limits.

    Raises MintError: with reason `unexpected_origin` if mint would refuse to type there, with the
    server's `error` as its code if the server refuses the request (RFC 6749, section 4.1.2.1).
    """
    try:
        redirect_uri = next(iter(parse_qs(urlsplit(url).query).get("redirect_uri", ())), None)
        with open_client(LOOK_SECONDS) as client:
            for _ in range(MAX_REDIRECTS):
                _check_origin(url, origins)
                answer = wait_out(partial(client.get, url), _describe_origin(url), tell)
                if not answer.has_redirect_location:
                    return _read_page(answer)
                url = urljoin(url, answer.headers["location"])
                _check_error(url, redirect_uri)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as failure:
        where = _describe_origin(url)
        raise MintError(f"{where} does not answer ({explain(failure)})", STEP) from None
    raise MintError(f"more than {MAX_REDIRECTS} redirects, no page", STEP)


def _read_page(answer: httpx2.Response) -> SignInPage:
    origin = _describe_origin(str(answer.url))
    if answer.status_code != 200:
        reason = "rate_limited" if answer.status_code == 429 else None
        raise MintError(f"{origin} answers HTTP {answer.status_code}", STEP, reason=reason)
    form = _Form()
    # The parser asserts that it knows a marked section: what came before it counts.
    with contextlib.suppress(AssertionError):
        form.feed(answer.text)
    return SignInPage(origin, form.fields > 0, form.scripts > 0)


def _check_origin(url: str, origins: frozenset[str]) -> None:
    """Refuse the origins that mint's browser would refuse."""
    where = _describe_origin(url)
    if not is_expected(where, origins):
        raise MintError(f"the sign-in leads to {where}", STEP, reason="unexpected_origin")


def _check_error(url: str, redirect_uri: str | None) -> None:
    """Raise with the error of an authorization server that redirects back."""
    error = parse_qs(urlsplit(url).query).get("error")
    if error or (redirect_uri and url.startswith(redirect_uri)):
        code = error[0] if error else "no page"
        error_code = "".join(c for c in code if c.isprintable())[:60]
        raise MintError(f"the authorization server answers {error_code}", STEP, code=error_code)


def _describe_origin(url: str) -> str:
    try:
        return parse_origin(url)
    except ValueError:
        return "an invalid address"


class _Form(HTMLParser):
    """Counts text fields and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.fields = 0
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and (given.get("type") or "").lower() in TYPED_INPUTS:
            self.fields += 1
        elif tag == "script":
            self.scripts += 1
