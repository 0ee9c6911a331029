"""The causes that messages of sign-in and consent pages name."""

import contextlib
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from loadtest.common.parsing import parse_json

NOT_A_WORKSPACE = re.compile(
    r"\b(log|sign) ?out\b|^(create|new|add|back|cancel|skip|continue|next|help|privacy|terms|"
    r"approve|authorize|allow|deny)\b",
    re.I,
)

# The cause of a failure and its messages; the first pattern that matches counts.
MESSAGES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "account_locked",
        re.compile(
            r"\b(account|user|you|login|access)\b.{0,60}\b(locked|suspended|disabled|deactivated|"
            r"blocked|banned)\b|\blocked out\b",
            re.I | re.S,
        ),
    ),
    (
        "rate_limited",
        re.compile(r"\btoo many\b|\brate.?limit|\btry again (in|later|after)\b", re.I),
    ),
    ("captcha", re.compile(r"captcha|\b(not a robot|you are (a )?human|you're human)\b", re.I)),
    (
        "password_change",
        re.compile(
            r"password (has |is )?expired|(must|have to|need to|required to) (change|reset|update)"
            r".{0,20}password|password (must|has to|needs to) be (changed|reset|updated)",
            re.I,
        ),
    ),
    (
        "wrong_totp",
        re.compile(r"\b(invalid|incorrect|wrong|expired)\b.{0,40}\b(code|otp|token)\b", re.I),
    ),
    (
        "unknown_account",
        re.compile(
            r"(could ?n.t|could not|cannot|can.t) find|\bno (such )?(account|user)\b|"
            r"\b(account|user|e-?mail)\b.{0,30}\b(not found|unknown|(does ?n.t|does not) exist)\b",
            re.I,
        ),
    ),
    (
        "wrong_password",
        re.compile(
            r"\b(invalid|incorrect|wrong|bad)\b.{0,60}\b(password|credentials?|login|e-?mail|user)|"
            r"\b(password|credentials?)\b.{0,60}\b(invalid|incorrect|wrong|not match|not recogni)",
            re.I,
        ),
    ),
    (
        "consent_denied",
        re.compile(r"\b(access|consent|permission|request)\b.{0,30}\b(denied|declined)\b", re.I),
    ),
)

REMEDIES = {
    "account_locked": "unlock it before the next try",
    "captcha": "programs must not solve it: allow this account or address to sign in without one",
    "password_change": "change it by hand, then set LOADTEST_PASSWORD",
    "rate_limited": "wait before the next try",
    "unknown_account": "check LOADTEST_EMAIL",
    "wrong_password": "check LOADTEST_EMAIL and LOADTEST_PASSWORD",
    "wrong_totp": "check LOADTEST_TOTP_SECRET and this machine's clock",
}


def find_workspace(
    wanted: Iterable[str], options: Iterable[tuple[int, dict[str, Any]]]
) -> int | None:
    """Return the number of the first wanted option: by name, id, or a word that only it has."""
    listed = [(number, option["name"].casefold(), option["keys"]) for number, option in options]
    for want in wanted:
        low = want.casefold()
        for number, name, keys in listed:
            if low in {name, name.splitlines()[0].strip()} or want in keys:
                return number
        word = re.compile(rf"(?<!\w){re.escape(low)}(?!\w)")
        holding = [number for number, name, _ in listed if word.search(name)]
        if len(holding) == 1:
            return holding[0]
    return None


def parse_oauth_error(url: str, text: str) -> tuple[str | None, str | None]:
    """Return `error` and `error_description` from the page's URL, else from its JSON or text."""
    parts = urlsplit(url)
    given: dict[str, Any] = dict(parse_qsl(f"{parts.query}&{parts.fragment}"))
    if "error" not in given:
        with contextlib.suppress(ValueError):
            body = parse_json(text)
            given = body if isinstance(body, dict) else {}
    if "error" not in given:
        given = dict(re.findall(r"(?m)^\s*(error|error_description):\s*(\S.*?)\s*$", text))
    code, description = given.get("error"), given.get("error_description")
    if not isinstance(code, str) or not re.fullmatch(r"[\w.:/-]{1,64}", code):
        return None, None
    return code, description if isinstance(description, str) else None


def squeeze(text: str) -> str:
    """Return the text on one line."""
    return " ".join(text.split())
