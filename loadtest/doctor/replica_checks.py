"""Check that every replica knows a session, by calls in one session over new connections."""

import httpx2

from loadtest.common.access import build_authorization
from loadtest.common.command_name import spell
from loadtest.common.http import explain, open_client
from loadtest.common.redaction import SecretStr, learn
from loadtest.config.models import STATELESS
from loadtest.doctor.check import Check
from loadtest.mint.oauth.request import (
    SESSION_HEADER,
    build_initialize,
    build_mcp_headers,
    build_requests_after_initialize,
)

WHAT = "replicas"
CALLS = 20
CALL_SECONDS = 10.0
REMEDY = (
    "route requests by their Mcp-Session-Id, or let the replicas share their sessions; "
    "a run counts lost sessions"
)


def examine_replicas(mcp_url: str, access_token: SecretStr, protocol: str | None) -> Check:
    """Open a session and use it over new connections, which reach other replicas if there are any.

    `ping` costs no quota. `protocol` is the revision that the server speaks, None if not known.
    """
    if protocol == STATELESS:
        return Check(WHAT, "ok", f"no session to lose in revision {protocol}")
    headers = build_mcp_headers() | build_authorization(access_token)
    try:
        opened = _post(mcp_url, build_initialize(), headers)
        session_id = opened.headers.get(SESSION_HEADER)
        if not opened.is_success:
            return _stop(f"HTTP {opened.status_code} for initialize")
        if session_id is None:
            return Check(WHAT, "ok", "the server has no sessions to lose")
        learn(session_id)
        headers[SESSION_HEADER] = session_id
        try:
            return _use(mcp_url, headers)
        finally:
            with open_client(CALL_SECONDS) as http:
                http.delete(mcp_url, headers=headers)
    except httpx2.HTTPError as failure:
        return _stop(explain(failure))


def _use(mcp_url: str, headers: dict[str, str]) -> Check:
    """Send the notification and the calls of a session, each over a new connection."""
    initialized, _ = build_requests_after_initialize()
    lost = int(_is_unknown(_post(mcp_url, initialized, headers)))
    for number in range(1, CALLS + 1):
        ping = {"jsonrpc": "2.0", "id": number + 1, "method": "ping"}
        answer = _post(mcp_url, ping, headers)
        if _is_unknown(answer):
            lost += 1
        elif not answer.is_success:
            return _stop(f"HTTP {answer.status_code} for call {number} of {CALLS}")
    if lost:
        detail = (
            f"{lost} of {CALLS + 1} requests of one session, each over a new connection, are "
            "answered as if the session did not exist"
        )
        return Check(WHAT, "warn", detail, REMEDY)
    return Check(WHAT, "ok", f"one session answers {CALLS} calls over {CALLS} connections")


def _post(mcp_url: str, body: dict[str, object], headers: dict[str, str]) -> httpx2.Response:
    with open_client(CALL_SECONDS) as http:
        return http.post(mcp_url, json=body, headers=headers)


def _is_unknown(answer: httpx2.Response) -> bool:
    """Return whether an answer says that the session is not known (see k6/lib/refusals.js)."""
    if answer.status_code == httpx2.codes.NOT_FOUND:
        return True
    failed = answer.status_code in {200, 400, 401} and '"result"' not in answer.text
    return failed and "session" in answer.text.lower()


def _stop(reason: str) -> Check:
    return Check(WHAT, "warn", f"not known: {reason}", f"run {spell('doctor')} again")
