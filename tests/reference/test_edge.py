"""The MCP edge: checks in order, sessions, framing."""

import concurrent.futures
import socket
from urllib.parse import urlsplit

import pytest

from tests.reference.visitor import Clock, Launch, Visitor, error_of, event_of


@pytest.fixture
def visitor(resident: Visitor) -> Visitor:
    """Somebody who need not be new."""
    return resident


def test_a_session_is_opened_used_and_deleted(launch: Launch, join: type[Visitor]) -> None:
    target = launch()
    client = join(target).mcp()
    opened = client.initialize()
    assert event_of(opened)["result"]["protocolVersion"] == "2025-11-25"
    client.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
    accepted = client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (accepted.status_code, accepted.content) == (202, b"")
    assert target.open_sessions == 1
    tools = event_of(client.request("tools/list"))["result"]["tools"]
    assert {tool["name"] for tool in tools} == {
        "listEntities", "describeEntity", "runMetric", "executeSQL",
    }  # fmt: skip
    deleted = client.delete()
    assert (deleted.status_code, deleted.content) == (200, b"")
    assert target.open_sessions == 0
    assert error_of(client.delete()) == (404, "unknown_session")
    assert error_of(client.request("tools/list")) == (404, "unknown_session")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ],
)
def test_an_unknown_revision_is_answered_with_the_newest_handshake_one(
    visitor: Visitor, asked: str, answered: str
) -> None:
    reply = visitor.mcp().initialize(asked)
    assert event_of(reply)["result"]["protocolVersion"] == answered


def test_the_alias_shares_its_sessions(visitor: Visitor) -> None:
    client = visitor.mcp().open()
    client.path += "/sse"
    assert event_of(client.request("ping"))["result"] == {}
    assert client.delete().status_code == 200


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_bearer"),
        ("Basic abc", "missing_bearer"),
        ("Bearer", "missing_bearer"),
        ("Bearer nonsense", "invalid_bearer"),
        ("Bearer a.b.c", "invalid_bearer"),
    ],
)
def test_no_usable_bearer_is_challenged_with_the_metadata_url(
    visitor: Visitor, header: str | None, code: str
) -> None:
    headers = {"Authorization": header} if header else {}
    response = visitor.http.post(f"/mcp/{visitor.workspace_id}", json={}, headers=headers)
    assert error_of(response) == (401, code)
    assert set(response.json()) == {"error", "message", "requestId"}
    where = f"{visitor.target.api_url}/.well-known/oauth-protected-resource/mcp"
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="')
    assert challenge.endswith(f'resource_metadata="{where}/{visitor.workspace_id}"')
    assert visitor.http.get(f"{where}/{visitor.workspace_id}").status_code == 200


def test_a_bearer_expires_without_leeway(launch: Launch, join: type[Visitor]) -> None:
    clock = Clock()
    client = join(launch(clock=clock)).mcp().open()
    clock.now = int(clock.now) + 299.9
    assert event_of(client.request("ping"))
    clock.now += 0.1
    assert error_of(client.request("ping")) == (401, "invalid_bearer")


def test_a_session_outlives_its_bearer(launch: Launch, join: type[Visitor]) -> None:
    clock = Clock()
    visitor = join(launch(clock=clock))
    client = visitor.mcp().open()
    clock.now += 301
    assert client.request("ping").status_code == 401
    client.headers["Authorization"] = f"Bearer {visitor.mint()}"
    assert event_of(client.request("ping"))["result"] == {}


def test_checks_come_in_the_order_bearer_scope_workspace_session(
    launch: Launch, join: type[Visitor]
) -> None:
    target = launch()
    ada, ben = join(target, "ada"), join(target, "ben")
    client_id = ada.register()["client_id"]
    code = ada.code(client_id, scope="openid")
    weak = ada.mcp(ada.redeem(client_id, code).json()["access_token"])
    weak.path = f"/mcp/{ben.workspace_id}"
    weak.headers["Mcp-Session-Id"] = "unknown"
    refused = weak.request("ping")
    assert error_of(refused) == (403, "insufficient_scope")
    assert refused.json()["scope"] == "mcp:read"
    assert "www-authenticate" not in refused.headers
    strong = ada.mcp()
    strong.headers["Mcp-Session-Id"] = "unknown"
    strong.path = f"/mcp/{ben.workspace_id}"
    assert error_of(strong.request("ping")) == (403, "cross_workspace_denied")
    strong.path = f"/mcp/{ada.workspace_id}"
    strong.headers["Accept"] = "text/plain"
    assert error_of(strong.request("ping")) == (404, "unknown_session")


def test_a_session_is_not_found_from_another_workspace(launch: Launch, join: type[Visitor]) -> None:
    target = launch()
    ada, ben = join(target, "ada"), join(target, "ben")
    foreign = ben.mcp()
    foreign.headers["Mcp-Session-Id"] = ada.mcp().open().headers["Mcp-Session-Id"]
    assert error_of(foreign.request("ping")) == (404, "unknown_session")
    assert error_of(foreign.delete()) == (404, "unknown_session")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "*/*", ""])
def test_both_media_types_must_be_accepted(visitor: Visitor, accept: str) -> None:
    client = visitor.mcp()
    client.headers["Accept"] = accept
    response = client.initialize()
    assert response.status_code == 406
    assert response.json()["jsonrpc"] == "2.0"
    assert response.json()["id"] is None


def test_malformed_messages_are_transport_errors(visitor: Visitor) -> None:
    client = visitor.mcp().open()
    post = visitor.http.post
    assert post(client.path, content=b"{", headers=client.headers).status_code == 400
    plain = {**client.headers, "Content-Type": "text/plain"}
    assert post(client.path, content=b"{}", headers=plain).status_code == 415
    assert visitor.http.put(client.path, headers=client.headers).status_code == 405
    assert error_of(post(f"{client.path}/other", headers=client.headers)) == (404, "not_found")
    assert error_of(post("/mcp/", headers=client.headers)) == (404, "not_found")


def test_a_call_without_its_session_id_is_a_bad_request(visitor: Visitor) -> None:
    client = visitor.mcp()
    before = visitor.target.open_sessions
    for response in (
        client.request("tools/list"),
        client.delete(),
        visitor.http.get(client.path, headers=client.headers),
    ):
        assert response.status_code == 400
        assert response.json()["id"] is None
    assert visitor.target.open_sessions == before


def test_a_version_of_the_other_era_is_a_bad_request(visitor: Visitor) -> None:
    client = visitor.mcp()
    client.headers["MCP-Protocol-Version"] = "2026-07-28"
    response = client.request("server/discover")
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("Bad Request: Unsupported protocol")


def test_an_unknown_method_is_a_json_rpc_error_in_an_event(visitor: Visitor) -> None:
    event = event_of(visitor.mcp().open().request("nothing/here"))
    assert event["error"]["code"] == -32601
    assert event["id"] == 7


def test_the_cap_refuses_the_next_session_until_one_is_deleted(
    launch: Launch, join: type[Visitor]
) -> None:
    target = launch(session_cap=2)
    visitor = join(target)
    bearer = visitor.mint()
    first, second = visitor.mcp(bearer).open(), visitor.mcp(bearer).open()
    refused = visitor.mcp(bearer).initialize()
    assert error_of(refused) == (503, "too_many_sessions")
    assert "retry-after" not in refused.headers
    assert event_of(second.request("ping"))
    for _ in range(20):
        assert first.delete().status_code == 200
        first = visitor.mcp(bearer).open()
    assert target.open_sessions == 2


def test_sessions_leave_nothing_behind(launch: Launch, join: type[Visitor]) -> None:
    target = launch()
    visitor = join(target)
    bearer = visitor.mint()
    visitor.mcp(bearer).open().delete()
    before = target.tasks
    for _ in range(50):
        assert visitor.mcp(bearer).open().delete().status_code == 200
    assert target.open_sessions == 0
    for _ in range(1000):
        if target.tasks <= before:
            break
        visitor.http.get("/api/health")
    assert target.tasks <= before


def test_an_idle_session_is_ended(launch: Launch, join: type[Visitor]) -> None:
    target = launch(session_idle_seconds=0.05)
    client = join(target).mcp().open()
    for _ in range(5000):
        if not target.open_sessions:
            break
        client.http.get("/api/health")
    assert target.open_sessions == 0
    assert error_of(client.request("ping")) == (404, "unknown_session")


def test_a_get_stream_sends_no_header_before_its_first_event(visitor: Visitor) -> None:
    client = visitor.mcp().open()
    parts = urlsplit(visitor.target.api_url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as raw:
        lines = [f"GET {client.path} HTTP/1.1", "Host: x", "Accept: text/event-stream"]
        lines += [f"{name}: {client.headers[name]}" for name in ("Authorization", "Mcp-Session-Id")]
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        # Other requests pass meanwhile; the stream stays silent until it is ended.
        for _ in range(5):
            assert event_of(client.request("ping"))
        raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            raw.recv(1)


def test_parallel_sessions_each_get_their_own_answers(visitor: Visitor) -> None:
    bearer = visitor.mint()

    def live(number: int) -> str:
        client = visitor.mcp(bearer).open()
        sql = "SELECT count(*) FROM orders"
        answers = {
            client.call("executeSQL", sql=sql, explanation=str(number))["structuredContent"][
                "explanation"
            ]
            for _ in range(5)
        }
        assert client.delete().status_code == 200
        return ",".join(answers)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(live, range(1, 17))) == [str(number) for number in range(1, 17)]


def test_a_restarted_target_knows_bearers_but_no_sessions(
    launch: Launch, join: type[Visitor]
) -> None:
    first = launch()
    visitor = join(first)
    client = visitor.mcp().open()
    first.stop()
    again = launch()
    assert (again.api_url, again.web_url) == (first.api_url, first.web_url)
    assert error_of(client.request("ping")) == (404, "unknown_session")
    del client.headers["Mcp-Session-Id"]
    assert client.open().call("runMetric", id="total_orders")["content"]
    assert [user.email for user in again.users()] == [visitor.email]


@pytest.mark.parametrize(
    ("first_challenge", "challenged"),
    [
        ("initialize", ["initialize", "tools/list", "tools/call"]),
        ("tools/list", ["tools/list", "tools/call"]),
        ("tools/call", ["tools/call"]),
        ("never", []),
    ],
)
def test_a_knob_sets_the_first_request_that_needs_a_bearer(
    launch: Launch, join: type[Visitor], first_challenge: str, challenged: list[str]
) -> None:
    client = join(launch(first_challenge=first_challenge)).mcp()
    bearer = client.headers.pop("Authorization")
    opened = client.initialize()
    if opened.status_code == 200:
        client.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
    called = {"name": "listEntities", "arguments": {}}
    answers = {
        "initialize": opened,
        "tools/list": client.request("tools/list"),
        "tools/call": client.request("tools/call", called),
    }
    assert [method for method, answer in answers.items() if answer.status_code == 401] == challenged
    if challenged != ["initialize", "tools/list", "tools/call"]:
        client.headers["Authorization"] = bearer
        assert client.call("listEntities")["content"]
        del client.headers["Authorization"]
        assert client.delete().status_code == 200
