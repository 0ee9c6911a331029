"""The browser of a mint: up while discovery is at work, and gone while tokens are exchanged."""

import asyncio
import os
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from loadtest.browser import launch
from loadtest.errors import BrowserError, MintError
from loadtest.mint.callback import Callback
from loadtest.mint.evidence import keep_evidence
from loadtest.mint.pages import SignIn
from loadtest.mint.request import MintRequest, Timings

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext


class SignInBrowser:
    """A browser for the `sign_ins` of one flow, closed behind the last; one more opens it anew.

    One context for all: who signed in for the first client need not type a password again.
    """

    def __init__(self, request: MintRequest, timings: Timings, sign_ins: int) -> None:
        self._request = request
        self._timings = timings
        self._left = sign_ins
        self._told = False
        self._resources = AsyncExitStack()
        self._opening: asyncio.Task[BrowserContext] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "SignInBrowser":
        self._opening = asyncio.create_task(self._open())
        return self

    async def __aexit__(self, *_: object) -> None:
        began = time.monotonic()
        if self._opening is not None:
            # Nobody asked for it: what ended the flow before is what counts.
            with suppress(BrowserError):
                await self._opening
        await self._close()
        self._timings.browser_seconds += time.monotonic() - began

    async def sign_in(
        self, authorization_url: str, callback: Callback, origins: frozenset[str]
    ) -> None:
        """Go through the pages; on failure keep what they showed and say where."""
        request = self._request
        began = time.monotonic()
        page = await (await self._find_context()).new_page()
        if not self._told:
            request.tell(f"signing in with {request.browser.browser_version}")
            self._told = True
        opened = time.monotonic()
        self._timings.browser_seconds += opened - began
        sign_in = SignIn(
            page,
            request.environment.pages,
            request.email,
            request.password,
            request.tell,
            totp_secret=request.totp_secret,
            origins=origins,
            workspace=(request.workspace_id,) if request.workspace_id else (),
        )
        try:
            await sign_in.run(authorization_url, callback)
        except MintError as failure:
            folder = request.state_dir / "failures"
            kept = await keep_evidence(page, folder, sign_in.step, sign_in.secrets)
            raise MintError(
                f"{failure.message}; the page is kept in {kept}",
                failure.step,
                reason=failure.reason,
                code=failure.code,
            ) from None
        finally:
            self._timings.pages_seconds += time.monotonic() - opened
        self._left -= 1
        if self._left <= 0:
            self._closing = asyncio.create_task(self._close())

    async def _find_context(self) -> "BrowserContext":
        if self._closing is not None:
            await self._closing
            self._closing = None
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await self._opening

    async def _open(self) -> "BrowserContext":
        from playwright.async_api import async_playwright

        # With DEBUG=pw:api in the environment Playwright's driver prints what is typed.
        os.environ.pop("DEBUG", None)
        request = self._request
        playwright = await self._resources.enter_async_context(async_playwright())
        browser = await launch(
            playwright, request.browser, headed=request.headed, slow_ms=request.slow_ms
        )
        self._resources.push_async_callback(browser.close)
        return await browser.new_context(locale="en-US")

    async def _close(self) -> None:
        if self._closing is not None and self._closing is not asyncio.current_task():
            await self._closing
        self._opening = None
        await self._resources.aclose()
