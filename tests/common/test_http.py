"""Our HTTP clients against a server that sends too much, too slowly, without an end."""

import asyncio
import resource
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import httpx2
import pytest

from loadtest.common.access import Access, set_access
from loadtest.common.http import MOST_BYTES, BodyError, explain, open_async_client, open_client
from tests.support.hostile_server import (
    JSON,
    MIB,
    OK,
    Answer,
    HostileServer,
    Request,
    endless_body,
    endless_keep_alives,
    gzip_bomb,
    huge_header,
    redirect_loop,
    send_json,
    trickling_body,
    trickling_head,
)
from tests.support.loopback import serve_loopback

Ask = Callable[[str, float], httpx2.Response]

# Long enough for a loaded machine, short enough for a test that waits for it.
SECONDS = 3.0
PATIENT_SECONDS = 60.0


def get(url: str, seconds: float) -> httpx2.Response:
    with open_client(seconds) as client:
        return client.get(url)


def get_async(url: str, seconds: float) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        async with open_async_client(seconds) as client:
            return await client.get(url)

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [get, get_async])


def measure_growth() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@both
def test_an_ordinary_answer_arrives_complete(ask: Ask) -> None:
    with HostileServer(lambda _: iter([send_json({"fine": "x" * MIB})])) as server:
        assert ask(server.url, PATIENT_SECONDS).json() == {"fine": "x" * MIB}
    assert server.seen[0].headers["accept-encoding"] == "identity"


@both
@pytest.mark.parametrize("hostile", [endless_body, gzip_bomb(1024)])
def test_an_answer_ends_at_the_limit_compressed_or_not(ask: Ask, hostile: Answer) -> None:
    before = measure_growth()
    with HostileServer(hostile) as server, pytest.raises(BodyError) as caught:
        ask(server.url, PATIENT_SECONDS)
    assert explain(caught.value) == "it sends more than 4 MiB"
    assert measure_growth() - before < 64 * MIB


@both
@pytest.mark.parametrize("hostile", [trickling_head, trickling_body, endless_keep_alives])
def test_single_bytes_do_not_extend_the_deadline_of_a_request(ask: Ask, hostile: Answer) -> None:
    with HostileServer(hostile) as server, pytest.raises(httpx2.ReadTimeout) as caught:
        ask(server.url, SECONDS)
    assert explain(caught.value) == "no complete answer in time"


@both
def test_a_compressed_document_is_decompressed_within_the_limit(ask: Ask) -> None:
    body = b"{" + b" " * (MOST_BYTES - 2) + b"}"
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    packed = packer.compress(body) + packer.flush()

    def answer(_: Request) -> Iterator[bytes]:
        yield OK + JSON + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        yield packed

    with HostileServer(answer) as server:
        assert ask(server.url, PATIENT_SECONDS).content == body


@both
@pytest.mark.parametrize(
    ("encoding", "words"),
    [(b"br", "it has a compression that was not requested"), (b"gzip", "its gzip is damaged")],
)
def test_a_body_that_cannot_be_decompressed_is_one_line(
    ask: Ask, encoding: bytes, words: str
) -> None:
    def answer(_: Request) -> Iterator[bytes]:
        yield OK + b"Content-Encoding: " + encoding + b"\r\nContent-Length: 4\r\n\r\nnone"

    with HostileServer(answer) as server, pytest.raises(BodyError) as caught:
        ask(server.url, PATIENT_SECONDS)
    assert explain(caught.value) == words


@both
def test_a_huge_header_is_refused(ask: Ask) -> None:
    with HostileServer(huge_header) as server, pytest.raises(httpx2.RemoteProtocolError):
        ask(server.url, PATIENT_SECONDS)


@both
def test_a_redirect_is_not_followed(ask: Ask) -> None:
    with HostileServer(redirect_loop) as server:
        assert ask(server.url, PATIENT_SECONDS).status_code == 307
    assert len(server.seen) == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_what_an_origin_demands_never_follows_a_redirect_to_another_one(is_async: bool) -> None:
    seen: list[tuple[str, str | None]] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("X-Bypass")))
            there = self.path == "/go"
            self.send_response(302 if there else 200)
            if there:
                self.send_header("Location", f"{others[0]}/landed")
            self.end_headers()

    async def ask() -> None:
        async with open_async_client(5) as client:
            client.follow_redirects = True
            await client.get(f"{origin}/go")

    with serve_loopback(Other) as other, serve_loopback(Other) as origin:
        others = [other]
        set_access(origin, Access({"X-Bypass": "yes"}))
        if is_async:
            asyncio.run(ask())
        else:
            with open_client(5) as client:
                client.follow_redirects = True
                answer = client.get(f"{origin}/go")
                assert "X-Bypass" not in answer.history[0].request.headers
    assert seen == [("/go", "yes"), ("/landed", None)]
