"""Streams from the server to its clients, in both eras, and the knobs that make them misbehave."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from loadtest.reference.server import ReferenceTarget
from tests.reference.visitor import Launch, McpClient, Visitor, error_of

META = "io.modelcontextprotocol/"
VERSION = "2026-07-28"
SILENCE = 0.05  # before a keep-alive
KEEP_ALIVE = ": keep-alive"

Open = Callable[[Visitor], AbstractContextManager[httpx.Response]]


def hold(client: McpClient) -> AbstractContextManager[httpx.Response]:
    """Open the stream of a session."""
    return client.http.stream("GET", client.path, headers=client.headers)


def hold_new(visitor: Visitor) -> AbstractContextManager[httpx.Response]:
    """Open the stream of a new session."""
    return hold(visitor.mcp().open())


def listen(visitor: Visitor) -> AbstractContextManager[httpx.Response]:
    """Open a stream of the stateless era."""
    client = visitor.mcp()
    headers = {"MCP-Protocol-Version": VERSION, "Mcp-Method": "subscriptions/listen"}
    meta = {
        f"{META}protocolVersion": VERSION,
        f"{META}clientInfo": {"name": "tests", "version": "1"},
        f"{META}clientCapabilities": {},
    }
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 3, "method": "subscriptions/listen", "params": params}
    return client.http.stream("POST", client.path, json=body, headers={**client.headers, **headers})


BOTH_ERAS = pytest.mark.parametrize("open_stream", [hold_new, listen])


def wait_for_streams(target: ReferenceTarget, visitor: Visitor, count: int) -> None:
    """Wait until as many streams are open; each request lets the target work on."""
    for _ in range(5000):
        if target.open_streams == count:
            break
        visitor.http.get("/api/health")
    assert target.open_streams == count


@BOTH_ERAS
def test_a_stream_is_kept_alive_until_its_client_closes_it(
    launch: Launch, join: type[Visitor], open_stream: Open
) -> None:
    target = launch(keep_alive_seconds=SILENCE, eras="both")
    visitor = join(target)
    with open_stream(visitor) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert [line for line, _ in zip(lines, range(40), strict=False) if line == KEEP_ALIVE]
        assert target.open_streams == 1
    wait_for_streams(target, visitor, 0)


def test_a_stream_of_the_stateless_era_begins_with_what_the_server_will_send(
    launch: Launch, join: type[Visitor]
) -> None:
    with listen(join(launch(eras="stateless"))) as stream:
        event = next(line for line in stream.iter_lines() if line.startswith("data: "))
    message = json.loads(event.removeprefix("data: "))
    assert message["method"] == "notifications/subscriptions/acknowledged"
    assert message["params"]["notifications"] == {"toolsListChanged": True}
    assert message["params"]["_meta"][f"{META}subscriptionId"] == 3


def test_a_session_has_one_stream_which_ends_with_it(launch: Launch, join: type[Visitor]) -> None:
    target = launch(keep_alive_seconds=SILENCE)
    visitor = join(target)
    client = visitor.mcp().open()
    with hold(client) as stream:
        with hold(client) as second:
            assert second.status_code == 409
        assert client.delete().status_code == 200
        assert set(stream.iter_lines()) <= {KEEP_ALIVE, ""}
    wait_for_streams(target, visitor, 0)


def test_a_stream_can_stay_after_its_session_is_deleted(
    launch: Launch, join: type[Visitor]
) -> None:
    target = launch(keep_alive_seconds=SILENCE, streams_stay=True)
    visitor = join(target)
    client = visitor.mcp().open()
    with hold(client) as stream:
        assert client.delete().status_code == 200
        assert target.open_sessions == 0
        lines = stream.iter_lines()
        assert [next(lines) for _ in range(20)].count(KEEP_ALIVE) == 10
        assert target.open_streams == 1
    wait_for_streams(target, visitor, 0)


@BOTH_ERAS
@pytest.mark.parametrize(
    ("style", "status", "words"),
    [("503", 503, "too_many_streams"), ("inside-200", 200, "Maximum number of streams reached")],
)
def test_a_stream_above_the_cap_is_refused(
    launch: Launch, join: type[Visitor], open_stream: Open, style: str, status: int, words: str
) -> None:
    target = launch(keep_alive_seconds=SILENCE, eras="both", stream_cap=1, stream_refusal=style)
    visitor = join(target)
    with open_stream(visitor), open_stream(visitor) as refused:
        assert refused.status_code == status
        assert words in refused.read().decode()
    wait_for_streams(target, visitor, 0)
    with open_stream(visitor) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")


@BOTH_ERAS
def test_a_stream_can_be_dropped(launch: Launch, join: type[Visitor], open_stream: Open) -> None:
    visitor = join(launch(stream_seconds=0.1, eras="both"))
    with (
        open_stream(visitor) as stream,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"),
    ):
        stream.read()
    assert stream.status_code == 200


def test_a_server_without_streams_says_so(launch: Launch, join: type[Visitor]) -> None:
    visitor = join(launch(streams=False, eras="both"))
    with hold_new(visitor) as refused:
        assert refused.status_code == 405
        assert refused.headers["allow"] == "POST, DELETE"
    with listen(visitor) as answer:
        assert answer.status_code == 404
        assert json.loads(answer.read())["error"]["code"] == -32601


def test_a_stream_needs_a_session_that_is_known(launch: Launch, join: type[Visitor]) -> None:
    client = join(launch()).mcp().open()
    client.delete()
    with hold(client) as refused:
        refused.read()
        assert error_of(refused) == (404, "unknown_session")
