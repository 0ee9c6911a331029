"""HTTP that waits out rate limits, where asking again is safe."""

import asyncio
from collections.abc import Callable

import httpx2

from loadtest.http import AsyncTransport
from loadtest.patience import RATE_WAITS_SECONDS, parse_retry_after

CONNECT_RETRIES = 2


class PatientTransport(AsyncTransport):
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
            seconds = parse_retry_after(response.headers.get("retry-after")) or wait
            self._tell(f"{request.url.path} is rate limited: waiting {seconds:.0f} s")
            await asyncio.sleep(seconds)
        return await super().handle_async_request(request)
