"""One Chromium for the tests of a worker that are not about its start, its end or its loss."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from loadtest.mint.browser.driver import DriverLoop
from loadtest.mint.browser.launcher import BrowserChoice, open_browser

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

T = TypeVar("T")


class SharedBrowser:
    """A browser that starts with its first use; each use has contexts of its own."""

    def __init__(self, choice: BrowserChoice) -> None:
        self.choice = choice
        self._runner: asyncio.Runner | None = None
        self._resources = AsyncExitStack()
        self._browser: Browser | None = None

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop of the browser, instead of in a loop of its own."""
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=DriverLoop)
        return self._runner.run(main)

    @asynccontextmanager
    async def open(
        self, choice: BrowserChoice, *_: object, **__: object
    ) -> "AsyncIterator[Browser]":
        """Give the browser, as `open_browser` gives a new one; close the contexts made in it."""
        assert choice == self.choice
        if self._browser is None or not self._browser.is_connected():
            await self._resources.aclose()
            self._browser = await self._resources.enter_async_context(open_browser(choice))
        try:
            yield self._browser
        finally:
            for context in self._browser.contexts:
                await context.close()

    @asynccontextmanager
    async def open_page(self, **options: Any) -> "AsyncIterator[Page]":
        """Give a page of a new context with these options, for the duration of the block."""
        async with self.open(self.choice) as browser:
            yield await (await browser.new_context(**options)).new_page()

    def close(self) -> None:
        """End the browser, its driver and their event loop; the next use starts new ones."""
        if self._runner is not None:
            self._runner.run(self._resources.aclose())
            self._runner.close()
        self._runner = self._browser = None
