"""Go through the sign-in and consent pages by role and label, as a person would."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from loadtest.config.models import Pages
from loadtest.mint.browser.diagnosis import REOPENINGS, Diagnosis
from loadtest.mint.browser.form_actions import PRESS_MS, STEP_MS, FormActions
from loadtest.mint.browser.locators import are_shown
from loadtest.mint.browser.one_time_code import OneTimeCodes
from loadtest.mint.browser.page_events import PageEvents, import_error_class
from loadtest.mint.oauth.callback import Callback

if TYPE_CHECKING:
    from playwright.async_api import ElementHandle, Page

    from loadtest.common.redaction import SecretStr

SIGN_IN_SECONDS = 60.0
# The next one-time code exists only after the last one has expired.
FRESH_CODE_SECONDS = 35.0
ERROR_SECONDS = 0.5
USUAL_MS = 400
OPEN_MS = 30_000
STUMBLES = 5
DISMISSALS = 10


class SignInFlow:
    """Goes from the authorize URL to the callback, through any pages between them.

    Each turn looks at the page and does the one thing that it asks for: fill and send a form,
    pick a workspace, or approve. If the page asks for nothing (a known race lands on `/` after
    sign-in), the authorize URL is opened again. It ends when the callback has its answer.

    Credentials may be typed at `origins` and at the `sign_in_origins` of the settings; None does
    not check. `workspace` is the id and the names to pick if the pages ask for one. `secrets` is
    everything that was typed: no message and no kept page may hold it.
    """

    def __init__(
        self,
        page: "Page",
        callback: Callback,
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
        self._page, self._names, self._tell = page, names, tell
        self._seconds = SIGN_IN_SECONDS + (FRESH_CODE_SECONDS if totp_secret else 0)
        self._events = PageEvents(page, callback.answer)
        secrets = (password, totp_secret) if totp_secret else (password,)
        self.secrets = [email, *(secret.get_secret_value() for secret in secrets)]
        self._diagnosis = Diagnosis(page, names, self._events, self.secrets, origins)
        self._controls, self._progress = self._diagnosis.controls, self._diagnosis.progress
        self._actions = FormActions(
            self._diagnosis,
            email,
            password.get_secret_value(),
            OneTimeCodes(totp_secret, clock) if totp_secret else None,
            (*names.workspace, *workspace),
            tell,
        )

    async def run(self, authorization_url: str) -> None:
        """Drive the pages until the callback is answered; raise MintError naming the step."""
        try:
            with self._events.watch():
                async with asyncio.timeout(self._seconds):
                    await self._drive(authorization_url)
        except TimeoutError:
            where = f"the page is {self._diagnosis.describe_page()}"
            message = f"no answer within {self._seconds:.0f} s; {where}"
            raise self._diagnosis.build_error(message, "timeout") from None

    async def _drive(self, authorization_url: str) -> None:
        progress, events, diagnosis = self._progress, self._events, self._diagnosis
        while not events.is_answered():
            try:
                if progress.openings == 0:
                    await self._open(authorization_url)
                if await self._turn():
                    continue
                await diagnosis.check_dead_end()
                where = diagnosis.describe_page()
                if progress.openings > REOPENINGS:
                    raise diagnosis.build_error(
                        f"landed on {where} {progress.openings} times and found no known field or "
                        "button: see [environment.*.pages] in loadtest.toml",
                        "unknown_page",
                    )
                self._tell(f"landed on {where}: opening the authorize URL again")
                await self._open(authorization_url)
            except import_error_class() as failure:
                # A redirect to the callback, or to another page, aborts the current action.
                await events.first_of(events.moved_on(events.documents), seconds=1)
                if events.is_answered():
                    return
                progress.stumbles += 1
                diagnosis.check_browser(failure, last=progress.stumbles > STUMBLES)

    async def _open(self, authorization_url: str) -> None:
        self._progress.open_again()
        await self._page.goto(authorization_url, wait_until="commit", timeout=OPEN_MS)

    async def _turn(self) -> bool:
        """Do what the page asks for; return False if it asks for nothing that we know."""
        if not await self._is_known_control_shown():
            return self._events.is_answered()
        controls = self._controls
        if self._may_send_at_once() and (whole := await self._find_form()):
            await self._actions.send_password(*whole, controls.password)
            return True
        approve, picker, overlay, complaint = await are_shown(
            controls.approve, controls.picker, controls.overlay, controls.complaint.first
        )
        if overlay and self._progress.dismissals < DISMISSALS:
            self._progress.dismissals += 1
            await controls.overlay.click(timeout=PRESS_MS)
        elif await self._take_step():
            pass
        elif picker and self._progress.picked_on != self._events.documents:
            await self._actions.pick_workspace(approve)
        elif approve:
            await self._actions.approve(complaint)
        elif whole := await self._find_form():
            await self._actions.send_password(*whole, controls.password)
        else:
            return await self._act_on_single_field()
        return True

    async def _find_form(self) -> "tuple[ElementHandle, ElementHandle] | None":
        """Return the fields of a form with both e-mail and password, if there is one."""
        emails, passwords = await asyncio.gather(
            self._controls.email.element_handles(), self._controls.password.element_handles()
        )
        return (emails[0], passwords[0]) if emails and passwords else None

    def _may_send_at_once(self) -> bool:
        """Return whether a whole form may be sent without looking at the rest of the page."""
        configured = self._names.steps or "dismiss_buttons" in self._names.model_fields_set
        return not (configured or self._progress.password_sent or self._progress.stumbles)

    async def _act_on_single_field(self) -> bool:
        """Fill in a page that has neither a whole form nor a decision."""
        controls = self._controls
        email, password, new_password, totp, any_email, any_password = await are_shown(
            *(controls.email, controls.password, controls.new_password),
            *(controls.totp, controls.any_email, controls.any_password),
        )
        name = controls.email if email else controls.any_email if any_email else None
        if new_password:
            raise self._diagnosis.build_error("the page asks for a new password", "password_change")
        if totp:
            await self._actions.send_code()
        elif password or any_password:
            field = controls.password if password else controls.any_password
            held = await name.element_handle(timeout=STEP_MS) if name else None
            secret = await field.element_handle(timeout=STEP_MS)
            await self._actions.send_password(held, secret, field)
        elif name and not self._progress.password_sent:
            await self._actions.send_email(name)
        else:
            return False
        return True

    async def _is_known_control_shown(self) -> bool:
        """Wait until the page shows a known control; return whether it did in time."""
        following = self._names.steps[self._progress.steps : self._progress.steps + 1]
        waiting = self._wait_for_known_control(at_once=any(step.press for step in following))
        return (await self._events.first_of(waiting))[0]

    async def _wait_for_known_control(self, *, at_once: bool) -> None:
        """Return when a known control is shown; raise if none appears in time."""
        events = self._events
        while True:
            # The usual controls are cheap to look for; the others are not.
            with contextlib.suppress(import_error_class()):
                await self._controls.usual.wait_for(timeout=1 if at_once else USUAL_MS)
                return
            with contextlib.suppress(import_error_class()):
                await self._page.wait_for_load_state("domcontentloaded", timeout=PRESS_MS)
            documents = events.documents
            if at_once:
                return
            # Wait longer after each opening: some pages draw slowly. Wait longest for a form that
            # was replaced by a spinner: opening the URL again would undo its action.
            busy = self._progress.acted_at == events.places
            seconds = self._names.settle_seconds * max(1, self._progress.openings)
            if events.is_error():
                seconds = min(seconds, ERROR_SECONDS)
            elif busy:
                seconds = STEP_MS / 1000
            try:
                await self._controls.anything.wait_for(timeout=seconds * 1000)
            except import_error_class():
                if documents == events.documents:
                    raise
            else:
                return

    async def _take_step(self) -> bool:
        """Do the first configured step whose control is shown; skip those before it."""
        for number in range(self._progress.steps, len(self._names.steps)):
            step, control = self._names.steps[number], self._controls.steps[number]
            is_due = step.press and number == self._progress.steps
            if is_due or (control is not None and await control.is_visible()):
                await self._actions.do_step(step, control)
                self._progress.steps = number + 1
                return True
        return False
