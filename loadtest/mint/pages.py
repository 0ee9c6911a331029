"""The sign-in and consent pages, driven by role and label as a person would."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from loadtest.config import Pages
from loadtest.errors import MintError
from loadtest.mint.callback import Callback

if TYPE_CHECKING:
    from playwright.async_api import Page
    from pydantic import SecretStr

SIGN_IN_SECONDS = 60.0
LANDED_SECONDS = 3.0
STEP_MS = 15_000
REOPENINGS = 3


class SignIn:
    """Goes from the authorize URL to the callback, whatever pages stand between.

    Each turn looks at what is on the page and does the one thing that it asks for: fill and send
    the sign-in form, approve, or, where neither is there (the known race that lands on `/`
    after sign-in), open the authorize URL again. Ends when the callback has its answer.
    """

    def __init__(
        self,
        page: "Page",
        names: Pages,
        email: str,
        password: "SecretStr",
        tell: Callable[[str], None],
    ) -> None:
        self._page = page
        self._email_field = page.get_by_label(names.email_label, exact=True)
        self._password_field = page.get_by_label(names.password_label, exact=True)
        self._sign_in = page.get_by_role("button", name=names.sign_in_button, exact=True)
        self._approve = page.get_by_role("button", name=names.approve_button, exact=True)
        # Next.js keeps an empty alert on every page, for screen readers.
        self._alert = page.get_by_role("alert").filter(has_text=re.compile(r"\S"))
        self._email = email
        self._password = password
        self._tell = tell
        self.step = "sign-in"

    async def run(self, authorization_url: str, callback: Callback) -> None:
        """Drive the pages until the callback is answered; raise MintError naming the step."""
        try:
            async with asyncio.timeout(SIGN_IN_SECONDS):
                await self._drive(authorization_url, callback)
        except TimeoutError:
            raise MintError(
                f"no answer within {SIGN_IN_SECONDS:.0f} s; the page is {self._where()}", self.step
            ) from None

    async def _drive(self, authorization_url: str, callback: Callback) -> None:
        from playwright.async_api import Error

        openings = 0
        while not callback.answer.done():
            try:
                if openings == 0:
                    await self._page.goto(authorization_url, wait_until="commit")
                    openings = 1
                if await self._turn(callback):
                    continue
                if openings > REOPENINGS:
                    raise MintError(f"landed on {self._where()}, {openings} times", self.step)
                self._tell(f"landed on {self._where()}: opening the authorize URL again")
                openings += 1
                await self._page.goto(authorization_url, wait_until="commit")
            except Error as failure:
                # A redirect to the callback aborts whatever the page was doing.
                if await _settles(callback):
                    return
                first = str(failure).strip().splitlines()[0]
                if "Timeout" not in first and "interrupted" not in first:
                    raise MintError(f"{first} at {self._where()}", self.step) from None

    async def _turn(self, callback: Callback) -> bool:
        """Do what the page asks for; False when it asks for nothing that we know."""
        asks = self._password_field.or_(self._approve).first
        (shown,) = await _any(
            callback, asks.wait_for(state="visible", timeout=LANDED_SECONDS * 1000)
        )
        if callback.answer.done():
            return True
        if not shown:
            return False
        if await self._approve.is_visible():
            await self._consent(callback)
        else:
            await self._send_credentials(callback)
        return True

    async def _send_credentials(self, callback: Callback) -> None:
        self.step = "sign-in"
        await self._email_field.fill(self._email, timeout=STEP_MS)
        await self._password_field.fill(self._password.get_secret_value(), timeout=STEP_MS)
        await self._sign_in.click(timeout=STEP_MS)
        _, told = await _any(
            callback,
            self._sign_in.wait_for(state="hidden", timeout=STEP_MS),
            self._alert.first.wait_for(timeout=STEP_MS),
        )
        if told and await self._sign_in.is_visible():
            words = " ".join((await self._alert.first.inner_text()).split())[:200]
            raise MintError(f'the sign-in page says "{words}"', self.step)

    async def _consent(self, callback: Callback) -> None:
        self.step = "consent"
        await self._approve.click(timeout=STEP_MS)
        await _any(callback, self._approve.wait_for(state="hidden", timeout=STEP_MS))

    def _where(self) -> str:
        """Return the page's address without its query, which may hold a signed request."""
        return self._page.url.split("?")[0].split("#")[0]


async def _any(callback: Callback, *waits: Coroutine[Any, Any, Any]) -> list[bool]:
    """Wait for the callback or the first of `waits`; return which of them came true."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait([*tasks, callback.answer], return_when=asyncio.FIRST_COMPLETED)
        return [task.done() and task.exception() is None for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _settles(callback: Callback) -> bool:
    """Wait a moment for a redirect that is under way to reach the listener."""
    await asyncio.wait([callback.answer], timeout=1)
    return callback.answer.done()
