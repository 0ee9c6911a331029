"""HTTP that waits out rate limits, where asking again is safe."""

import asyncio
from collections.abc import Callable

import httpx2

from loadtest.common.http import AsyncTransport
from loadtest.common.retry_after import RateLimit

CONNECT_RETRIES = 2


class RetryTransport(AsyncTransport):
    """Retries connecting (nothing was sent), and asks again after a 429.

    Never on a code exchange: a code is burned by its first use (RFC 6749, section 4.1.2).
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(retries=CONNECT_RETRIES)
        self._tell = tell

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request, and again while its answer is a 429 that may be waited out."""
        answer = await super().handle_async_request(request)
        if b"grant_type=authorization_code" in request.content:
            return answer
        limit = RateLimit(request.url.path, self._tell)
        while (seconds := limit.find_wait(answer)) is not None:
            await answer.aclose()
            await asyncio.sleep(seconds)
            answer = await super().handle_async_request(request)
        return answer
