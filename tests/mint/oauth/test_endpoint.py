"""The first request to an endpoint ends in a result or an error of one line, and in time."""

import pytest

from loadtest.common.redaction import SecretStr
from loadtest.errors import ProvisionError
from loadtest.target import mcp_client
from loadtest.target.mcp_client import WorkspaceClient
from tests.mint.browser.page_server import PageServer, Reply

JSON = "application/json"
# A response to a request that was never sent: the right one never comes.
STRANGE = Reply('{"jsonrpc":"2.0","id":99,"result":{}}', content_type=JSON)


@pytest.mark.parametrize(
    ("reply", "words", "status"),
    [
        (Reply("<p>"), "Unexpected content type", None),
        (Reply("{]", content_type=JSON), "Failed to parse JSON response", None),
        (Reply('{"canary": 1}', content_type=JSON), "Failed to parse JSON response", None),
        (
            Reply(
                'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n', content_type="text/event-stream"
            ),
            "ValidationError in its answer",
            None,
        ),
        pytest.param(STRANGE, "timed out", None, marks=pytest.mark.slow),
        (Reply(status=302, location="http://127.0.0.1:9/"), "not followed", None),
        (Reply("down", 500), "HTTP 500", 500),
        (Reply('{"error":"invalid_bearer"}', 401, content_type=JSON), "HTTP 401: invalid_be", 401),
    ],
)
def test_an_invalid_initialize_result_is_one_line(
    reply: Reply,
    words: str,
    status: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if reply is STRANGE:
        monkeypatch.setattr(mcp_client, "CALL_SECONDS", 2.0)
    with PageServer({"/mcp": reply}) as server:
        endpoint = WorkspaceClient(f"{server.origin}/mcp", SecretStr("a bearer"), print)
        with pytest.raises(ProvisionError) as caught:
            endpoint.greet()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)
    assert endpoint.refusal_status == status
    assert capfd.readouterr() == ("", "")
