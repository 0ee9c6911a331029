"""The webhook that gets a line when a run failed or regressed."""

import httpx2

from loadtest.common.http import explain, open_client
from loadtest.common.redaction import redact
from loadtest.common.tls import is_secure
from loadtest.errors import ReportError

WEBHOOK_VARIABLE = "LOADTEST_WEBHOOK_URL"
WEBHOOK_SECONDS = 10.0
_HARMLESS = str.maketrans("<>", "()")


def call_webhook(url: str, line: str) -> None:
    """Post `{"text": line}`, as chat services take it; raise ReportError, never with the URL.

    The address is a secret: anybody who has it can write there. Angle brackets are replaced,
    because chat services turn what is in them into mentions and links, and a server may have sent
    the text.
    """
    line = redact(line).translate(_HARMLESS)
    if not is_secure(url):
        raise ReportError(f"{WEBHOOK_VARIABLE} is not an https address: correct it")
    try:
        with open_client(WEBHOOK_SECONDS) as http:
            answer = http.post(url, json={"text": line})
    except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
        reason = explain(failure)
        raise ReportError(
            f"{WEBHOOK_VARIABLE} does not answer ({reason}): correct it, or have it fixed"
        ) from None
    if not answer.is_success:
        raise ReportError(f"{WEBHOOK_VARIABLE} answers HTTP {answer.status_code}: correct it")
