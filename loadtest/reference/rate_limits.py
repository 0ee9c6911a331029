"""Rate limits: weighted events per minute, and the 429s of accounts and OAuth."""

from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

Clock = Callable[[], float]

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
