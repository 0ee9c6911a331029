"""HTTP that waits out rate limits when it is safe to send a request again."""

import asyncio
from collections.abc import Callable

import httpx2

from loadtest.common.http import AsyncTransport
from loadtest.common.retry_after import RateLimit

CONNECT_RETRIES = 2


class RetryTransport(AsyncTransport):
    """Retries failed connections (nothing was sent), and repeats requests after a 429.

    Never repeats a code exchange: a code is valid once (RFC 6749, section 4.1.2).
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(retries=CONNECT_RETRIES)
        self._tell = tell

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request, and repeat it while the response is a 429 that may be waited out."""
        answer = await super().handle_async_request(request)
        if b"grant_type=authorization_code" in request.content:
            return answer
        limit = RateLimit(request.url.path, self._tell)
        while (seconds := limit.find_wait(answer)) is not None:
            await answer.aclose()
            await asyncio.sleep(seconds)
            answer = await super().handle_async_request(request)
        return answer
