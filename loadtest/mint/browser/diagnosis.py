"""Find out why a sign-in page does not continue, and build the error that explains it."""

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from loadtest.common.network import is_loopback
from loadtest.config.models import Pages, parse_origin
from loadtest.errors import MintError
from loadtest.mint.browser.failure_capture import describe_url, redact
from loadtest.mint.browser.locators import Controls, are_shown
from loadtest.mint.browser.page_events import PageEvents, import_error_class
from loadtest.mint.browser.page_messages import MESSAGES, REMEDIES, parse_oauth_error, squeeze

if TYPE_CHECKING:
    from playwright.async_api import Error, Page

READ_MS = 4_000
REOPENINGS = 3
PASSING_STATUSES = frozenset({502, 503, 504})
PASSING_FAILURES = frozenset(
    (
        *("ERR_CONNECTION_CLOSED", "ERR_CONNECTION_RESET", "ERR_CONNECTION_TIMED_OUT"),
        *("ERR_EMPTY_RESPONSE", "ERR_NETWORK_CHANGED", "ERR_TIMED_OUT"),
    )
)


@dataclass
class Progress:
    """Counts what was done in this sign-in, so that nothing is repeated forever."""

    step: str = "sign-in"
    openings: int = 0
    stumbles: int = 0
    steps: int = 0
    dismissals: int = 0
    passwords: int = 0
    codes: int = 0
    approvals: int = 0
    email_sent: bool = False
    password_sent: bool = False
    sent_on: int = -1
    picked_on: int = -1
    acted_at: int = -1

    def open_again(self) -> None:
        """Count an opening of the authorize URL: its pages may ask for everything again."""
        self.openings += 1
        self.steps = 0
        self.email_sent = self.password_sent = False
        self.picked_on = self.acted_at = -1


class Diagnosis:
    """Reads a page, and builds the MintError with the step and the cause.

    `secrets` is everything that was typed: no message may contain it. Credentials may be typed at
    `origins`; None does not check.
    """

    def __init__(
        self,
        page: "Page",
        names: Pages,
        events: PageEvents,
        secrets: list[str],
        origins: frozenset[str] | None,
    ) -> None:
        self.page, self.events, self.secrets = page, events, secrets
        self.controls, self.progress = Controls(page, names), Progress()
        self._names = names
        self._origins = None if origins is None else origins | set(names.sign_in_origins)

    async def raise_returned_form(self, reason: str, sent: str) -> NoReturn:
        """Raise for a form that asks again for what was sent."""
        message = await self._read_message()
        if message:
            raise self.build_error(
                "the sign-in page says", self.find_reason(message, reason), message
            )
        await self._check_captcha()
        if self.progress.sent_on == self.events.documents:
            raise self.build_error(f"the page did not respond after {sent} sent", "no_answer")
        raise self.build_error(f"the sign-in page came back after {sent} sent", reason)

    async def check_dead_end(self) -> None:
        """Raise if the page shows why it goes no further; return if it shows nothing."""
        if self.events.is_answered():
            return
        self._check_rate_limit()
        passing = self.progress.openings <= REOPENINGS
        if self.page.url.startswith("chrome-error:"):
            if not passing or self.events.failure not in PASSING_FAILURES:
                where = f"{self.events.failed_url} does not answer ({self.events.failure})"
                raise self.build_error(where, "unreachable")
            return
        await self._check_captcha()
        message, whole = await self._read_message(), await self._read_page()
        reason = self._find_configured_reason(whole) or self.find_reason(message, None)
        if reason is not None and reason != "rate_limited":
            raise self.build_error("the page says", reason, message)
        if self.page.url.startswith("http"):
            self.check_origin()
        code, description = parse_oauth_error(self.page.url, whole)
        status = self.events.status
        if status in PASSING_STATUSES and passing and code is None:
            await asyncio.wait([self.events.answer], timeout=2.0 ** (self.progress.openings - 1))
        elif code is not None or self.events.is_error():
            detail = ": ".join(self.clean(part) for part in (code, description) if part)
            http = f"HTTP {status} " if self.events.is_error() else ""
            raise self.build_error(
                f"{self.describe_page()} is an error page ({f'{http}{detail}'.strip()})",
                "consent_denied" if code == "access_denied" else "error_page",
                code=code,
            )

    def _check_rate_limit(self) -> None:
        """Raise for a 429, whatever its body: browsers do not show every body as a page."""
        if self.events.status == 429:
            where = redact(self.events.answered_url, self.secrets)
            raise self.build_error(f"{where} answers HTTP 429", "rate_limited")

    async def check_stuck(self) -> None:
        """Raise for a control that cannot be pressed if the page shows why."""
        await self._check_captcha()
        message = await self._read_message()
        if message:
            raise self.build_error("the page says", self.find_reason(message, "refused"), message)

    async def _check_captcha(self) -> None:
        if (await are_shown(self.controls.captcha))[0] or self.events.challenged:
            raise self.build_error(f"{self.describe_page()} shows a captcha", "captcha")

    def check_origin(self) -> None:
        """Raise unless this is a page where credentials may be typed."""
        try:
            origin = parse_origin(self.page.url)
        except ValueError:
            origin = self.page.url.split(":")[0] + ":"
        if origin.startswith("http:") and not _is_loopback(origin):
            raise self.build_error(
                f"{origin} is not https: nothing is typed on an unencrypted page",
                "unexpected_origin",
            )
        if self._origins is not None and not is_expected(origin, self._origins):
            raise self.build_error(
                f"the sign-in leads to {origin}, which is not expected: if it is yours, add it to "
                "LOADTEST_SIGN_IN_ORIGINS, or to sign_in_origins in [environment.*.pages] of "
                "loadtest.toml",
                "unexpected_origin",
            )

    def check_browser(self, failure: "Error", *, last: bool) -> None:
        """Raise if trying again is useless; Playwright's messages may contain what we typed."""
        network = re.search(r"net::(ERR_\w+)", str(failure))
        is_closed = self.page.is_closed() or type(failure).__name__ == "TargetClosedError"
        if is_closed or self.events.crashed:
            raise self.build_error("the browser or its page has ended", "browser_gone") from None
        self._check_rate_limit()
        if network and network[1] not in {"ERR_ABORTED", *PASSING_FAILURES}:
            raise self.build_error(
                f"the page does not load ({network[1]})", "unreachable"
            ) from None
        if last:
            what = network[1] if network else "it does not respond to the sign-in"
            reason = "unreachable" if network else "unknown_page"
            raise self.build_error(f"gave up on {self.describe_page()} ({what})", reason) from None
        if network and network[1] in PASSING_FAILURES:
            self.progress.openings = 0

    async def _read_message(self) -> str:
        """Return the alerts of the page, else its headings."""
        complaints = await self.read_complaints()
        if complaints:
            return " ".join(complaints)[:300]
        headings = self.page.get_by_role("heading").filter(visible=True)
        with contextlib.suppress(import_error_class()):
            message = squeeze(" ".join(await headings.all_inner_texts()))
            return message if self.find_reason(message, None) else ""
        return ""

    async def read_complaints(self) -> list[str]:
        """Return the texts of the page's alerts."""
        with contextlib.suppress(import_error_class()):
            if not await self.controls.complaint.first.is_visible():
                return []
            return [squeeze(text) for text in await self.controls.complaint.all_inner_texts()]
        return []

    async def _read_page(self) -> str:
        with contextlib.suppress(import_error_class()):
            return await self.page.locator("body").inner_text(timeout=READ_MS)
        return ""

    def _find_configured_reason(self, text: str) -> str | None:
        low = text.casefold()
        return next(
            (key for key, phrase in self._names.says.items() if phrase.casefold() in low), None
        )

    def find_reason(self, message: str, otherwise: str | None) -> str | None:
        """Return the cause that a message of the page matches."""
        known = (name for name, pattern in MESSAGES if pattern.search(message))
        return self._find_configured_reason(message) or next(known, otherwise)

    def build_error(
        self, message: str, reason: str | None, quote: str = "", *, code: str | None = None
    ) -> MintError:
        """Return the error for a cause, with what the page says and what to do about it."""
        quoted = f' "{self.clean(quote)}"' if quote else ""
        remedy = f": {REMEDIES[reason]}" if reason in REMEDIES else ""
        message = redact(f"{message}{quoted}{remedy}", self.secrets)
        return MintError(message, self.progress.step, reason=reason or "refused", code=code)

    def clean(self, text: str) -> str:
        """Return a text of the page on one line, without secrets."""
        return redact(squeeze(text), self.secrets)[:200]

    def describe_page(self) -> str:
        """Return the page's address without query and secrets."""
        return redact(describe_url(self.page.url), self.secrets)


def is_expected(origin: str, expected: frozenset[str]) -> bool:
    """Return whether credentials may go to an origin; all ports of this machine count as one."""
    return origin in expected or (_is_loopback(origin) and any(map(_is_loopback, expected)))


def _is_loopback(origin: str) -> bool:
    return is_loopback(urlsplit(origin).hostname or "")
