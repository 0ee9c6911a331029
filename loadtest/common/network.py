"""Find out whether a host is this machine, and which proxy leads to another host."""

import os
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import inet_aton
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from loadtest.errors import ConfigError

# The hosts that programs that we start must reach without a proxy.
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
SPOKEN = frozenset({"http", "https"})


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or any spelling of its address."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _parse_address(name)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return address is not None and (address.is_loopback or address.is_unspecified)


def find_proxy(url: str) -> str | None:
    """Return the address of the proxy that the variables set for a URL, else None.

    Raises ConfigError for a proxy that cannot be used; it never quotes the address.
    """
    parts = urlsplit(url)
    # Remove a user name and password from the host.
    if is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind)
    if not proxy:
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    _check_address(address, kind)
    return address


def build_no_proxy(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make a program reach this machine without a proxy."""
    given = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    value = ",".join(dict.fromkeys([*hosts, *LOCAL_HOSTS]))
    return {"NO_PROXY": value, "no_proxy": value}


def _check_address(address: str, kind: str) -> None:
    lower = f"{kind}_proxy"
    variable = lower if lower in os.environ else lower.upper()
    scheme = address.partition("://")[0].lower()
    if scheme.startswith("socks"):
        raise ConfigError(
            f"{variable} is a SOCKS proxy, which cannot be used here: set HTTPS_PROXY and "
            f"HTTP_PROXY to an HTTP proxy, or unset {variable}"
        )
    try:
        host = urlsplit(address).hostname if urlsplit(address).port != 0 else None
    except ValueError:
        host = None
    if scheme not in SPOKEN or not host:
        raise ConfigError(f"{variable} is not the address of a proxy, such as http://proxy:3128")


def _parse_address(name: str) -> IPv4Address | IPv6Address | None:
    """Return an address as the system reads it: `127.1` and `2130706433` are 127.0.0.1."""
    try:
        return ip_address(name)
    except ValueError:
        pass
    try:
        return IPv4Address(inet_aton(name)) if name and " " not in name else None
    except (OSError, ValueError):
        return None
