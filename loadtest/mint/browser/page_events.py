"""Events that the browser reports while pages are driven."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from loadtest.mint.browser.failure_capture import describe_url

if TYPE_CHECKING:
    from playwright.async_api import Error, Frame, Page, Request, Response


class PageEvents:
    """Counts documents, and notes their HTTP status and the end of the page.

    `answer` is set when the callback has received its request.
    """

    def __init__(self, page: "Page", answer: asyncio.Future[Any]) -> None:
        self._page = page
        self.answer = answer
        self._waiting: set[asyncio.Future[None]] = set()
        self.documents = 0
        self.places = 0
        self.status: int | None = None
        self.challenged = False
        self.crashed = False
        self.failure = "no answer"
        self.failed_url = self.answered_url = "the page"

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Listen to the browser's events for the duration of the block."""
        listeners: dict[str, Callable[[Any], None]] = {
            "domcontentloaded": self._note_document,
            "framenavigated": self._note_place,
            "response": self._note_response,
            "requestfailed": self._note_failure,
            "crash": self._note_crash,
            "close": self._wake,
        }
        for event, listener in listeners.items():
            self._page.on(event, listener)  # type: ignore[call-overload]
        try:
            yield
        finally:
            for event, listener in listeners.items():
                self._page.remove_listener(event, listener)

    def is_answered(self) -> bool:
        """Return whether the callback has its answer."""
        return self.answer.done()

    async def first_of(
        self, *waits: Coroutine[Any, Any, Any], seconds: float | None = None
    ) -> list[bool]:
        """Wait for the callback or the first of `waits`; return which of them succeeded."""
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(
                [*tasks, self.answer], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            return [task.done() and task.exception() is None for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def moved_on(self, documents: int) -> None:
        """Wait for a document after the first `documents`, or for the page's end."""
        if self.documents != documents:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def is_error(self) -> bool:
        """Return whether the document is an HTTP error, or the browser's own error page."""
        failed = self._page.url.startswith("chrome-error:")
        return failed or (self.status is not None and self.status >= 400)

    def _wake(self, _: object = None) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def _note_document(self, _: object) -> None:
        self.documents += 1
        self._wake()

    def _note_place(self, frame: "Frame") -> None:
        if frame == self._page.main_frame:
            self.places += 1

    @contextlib.contextmanager
    def posts(self) -> "Iterator[list[Request]]":
        """Collect the POST requests of the page during the block."""
        seen: list[Request] = []

        def note(request: "Request") -> None:
            if request.method == "POST" and request.resource_type in {"document", "fetch", "xhr"}:
                seen.append(request)

        self._page.on("request", note)
        try:
            yield seen
        finally:
            self._page.remove_listener("request", note)

    def _note_response(self, response: "Response") -> None:
        if self._is_ours(response.request):
            self.status = response.status
            self.answered_url = describe_url(response.url)
            self.challenged = response.headers.get("cf-mitigated") == "challenge"

    def _note_failure(self, request: "Request") -> None:
        if self._is_ours(request):
            self.failure = (request.failure or "no answer").removeprefix("net::")
            self.failed_url = describe_url(request.url)

    def _note_crash(self, _: object) -> None:
        self.crashed = True
        self._wake()

    def _is_ours(self, request: "Request") -> bool:
        with contextlib.suppress(import_error_class()):
            main = request.is_navigation_request() and request.frame == self._page.main_frame
            return bool(main)
        return False


def import_error_class() -> "type[Error]":
    """Return Playwright's error class; a mint without a browser must not import Playwright."""
    from playwright.async_api import Error

    return Error
