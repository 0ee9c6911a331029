"""Each knob makes the target misbehave in its own way, and nothing else does."""

import random
import time

import httpx
import pytest

from loadtest.errors import UsageError
from loadtest.reference.knobs import Knobs, parse_latency
from tests.reference.visitor import Launch, Visitor, claims_of, error_of, event_of, query_of


@pytest.mark.parametrize(
    "given",
    [
        {"tool_latency": "sometimes"},
        {"tool_latency": "constant:-1"},
        {"tool_latency": "constant:nan"},
        {"tool_latency": "bimodal:1,2"},
        {"tool_latency": "bimodal:1,2,3"},
        {"tool_latency": "heavy:0,1"},
        {"crowd_latency": "many"},
        {"crowd_latency": "-1,20"},
        {"crowd_latency": "60,inf"},
        {"error_share": 1.5},
        {"session_cap": 0},
        {"replicas": 0},
        {"cap_refusal": "silently"},
        {"session_age_seconds": -1.0},
        {"quota_units": -1},
        {"stall_seconds": float("inf")},
        {"eras": "future"},
        {"wrong_issuer": "everywhere"},
        {"challenge": "none"},
        {"token_rate_limited": -1},
        {"token_delay_seconds": -1.0},
        {"reply_padding": -1},
        {"reply_pauses": -1},
        {"reply_pause_seconds": float("nan")},
        {"stream_cap": -1},
        {"stream_refusal": "silently"},
        {"stream_seconds": -1.0},
    ],
)
def test_a_knob_out_of_range_is_named(given: dict[str, object]) -> None:
    (name,) = given
    with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
        Knobs(**given)  # type: ignore[arg-type]


def test_latencies_follow_the_knob_and_are_the_same_for_a_seed() -> None:
    def draw(text: str, count: int = 2000) -> list[float]:
        sampler = parse_latency(text)
        assert sampler is not None
        rng = random.Random(7)  # noqa: S311
        return [sampler(rng) for _ in range(count)]

    assert parse_latency("none") is None
    assert set(draw("constant:20")) == {0.02}
    two = draw("bimodal:10,200,0.25")
    assert set(two) == {0.01, 0.2}
    assert 0.2 < two.count(0.2) / len(two) < 0.3
    tail = sorted(draw("heavy:10,1"))
    assert 0.008 < tail[1000] < 0.012
    assert tail[-20] > 5 * tail[1000]
    assert draw("heavy:10,1") == draw("heavy:10,1")


def test_latency_is_added_to_tool_calls_only(launch: Launch, join: type[Visitor]) -> None:
    client = join(launch(tool_latency="constant:250")).mcp().open()
    start = time.monotonic()
    assert "isError" not in client.call("listEntities")
    assert time.monotonic() - start >= 0.25


def test_replies_can_be_padded_and_come_in_pieces(launch: Launch, join: type[Visitor]) -> None:
    client = join(launch(reply_padding=5000, reply_pauses=3, reply_pause_seconds=0.1)).mcp().open()
    start = time.monotonic()
    result = client.call("listEntities")
    assert time.monotonic() - start >= 0.3
    assert len(result["content"][1]["text"]) == 5000


def test_a_stall_delays_every_mcp_request(launch: Launch, join: type[Visitor]) -> None:
    client = join(launch(stall_seconds=0.3)).mcp()
    start = time.monotonic()
    client.open()
    assert time.monotonic() - start >= 0.3
    assert client.http.get("/api/health").status_code == 200


def test_stalls_repeat_with_their_period(launch: Launch, join: type[Visitor]) -> None:
    target = launch(stall_seconds=0.1, stall_at_seconds=0.1, stall_every_seconds=0.2)
    client = join(target).mcp().open()
    start = time.monotonic()
    waits = []
    while time.monotonic() - start < 1:
        before = time.monotonic()
        client.request("ping")
        waits.append(time.monotonic() - before)
    assert len([wait for wait in waits if wait > 0.05]) >= 3


def test_a_share_of_tool_calls_fails(launch: Launch, join: type[Visitor]) -> None:
    target = launch(error_share=0.5, tool_quota=False)
    client = join(target).mcp().open()
    results = [client.call("listEntities") for _ in range(60)]
    failed = [result for result in results if "isError" in result]
    assert 15 < len(failed) < 45
    assert all("internal_error" in result["content"][0]["text"] for result in failed)


def test_a_share_of_connections_closes_during_the_answer(
    launch: Launch, join: type[Visitor]
) -> None:
    client = join(launch(drop_share=0.5)).mcp()
    opened = client.initialize()
    client.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
    dropped = 0
    for _ in range(40):
        try:
            event_of(client.request("ping"))
        except httpx.TransportError:
            dropped += 1
    assert 8 < dropped < 32


def test_a_silent_reply_is_kept_alive_by_comments(launch: Launch, join: type[Visitor]) -> None:
    target = launch(keep_alive_seconds=0.05, tool_latency="constant:300")
    client = join(target).mcp().open()
    response = client.request("tools/call", {"name": "listEntities", "arguments": {}})
    parts = response.text.split("\n\n")
    assert parts[0] == ": keep-alive"
    assert parts[-2].startswith("event: message\ndata: ")
    assert response.headers["content-type"] == "text/event-stream"


def test_a_knob_sets_the_life_of_an_access_token(launch: Launch, join: type[Visitor]) -> None:
    visitor = join(launch(access_token_seconds=90))
    client_id = visitor.register()["client_id"]
    tokens = visitor.redeem(client_id, visitor.code(client_id)).json()
    claims = claims_of(tokens["access_token"])
    assert claims["exp"] - claims["iat"] == tokens["expires_in"] == 90


def test_consent_can_be_denied_for_everyone(launch: Launch, join: type[Visitor]) -> None:
    visitor = join(launch(deny_consent=True))
    page = visitor.authorize(visitor.register()["client_id"])
    assert query_of(visitor.decide(page).json()["url"])["error"] == "access_denied"


def test_another_issuer_can_be_named_in_the_response(launch: Launch, join: type[Visitor]) -> None:
    visitor = join(launch(wrong_issuer="response"))
    page = visitor.authorize(visitor.register()["client_id"])
    assert query_of(visitor.decide(page).json()["url"])["iss"] == f"{visitor.issuer}/other"


def test_another_issuer_can_be_named_in_tokens(launch: Launch, join: type[Visitor]) -> None:
    visitor = join(launch(wrong_issuer="token"))
    assert claims_of(visitor.mint())["iss"] == f"{visitor.issuer}/other"


@pytest.mark.parametrize(("rotation", "keys", "status"), [("kept", 3, 200), ("dropped", 1, 401)])
def test_keys_rotate_with_every_access_token(
    launch: Launch, join: type[Visitor], rotation: str, keys: int, status: int
) -> None:
    visitor = join(launch(key_rotation=rotation))
    client_id = visitor.register()["client_id"]
    first, second = (
        visitor.redeem(client_id, visitor.code(client_id)).json()["access_token"] for _ in range(2)
    )
    assert len(visitor.http.get("/api/auth/jwks").json()["keys"]) == keys
    assert visitor.mcp(second).initialize().status_code == 200
    assert visitor.mcp(first).initialize().status_code == status


@pytest.mark.parametrize(
    ("code", "status"),
    [("misdirected_request", 421), ("auth_unavailable", 503), ("region_unavailable", 503)],
)
def test_the_edge_can_refuse_everything(
    launch: Launch, join: type[Visitor], code: str, status: int
) -> None:
    visitor = join(launch(edge_refusal=code))
    refused = visitor.mcp().initialize()
    assert error_of(refused) == (status, code)
    assert ("correctApiUrl" in refused.json()) == (status == 421)


def test_the_stateless_era_is_supported_with_the_knob(launch: Launch, join: type[Visitor]) -> None:
    visitor = join(launch(eras="both"))
    client = visitor.mcp()
    assert event_of(client.initialize())["result"]["protocolVersion"] == "2025-11-25"
    client.headers["MCP-Protocol-Version"] = "2026-07-28"
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    }
    client.headers["Mcp-Method"] = "server/discover"
    found = client.request("server/discover", {"_meta": meta})
    assert found.json()["result"]["supportedVersions"] == ["2026-07-28"]
    client.headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "listEntities"}
    params = {"name": "listEntities", "arguments": {}, "_meta": meta}
    result = client.request("tools/call", params).json()["result"]
    assert '"count": 13' in result["content"][0]["text"]
    assert "mcp-session-id" not in found.headers


def test_the_handshake_era_can_be_disabled(launch: Launch, join: type[Visitor]) -> None:
    client = join(launch(eras="stateless")).mcp()
    headless = client.initialize()
    client.headers["MCP-Protocol-Version"] = "2025-11-25"
    named = client.initialize()
    assert (headless.status_code, headless.json()["error"]["code"]) == (400, -32020)
    assert "2026-07-28" in headless.json()["error"]["message"]
    assert (named.status_code, named.json()["error"]["code"]) == (400, -32022)
    data = {"supported": ["2026-07-28"], "requested": "2025-11-25"}
    assert named.json()["error"]["data"] == data
    assert client.delete().status_code == 405


def test_knobs_put_the_race_and_the_tour_into_the_pages(
    launch: Launch, join: type[Visitor]
) -> None:
    target = launch(race_share=1, tour=False)
    assert "const losesRace = true" in httpx.get(f"{target.web_url}/login").text
    visitor = join(target)
    cookie = {"Cookie": f"better-auth.session_token={visitor.token}"}
    front = httpx.get(target.web_url, headers=cookie)
    assert front.status_code == 200
    assert "Skip tour" not in front.text
