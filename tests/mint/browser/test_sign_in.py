"""Real Chromium on the pages of real sign-in flows, each as a small story."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from playwright.async_api import Page
from pydantic import ValidationError

from loadtest.common.redaction import SecretStr
from loadtest.config.models import Pages
from loadtest.errors import MintError
from loadtest.mint.browser.failure_capture import capture_failure, redact
from loadtest.mint.browser.one_time_code import OneTimeCodes
from loadtest.mint.browser.page_messages import find_workspace
from loadtest.mint.browser.sign_in import SignInFlow
from loadtest.mint.oauth.callback import listen
from tests.mint.browser.page_server import Page as Told
from tests.mint.browser.page_server import PageServer, Reply, Visit, finish, page, to
from tests.support.shared_browser import SharedBrowser

pytestmark = pytest.mark.slow

EMAIL = "who@signs.example"
PASSWORD = "canary pass&word<1>"
# The secret of RFC 6238, appendix B.
RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
STATE = "canary-state"

FIELDS = """<label>Email <input name="email" type="email"></label>
<label>Password <input name="password" type="password"></label>"""
FORM = f'<form method="post" action="/session">{FIELDS}<button>Sign in</button></form>'
SIGN_IN = page(f"<h1>Sign in</h1>{FORM}")
CONSENT = page(
    """<h1>Authorize access</h1><form method="post" action="/decision">
    <button name="yes" value="1">Approve</button><button type="button">Deny</button></form>"""
)
CODE = page(
    """<h1>Two steps</h1><form method="post" action="/code">
    <label>Verification code <input name="code" autocomplete="one-time-code"></label>
    <button>Verify</button></form>"""
)
USUAL: Mapping[str, Told] = {
    "/authorize": to("/login"),
    "/login": SIGN_IN,
    "/session": to("/consent"),
    "/consent": CONSENT,
    "/decision": finish,
}


@dataclass
class Outcome:
    """The result of a story: the callback's answer or the failure, the messages, the kept page."""

    server: PageServer
    code: str | None = None
    failure: MintError | None = None
    told: list[str] = field(default_factory=list)
    kept: str = ""

    @property
    def failed(self) -> MintError:
        """Return the failure, which must exist."""
        assert self.failure is not None, self.told
        return self.failure


Enact = Callable[..., Outcome]


@pytest.fixture
def enact(shared_browser: SharedBrowser, tmp_path: Path) -> Enact:
    """Sign in through a story, in a fresh context; search all output for canaries."""

    def run(
        story: Mapping[str, Told],
        names: Mapping[str, Any] | None = None,
        meanwhile: Callable[[Page], Awaitable[None]] | None = None,
        host: str = "127.0.0.1",
        **given: Any,
    ) -> Outcome:
        with PageServer(story, host) as server:
            outcome = Outcome(server)
            pages = Pages.model_validate(names or {})
            shared_browser.run(drive(outcome, pages, meanwhile, given))
        return outcome

    async def drive(
        outcome: Outcome,
        names: Pages,
        meanwhile: Callable[[Page], Awaitable[None]] | None,
        given: Mapping[str, Any],
    ) -> None:
        async with open_page(shared_browser) as shown, listen() as callback:
            if meanwhile:
                await meanwhile(shown)
            url = outcome.server.build_authorization_url(callback.redirect_uri, STATE)
            callback.expect(url)
            at_work = asyncio.all_tasks()
            user = (EMAIL, SecretStr(PASSWORD))
            sign_in = SignInFlow(shown, callback, names, *user, outcome.told.append, **given)
            try:
                await sign_in.run(url)
                outcome.code = callback.answer.result().code
            except MintError as failure:
                outcome.failure = failure
            assert [task for task in asyncio.all_tasks() - at_work if is_ours(task)] == []
            if outcome.failure:
                step = outcome.failure.step or ""
                kept = await capture_failure(shown, tmp_path, step, sign_in.secrets)
                outcome.kept = kept.read_text()
            everything = "\n".join([str(outcome.failure), outcome.kept, *outcome.told])
            for canary in (*sign_in.secrets, RFC_SECRET, STATE, "canary"):
                assert not canary or canary not in everything, canary
            assert "\n" not in str(outcome.failure)

    return run


def is_ours(task: asyncio.Task[Any]) -> bool:
    """Return whether a task is one of our waits, not the listener's or Playwright's own."""
    name = getattr(task.get_coro(), "__qualname__", "")
    return str(name).startswith(("SignInFlow.", "PageEvents.", "Locator."))


def open_page(browser: SharedBrowser) -> AbstractAsyncContextManager[Page]:
    return browser.open_page(locale="en-US")


def with_story(**changes: Told) -> dict[str, Told]:
    return {**USUAL, **{f"/{path}": told for path, told in changes.items()}}


def assert_signed_in(outcome: Outcome) -> None:
    assert outcome.failure is None
    assert outcome.code == "canary-code"


# Pages that differ


def test_a_plain_sign_in_and_consent_lead_to_the_callback(enact: Enact) -> None:
    outcome = enact(USUAL)
    assert_signed_in(outcome)
    assert outcome.server.typed("/session") == [{"email": EMAIL, "password": PASSWORD}]
    assert outcome.server.typed("/decision") == [{"yes": "1"}]
    assert outcome.told == []


def test_a_user_who_is_signed_in_only_consents(enact: Enact) -> None:
    outcome = enact(with_story(authorize=to("/consent")))
    assert_signed_in(outcome)
    assert outcome.server.typed("/session") == []


def test_a_user_who_has_consented_goes_straight_to_the_callback(enact: Enact) -> None:
    outcome = enact(with_story(authorize=finish))
    assert_signed_in(outcome)
    assert outcome.server.sent == []


def test_email_and_password_may_be_on_two_pages(enact: Enact) -> None:
    story = with_story(
        login=page(
            """<h1>Sign in</h1><form method="post" action="/name">
            <label>Email <input name="email"></label>
            <input type="password" name="trap" aria-label="Password" style="display:none">
            <button>Continue</button><button type="button">Continue as a guest</button></form>"""
        ),
        name=page(
            """<form method="post" action="/session"><label>Email
            <input name="email" value="who@signs.example" readonly></label>
            <label>Password <input name="password" type="password"></label>
            <button>Log in</button></form>"""
        ),
    )
    outcome = enact(story)
    assert_signed_in(outcome)
    assert outcome.server.typed("/name") == [{"email": EMAIL, "trap": ""}]
    assert outcome.server.typed("/session") == [{"email": EMAIL, "password": PASSWORD}]


def test_the_password_may_appear_on_the_same_page_after_the_email(enact: Enact) -> None:
    story = with_story(
        login=page(
            f"""<form method="post" action="/session">{FIELDS}<button>Continue</button></form>
            <script>
              const [hidden] = document.querySelectorAll("label:nth-of-type(2)");
              hidden.style.display = "none";
              document.forms[0].addEventListener("submit", (event) => {{
                if (hidden.style.display) {{
                  event.preventDefault(); setTimeout(() => hidden.style.display = "", 100);
                }}
              }});
            </script>"""
        )
    )
    outcome = enact(story, {"sign_in_button": ["Continue"]})
    assert_signed_in(outcome)
    assert outcome.server.typed("/session") == [{"email": EMAIL, "password": PASSWORD}]


def test_fields_without_labels_are_found_by_their_autofill_attributes(enact: Enact) -> None:
    story = with_story(
        login=page(
            """<form method="post" action="/session"><input name="login" placeholder="Any login">
            <input name="password" type="password" placeholder="and password">
            <button>Off we go</button></form>"""
        )
    )
    outcome = enact(story)
    assert_signed_in(outcome)
    assert outcome.server.typed("/session") == [{"login": EMAIL, "password": PASSWORD}]


def test_labels_buttons_and_selectors_come_from_the_settings(enact: Enact) -> None:
    story = with_story(
        login=page(
            f"""<label>Email <input id="newsletter"></label>
            <form method="post" action="/session"><label>Konto <input name="konto"></label>
            <div><input id="secret" name="geheim" type="password"></div>
            <a role="link" href="#" onclick="document.forms[0].submit()">Anmelden</a></form>
            {FORM.replace("/session", "/trap")}"""
        ),
        consent=page('<form method="post" action="/decision"><button>Ja, gerne</button></form>'),
    )
    names = {
        "email_label": "Konto",
        "password_label": "css=#secret",
        "sign_in_button": "role=link[name=Anmelden]",
        "approve_button": ["Ja", "Ja, gerne"],
    }
    outcome = enact(story, names)
    assert_signed_in(outcome)
    assert outcome.server.typed("/session") == [{"konto": EMAIL, "geheim": PASSWORD}]


def test_a_button_whose_name_only_begins_like_ours_is_not_pressed(enact: Enact) -> None:
    story = with_story(
        login=page(
            f"""<a href="/trap"><button>Sign in with a passkey</button></a>
            <form action="/trap"><button>Sign in as a guest</button></form>{FORM}"""
        ),
        consent=CONSENT.replace("<h1>", "<form action='/trap'><button>Approve all</button></form>"),
    )
    outcome = enact(story)
    assert_signed_in(outcome)
    assert "/trap" not in outcome.server.visits


def test_buttons_that_load_and_change_their_names_are_pressed_once(enact: Enact) -> None:
    busy = """<script>
      const button = document.querySelector("button:not([type])");
      button.disabled = true; setTimeout(() => button.disabled = false, 400);
      document.forms[0].addEventListener("submit", (event) => {
        event.preventDefault();
        button.disabled = true; button.textContent = "One moment…";
        setTimeout(() => document.forms[0].submit(), 600);
      });
    </script>"""
    story = with_story(
        login=SIGN_IN.replace("</body>", f"{busy}</body>"),
        consent=CONSENT.replace("</body>", f"{busy}</body>"),
    )
    outcome = enact(story)
    assert_signed_in(outcome)
    assert len(outcome.server.typed("/session")) == 1
    assert len(outcome.server.typed("/decision")) == 1


def test_overlays_and_banners_are_closed_by_their_configured_buttons(enact: Enact) -> None:
    def cover(name: str) -> str:
        return f"""<div id="cover" role="dialog" style="position:fixed;inset:0;background:#fff">
            <button type="button" onclick="this.parentNode.remove()">{name}</button></div></body>"""

    story = with_story(
        login=SIGN_IN.replace("</body>", cover("Only what is needed")),
        consent=CONSENT.replace("</body>", cover("Skip tour")),
    )
    names = {"dismiss_buttons": ["Skip tour", "Only what is needed"]}
    assert_signed_in(enact(story, names))


def test_extra_steps_are_done_in_order_and_skipped_if_absent(enact: Enact) -> None:
    story = with_story(
        login=page(
            f"""<button onclick="document.forms[0].hidden = false; this.remove()">Use a password
            </button><form method="post" action="/session" hidden>
            <label>Tenant e-mail <input name="tenant"></label>{FIELDS}
            <input type="submit" hidden></form>"""
        ),
        session=page('<form method="post" action="/stay"><button>No, thanks</button></form>'),
        stay=to("/consent"),
    )
    names = {
        "steps": [
            {"click": "Use a password"},
            {"click": "Never there"},
            {"fill": "Tenant e-mail", "with": "email"},
            {"fill": "Email", "with": "email"},
            {"fill": "Password", "with": "password"},
            {"press": "Enter"},
            {"click": "No, thanks"},
        ]
    }
    outcome = enact(story, names)
    assert_signed_in(outcome)
    assert outcome.server.typed("/session") == [
        {"tenant": EMAIL, "email": EMAIL, "password": PASSWORD}
    ]
    assert len(outcome.server.typed("/stay")) == 1


# The race


def test_landing_elsewhere_after_the_sign_in_opens_the_authorize_url_again(enact: Enact) -> None:
    signed_in: list[Visit] = []

    def sign_in(visit: Visit) -> Reply:
        signed_in.append(visit)
        return to("/")

    story = with_story(
        authorize=lambda _: to("/consent" if signed_in else "/login"), session=sign_in
    )
    story["/"] = page('<h1>Welcome</h1><div role="dialog"><button>Skip tour</button></div>')
    outcome = enact(story, {"settle_seconds": 1.5})
    assert_signed_in(outcome)
    assert [line for line in outcome.told if "opening the authorize URL again" in line]
    assert len(outcome.server.typed("/session")) == 1


def test_landing_elsewhere_each_time_ends_with_the_address_and_the_settings(enact: Enact) -> None:
    story = {"/authorize": to("/maze?token=canary"), "/maze": page("<h1>A maze</h1>")}
    outcome = enact(story, {"settle_seconds": 0.2})
    assert outcome.failed.reason == "unknown_page"
    assert outcome.server.visits["/authorize"] == 4
    assert "/maze 4 times" in str(outcome.failed)
    assert "A maze" in outcome.kept


def test_a_server_that_is_busy_for_a_moment_is_asked_again(enact: Enact) -> None:
    def authorize(visit: Visit) -> Reply:
        return Reply("busy", 503) if visit.number == 1 else to("/login")

    assert_signed_in(enact(with_story(authorize=authorize)))


@pytest.mark.parametrize("kind", ["application/octet-stream", "text/html"])
def test_a_rate_limit_is_recognised_whether_the_browser_shows_a_page_or_not(
    enact: Enact, kind: str
) -> None:
    outcome = enact(with_story(authorize=Reply('{"message":"Later."}', 429, content_type=kind)))
    assert outcome.failed.reason == "rate_limited"
    assert "/authorize answers HTTP 429" in str(outcome.failed)
    assert outcome.server.visits["/authorize"] == 1


# One-time codes


def test_a_one_time_code_is_typed_if_the_page_asks_for_it(enact: Enact) -> None:
    story = with_story(session=CODE, code=to("/consent"))
    # RFC 6238, appendix B: at 1111111109 s the code ends in 081804.
    outcome = enact(story, totp_secret=SecretStr(RFC_SECRET), clock=lambda: 1111111109)
    assert_signed_in(outcome)
    assert outcome.server.typed("/code") == [{"code": "081804"}]


def test_a_code_is_never_typed_twice(enact: Enact) -> None:
    times = iter([59.0, 59.0, 59.9, 60.0, 60.0, 60.0])
    wrong = CODE.replace("<h1>", '<p class="error">This code is wrong or was used</p><h1>')
    story = with_story(
        session=CODE, code=lambda visit: wrong if visit.number == 1 else to("/consent")
    )
    secret = SecretStr("JBSWY3DPEHPK3PXP")
    outcome = enact(story, totp_secret=secret, clock=lambda: next(times))
    assert_signed_in(outcome)
    typed = [form["code"] for form in outcome.server.typed("/code")]
    assert len(typed) == 2
    assert len(set(typed)) == 2
    assert any("next one-time code" in line for line in outcome.told)


def test_a_code_in_single_boxes_that_the_page_sends_is_sent_once(enact: Enact) -> None:
    story = with_story(
        session=page(
            '<form method="post" action="/code"><fieldset>'
            + '<input name="d" maxlength="1" autocomplete="one-time-code">' * 6
            + """</fieldset><button>Verify</button></form><script>
              const boxes = [...document.querySelectorAll("input")];
              boxes.forEach((box, at) => box.addEventListener("input", () => {
                if (boxes[at + 1]) boxes[at + 1].focus();
                else fetch("/code", { method: "POST", body: "code=" + boxes.map((b) => b.value)
                  .join("") }).then(() => location.assign("/consent"));
              }));
            </script>"""
        ),
        code="taken",
    )
    outcome = enact(story, totp_secret=SecretStr(RFC_SECRET), clock=lambda: 1234567890)
    assert_signed_in(outcome)
    assert outcome.server.typed("/code") == [{"code": "005924"}]


def test_a_code_that_is_refused_twice_is_named(enact: Enact) -> None:
    clock = iter(range(2_000_000_000, 2_000_009_000, 30))
    story = with_story(
        session=CODE, code=CODE.replace("<h1>", '<p role="alert">Invalid code</p><h1>')
    )
    outcome = enact(story, totp_secret=SecretStr(RFC_SECRET), clock=lambda: next(clock))
    assert outcome.failed.reason == "wrong_totp"
    assert len(outcome.server.typed("/code")) == 2


def test_a_code_without_a_secret_names_the_variable_to_set(enact: Enact) -> None:
    outcome = enact(with_story(session=CODE))
    assert outcome.failed.reason == "totp_required"
    assert "LOADTEST_TOTP_SECRET" in str(outcome.failed)


@pytest.mark.parametrize(
    ("secret", "at", "code"),
    [
        (RFC_SECRET, 59, "287082"),
        ("gezd gnbv-gy3t qojq gezd gnbv gy3t qojq", 20000000000, "353130"),
        (f"otpauth://totp/A:b?secret={RFC_SECRET}&digits=8&period=30", 1111111111, "14050471"),
    ],
)
def test_one_time_codes_match_the_rfc(secret: str, at: int, code: str) -> None:
    assert OneTimeCodes(SecretStr(secret), lambda: at).take() == code


@pytest.mark.parametrize("secret", ["no base32!", "", "otpauth://hotp/A?secret=AAAA"])
def test_an_invalid_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(MintError, match="LOADTEST_TOTP_SECRET") as caught:
        OneTimeCodes(SecretStr(secret))
    assert caught.value.reason == "totp_secret"
    assert not secret or secret not in str(caught.value)


# Refusals by cause


@pytest.mark.parametrize(
    ("how", "words", "reason"),
    [
        ("alert", "Invalid email or password", "wrong_password"),
        ("page", "Invalid email or password", "wrong_password"),
        ("alert", "Your account has been locked after too many attempts", "account_locked"),
        ("page", "Too many requests. Please try again later.", "rate_limited"),
        ("page", "Your password has expired and must be changed", "password_change"),
        ("alert", "Please prove that you are not a robot", "captcha"),
        ("page", "We couldn't find an account with that email", "unknown_account"),
        ("page", "Das Konto ist gesperrt", "account_locked"),
        ("alert", "canary pass&word<1> is no password of who@signs.example", "wrong_password"),
    ],
)
def test_the_message_of_the_page_tells_why_a_sign_in_is_refused(
    enact: Enact, how: str, words: str, reason: str
) -> None:
    safe = words.replace("&", "&amp;").replace("<", "&lt;")
    script = f"""<p role="alert" id="said"></p><script>
      document.forms[0].addEventListener("submit", (event) => {{
        event.preventDefault();
        setTimeout(() => document.getElementById("said").innerHTML = {safe!r}, 50);
      }});</script></body>"""
    refusing = SIGN_IN.replace("<h1>", f'<p id="login-error">{safe}</p><h1>')
    story = (
        with_story(login=SIGN_IN.replace("</body>", script))
        if how == "alert"
        else with_story(session=refusing)
    )
    outcome = enact(story, {"says": {"account_locked": "gesperrt"}})
    assert outcome.failed.reason == reason
    assert outcome.failed.step == "sign-in"
    assert len(outcome.server.typed("/session")) == (how == "page")


def test_a_sign_in_page_that_comes_back_without_a_message_is_not_filled_again(enact: Enact) -> None:
    outcome = enact(with_story(session=to("/login")))
    assert outcome.failed.reason == "wrong_password"
    assert len(outcome.server.typed("/session")) == 1


def test_an_alert_that_was_shown_before_is_not_a_refusal(enact: Enact) -> None:
    notice = '<p role="alert">Your session is invalid: password needed</p><h1>'
    assert_signed_in(enact(with_story(login=SIGN_IN.replace("<h1>", notice))))


def test_a_page_of_its_own_may_report_a_locked_account(enact: Enact) -> None:
    outcome = enact(
        with_story(session=page("<h1>This account is suspended</h1>")), {"settle_seconds": 0.3}
    )
    assert outcome.failed.reason == "account_locked"


def test_a_forced_password_change_is_named_and_nothing_is_typed(enact: Enact) -> None:
    story = with_story(
        session=page(
            """<h1>Choose a new password</h1><form method="post" action="/change">
            <label>Current password <input name="old" type="password"></label>
            <label>New password <input name="new" type="password"></label>
            <button>Continue</button></form>"""
        )
    )
    outcome = enact(story)
    assert outcome.failed.reason == "password_change"
    assert outcome.server.typed("/change") == []


def test_a_captcha_is_named(enact: Enact) -> None:
    captcha = '<div class="h-captcha" style="width:300px;height:80px"></div><button disabled>'
    outcome = enact(with_story(login=SIGN_IN.replace("<button>", captcha)))
    assert outcome.failed.reason == "captcha"


def test_an_invisible_captcha_is_ignored(enact: Enact) -> None:
    badge = '<iframe src="/captcha?size=invisible" width="250" height="60"></iframe></body>'
    assert_signed_in(
        enact({**with_story(login=SIGN_IN.replace("</body>", badge)), "/captcha": "badge"})
    )


def test_a_challenge_before_the_first_page_is_a_captcha(enact: Enact) -> None:
    challenge = Reply(page("<h1>One moment</h1>"), 403, headers={"cf-mitigated": "challenge"})
    assert enact({"/authorize": challenge}).failed.reason == "captcha"


def test_a_consent_page_that_refuses_is_quoted(enact: Enact) -> None:
    script = """<p role="alert" id="said"></p><script>
      document.forms[0].addEventListener("submit", (event) => {
        event.preventDefault(); document.getElementById("said").textContent = "Access denied";
      });</script></body>"""
    outcome = enact(with_story(consent=CONSENT.replace("</body>", script)))
    assert (outcome.failed.step, outcome.failed.reason) == ("consent", "consent_denied")


@pytest.mark.parametrize(
    ("told", "reason", "code"),
    [
        (to("/error?error=invalid_client&error_description=unknown+client"), "error_page", "x"),
        (to("/error?error=access_denied"), "consent_denied", "access_denied"),
        (Reply("<h1>Server error</h1>", 500), "error_page", None),
        (
            Reply('{"error": "invalid_client"}', 400, content_type="application/json"),
            "error_page",
            "invalid_client",
        ),
    ],
)
def test_an_error_page_is_named_with_the_servers_error(
    enact: Enact, told: Reply, reason: str, code: str | None
) -> None:
    outcome = enact({"/authorize": told, "/error": page("<h1>That did not work</h1>")})
    assert outcome.failed.reason == reason
    assert outcome.failed.code == ("invalid_client" if code == "x" else code)
    assert "?" not in str(outcome.failed)
    if code == "x":
        assert "invalid_client: unknown client" in str(outcome.failed)


def test_a_server_that_does_not_run_is_unreachable(enact: Enact) -> None:
    with PageServer({}) as gone:
        origin = gone.origin
    outcome = enact(with_story(authorize=to(f"{origin}/login?sig=canary")))
    assert outcome.failed.reason == "unreachable"
    assert "ERR_CONNECTION_REFUSED" in str(outcome.failed)


# Workspaces


@pytest.mark.parametrize(
    ("wanted", "choices"),
    [
        (
            "ws-2",
            """<a href="/enter?ws=ws-1">Alpha</a> <a href="/enter?ws=ws-2"><b>Beta</b> <i>Me</i></a>
        <a href="/trap">Create a workspace</a>""",
        ),
        (
            "Beta",
            """<form action="/enter"><fieldset>
        <label><input type="radio" name="ws" value="ws-1">Alpha</label>
        <label><input type="radio" name="ws" value="ws-2">Beta</label></fieldset>
        <button>Continue</button></form>""",
        ),
        (
            "ws-2",
            """<form action="/enter"><select name="ws"><option value="">Choose…</option>
        <option value="ws-1">Alpha</option><option value="ws-2">Beta</option></select>
        <button>Next</button></form>""",
        ),
        (
            "Beta",
            """<button onclick="location.assign('/enter?ws=ws-1')">Alpha</button>
        <button onclick="location.assign('/enter?ws=ws-2')" data-id="ws-2">Beta</button>""",
        ),
    ],
)
def test_the_workspace_is_picked_by_its_name_or_id(enact: Enact, choices: str, wanted: str) -> None:
    story = with_story(session=page(f"<h1>Choose a workspace</h1>{choices}"), enter=to("/consent"))
    outcome = enact(story, workspace=(wanted,))
    assert_signed_in(outcome)
    assert "/trap" not in outcome.server.visits


def test_a_workspace_beside_the_approval_is_picked_first(enact: Enact) -> None:
    chooser = """<form method="post" action="/decision"><label>Workspace <select name="ws">
        <option value="ws-1">Alpha</option><option value="ws-2">Beta</option></select></label>
        <button>Approve</button></form>"""
    names = {"workspace_label": "Workspace", "workspace": ["Beta"]}
    outcome = enact(with_story(consent=page(chooser)), names)
    assert_signed_in(outcome)
    assert outcome.server.typed("/decision") == [{"ws": "ws-2"}]


def test_the_workspaces_are_listed_if_none_is_the_wanted_one(enact: Enact) -> None:
    choices = "<h1>Select your organization</h1><button>Alpha</button><button>Beta</button>"
    outcome = enact(with_story(session=page(choices)), workspace=("Gamma",))
    assert outcome.failed.reason == "workspace_choice"
    assert "Alpha, Beta" in str(outcome.failed)


def test_a_name_that_two_workspaces_share_in_part_picks_neither() -> None:
    options = [
        (0, {"name": "Team north", "keys": []}),
        (1, {"name": "Team south", "keys": ["t-2"]}),
        (2, {"name": "Alpha\nMember", "keys": []}),
    ]
    assert find_workspace(["Team"], options) is None
    assert find_workspace(["Team", "south"], options) == 1
    assert find_workspace(["t-2"], options) == 1
    assert find_workspace(["alpha"], options) == 2
    assert find_workspace(["Alph"], options) is None


# Where credentials may be typed


def test_nothing_is_typed_on_a_page_of_another_origin(enact: Enact) -> None:
    outcome = enact(USUAL, origins=frozenset({"https://login.example.com"}))
    assert outcome.failed.reason == "unexpected_origin"
    assert "http://127.0.0.1:" in str(outcome.failed)
    assert "sign_in_origins" in str(outcome.failed)
    assert outcome.server.sent == []


def test_any_loopback_port_is_expected_if_one_is(enact: Enact) -> None:
    assert_signed_in(enact(USUAL, origins=frozenset({"http://localhost:1"})))


def test_configured_origins_are_expected_too(enact: Enact) -> None:
    names = {"sign_in_origins": ["http://127.0.0.1:1/"]}
    assert_signed_in(enact(USUAL, names, origins=frozenset({"https://login.example.com"})))


def test_nothing_is_typed_on_a_page_without_tls_unless_it_is_on_loopback(enact: Enact) -> None:
    async def elsewhere(shown: Page) -> None:
        await shown.route(
            "http://plain.example/**",
            lambda route: route.fulfill(body=SIGN_IN, content_type="text/html"),
        )

    leave = page("<script>location.assign('http://plain.example/login?sig=canary')</script>")
    outcome = enact(with_story(authorize=leave), meanwhile=elsewhere)
    assert outcome.failed.reason == "unexpected_origin"
    assert "http://plain.example is not https" in str(outcome.failed)


# Kept pages


def test_kept_text_contains_no_secret_no_query_and_no_token() -> None:
    jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2ln"
    text = f"{PASSWORD} canary%20pass%26word%3C1%3E WHO@SIGNS.EXAMPLE /cb?code=1&state=2 {jwt}"
    assert redact(text, [PASSWORD, EMAIL, ""]) == "*** *** *** /cb?… ***"


def test_a_kept_page_is_private_and_masked(shared_browser: SharedBrowser, tmp_path: Path) -> None:
    async def keep() -> Path:
        async with open_page(shared_browser) as shown:
            await shown.set_content(page(f"<h1>Hello {EMAIL}</h1>{FORM}", f"{EMAIL} signs in"))
            await shown.get_by_label("Password").fill(PASSWORD)
            return await capture_failure(shown, tmp_path / "failures", "sign-in", [PASSWORD, EMAIL])

    kept = shared_browser.run(keep())
    assert "Hello ***" in kept.read_text()
    assert EMAIL not in kept.read_text()
    files = sorted(kept.parent.iterdir())
    assert [path.suffix for path in files] == [".png", ".txt"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_only_the_newest_failures_are_kept_and_no_other_file_is_removed(
    shared_browser: SharedBrowser, tmp_path: Path
) -> None:
    older = [f"202601{day:02}T120000.000000Z-sign-in" for day in range(1, 13)]
    for stem in older:
        for suffix in (".txt", ".png"):
            (tmp_path / (stem + suffix)).touch()
    (tmp_path / "20250101T120000.000000Z-mine.pdf").touch()
    (tmp_path / "notes.txt").touch()

    async def keep() -> Path:
        async with open_page(shared_browser) as shown:
            return await capture_failure(shown, tmp_path, "consent", [PASSWORD])

    kept = shared_browser.run(keep())
    left = {path.name for path in tmp_path.iterdir()}
    assert {"notes.txt", "20250101T120000.000000Z-mine.pdf"} < left
    assert {path.stem for path in tmp_path.glob("*Z-*.txt")} == {*older[-9:], kept.stem}
    assert len(list(tmp_path.glob("*.png"))) == 10


def test_screenshots_of_pages_that_differ_only_in_secrets_are_the_same(
    shared_browser: SharedBrowser, tmp_path: Path
) -> None:
    async def photograph(secret: str, code: str) -> bytes:
        shown_as = escape(secret)
        told = page(
            f"""<style>* {{ font-family: monospace }}</style><h1>Hello {shown_as}</h1>{FORM}
            <label>Shown <input value="{shown_as}"></label><div contenteditable>{shown_as}</div>
            <p>You typed <b>{quote(secret)}</b></p><pre>password={quote_plus(secret)}&amp;next</pre>
            <p>GET /callback?code={code}&amp;state=s</p><p>eyJhbGciOiJub25l.{code}.{code}</p>"""
        )
        async with open_page(shared_browser) as shown:
            await shown.set_content(told)
            await shown.get_by_label("Password").fill(secret)
            kept = await capture_failure(shown, tmp_path / code, "sign-in", [secret])
            text = kept.read_text()
            assert secret not in text
            assert code not in text
        return kept.with_suffix(".png").read_bytes()

    first = shared_browser.run(photograph("canary one <1>", "code-one"))
    second = shared_browser.run(photograph("canary two <2>", "code-two"))
    assert first == second


@pytest.mark.parametrize("end", ["close", "crash"])
def test_one_line_says_that_a_closed_page_could_not_be_read(
    shared_browser: SharedBrowser, tmp_path: Path, end: str
) -> None:
    async def keep() -> Path:
        async with open_page(shared_browser) as shown:
            if end == "close":
                await shown.close()
            else:
                crashed = asyncio.Event()
                shown.on("crash", lambda _: crashed.set())
                opening = asyncio.ensure_future(shown.goto("chrome://crash"))
                await crashed.wait()
                await asyncio.gather(opening, return_exceptions=True)
            return await capture_failure(shown, tmp_path, "consent", [PASSWORD])

    assert "the page could not be read" in shared_browser.run(keep()).read_text()


def test_a_page_that_closes_during_the_sign_in_is_named(enact: Enact) -> None:
    async def close_soon(shown: Page) -> None:
        shown.on("domcontentloaded", lambda _: closing.append(asyncio.ensure_future(shown.close())))

    closing: list[asyncio.Future[None]] = []
    assert enact(USUAL, meanwhile=close_soon).failed.reason == "browser_gone"


# Settings


@pytest.mark.parametrize(
    "table",
    [
        {"steps": [{"fill": "Code"}]},
        {"steps": [{"click": "A", "press": "Enter"}]},
        {"steps": [{"fill": "A", "with": "bearer"}]},
        {"steps": [{}]},
        {"says": {"nonsense": "words"}},
        {"sign_in_origins": ["login.example.com"]},
        {"email_label": ""},
        {"label": "Email"},
    ],
)
def test_page_settings_that_make_no_sense_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Pages.model_validate(table)


def test_origins_are_written_as_browsers_write_them() -> None:
    pages = Pages.model_validate({"sign_in_origins": "https://Login.example.com:443/in?x=1"})
    assert pages.sign_in_origins == ("https://login.example.com",)
