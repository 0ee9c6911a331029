"""The browser of a mint: it starts during discovery, and closes during the token exchange."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadtest.common.access import find_access
from loadtest.common.redaction import SecretStr, learn
from loadtest.config.models import parse_origin
from loadtest.errors import BrowserError, MintError
from loadtest.mint.browser.driver import run
from loadtest.mint.browser.failure_capture import capture_failure
from loadtest.mint.browser.launcher import BrowserChoice, answered, open_browser
from loadtest.mint.browser.sign_in import SignInFlow
from loadtest.mint.oauth.authorization_code import mint_slot
from loadtest.mint.oauth.callback import Callback
from loadtest.mint.oauth.request import ClientRequest, Timings
from loadtest.state.bearers import Bearer

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

COOKIE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class SignInRequest(ClientRequest):
    """Whom to sign in, and how.

    Credentials may be typed at `sign_in_origins` and at the servers' own origins. `slow_ms` slows
    the browser down for a person who watches (`headed`).
    """

    email: str
    password: SecretStr
    browser: BrowserChoice
    totp_secret: SecretStr | None = None
    sign_in_origins: frozenset[str] = frozenset()
    headed: bool = False
    slow_ms: float = 0.0


def sign_in_slots(
    request: SignInRequest, slots: tuple[int, ...]
) -> tuple[tuple[Bearer, ...], Timings]:
    """Mint a verified bearer per slot through the browser; return them and how long each part took.

    Raises MintError and BrowserError.
    """
    return run(_sign_in_slots(request, slots))


async def _sign_in_slots(
    request: SignInRequest, slots: tuple[int, ...]
) -> tuple[tuple[Bearer, ...], Timings]:
    began = time.monotonic()
    timings = Timings()
    async with SignInBrowser(request, timings, len(slots)) as browser:
        bearers = tuple([await mint_slot(request, slot, browser.sign_in) for slot in slots])
    timings.total_seconds = time.monotonic() - began
    return bearers, timings


class SignInBrowser:
    """A browser for a number of `sign_ins`, closed after the last; one more opens it again.

    All share one context: a user who is signed in for the first client types no password again.
    """

    def __init__(self, request: SignInRequest, timings: Timings, sign_ins: int) -> None:
        self._request = request
        self._timings = timings
        self._left = sign_ins
        self._is_announced = False
        self._resources = AsyncExitStack()
        self._opening: asyncio.Task[BrowserContext] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "SignInBrowser":
        self._opening = asyncio.create_task(self._open())
        return self

    async def __aexit__(self, *_: object) -> None:
        began = time.monotonic()
        if self._opening is not None:
            # The browser was never used: the error that ended the flow matters.
            with suppress(BrowserError):
                await self._opening
        await self._close()
        self._timings.browser_seconds += time.monotonic() - began

    async def sign_in(
        self, authorization_url: str, callback: Callback, origins: frozenset[str]
    ) -> None:
        """Go through the pages; if the browser is lost, once more with a new one.

        Raises BrowserError if none starts, MintError for everything else.
        """
        try:
            await self._go_through(authorization_url, callback, origins)
        except (BrowserError, MintError) as failure:
            if isinstance(failure, MintError) and failure.reason != "browser_gone":
                raise
            self._request.tell(f"{failure}: trying once more with a new browser")
            await self._close()
            if not callback.answer.done():
                await self._go_through(authorization_url, callback, origins)
        self._left -= 1
        if self._left <= 0:
            self._closing = asyncio.create_task(self._close())

    async def _go_through(
        self, authorization_url: str, callback: Callback, origins: frozenset[str]
    ) -> None:
        """Go through the pages; on failure keep the page and name the file."""
        request = self._request
        began = time.monotonic()
        try:
            page = await self._open_page()
        finally:
            opened = time.monotonic()
            self._timings.browser_seconds += opened - began
        if not self._is_announced:
            request.tell(f"signing in with {request.browser.browser_version}")
            self._is_announced = True
        sign_in = SignInFlow(
            page,
            callback,
            request.environment.pages,
            request.email,
            request.password,
            request.tell,
            totp_secret=request.totp_secret,
            origins=origins | request.sign_in_origins,
            workspace=(request.workspace_id,) if request.workspace_id else (),
        )
        try:
            try:
                await sign_in.run(authorization_url)
            finally:
                await _learn_cookies(page)
        except MintError as failure:
            if failure.reason in {"browser_gone", "rate_limited"}:
                raise
            folder = request.state_dir / "failures"
            kept = await capture_failure(page, folder, failure.step or "sign-in", sign_in.secrets)
            raise MintError(
                f"{failure.message}; the page is kept in {kept}",
                failure.step,
                reason=failure.reason,
                code=failure.code,
            ) from None
        finally:
            self._timings.pages_seconds += time.monotonic() - opened

    async def _open_page(self) -> "Page":
        if self._closing is not None:
            await self._closing
            self._closing = None
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await open_page(await self._opening, self._request.mcp_url)

    async def _open(self) -> "BrowserContext":
        request = self._request
        browser = await self._resources.enter_async_context(
            open_browser(
                request.browser, request.tell, headed=request.headed, slow_ms=request.slow_ms
            )
        )
        return await open_context(browser, request.mcp_url)

    async def _close(self) -> None:
        if self._closing is not None and self._closing is not asyncio.current_task():
            await self._closing
        self._opening = None
        await self._resources.aclose()


async def open_context(browser: "Browser", url: str) -> "BrowserContext":
    """Open a context that presents our client certificate to the origin of the URL, if any."""
    certificate = find_access(url).certificate
    if certificate is None:
        return await answered(browser.new_context(locale="en-US"))
    context = browser.new_context(
        locale="en-US",
        client_certificates=[
            {
                "origin": parse_origin(url),
                "cert": certificate.chain.encode(),
                "key": certificate.key.get_secret_value().encode(),
            }
        ],
    )
    return await answered(context)


async def open_page(context: "BrowserContext", url: str) -> "Page":
    """Open a page that sends the headers that the origin of the URL demands, to no other origin.

    A route of Playwright would keep them in a redirect to another origin; this asks for each hop.
    """
    page = await answered(context.new_page())
    more = find_access(url).headers
    if not more:
        return page
    devtools = await answered(context.new_cdp_session(page))

    async def continue_request(event: dict[str, Any]) -> None:
        from playwright.async_api import Error

        headers = {**event["request"]["headers"], **more}
        with suppress(Error):  # the page has gone
            await devtools.send(
                "Fetch.continueRequest",
                {
                    "requestId": event["requestId"],
                    "headers": [{"name": name, "value": text} for name, text in headers.items()],
                },
            )

    devtools.on("Fetch.requestPaused", continue_request)
    patterns = [{"urlPattern": f"{parse_origin(url)}/*"}]
    await answered(devtools.send("Fetch.enable", {"patterns": patterns}))
    return page


async def _learn_cookies(page: "Page") -> None:
    """Register the cookies as secrets; a browser that has ended has none."""
    from playwright.async_api import Error

    with suppress(Error, TimeoutError):
        async with asyncio.timeout(COOKIE_SECONDS):
            learn(*(cookie["value"] for cookie in await page.context.cookies()))
