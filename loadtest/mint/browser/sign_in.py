"""The sign-in and consent pages, driven by role and label as a person would."""

import asyncio
import contextlib
import ipaddress
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from loadtest.config.models import Pages, Step, parse_origin
from loadtest.errors import MintError
from loadtest.mint.browser.failure_capture import describe_url, redact
from loadtest.mint.browser.locators import Controls, are_shown
from loadtest.mint.browser.one_time_code import OneTimeCodes
from loadtest.mint.browser.page_events import find_error, watching
from loadtest.mint.browser.page_messages import (
    NOT_A_WORKSPACE,
    REMEDIES,
    WORDS,
    find_workspace,
    parse_oauth_error,
    squeeze,
)
from loadtest.mint.oauth.callback import Callback

if TYPE_CHECKING:
    from playwright.async_api import ElementHandle, Error, Locator, Page

    from loadtest.common.redaction import SecretStr

SIGN_IN_SECONDS = 60.0
# A code that was typed a moment ago has to run out before there is another.
FRESH_CODE_SECONDS = 35.0
ERROR_SECONDS = 0.5
USUAL_MS = 400
SOON_SECONDS = 0.6
GRACE_SECONDS = 3.0
OPEN_MS = 30_000
STEP_MS = 15_000
PRESS_MS = 4_000
REOPENINGS = 3
STUMBLES = 5
# A second wrong password may lock the account, so the race is the only cause for a second try.
PASSWORD_TRIES = 2
CODE_TRIES = 2
APPROVALS = 3
DISMISSALS = 10

PASSING_STATUSES = frozenset({502, 503, 504})
PASSING_FAILURES = frozenset(
    {
        "ERR_CONNECTION_CLOSED",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
        "ERR_NETWORK_CHANGED",
        "ERR_TIMED_OUT",
        "ERR_CONNECTION_TIMED_OUT",
    }
)

LIST_OPTIONS = """elements => elements.map(e => ({
    name: (e.getAttribute("aria-label") || (e.labels && e.labels[0] && e.labels[0].innerText)
        || e.innerText || e.textContent || "").trim(),
    keys: [e.id, e.value, ...[...e.attributes].filter(a => a.name.startsWith("data-"))
        .map(a => a.value), ...(e.getAttribute("href") || "").split(/[/?&=#]/)].filter(Boolean)
        .map(String),
    kind: e.type === "radio" ? "radio" : e.localName,
}))"""


class SignIn:
    """Goes from the authorize URL to the callback, whatever pages stand between.

    Each turn looks at what is on the page and does the one thing that it asks for: fill and send
    a form, pick a workspace, approve, or, where nothing is asked (the known race that lands on
    `/` after sign-in), open the authorize URL again. Ends when the callback has its answer.

    `origins` are where credentials may be typed, with `sign_in_origins` of the settings; None
    does not check. `workspace` are the id and names to pick where the pages ask.
    """

    def __init__(
        self,
        page: "Page",
        names: Pages,
        email: str,
        password: "SecretStr",
        tell: Callable[[str], None],
        *,
        totp_secret: "SecretStr | None" = None,
        origins: frozenset[str] | None = None,
        workspace: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._page = page
        self._names = names
        self._controls = Controls(page, names)
        self._email = email
        self._password = password.get_secret_value()
        self._totp = OneTimeCodes(totp_secret, clock) if totp_secret else None
        self._totp_secret = totp_secret.get_secret_value() if totp_secret else ""
        self._tell = tell
        self._origins = None if origins is None else origins | set(names.sign_in_origins)
        self._workspace = (*names.workspace, *workspace)
        self._codes: list[str] = []
        self._done = _Done()
        self.step = "sign-in"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return everything that was typed: what no message and no kept page may hold."""
        return (self._password, self._email, self._totp_secret, *self._codes)

    async def run(self, authorization_url: str, callback: Callback) -> None:
        """Drive the pages until the callback is answered; raise MintError naming the step."""
        seconds = SIGN_IN_SECONDS + (FRESH_CODE_SECONDS if self._totp else 0)
        try:
            with watching(self._page) as self._watch:
                async with asyncio.timeout(seconds):
                    await self._drive(authorization_url, callback)
        except TimeoutError:
            raise MintError(
                f"no answer within {seconds:.0f} s; the page is {self._where()}",
                self.step,
                reason="timeout",
            ) from None

    async def _drive(self, authorization_url: str, callback: Callback) -> None:
        from playwright.async_api import Error

        self._callback = callback
        self._openings = self._stumbles = 0
        while not callback.answer.done():
            try:
                if self._openings == 0:
                    await self._open(authorization_url)
                if await self._turn():
                    continue
                await self._check_dead_end()
                if self._openings > REOPENINGS:
                    raise self._failure(
                        f"landed on {self._where()}, {self._openings} times, which asks for "
                        "nothing known: see [environment.*.pages] in loadtest.toml",
                        "unknown_page",
                    )
                self._tell(f"landed on {self._where()}: opening the authorize URL again")
                await self._open(authorization_url)
            except Error as failure:
                # A redirect to the callback, or a page that moves on, aborts what was under way.
                await self._any(self._watch.moved_on(self._watch.documents), seconds=1)
                if callback.answer.done():
                    return
                self._stumbles += 1
                self._check_browser(failure, last=self._stumbles > STUMBLES)

    async def _open(self, authorization_url: str) -> None:
        self._openings += 1
        self._done.opened()
        await self._page.goto(authorization_url, wait_until="commit", timeout=OPEN_MS)

    async def _turn(self) -> bool:
        """Do what the page asks for; False when it asks for nothing that we know."""
        if not await self._is_asked():
            return self._callback.answer.done()
        controls = self._controls
        if self._is_plain():
            whole = await self._find_form()
            if whole:
                await self._send_password(*whole, controls.password)
                return True
        approve, picker, overlay, complaint = await are_shown(
            controls.approve, controls.picker, controls.overlay, controls.complaint.first
        )
        if overlay and self._done.dismissals < DISMISSALS:
            self._done.dismissals += 1
            await controls.overlay.click(timeout=PRESS_MS)
        elif await self._take_step():
            pass
        elif picker and self._done.picked_on != self._watch.documents:
            await self._pick_workspace(approve)
        elif approve:
            await self._approve(complaint)
        elif whole := await self._find_form():
            await self._send_password(*whole, controls.password)
        else:
            return await self._do_the_rarer()
        return True

    async def _find_form(self) -> "tuple[ElementHandle, ElementHandle] | None":
        """Return the fields of a form with both e-mail and password, where there is one."""
        emails, passwords = await asyncio.gather(
            self._controls.email.element_handles(), self._controls.password.element_handles()
        )
        return (emails[0], passwords[0]) if emails and passwords else None

    def _is_plain(self) -> bool:
        """Return whether a whole form may be sent without looking at what else is there."""
        configured = self._names.steps or "dismiss_buttons" in self._names.model_fields_set
        return not (configured or self._done.password_sent or self._stumbles)

    async def _do_the_rarer(self) -> bool:
        """Do what pages ask for that hold neither a whole form nor a decision."""
        controls = self._controls
        email, password, new_password, totp, any_email, any_password = await are_shown(
            controls.email,
            controls.password,
            controls.new_password,
            controls.totp,
            controls.any_email,
            controls.any_password,
        )
        if new_password:
            raise self._refusal("password_change", "the page asks for a new password")
        if totp:
            await self._send_code()
        elif password or any_password:
            field = controls.password if password else controls.any_password
            name = controls.email if email else controls.any_email if any_email else None
            held = await name.element_handle(timeout=STEP_MS) if name else None
            await self._send_password(held, await field.element_handle(timeout=STEP_MS), field)
        elif (email or any_email) and not self._done.password_sent:
            await self._send_email(controls.email if email else controls.any_email)
        else:
            return False
        return True

    async def _is_asked(self) -> bool:
        """Wait until the page asks for something known; give up when it rests without."""
        following = self._names.steps[self._done.steps : self._done.steps + 1]
        return (await self._any(self._rest(any(step.press for step in following))))[0]

    async def _rest(self, at_once: bool) -> None:
        """End when something known is there; raise when the page stays without."""
        watch = self._watch
        while True:
            # What most pages ask for is cheap to look for; the rest is not.
            with contextlib.suppress(find_error()):
                await self._controls.usual.wait_for(timeout=1 if at_once else USUAL_MS)
                return
            with contextlib.suppress(find_error()):
                await self._page.wait_for_load_state("domcontentloaded", timeout=PRESS_MS)
            documents = watch.documents
            if at_once:
                return
            # Later openings wait longer: some pages are slow to draw themselves. So does a form
            # that gave way to a spinner: opening anew would undo what it is about.
            busy = self._done.acted_at == watch.places
            seconds = self._names.settle_seconds * max(1, self._openings)
            if watch.is_error():
                seconds = min(seconds, ERROR_SECONDS)
            elif busy:
                seconds = STEP_MS / 1000
            try:
                await self._controls.anything.wait_for(timeout=seconds * 1000)
            except find_error():
                if documents == watch.documents:
                    raise
            else:
                return

    async def _take_step(self) -> bool:
        """Do the first configured step whose control is there, passing over those before it."""
        for number in range(self._done.steps, len(self._names.steps)):
            step = self._names.steps[number]
            control = self._controls.steps[number]
            if step.press and number == self._done.steps:
                self._check_origin(self._page.url)
                self._done.steps = number + 1
                await self._page.keyboard.press(step.press)
                return True
            if control is not None and (await are_shown(control))[0]:
                await self._do_step(step, control)
                self._done.steps = number + 1
                return True
        return False

    async def _do_step(self, step: Step, control: "Locator") -> None:
        if step.click:
            self._check_origin(self._page.url)
            await self._act(lambda: control.click(timeout=PRESS_MS), control, seconds=GRACE_SECONDS)
        elif step.with_ == "email":
            await self._type(control, self._email)
        elif step.with_ == "password":
            await self._type(control, self._password)
            self._done.password_sent = True
        else:
            await self._type(control, await self._take_code())

    async def _send_email(self, email: "Locator") -> None:
        self.step = "sign-in"
        if self._done.email_sent:
            await self._came_back("unknown_account", "e-mail was")
        await self._type(email, self._email)
        self._done.email_sent = True
        self._done.sent_on = self._watch.documents
        await self._submit(
            email, self._controls.next, "unknown_account", self._controls.after_email
        )

    async def _send_password(
        self, email: "ElementHandle | None", password: "ElementHandle", field: "Locator"
    ) -> None:
        self.step = "sign-in"
        if self._done.password_sent or self._done.passwords >= PASSWORD_TRIES:
            await self._came_back("wrong_password", "e-mail and password were")
        # A second page may only show the e-mail that the first one took.
        if email and (not self._done.email_sent or await email.is_editable()):
            await self._fill(email, self._email)
        await self._fill(password, self._password)
        self._done.sent_on = self._watch.documents
        await self._submit(
            field, self._controls.sign_in, "wrong_password", self._controls.after_password
        )

    async def _send_code(self) -> None:
        self.step = "sign-in"
        if self._totp is None:
            raise self._failure(
                "the page asks for a one-time code: set LOADTEST_TOTP_SECRET", "totp_required"
            )
        if self._done.codes >= CODE_TRIES:
            await self._came_back("wrong_totp", "one-time code was")
        code = await self._take_code()
        self._done.codes += 1
        self._done.sent_on = self._watch.documents
        boxes = await self._controls.totp.get_attribute("maxlength", timeout=STEP_MS) == "1"
        with self._watch.posts() as posts:
            await self._type(self._controls.totp, code, one_by_one=boxes)
            await are_shown(self._controls.verify)
        if self._watch.documents != self._done.sent_on:
            return
        # Many pages send a whole code by themselves: pressing too would send it twice.
        button = None if posts else self._controls.verify
        await self._submit(self._controls.totp, button, "wrong_totp", self._controls.after_code)

    async def _take_code(self) -> str:
        """Return a one-time code that was never typed, waiting for one where need be."""
        assert self._totp is not None
        seconds = self._totp.fresh_in_seconds()
        if seconds:
            self._tell(f"waiting {seconds:.0f} s for the next one-time code")
            await asyncio.wait([self._callback.answer], timeout=seconds)
        code = self._totp.take()
        self._codes.append(code)
        return code

    async def _approve(self, complaint: bool) -> None:
        self.step = "consent"
        self._check_origin(self._page.url)
        if self._done.approvals >= APPROVALS:
            raise self._failure(
                f"{self._where()} still asks after {APPROVALS} approvals", "no_answer"
            )
        approve = self._controls.approve
        said = await self._act(lambda: approve.click(timeout=PRESS_MS), complaint=complaint)
        self._done.approvals += 1
        if said:
            raise self._refusal(self._read_reason(said, "refused"), "the consent page says", said)

    async def _submit(
        self, field: "Locator", button: "Locator | None", refused: str, then: "Locator"
    ) -> None:
        """Send a form by its button, else by Enter; raise what the page says against it.

        Without a button the page sends by itself.
        """
        self._check_origin(self._page.url)
        complaint, clickable = await are_shown(self._controls.complaint.first, button or field)

        async def press() -> None:
            if button is not None and clickable:
                await button.click(timeout=PRESS_MS)
            elif button is not None:
                await field.press("Enter", timeout=PRESS_MS)

        said = await self._act(press, field, then, complaint=complaint)
        if refused == "wrong_password":
            self._done.passwords += 1
            self._done.password_sent = True
        if said:
            reason = self._read_reason(said, refused)
            if refused == "wrong_totp" and self._done.codes < CODE_TRIES:
                return
            raise self._refusal(reason, "the sign-in page says", said)

    async def _act(
        self,
        act: Callable[[], Coroutine[Any, Any, None]],
        gone: "Locator | None" = None,
        then: "Locator | None" = None,
        seconds: float = STEP_MS / 1000,
        *,
        complaint: bool = True,
    ) -> str:
        """Press something and wait for what comes of it; return what the page says against it.

        What may come: the callback, a new document, `gone` hidden, `then` shown, a complaint.
        `complaint` tells whether the page may complain already.
        """
        documents, self._done.acted_at = self._watch.documents, self._watch.places
        complaints = self._controls.complaint
        before = await self._read_complaints() if complaint else []
        if before:
            known = "|".join(re.escape(words) for words in before)
            complaints = complaints.filter(has_not_text=re.compile(rf"^\s*(?:{known})\s*$"))
        try:
            await act()
        except find_error():
            if documents != self._watch.documents or self._callback.answer.done():
                return ""
            await self._check_stuck()
            raise

        def changes() -> list[Coroutine[Any, Any, None]]:
            waits: list[Coroutine[Any, Any, None]] = [self._watch.moved_on(documents)]
            if gone is not None:
                waits.append(gone.wait_for(state="hidden", timeout=seconds * 1000))
            if then is not None:
                waits.append(then.wait_for(timeout=seconds * 1000))
            return waits

        # Most pages answer soon, and by a new document: looking for more would slow them down.
        told, moved = await self._any(
            complaints.first.wait_for(timeout=seconds * 1000),
            self._watch.moved_on(documents),
            seconds=SOON_SECONDS,
        )
        came = [moved or self._callback.answer.done()]
        if not told and not any(came):
            told, *came = await self._any(
                complaints.first.wait_for(timeout=seconds * 1000), *changes(), seconds=seconds
            )
        if not told or any(came):
            return ""
        words = squeeze(await complaints.first.inner_text(timeout=PRESS_MS))
        # It may be no refusal at all ("Signing in…"): see whether the page moves on.
        unclear = self._read_reason(words, None) is None
        if unclear and any(await self._any(*changes(), seconds=GRACE_SECONDS)):
            return ""
        return "" if self._callback.answer.done() else words

    async def _type(self, field: "Locator", value: str, *, one_by_one: bool = False) -> None:
        handle = await field.element_handle(timeout=STEP_MS)
        await self._fill(handle, value, one_by_one=one_by_one)

    async def _fill(self, handle: "ElementHandle", value: str, *, one_by_one: bool = False) -> None:
        """Fill a field, held by its own document: what loads meanwhile never gets the value."""
        # The browser tells of a new document before it answers for an element in it, so this is
        # the address of the element's document or of a later one, where the handle is void.
        self._check_origin(self._page.url)
        if one_by_one:
            await handle.focus()
            await self._page.keyboard.type(value)
        else:
            await handle.fill(value, timeout=STEP_MS)

    async def _pick_workspace(self, approve: bool) -> None:
        self.step = "consent" if approve else "sign-in"
        self._check_origin(self._page.url)
        choices = self._controls.choices
        options = [
            (number, option)
            for number, option in enumerate(await choices.evaluate_all(LIST_OPTIONS))
            if option["name"] and not NOT_A_WORKSPACE.search(option["name"])
        ]
        if any(option["kind"] in {"radio", "option"} for _, option in options):
            options = [pair for pair in options if pair[1]["kind"] in {"radio", "option"}]
        number = find_workspace(self._workspace, options)
        if number is None:
            listed = ", ".join(self._clean(option["name"])[:60] for _, option in options[:10])
            wanted = "none of them is asked for" if self._workspace else "none is configured"
            raise self._failure(
                f"the page offers workspaces and {wanted}: {listed or 'none'}; set workspace in "
                "[environment.*.pages] of loadtest.toml",
                "workspace_choice",
            )
        self._done.picked_on = self._watch.documents
        kind = next(option["kind"] for at, option in options if at == number)
        choice = choices.nth(number)
        if kind == "option":
            await choice.evaluate("""e => {
                const list = e.closest("select"); list.value = e.value;
                for (const name of ["input", "change"])
                    list.dispatchEvent(new Event(name, {bubbles: true}));
            }""")
        elif kind == "radio":
            await choice.evaluate("e => e.click()")
        else:
            await self._act(lambda: choice.click(timeout=PRESS_MS), self._controls.picker)
            return
        (onward,) = await are_shown(self._controls.next)
        if onward and not approve:
            onwards = self._controls.next
            await self._act(lambda: onwards.click(timeout=PRESS_MS), self._controls.picker)

    async def _came_back(self, reason: str, sent: str) -> NoReturn:
        """Raise for a form that asks again for what it was given."""
        said = await self._read_words()
        if said:
            raise self._refusal(self._read_reason(said, reason), "the sign-in page says", said)
        await self._check_captcha()
        if self._done.sent_on == self._watch.documents:
            raise self._failure(f"nothing came of it after {sent} sent", "no_answer")
        raise self._refusal(reason, f"the sign-in page came back after {sent} sent")

    async def _check_dead_end(self) -> None:
        """Raise for a page that says why it goes no further; return for one that says nothing."""
        if self._callback.answer.done():
            return
        self._check_rate_limit()
        passing = self._openings <= REOPENINGS
        if self._page.url.startswith("chrome-error:"):
            if not passing or self._watch.failure not in PASSING_FAILURES:
                where = f"{self._watch.failed_url} does not answer ({self._watch.failure})"
                raise self._failure(where, "unreachable")
            return
        await self._check_captcha()
        said, whole = await self._read_words(), await self._read_page()
        reason = self._read_configured(whole) or self._read_reason(said, None)
        if reason is not None and reason != "rate_limited":
            raise self._refusal(reason, "the page says", said)
        if self._page.url.startswith("http"):
            self._check_origin(self._page.url)
        code, description = parse_oauth_error(self._page.url, whole)
        status = self._watch.status
        if status in PASSING_STATUSES and passing and code is None:
            await asyncio.wait([self._callback.answer], timeout=2.0 ** (self._openings - 1))
        elif code is not None or self._watch.is_error():
            words = ": ".join(self._clean(w) for w in (code, description) if w)
            http = f"HTTP {status}" if self._watch.is_error() else ""
            raise self._failure(
                f"{self._where()} is an error page ({' '.join(w for w in (http, words) if w)})",
                "consent_denied" if code == "access_denied" else "error_page",
                code=code,
            )

    def _check_rate_limit(self) -> None:
        """Raise for a 429, whatever came with it: browsers do not show every body as a page."""
        if self._watch.status == 429:
            where = redact(self._watch.answered_url, self.secrets)
            raise self._refusal("rate_limited", f"{where} answers HTTP 429")

    async def _check_stuck(self) -> None:
        """Raise for a control that cannot be pressed where the page says why."""
        await self._check_captcha()
        said = await self._read_words()
        if said:
            raise self._refusal(self._read_reason(said, "refused"), "the page says", said)

    async def _check_captcha(self) -> None:
        if (await are_shown(self._controls.captcha))[0] or self._watch.challenged:
            raise self._refusal("captcha", f"{self._where()} shows a captcha")

    def _check_origin(self, url: str) -> None:
        """Raise unless this is a page where credentials may be typed."""
        try:
            origin = parse_origin(url)
        except ValueError:
            origin = url.split(":")[0] + ":"
        loopback = _is_loopback(origin)
        if origin.startswith("http:") and not loopback:
            raise self._failure(
                f"{origin} is not https: nothing is typed where others can read along",
                "unexpected_origin",
            )
        if self._origins is None or origin in self._origins:
            return
        if loopback and any(_is_loopback(allowed) for allowed in self._origins):
            return
        raise self._failure(
            f"the sign-in leads to {origin}, which is not expected: if it is yours, add it to "
            "LOADTEST_SIGN_IN_ORIGINS, or to sign_in_origins in [environment.*.pages] of "
            "loadtest.toml",
            "unexpected_origin",
        )

    def _check_browser(self, failure: "Error", *, last: bool) -> None:
        """Raise when trying again is of no use; Playwright's own words may hold what we typed."""
        words = str(failure)
        network = re.search(r"net::(ERR_\w+)", words)
        is_closed = self._page.is_closed() or type(failure).__name__ == "TargetClosedError"
        if is_closed or self._watch.crashed:
            raise self._failure("the browser or its page has ended", "browser_gone") from None
        self._check_rate_limit()
        if network and network[1] not in {"ERR_ABORTED", *PASSING_FAILURES}:
            raise self._failure(f"the page does not load ({network[1]})", "unreachable") from None
        if last:
            what = network[1] if network else "it does not take what we do"
            reason = "unreachable" if network else "unknown_page"
            raise self._failure(f"gave up on {self._where()} ({what})", reason) from None
        if network and network[1] in PASSING_FAILURES:
            self._openings = 0

    async def _read_words(self) -> str:
        """Return what the page complains of, else its headings."""
        complaints = await self._read_complaints()
        if complaints:
            return " ".join(complaints)[:300]
        headings = self._page.get_by_role("heading").filter(visible=True)
        with contextlib.suppress(find_error()):
            said = squeeze(" ".join(await headings.all_inner_texts()))
            return said if self._read_reason(said, None) else ""
        return ""

    async def _read_complaints(self) -> list[str]:
        with contextlib.suppress(find_error()):
            if not await self._controls.complaint.first.is_visible():
                return []
            return [squeeze(text) for text in await self._controls.complaint.all_inner_texts()]
        return []

    async def _read_page(self) -> str:
        with contextlib.suppress(find_error()):
            return await self._page.locator("body").inner_text(timeout=PRESS_MS)
        return ""

    def _read_configured(self, text: str) -> str | None:
        low = text.casefold()
        return next(
            (key for key, words in self._names.says.items() if words.casefold() in low), None
        )

    def _read_reason(self, words: str, otherwise: str | None) -> str | None:
        configured = self._read_configured(words)
        if configured:
            return configured
        return next((name for name, pattern in WORDS if pattern.search(words)), otherwise)

    def _refusal(self, reason: str | None, what: str, said: str = "") -> MintError:
        quoted = f' "{self._clean(said)}"' if said else ""
        remedy = f": {REMEDIES[reason]}" if reason in REMEDIES else ""
        return self._failure(f"{what}{quoted}{remedy}", reason or "refused")

    def _failure(self, message: str, reason: str, code: str | None = None) -> MintError:
        return MintError(redact(message, self.secrets), self.step, reason=reason, code=code)

    def _clean(self, text: str) -> str:
        return redact(squeeze(text), self.secrets)[:200]

    def _where(self) -> str:
        return redact(describe_url(self._page.url), self.secrets)

    async def _any(
        self,
        *waits: Coroutine[Any, Any, Any],
        seconds: float | None = None,
    ) -> list[bool]:
        """Wait for the callback or the first of `waits`; return which of them came true."""
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(
                [*tasks, self._callback.answer],
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            return [task.done() and task.exception() is None for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class _Done:
    """What was done in this sign-in, so that nothing is done for ever."""

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

    def opened(self) -> None:
        """The authorize URL was opened (again): all pages may ask anew."""
        self.steps = 0
        self.email_sent = self.password_sent = False
        self.picked_on = self.acted_at = -1


def _is_loopback(origin: str) -> bool:
    host = urlsplit(origin).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
