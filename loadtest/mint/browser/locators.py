"""Locators of the fields and buttons of sign-in and consent pages, by role and label."""

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loadtest.config.models import Pages, Step
from loadtest.mint.browser.page_messages import NOT_A_WORKSPACE

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

# If no label fits: the attributes that the HTML standard defines for autofill.
EMAIL_INPUTS = (
    "input[autocomplete~=username], input[autocomplete~=email], input[type=email], "
    "input[name=username], input[name=login]"
)
PASSWORD_INPUTS = "input[type=password]:not([autocomplete=new-password])"  # noqa: S105
NEW_PASSWORD = re.compile(r"\b(new|confirm|repeat|re-?enter)\b.*password|password.*\bagain\b", re.I)
CAPTCHAS = (
    'iframe[src*="captcha" i]:not([src*="size=invisible"]), '
    'iframe[src*="challenges.cloudflare.com"], iframe[src*="arkoselabs"], '
    ".h-captcha, .cf-turnstile, "
    '.g-recaptcha:not([data-size=invisible]), input[name*="captcha" i]:not([type=hidden]), '
    'img[src*="captcha" i], img[alt*="captcha" i], #challenge-form'
)
NOTHING = ":not(*)"
COMPLAINTS = ":is([class*=error i], [id*=error i]):not(:has(input, button, form, h1))"
PICKER = re.compile(
    r"\b(choose|select|pick|which|switch)\b.*\b(workspace|organi[sz]ation|team|tenant)\b", re.I
)

LIST_OPTIONS = """elements => elements.map(e => ({
    name: (e.getAttribute("aria-label") || (e.labels && e.labels[0] && e.labels[0].innerText)
        || e.innerText || e.textContent || "").trim(),
    keys: [e.id, e.value, ...[...e.attributes].filter(a => a.name.startsWith("data-"))
        .map(a => a.value), ...(e.getAttribute("href") || "").split(/[/?&=#]/)].filter(Boolean)
        .map(String),
    kind: e.type === "radio" ? "radio" : e.localName,
}))"""


class Controls:
    """Locators of fields and buttons, each limited to what is visible."""

    def __init__(self, page: "Page", names: Pages) -> None:
        inputs = page.locator("input")
        self.email = _visible(_labelled(page, names.email_label))
        self.password = _visible(_labelled(page, names.password_label))
        self.any_email = _visible(page.locator(EMAIL_INPUTS))
        self.any_password = _visible(page.locator(PASSWORD_INPUTS))
        self.new_password = _visible(inputs.and_(page.get_by_label(NEW_PASSWORD)))
        one_time = page.locator("input[autocomplete=one-time-code]")
        self.totp = _visible(_labelled(page, names.totp_label).or_(one_time))
        self.sign_in = _visible(_buttons(page, names.sign_in_button))
        self.next = _visible(_buttons(page, (*names.next_button, *names.sign_in_button)))
        self.verify = _visible(_buttons(page, names.totp_button))
        self.approve = _visible(_buttons(page, names.approve_button))
        self.overlay = _visible(_buttons(page, names.dismiss_buttons))
        self.picker = _visible(_picker(page, names.workspace_label))
        self.choices = (
            page.locator("input[type=radio], [role=radio], select option, [role=option]")
            .or_(page.get_by_role("button").filter(visible=True))
            .or_(page.get_by_role("link").filter(visible=True))
        )
        self.captcha = _visible(page.locator(CAPTCHAS))
        # Next.js keeps an empty alert on every page, for screen readers.
        alert = page.get_by_role("alert").or_(page.locator(COMPLAINTS))
        self.complaint = alert.filter(has_text=re.compile(r"\S")).filter(visible=True)
        self.steps = [_step(page, step) for step in names.steps]
        self.after_code = _union(self.approve, self.picker, self.new_password)
        self.after_password = _union(self.totp, self.after_code)
        self.after_email = _union(self.password, self.any_password, self.after_password)
        self.usual = _union(self.password, self.email, self.approve).first
        own = [step for step in self.steps if step is not None]
        self.anything = _union(
            self.after_email, self.email, self.any_email, self.overlay, *own
        ).first

    async def list_workspaces(self) -> list[tuple[int, dict[str, Any]]]:
        """Return those of `choices` that may be a workspace, with their numbers."""
        options = [
            (number, option)
            for number, option in enumerate(await self.choices.evaluate_all(LIST_OPTIONS))
            if option["name"] and not NOT_A_WORKSPACE.search(option["name"])
        ]
        listed = [pair for pair in options if pair[1]["kind"] in {"radio", "option"}]
        return listed or options


def _labelled(page: "Page", names: Sequence[str]) -> "Locator":
    # A button may have the label of a field too, such as the eye that shows the password.
    fields = page.locator("input, textarea, [role=textbox], [contenteditable]")
    own, plain = _split(page, names)
    labelled = [fields.and_(page.get_by_label(name, exact=True)) for name in plain]
    return _union(*own, *labelled) if names else page.locator(NOTHING)


def _buttons(page: "Page", names: Sequence[str]) -> "Locator":
    own, plain = _split(page, names)
    # One pattern for all names: one locator per name would compute each button's name again.
    pattern = re.compile(rf"^(?:{'|'.join(re.escape(name) for name in plain)})$")
    named = page.get_by_role("button", name=plain[0] if len(plain) == 1 else pattern, exact=True)
    return _union(*own, *([named] if plain else [page.locator(NOTHING)] if not own else []))


def _split(page: "Page", names: Sequence[str]) -> "tuple[list[Locator], list[str]]":
    """Return locators of the names that are selectors, and the names that are plain."""
    selectors = [name for name in names if name.startswith(("css=", "role="))]
    plain = [name for name in names if name not in selectors]
    return [page.locator(name) for name in selectors], plain


def _picker(page: "Page", names: Sequence[str]) -> "Locator":
    groups = page.locator("select, fieldset, [role=radiogroup], [role=listbox]")
    places, plain = _split(page, names)
    for name in plain if names else (PICKER,):
        heading = page.get_by_role("heading", name=name, exact=True)
        group = page.get_by_role("radiogroup", name=name, exact=True)
        # A label around a list also contains the text of the list: no exact match.
        places += [heading, group, groups.and_(page.get_by_label(name))]
    return _union(*places)


def _step(page: "Page", step: Step) -> "Locator | None":
    if step.click:
        return _visible(_buttons(page, (step.click,)))
    return _visible(_labelled(page, (step.fill,))) if step.fill else None


def _union(*locators: "Locator") -> "Locator":
    first, *others = locators
    for other in others:
        first = first.or_(other)
    return first


def _visible(locator: "Locator") -> "Locator":
    return locator.filter(visible=True).first


async def are_shown(*locators: "Locator") -> list[bool]:
    """Return which of these are visible now."""
    return await asyncio.gather(*(locator.is_visible() for locator in locators))
