import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import httpx
import pytest

from loadtest.mint.oauth.callback import Callback, listen

AUTHORIZE = "http://127.0.0.1/authorize?state=right"


def with_listener(body: Callable[[Callback, httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with listen() as callback, httpx.AsyncClient() as client:
            callback.expect(AUTHORIZE)
            await body(callback, client)

    asyncio.run(run())


def test_the_first_redirect_with_our_state_is_accepted_with_all_parameters() -> None:
    async def body(callback: Callback, client: httpx.AsyncClient) -> None:
        query = {"state": "right", "code": "abc", "iss": "http://as"}
        answer = await client.get(callback.redirect_uri, params=query)
        assert answer.status_code == 200
        assert "may close this window" in answer.text
        taken = callback.answer.result()
        assert (taken.code, taken.iss, taken.error) == ("abc", "http://as", None)
        assert "abc" not in repr(taken)

    with_listener(body)


def test_an_error_is_accepted_with_its_description() -> None:
    async def body(callback: Callback, client: httpx.AsyncClient) -> None:
        query = {"state": "right", "error": "access_denied", "error_description": "no"}
        await client.get(callback.redirect_uri, params=query)
        taken = callback.answer.result()
        assert (taken.code, taken.error, taken.error_description) == (None, "access_denied", "no")

    with_listener(body)


@pytest.mark.parametrize("state", ["wrong", ""])
def test_a_request_with_another_state_is_refused_and_the_wait_continues(state: str) -> None:
    async def body(callback: Callback, client: httpx.AsyncClient) -> None:
        answer = await client.get(callback.redirect_uri, params={"state": state, "code": "evil"})
        assert answer.status_code == 400
        assert not callback.answer.done()

    with_listener(body)


def test_other_paths_and_methods_are_refused() -> None:
    async def body(callback: Callback, client: httpx.AsyncClient) -> None:
        query = {"state": "right", "code": "abc"}
        origin = callback.redirect_uri.removesuffix("/callback")
        assert (await client.get(f"{origin}/favicon.ico", params=query)).status_code == 404
        assert (await client.post(callback.redirect_uri, params=query)).status_code == 405
        assert not callback.answer.done()

    with_listener(body)


def test_a_second_redirect_does_not_replace_the_first() -> None:
    async def body(callback: Callback, client: httpx.AsyncClient) -> None:
        for code, status in (("first", 200), ("second", 410)):
            query = {"state": "right", "code": code}
            answer = await client.get(callback.redirect_uri, params=query)
            assert answer.status_code == status
        assert callback.answer.result().code == "first"

    with_listener(body)


def test_garbage_on_the_port_does_not_end_the_wait() -> None:
    async def body(callback: Callback, client: httpx.AsyncClient) -> None:
        port = httpx.URL(callback.redirect_uri).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        await asyncio.wait_for(reader.read(), timeout=15)
        writer.close()
        await client.get(callback.redirect_uri, params={"state": "right", "code": "abc"})
        assert callback.answer.result().code == "abc"

    with_listener(body)


@pytest.mark.parametrize("sent", [b"", b"GET /callback?state=ri"])
def test_connections_that_are_still_open_are_closed_when_the_block_ends(sent: bytes) -> None:
    async def run() -> None:
        async with listen() as callback:
            port = httpx.URL(callback.redirect_uri).port
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            opened[0][1].write(sent)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for reader, writer in opened:
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), timeout=15) == b""
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(8))
def test_a_connection_that_was_just_accepted_is_closed(turns: int) -> None:
    async def run() -> None:
        async with listen() as callback:
            port = httpx.URL(callback.redirect_uri).port
            opened = socket.create_connection(("127.0.0.1", port), timeout=15)
            for _ in range(turns):
                await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with opened, suppress(ConnectionResetError):
            assert opened.recv(1) == b""

    asyncio.run(run())


def test_the_requested_port_is_used_if_it_is_free() -> None:
    async def run() -> tuple[str, str, str]:
        async with listen() as first:
            port = httpx.URL(first.redirect_uri).port
            async with listen(port) as second:
                busy = second.redirect_uri
        async with listen(port) as third:
            return first.redirect_uri, busy, third.redirect_uri

    first, busy, again = asyncio.run(run())
    assert first == again
    assert first != busy


def test_the_port_is_closed_when_the_block_ends() -> None:
    async def run() -> str:
        async with listen() as callback:
            return callback.redirect_uri

    uri = asyncio.run(run())
    with pytest.raises(httpx.ConnectError):
        httpx.get(uri)
