"""Keep the text and a masked screenshot of a page on which the sign-in failed, without secrets."""

import asyncio
import contextlib
import html
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from loadtest.common import redaction
from loadtest.common.files import ensure_private_dir, write_text
from loadtest.common.redaction import HIDDEN, JWT

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

# The pages of this many failed sign-ins are kept.
MAX_KEPT = 10
_KEPT = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[a-z-]+\.(?:txt|png)")
CAPTURE_SECONDS = 12.0
READ_MS = 3_000
PICTURE_MS = 5_000
_QUERY = re.compile(r"(?<=[\w/])[?#][^\s\"'<>]*=[^\s\"'<>]*")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Remove these secrets, all known secrets, and every query string."""
    text = redaction.redact(text)
    for pattern in _build_patterns(secrets):
        text = pattern.sub(HIDDEN, text)
    return _QUERY.sub("?…", text)


def _build_patterns(secrets: Iterable[str]) -> list[re.Pattern[str]]:
    """Return patterns that match each form of a secret, for Python and for the browser."""
    forms = {
        form
        for secret in secrets
        if secret.strip()
        for form in (secret, quote(secret, safe=""), quote_plus(secret), html.escape(secret))
    }
    # The longest first, so that replacing a shorter secret leaves no part of a longer one.
    longest_first = sorted(forms, key=len, reverse=True)
    return [
        re.compile(r"\s+".join(map(re.escape, re.split(r"\s+", form))), re.IGNORECASE)
        for form in longest_first
    ]


def describe_url(url: str) -> str:
    """Return origin and path: a query may hold a signed request or a code."""
    if url.startswith("chrome-error:"):
        return "the browser's own error page"
    return re.sub(r"[^/]{40,}", "…", re.split(r"[?#]", url, maxsplit=1)[0])


async def capture_failure(page: "Page", folder: Path, step: str, secrets: Iterable[str]) -> Path:
    """Keep the page's text, and a masked screenshot if possible; return the file of the text.

    Works in any state of the page: one that crashed, closed or moves on leaves a shorter text.
    """
    hidden = [secret for secret in secrets if secret.strip()]
    stem = ensure_private_dir(folder) / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{step}"
    text, picture = "the page has closed and could not be read", None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CAPTURE_SECONDS):
            text = await _read(page)
            picture = await _photograph(page, hidden)
    kept = stem.with_name(stem.name + ".txt")
    write_text(kept, redact(f"{describe_url(page.url)}\n\n{text}", hidden) + "\n", private=True)
    if picture is not None:
        _write_bytes(stem.with_name(stem.name + ".png"), picture)
    _remove_older(folder)
    return kept


def _remove_older(folder: Path) -> None:
    """Remove all but the newest captures."""
    ours = [path for path in folder.iterdir() if _KEPT.fullmatch(path.name) and path.is_file()]
    newest = sorted({path.stem for path in ours})[-MAX_KEPT:]
    for path in ours:
        if path.stem not in newest:
            path.unlink(missing_ok=True)


async def _read(page: "Page") -> str:
    from playwright.async_api import Error

    # A page that is navigating cannot be read: the second attempt reads the next page.
    for _ in range(2):
        try:
            title = await page.title()
            body = await page.locator("body").inner_text(timeout=READ_MS)
        except Error:
            continue
        return f"{title}\n\n{body}"
    return "the page could not be read"


async def _photograph(page: "Page", hidden: list[str]) -> bytes | None:
    from playwright.async_api import Error

    masks: list[Locator] = [
        page.locator("input, textarea, select, output, iframe, [contenteditable], code, canvas"),
        *(page.get_by_text(text) for text in (*_build_patterns(hidden), _QUERY, JWT)),
    ]
    for _ in range(2):
        with contextlib.suppress(Error):
            return await page.screenshot(mask=masks, timeout=PICTURE_MS)
    return None


def _write_bytes(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
