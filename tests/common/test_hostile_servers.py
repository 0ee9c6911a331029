"""What provision, mint, doctor and report say of a server that sends too much or never ends."""

from collections.abc import Callable, Iterator

import pytest

from loadtest.common.redaction import SecretStr
from loadtest.errors import LoadtestError, MintError, ProvisionError, ReportError
from loadtest.github.client import GithubRefusal, open_github
from loadtest.mint.oauth import sdk
from loadtest.mint.oauth.discovery import discover
from loadtest.publish.webhook import call_webhook
from loadtest.target import mcp_client
from loadtest.target.mcp_client import WorkspaceClient
from loadtest.target.rest_client import Accounts
from tests.support.github_server import REPOSITORY, TOKEN
from tests.support.hostile_server import (
    Answer,
    HostileServer,
    Request,
    endless_body,
    endless_keep_alives,
    endless_pages,
    gzip_bomb,
    many_tools,
    speak_mcp,
    trickling_head,
)

SECONDS = 3.0


def refuse(kind: type[LoadtestError], act: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("list_tools", "words"),
    [
        (gzip_bomb(1024), "it sends more than 16 MiB"),
        (many_tools(1_000_000), "it sends more than 16 MiB"),
        (many_tools(2001), "lists more than 2000 tools or 50 pages of tools"),
        (endless_pages, "lists more than 2000 tools or 50 pages of tools"),
        (endless_keep_alives, "timed out"),
    ],
)
def test_a_list_of_tools_is_bounded(
    list_tools: Answer, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_client, "CALL_SECONDS", SECONDS if "timed" in words else 60.0)
    with HostileServer(speak_mcp(list_tools)) as server:
        look = WorkspaceClient(f"{server.url}/mcp", SecretStr("none"), print)
        assert words.lower() in refuse(ProvisionError, look.greet).lower()


def test_pages_of_tools_that_are_each_slow_are_bounded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcp_client, "VISIT_SECONDS", SECONDS)

    def slow_pages(request: Request) -> Iterator[bytes]:
        yield from [b""] * 20
        yield from endless_pages(request)

    with HostileServer(speak_mcp(slow_pages)) as server:
        look = WorkspaceClient(f"{server.url}/mcp", SecretStr("none"), print)
        said = refuse(ProvisionError, look.greet)
    assert said.startswith(
        f"{server.url}/mcp is too slow: it has not answered all requests after 3 s"
    )
    assert sum(b"tools/list" in request.body for request in server.seen) < 5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endless_body, "it sends more than 4 MiB"),
        (gzip_bomb(1024), "it sends more than 4 MiB"),
        (trickling_head, "no complete answer in time"),
        (endless_keep_alives, "no complete answer in time"),
    ],
)
def test_looking_for_an_authorization_server_is_bounded(
    answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "REQUEST_SECONDS", SECONDS if "time" in words else 60.0)
    with HostileServer(answer) as server:
        said = refuse(MintError, lambda: discover(f"{server.url}/mcp"))
    assert said.startswith("mint failed at discovery: ")
    assert said.endswith(f"does not answer ({words})")


def test_accounts_are_bounded() -> None:
    with HostileServer(gzip_bomb(1024)) as server, Accounts(server.url, print) as asked:
        said = refuse(ProvisionError, lambda: asked.list_workspaces("user@example.com"))
    assert said.endswith("/list does not answer (it sends more than 4 MiB)")


def test_a_webhook_is_bounded() -> None:
    with HostileServer(gzip_bomb(1024)) as server:
        assert "it sends more than 4 MiB" in refuse(
            ReportError, lambda: call_webhook(server.url, "a line")
        )


def test_github_is_bounded_and_an_answer_that_is_too_long_is_not_requested_again() -> None:
    with HostileServer(gzip_bomb(1024)) as server:
        variables = {
            "GITHUB_API_URL": server.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_TOKEN": TOKEN,
        }
        github = open_github(variables, "a test", "none", pause=lambda _: pytest.fail("it waited"))
        with pytest.raises(GithubRefusal) as caught:
            github.ask("actions.list_repo_secrets")
    assert caught.value.message == f"{server.url} does not answer (it sends more than 32 MiB)"
