"""Check the authorization server, its clock, and its sign-in page."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from loadtest.common.command_name import spell
from loadtest.config.models import parse_origin
from loadtest.config.settings import Settings
from loadtest.doctor.check import Check, find_endpoint
from loadtest.errors import LoadtestError, MintError

if TYPE_CHECKING:
    from loadtest.mint.oauth.discovery import Discovered

# Token times are checked with this much leeway.
SKEW_LIMIT_SECONDS = 60
SKEW_WARN_SECONDS = 5
# A Date header has whole seconds, and some servers update theirs once a second.
SKEW_RESOLUTION_SECONDS = 2
NO_WORKSPACE = "none-yet"


def examine_authorization(
    settings: Settings, base_url: str | None, say: Callable[[str], None]
) -> Iterator[Check]:
    """Check the authorization server, its clock, and the page where a browser would sign in."""
    lines = ("authorization", "clock", "sign-in page")
    if base_url is None:
        _, blocked = find_endpoint(settings, base_url)
        yield from (Check(what, "later", *blocked) for what in lines)
        return
    workspace_id = settings.credentials.workspace_id
    # Without a bearer, most servers send the same challenge for a workspace that does not exist.
    mcp_url = settings.build_mcp_url(base_url, workspace_id or NO_WORKSPACE)
    from loadtest.mint.oauth.discovery import discover

    try:
        found = discover(mcp_url)
    except LoadtestError as failure:
        if workspace_id is None and "{workspace_id}" in settings.environment.mcp_path:
            detail = f"cannot be checked without a workspace: {failure}"
            yield from (
                Check(what, "later", detail, f"{spell('provision')} makes one") for what in lines
            )
            return
        remedy = "fix the server's OAuth metadata; if it needs no OAuth: set auth in loadtest.toml"
        yield Check("authorization", "missing", str(failure), remedy)
        yield from (
            Check(what, "later", "no authorization server", "fix authorization first")
            for what in lines[1:]
        )
        return
    yield Check("authorization", "ok", found.describe())
    yield _examine_clock(found.skew_seconds)
    yield _examine_sign_in_page(settings, mcp_url, found, say)


def _examine_clock(skew_seconds: float) -> Check:
    if abs(skew_seconds) < SKEW_RESOLUTION_SECONDS:
        return Check("clock", "ok", f"within {SKEW_RESOLUTION_SECONDS} s of the server's")
    side = "behind" if skew_seconds > 0 else "ahead of"
    detail = f"{abs(skew_seconds):.0f} s {side} the server's"
    if abs(skew_seconds) > SKEW_LIMIT_SECONDS:
        return Check("clock", "missing", detail, "set this machine's clock (NTP)")
    if abs(skew_seconds) > SKEW_WARN_SECONDS:
        return Check("clock", "warn", f"{detail}, tolerated", "set this machine's clock (NTP)")
    return Check("clock", "ok", detail)


def _examine_sign_in_page(
    settings: Settings, mcp_url: str, found: "Discovered", say: Callable[[str], None]
) -> Check:
    from loadtest.mint.browser.sign_in_probe import build_authorization_url, fetch_sign_in_page

    what = "sign-in page"
    try:
        configured = settings.find_sign_in_origins()
        client_id, redirect_uri = _find_client(settings, found)
    except LoadtestError as failure:
        return Check(what, "missing", str(failure), "correct what this message names")
    url = found.authorization_url
    if client_id is not None:
        url = build_authorization_url(url, client_id, settings.environment.scope, redirect_uri)
    own = _find_origins(mcp_url, found.issuer, url)
    try:
        page = fetch_sign_in_page(url, own | configured, say)
    except MintError as failure:
        return _explain_refusal(settings, failure, is_known=client_id is not None)
    whose = "allowed by sign_in_origins" if page.origin in configured else "the server's own"
    if page.has_form:
        return Check(what, "ok", f"a form at {page.origin}, {whose}")
    if page.has_scripts:
        return Check(what, "ok", f"{page.origin}, {whose}; its form is made by scripts")
    remedy = f"{spell('mint --headed')} shows what a person sees"
    return Check(what, "warn", f"{page.origin}, {whose}: no form on it", remedy)


def _find_origins(*urls: str) -> frozenset[str]:
    """Return the origins of the URLs; skip text from a server that is not a URL."""
    origins = set()
    for url in urls:
        with suppress(ValueError):
            origins.add(parse_origin(url))
    return frozenset(origins)


def _find_client(settings: Settings, found: "Discovered") -> tuple[str | None, str | None]:
    """Return the client ID that mint would use, and the redirect URI that mint registered.

    The client ID is None before mint has registered a client.
    """
    from loadtest.state.clients import ClientStore

    given = settings.find_variable("LOADTEST_CLIENT_ID")
    document = settings.environment.client_metadata_url if found.takes_documents else None
    remembered = ClientStore(settings.state_dir).read().get(0)
    ours = remembered if remembered and remembered.issuer == found.issuer else None
    if given or document or ours is None:
        return given or document, None
    return ours.client.client_id, ours.client.redirect_uri


def _explain_refusal(settings: Settings, failure: MintError, *, is_known: bool) -> Check:
    """Explain why the page was not shown; a server shows it only to clients that it knows."""
    what = "sign-in page"
    if failure.reason == "unexpected_origin":
        remedy = "if it is yours, add it to LOADTEST_SIGN_IN_ORIGINS or sign_in_origins"
        return Check(what, "missing", failure.message, remedy)
    if failure.reason == "rate_limited":
        return Check(what, "warn", failure.message, "wait a minute, then try again")
    if not is_known:
        detail = f"not shown to an unregistered client: {failure.message}"
        return Check(what, "later", detail, f"{spell('mint')} registers a client")
    if failure.code is not None and settings.find_variable("LOADTEST_CLIENT_ID") is None:
        return Check(
            what,
            "later",
            failure.message,
            f"{spell('mint')} registers a new client where that helps",
        )
    return Check(
        what, "missing", failure.message, f"{spell('mint --headed')} shows what a person sees"
    )
