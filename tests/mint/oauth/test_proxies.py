"""With a proxy in the environment, requests to this machine do not go through it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.config.loading import load_settings
from loadtest.github.client import open_github
from loadtest.k6.binary import find_k6
from loadtest.k6.preflight import check_target
from loadtest.mint.browser.launcher import BrowserChoice
from loadtest.state.bearers import write_bearers
from loadtest.target.mcp_client import WorkspaceClient
from loadtest.target.process import check_reachable
from tests.mint.minting import build_request, build_target, mint
from tests.support.checkout import ROOT
from tests.support.github_server import GithubServer
from tests.support.proxy_server import ProxyServer

KINDS = ("http_proxy", "https_proxy", "all_proxy")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyServer]:
    """Set every proxy variable, without exceptions."""
    with ProxyServer() as server:
        for name in KINDS:
            monkeypatch.setenv(name, server.url)
            monkeypatch.setenv(name.upper(), server.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield server


@pytest.mark.slow
def test_provisioning_minting_and_measuring_on_loopback_use_no_proxy(
    proxy: ProxyServer, browser_choice: BrowserChoice, tmp_path: Path, github: GithubServer
) -> None:
    variables = {name: proxy.url for kind in KINDS for name in (kind, kind.upper())}
    settings = load_settings(ROOT, "local", "smoke", process_env=variables)
    with build_target() as target:
        check_reachable(target.api_url)
        request = build_request(target, browser_choice, tmp_path)
        bearer, _ = mint(request)
        greeting = WorkspaceClient(request.mcp_url, bearer.access_token, print).greet()
        bearer_file = tmp_path / "bearer.json"
        write_bearers(bearer_file, (bearer,))
        found = check_target(
            *(settings, request.mcp_url, bearer_file, ("cold-start", "sessions")),
            binary=find_k6({}),
            tell=print,
        )
    assert found.protocol == greeting.protocol
    open_github(github.variables, "a test", "none").ask("actions.list_repo_secrets")
    # A browser may contact its vendor; our own requests stay on this machine.
    assert [line for line in proxy.seen if "127.0.0.1" in line or "localhost" in line] == []


def test_a_socks_proxy_does_not_block_requests_to_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with build_target() as target:
        check_reachable(target.api_url)
