"""A 429 is waited out by one rule, whether the client is `async` or not."""

import asyncio
from collections.abc import Callable, Iterator

import httpx2
import pytest

from loadtest.common.http import open_async_client, open_client
from loadtest.common.retry_after import wait_out
from loadtest.mint.oauth.transport import RetryTransport
from tests.support.hostile_server import HostileServer, Request, send_json

SECONDS = 60.0
Tell = Callable[[str], None]


def get(url: str, tell: Tell) -> httpx2.Response:
    with open_client(SECONDS) as client:
        return wait_out(lambda: client.get(url), "/", tell)


def get_async(url: str, tell: Tell) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        async with open_async_client(SECONDS, transport=RetryTransport(tell)) as client:
            return await client.get(url)

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [get, get_async])
@pytest.mark.parametrize(("refusals", "status"), [(0, 200), (2, 200), (9, 429)])
def test_a_rate_limit_is_waited_out_by_one_rule(
    ask: Callable[[str, Tell], httpx2.Response],
    refusals: int,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadtest.common.retry_after.RATE_WAITS_SECONDS", (0.01, 0.02, 0.03))
    told: list[str] = []

    def answer(_: Request) -> Iterator[bytes]:
        limited = len(server.seen) <= refusals
        yield send_json({}, status=b"429 Too Many Requests" if limited else b"200 OK")

    with HostileServer(answer) as server:
        assert ask(server.url, told.append).status_code == status
    waits = min(refusals, 3)
    assert len(server.seen) == waits + 1
    assert told == ["/ is rate limited: waiting 0 s"] * waits
