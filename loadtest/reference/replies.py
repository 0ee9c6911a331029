"""Answers that several parts send: errors in three formats, and the 429s of rate limits."""

import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Clock = Callable[[], float]

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
AUTHORIZE = "/api/auth/oauth2/authorize"
REQUESTS_PER_MINUTE = {
    "/api/auth/sign-in/email": 10,
    "/api/auth/sign-up/email": 5,
    "/api/auth/oauth2/register": 5,
    "/api/auth/oauth2/token": 20,
    AUTHORIZE: 30,
}
"""Limits per IP and sliding minute, by path."""
FIRST_REFUSED = (
    "/api/auth/sign-in/email",
    "/api/auth/oauth2/register",
    "/api/auth/oauth2/revoke",
    "/api/auth/oauth2/token",
)
_RETRY_AFTER = {
    "missing": {},
    "nonsense": {"Retry-After": "soon", "X-Retry-After": "-1"},
    "huge": {"Retry-After": "86400"},
    "right": {"Retry-After": "1"},
}


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """The request is refused with `response`."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def account_error(status: int, code: str, message: str) -> JSONResponse:
    """Return an error in the format of the accounts."""
    return JSONResponse({"message": message, "code": code}, status)


def oauth_error(status: int, error: str, description: str) -> JSONResponse:
    """Return an error in the format of the OAuth endpoints (RFC 6749, section 5.2)."""
    body = {"error": error, "error_description": description}
    return JSONResponse(body, status, headers=NO_STORE)


def rest_error(status: int, error: str, message: str, **extra: str) -> JSONResponse:
    """Return an error in the format of the REST routes and the MCP edge."""
    body = {"error": error, "message": message, "requestId": new_id(), **extra}
    return JSONResponse(body, status)


def validation_error(failure: Any) -> JSONResponse:
    """Return a pydantic failure in the format of the accounts; name fields, never their values."""
    first = failure.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    return account_error(400, "VALIDATION_ERROR", f"[body.{where}] {first['msg']}")


def new_id() -> str:
    """Return a new random identifier of 24 characters."""
    return secrets.token_urlsafe(18)


def iso_time(epoch_seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_seconds))
    return f"{whole}.{int(epoch_seconds * 1000) % 1000:03d}Z"


class Minute:
    """Count weighted events per key in a sliding minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: dict[Any, deque[tuple[float, int]]] = {}

    def charge(self, key: Any, weight: int, limit: int) -> float:
        """Charge `weight` and return 0, or, over the limit, return the seconds to wait."""
        now = self._clock()
        events = self._events.setdefault(key, deque())
        while events and events[0][0] <= now - 60:
            events.popleft()
        spent = sum(cost for _, cost in events)
        if spent + weight <= limit:
            events.append((now, weight))
            return 0.0
        for at, cost in events:
            spent -= cost
            if spent + weight <= limit:
                return max(at + 60 - now, 0.001)
        return 60.0


class FirstRefusals:
    """Answer the first requests to each of a few paths with 429."""

    def __init__(self, count: int, authorizations: int, retry_after: str) -> None:
        self._left = {**dict.fromkeys(FIRST_REFUSED, count), AUTHORIZE: authorizations}
        self._headers = _RETRY_AFTER[retry_after]

    def refuse(self, request: Request) -> Response | None:
        """Return the 429 for this request, or None."""
        path = request.url.path
        if request.method == "OPTIONS" or not self._left.get(path):
            return None
        self._left[path] -= 1
        return _too_many(self._headers)


class AccountLimits:
    """Limit sign-in, sign-up, registration, token and authorize requests per IP address."""

    def __init__(self, clock: Clock) -> None:
        self._minute = Minute(clock)

    def refuse(self, request: Request) -> Response | None:
        """Return the 429 for this request, or None; its headers are as useless as the product's."""
        path = request.url.path
        limit = REQUESTS_PER_MINUTE.get(path)
        if limit is None or request.method == "OPTIONS":
            return None
        ip = request.client.host if request.client else ""
        if not self._minute.charge((ip, path), 1, limit):
            return None
        return _too_many({"X-Retry-After": "-1"})


def _too_many(headers: dict[str, str]) -> Response:
    body = b'{"message":"Too many requests. Please try again later."}'
    return Response(body, 429, media_type="application/octet-stream", headers=headers)
