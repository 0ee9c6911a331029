"""What a workflow run is told of its load test, and the webhook that hears of bad news."""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx2

from loadtest.common.http import explain, open_client
from loadtest.common.redaction import redact
from loadtest.common.tls import is_sealed
from loadtest.errors import ReportError

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
OUTPUT_VARIABLE = "GITHUB_OUTPUT"
WEBHOOK_VARIABLE = "LOADTEST_WEBHOOK_URL"
WEBHOOK_SECONDS = 10.0
_HARMLESS = str.maketrans("<>", "()")


def write_summary(variables: Mapping[str, str], text: str) -> None:
    """Append Markdown to the step summary, in GitHub Actions; elsewhere do nothing."""
    _append(variables.get(SUMMARY_VARIABLE), text.rstrip() + "\n\n")


def write_outputs(variables: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Set outputs of the step, in GitHub Actions; no value can pose as another output."""
    end = secrets.token_hex(16)
    lines = (f"{name}<<{end}\n{value}\n{end}\n" for name, value in outputs.items())
    _append(variables.get(OUTPUT_VARIABLE), "".join(lines))


def call_webhook(url: str, line: str) -> None:
    """Post `{"text": line}`, as chat services take it; raise ReportError, never with the URL.

    The address is a secret: whoever knows it can write there. Angle brackets are replaced: chat
    services make mentions and links of what is in them, and a server's words may be in the line.
    """
    line = redact(line).translate(_HARMLESS)
    if not is_sealed(url):
        raise ReportError(f"{WEBHOOK_VARIABLE} is not an https address: correct it")
    try:
        with open_client(WEBHOOK_SECONDS) as http:
            answer = http.post(url, json={"text": line})
    except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
        reason = explain(failure)
        raise ReportError(
            f"{WEBHOOK_VARIABLE} does not answer ({reason}): correct it, or have it mended"
        ) from None
    if not answer.is_success:
        raise ReportError(f"{WEBHOOK_VARIABLE} answers HTTP {answer.status_code}: correct it")


def _append(path: str | None, text: str) -> None:
    if path:
        with suppress(OSError), Path(path).open("a", encoding="utf-8", newline="\n") as file:
            file.write(redact(text))
