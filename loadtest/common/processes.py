"""What the programs that we start see of our environment: no credential."""

from collections.abc import Iterable, Mapping

from loadtest.common.network import build_no_proxy

# How a program is found and started, reaches the network, trusts servers, and keeps files.
PASSED_ON = (
    *("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "HOME", "USERPROFILE", "TEMP", "TMP", "TMPDIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ"),
)


def build_child_environment(
    variables: Mapping[str, str], more: Iterable[str] = ()
) -> dict[str, str]:
    """Return the environment of a program that we start: what is passed on by name, and no more.

    It reaches this machine without a proxy, whatever the user set.
    """
    passed = {name: variables[name] for name in (*PASSED_ON, *more) if variables.get(name)}
    return passed | build_no_proxy(variables)
