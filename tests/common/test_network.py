"""Which hosts are this machine, which proxy a host needs, which variables a child gets."""

import pytest

from loadtest.common.network import LOCAL_HOSTS, find_proxy, is_loopback
from loadtest.common.processes import build_child_environment
from loadtest.errors import ConfigError

VARIABLES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "api.localhost", "127.0.0.1", "127.9.8.7", "::1"),
        *(
            "[::1]",
            "::ffff:127.0.0.1",
            "[::ffff:7f00:1]",
            ".".join("0000"),
            "::",
            "127.1",
            "2130706433",
        ),
        *("0x7f.1", "0177.0.0.1", "0"),
    ],
)
def test_every_spelling_of_this_machine_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.com", "localhost.example.com", "notlocalhost", "128.0.0.1", "10.0.0.1"),
        *(
            "127.0.0.1.example.com",
            "::2",
            "[fe80::1]",
            "127.0.0.1 x",
            "[",
            "\x00",
            "\u0660",
            "9" * 5000,
        ),
    ],
)
def test_other_hosts_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_remote_hosts_are_reached_through_the_proxy_and_loopback_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("HTTPS_PROXY", "secure:3129")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert find_proxy("http://example.com/mcp") == "http://proxy:3128"
    assert find_proxy("https://example.com/mcp") == "http://secure:3129"
    assert find_proxy("https://api.inside.example:8443/mcp") is None
    for host in ("127.0.0.1", "localhost", "[::1]", "127.5.5.5", "a.localhost"):
        assert find_proxy(f"http://{host}:8080/mcp") is None


def test_all_proxy_is_used_for_every_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy:3128")
    assert find_proxy("https://example.com") == "http://proxy:3128"


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"])
def test_a_socks_proxy_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "socks5://user:word@proxy:1080")
    assert find_proxy("http://127.0.0.1:8080") is None
    with pytest.raises(ConfigError, match=f"^{variable} is a SOCKS") as caught:
        find_proxy("https://example.com")
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("address", ["ftp://proxy", "http://", "http://[", "http://proxy:none"])
def test_a_wrong_proxy_address_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(ConfigError, match=r"^HTTPS_PROXY is not the address of a proxy"):
        find_proxy("https://example.com")


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_a_child_gets_only_named_variables_and_reaches_loopback_directly(name: str) -> None:
    variables = {
        "PATH": "/bin",
        "HTTP_PROXY": "http://proxy:3128",
        name: "inside.example, localhost",
        "LOADTEST_PASSWORD": "word",
        "GITHUB_TOKEN": "token",
        "GOGC": "100",
    }
    child = build_child_environment(variables, ["GOGC"])
    hosts = ",".join(["inside.example", "localhost", "127.0.0.1", "::1"])
    assert set(hosts.split(",")) >= set(LOCAL_HOSTS)
    assert child == {
        "PATH": "/bin",
        "HTTP_PROXY": "http://proxy:3128",
        "NO_PROXY": hosts,
        "no_proxy": hosts,
        "GOGC": "100",
    }
