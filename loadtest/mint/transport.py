"""HTTP that waits out rate limits, where asking again is safe."""

import asyncio
from collections.abc import Callable

import httpx2

# Windows are a minute long on many servers, and Retry-After is missing or nonsense on some.
RATE_WAITS_SECONDS = (5.0, 15.0, 20.0, 30.0)
MAX_WAIT_SECONDS = 90.0
CONNECT_RETRIES = 2


class PatientTransport(httpx2.AsyncHTTPTransport):
    """Retries connecting (nothing was sent), and asks again after a 429.

    Never on a code exchange: a code is burned by its first use (RFC 6749, section 4.1.2).
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(retries=CONNECT_RETRIES)
        self._tell = tell

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request, and again while its answer is a 429 that may be waited out."""
        waits = () if b"grant_type=authorization_code" in request.content else RATE_WAITS_SECONDS
        for wait in waits:
            response = await super().handle_async_request(request)
            if response.status_code != 429:
                return response
            await response.aclose()
            seconds = _parse_retry_after(response) or wait
            self._tell(f"{request.url.path} is rate limited: waiting {seconds:.0f} s")
            await asyncio.sleep(seconds)
        return await super().handle_async_request(request)


def _parse_retry_after(response: httpx2.Response) -> float | None:
    """Return a Retry-After in seconds (RFC 9110, section 10.2.3) that makes sense, else None."""
    text = response.headers.get("retry-after", "")
    if not (text.isascii() and text.isdigit()):
        return None
    return float(text) if 0 < float(text) <= MAX_WAIT_SECONDS else None
