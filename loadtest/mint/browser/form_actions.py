"""Fill and send the forms of sign-in and consent pages, and wait for the result."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from loadtest.config.models import Step
from loadtest.mint.browser.diagnosis import Diagnosis
from loadtest.mint.browser.locators import are_shown
from loadtest.mint.browser.one_time_code import OneTimeCodes
from loadtest.mint.browser.page_events import import_error_class
from loadtest.mint.browser.page_messages import find_workspace, squeeze

if TYPE_CHECKING:
    from playwright.async_api import ElementHandle, Locator

SOON_SECONDS = 0.6
GRACE_SECONDS = 3.0
STEP_MS = 15_000
PRESS_MS = 4_000
# A second wrong password may lock the account; only the known race justifies a second try.
PASSWORD_TRIES = 2
CODE_TRIES = 2
APPROVALS = 3


class FormActions:
    """Fills and sends one form at a time; raises MintError if the page refuses it."""

    def __init__(
        self,
        diagnosis: Diagnosis,
        email: str,
        password: str,
        totp: OneTimeCodes | None,
        workspace: Sequence[str],
        tell: Callable[[str], None],
    ) -> None:
        self._diagnosis, self._progress = diagnosis, diagnosis.progress
        self._page, self._controls = diagnosis.page, diagnosis.controls
        self._events = diagnosis.events
        self._email, self._password, self._totp = email, password, totp
        self._workspace, self._tell = workspace, tell

    async def do_step(self, step: Step, control: "Locator | None") -> None:
        """Press the key of a configured step, or click or fill its control."""
        self._diagnosis.check_origin()
        if control is None:
            assert step.press is not None
            await self._page.keyboard.press(step.press)
        elif step.click:
            await self._act(lambda: control.click(timeout=PRESS_MS), control, seconds=GRACE_SECONDS)
        elif step.with_ == "email":
            await self._type(control, self._email)
        elif step.with_ == "password":
            await self._type(control, self._password)
            self._progress.password_sent = True
        else:
            await self._type(control, await self._take_code())

    async def send_email(self, email: "Locator") -> None:
        """Type and send the e-mail if the page asks for nothing else."""
        self._progress.step = "sign-in"
        if self._progress.email_sent:
            await self._diagnosis.raise_returned_form("unknown_account", "e-mail was")
        await self._type(email, self._email)
        self._progress.email_sent = True
        self._progress.sent_on = self._events.documents
        controls = self._controls
        await self._submit(email, controls.next, "unknown_account", controls.after_email)

    async def send_password(
        self, email: "ElementHandle | None", password: "ElementHandle", field: "Locator"
    ) -> None:
        """Type the password, and the e-mail if there is a field for it, and send them."""
        self._progress.step = "sign-in"
        if self._progress.password_sent or self._progress.passwords >= PASSWORD_TRIES:
            await self._diagnosis.raise_returned_form("wrong_password", "e-mail and password were")
        # A second page may only display the e-mail that the first one accepted.
        if email and (not self._progress.email_sent or await email.is_editable()):
            await self._fill(email, self._email)
        await self._fill(password, self._password)
        self._progress.sent_on = self._events.documents
        controls = self._controls
        await self._submit(field, controls.sign_in, "wrong_password", controls.after_password)

    async def send_code(self) -> None:
        """Type a one-time code; send it unless the page sends it on its own."""
        self._progress.step = "sign-in"
        if self._totp is None:
            raise self._diagnosis.build_error(
                "the page asks for a one-time code: set LOADTEST_TOTP_SECRET", "totp_required"
            )
        if self._progress.codes >= CODE_TRIES:
            await self._diagnosis.raise_returned_form("wrong_totp", "one-time code was")
        code = await self._take_code()
        self._progress.codes += 1
        self._progress.sent_on = self._events.documents
        boxes = await self._controls.totp.get_attribute("maxlength", timeout=STEP_MS) == "1"
        with self._events.posts() as posts:
            await self._type(self._controls.totp, code, one_by_one=boxes)
            await are_shown(self._controls.verify)
        if self._events.documents != self._progress.sent_on:
            return
        # Many pages send a complete code on their own: pressing the button would send it twice.
        button = None if posts else self._controls.verify
        await self._submit(self._controls.totp, button, "wrong_totp", self._controls.after_code)

    async def _take_code(self) -> str:
        """Return a one-time code that was never typed; wait for the next one if needed."""
        assert self._totp is not None
        seconds = self._totp.fresh_in_seconds()
        if seconds:
            self._tell(f"waiting {seconds:.0f} s for the next one-time code")
            await asyncio.wait([self._events.answer], timeout=seconds)
        code = self._totp.take()
        self._diagnosis.secrets.append(code)
        return code

    async def pick_workspace(self, approve: bool) -> None:
        """Pick the workspace; `approve` is whether the page also asks for consent."""
        self._progress.step = "consent" if approve else "sign-in"
        self._diagnosis.check_origin()
        options = await self._controls.list_workspaces()
        number = find_workspace(self._workspace, options)
        if number is None:
            clean = self._diagnosis.clean
            listed = ", ".join(clean(option["name"])[:60] for _, option in options[:10])
            wanted = (
                "none of them has the configured name" if self._workspace else "none is configured"
            )
            raise self._diagnosis.build_error(
                f"the page offers workspaces and {wanted}: {listed or 'none'}; set workspace in "
                "[environment.*.pages] of loadtest.toml",
                "workspace_choice",
            )
        self._progress.picked_on = self._events.documents
        kind = next(option["kind"] for at, option in options if at == number)
        choice = self._controls.choices.nth(number)
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
        onward = self._controls.next
        if not approve and await onward.is_visible():
            await self._act(lambda: onward.click(timeout=PRESS_MS), self._controls.picker)

    async def approve(self, complaint: bool) -> None:
        """Give consent; `complaint` is whether the page may show an alert already."""
        self._progress.step = "consent"
        self._diagnosis.check_origin()
        if self._progress.approvals >= APPROVALS:
            where = self._diagnosis.describe_page()
            message = f"{where} still asks for consent after {APPROVALS} approvals"
            raise self._diagnosis.build_error(message, "no_answer")
        approve = self._controls.approve
        message = await self._act(lambda: approve.click(timeout=PRESS_MS), complaint=complaint)
        self._progress.approvals += 1
        if message:
            reason = self._diagnosis.find_reason(message, "refused")
            raise self._diagnosis.build_error("the consent page says", reason, message)

    async def _submit(
        self, field: "Locator", button: "Locator | None", refused: str, then: "Locator"
    ) -> None:
        """Send a form by its button, else by Enter; raise the error that the page shows.

        Without a button the page sends the form on its own.
        """
        self._diagnosis.check_origin()
        complaint, clickable = await are_shown(self._controls.complaint.first, button or field)

        async def press() -> None:
            if button is not None and clickable:
                await button.click(timeout=PRESS_MS)
            elif button is not None:
                await field.press("Enter", timeout=PRESS_MS)

        message = await self._act(press, field, then, complaint=complaint)
        if refused == "wrong_password":
            self._progress.passwords += 1
            self._progress.password_sent = True
        if message:
            reason = self._diagnosis.find_reason(message, refused)
            if refused == "wrong_totp" and self._progress.codes < CODE_TRIES:
                return
            raise self._diagnosis.build_error("the sign-in page says", reason, message)

    async def _act(
        self,
        act: Callable[[], Coroutine[Any, Any, None]],
        gone: "Locator | None" = None,
        then: "Locator | None" = None,
        seconds: float = STEP_MS / 1000,
        *,
        complaint: bool = True,
    ) -> str:
        """Press something and wait for the result; return the error that the page shows.

        Possible results: the callback, a new document, `gone` hidden, `then` shown, an alert.
        `complaint` is whether the page may show an alert already.
        """
        documents, self._progress.acted_at = self._events.documents, self._events.places
        complaints = self._controls.complaint
        before = await self._diagnosis.read_complaints() if complaint else []
        if before:
            known = "|".join(re.escape(text) for text in before)
            complaints = complaints.filter(has_not_text=re.compile(rf"^\s*(?:{known})\s*$"))
        try:
            await act()
        except import_error_class():
            if documents != self._events.documents or self._events.is_answered():
                return ""
            await self._diagnosis.check_stuck()
            raise

        def changes() -> list[Coroutine[Any, Any, None]]:
            waits: list[Coroutine[Any, Any, None]] = [self._events.moved_on(documents)]
            if gone is not None:
                waits.append(gone.wait_for(state="hidden", timeout=seconds * 1000))
            if then is not None:
                waits.append(then.wait_for(timeout=seconds * 1000))
            return waits

        # Most pages soon load a new document: waiting for everything at once would slow them down.
        complained, moved = await self._events.first_of(
            complaints.first.wait_for(timeout=seconds * 1000),
            self._events.moved_on(documents),
            seconds=SOON_SECONDS,
        )
        came = [moved or self._events.is_answered()]
        if not complained and not any(came):
            complained, *came = await self._events.first_of(
                complaints.first.wait_for(timeout=seconds * 1000), *changes(), seconds=seconds
            )
        if not complained or any(came):
            return ""
        message = squeeze(await complaints.first.inner_text(timeout=PRESS_MS))
        # The text may not be an error ("Signing in…"): check whether the page moves on.
        unclear = self._diagnosis.find_reason(message, None) is None
        if unclear and any(await self._events.first_of(*changes(), seconds=GRACE_SECONDS)):
            return ""
        return "" if self._events.is_answered() else message

    async def _type(self, field: "Locator", value: str, *, one_by_one: bool = False) -> None:
        handle = await field.element_handle(timeout=STEP_MS)
        await self._fill(handle, value, one_by_one=one_by_one)

    async def _fill(self, handle: "ElementHandle", value: str, *, one_by_one: bool = False) -> None:
        """Fill a field of one document: a document that loads meanwhile never gets the value."""
        # The browser reports a new document before it answers for an element in it. So this URL
        # belongs to the element's document, or to a later one, for which the handle is invalid.
        self._diagnosis.check_origin()
        if one_by_one:
            await handle.focus()
            await self._page.keyboard.type(value)
        else:
            await handle.fill(value, timeout=STEP_MS)
