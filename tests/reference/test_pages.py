"""The pages in a real browser: sign-in, consent, the race to the front page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from loadtest.mint.browser.launcher import BrowserChoice
from loadtest.reference.server import SeedUser
from tests.reference.visitor import PASSWORD, Launch, Visitor, query_of

pytestmark = pytest.mark.slow

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(browser_choice: BrowserChoice) -> Iterator[Browser]:
    """One browser for all tests of this module."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser_choice.executable, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without cookies."""
    context = browser.new_context()
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


def sign_in_url(visitor: Visitor) -> str:
    """Return the authorization URL; its callback is on the web origin, which always answers."""
    callback = f"{visitor.target.web_url}/callback"
    client_id = visitor.register(redirect_uris=[callback])["client_id"]
    return visitor.authorize_signed_out(client_id, redirect_uri=callback)


def sign_in(page: Page, visitor: Visitor) -> None:
    """Type the credentials and press the button."""
    page.get_by_label("Email").fill(visitor.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_signing_in_and_approving_leads_to_the_callback(page: Page, visitor: Visitor) -> None:
    page.goto(sign_in_url(visitor))
    button = page.get_by_role("button", name="Sign in", exact=True)
    expect(button).to_be_disabled()
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_enabled()
    page.get_by_label("Email").fill(visitor.email)
    expect(button).to_be_disabled()
    page.get_by_label("Password").fill("not it, sorry")
    button.click()
    expect(page.get_by_role("alert")).to_have_text("Invalid email or password")
    sign_in(page, visitor)
    expect(page.get_by_role("heading", name="Authorize access")).to_be_visible()
    expect(page.get_by_text("Read this workspace's data")).to_be_visible()
    expect(page.get_by_text("tests asks for access")).to_be_visible()
    with page.expect_request("**/callback?**") as callback:
        page.get_by_role("button", name="Approve").click()
    assert set(query_of(callback.value.url)) == {"code", "state", "iss"}


def test_denying_leads_to_the_callback_too(page: Page, visitor: Visitor) -> None:
    page.goto(sign_in_url(visitor))
    sign_in(page, visitor)
    with page.expect_request("**/callback?**") as callback:
        page.get_by_role("button", name="Deny").click()
    assert query_of(callback.value.url)["error"] == "access_denied"


def test_a_lost_race_ends_on_the_front_page_and_the_cookie_leads_back(
    page: Page, launch: Launch, join: type[Visitor]
) -> None:
    target = launch(race_share=1)
    visitor = join(target)
    client_id = visitor.register()["client_id"]
    url = visitor.authorize_signed_out(client_id)
    page.goto(url)
    sign_in(page, visitor)
    page.wait_for_url(f"{target.web_url}/")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("button", name="Skip tour").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    query = url.partition("?")[2]
    page.goto(f"{target.api_url}/api/auth/oauth2/authorize?{query}")
    expect(page.get_by_role("button", name="Approve")).to_be_enabled()


def test_an_expired_request_shows_a_message(page: Page, visitor: Visitor) -> None:
    page.goto(sign_in_url(visitor))
    sign_in(page, visitor)
    page.get_by_role("button", name="Approve").wait_for()
    page.goto(f"{visitor.target.web_url}/oauth2/consent?client_id=unknown")
    expect(page.get_by_role("alert")).to_contain_text("not valid any more")
    expect(page.get_by_role("button", name="Approve")).to_be_disabled()


def test_a_locked_account_is_named_in_the_alert(
    page: Page, launch: Launch, join: type[Visitor]
) -> None:
    seed = SeedUser("locked@novamart.example", PASSWORD, locked=True)
    visitor = join(launch(users=[seed]))
    page.goto(sign_in_url(visitor))
    visitor.email = seed.email
    sign_in(page, visitor)
    expect(page.get_by_role("alert")).to_contain_text("account is locked")


def test_a_password_that_must_be_changed_is_changed_before_consent(
    page: Page, launch: Launch, join: type[Visitor]
) -> None:
    seed = SeedUser("new@novamart.example", PASSWORD, workspace="seeded")
    visitor = join(launch(users=[seed]))
    page.goto(sign_in_url(visitor))
    visitor.email = seed.email
    sign_in(page, visitor)
    expect(page.get_by_role("heading", name="Change your password")).to_be_visible()
    button = page.get_by_role("button", name="Change password")
    expect(button).to_be_disabled()
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("another password")
    page.get_by_label("Repeat new password").fill("a different one")
    button.click()
    expect(page.get_by_role("alert")).to_contain_text("differ")
    page.get_by_label("Repeat new password").fill("another password")
    button.click()
    with page.expect_request("**/callback?**") as callback:
        page.get_by_role("button", name="Approve").click()
    assert "code" in query_of(callback.value.url)
