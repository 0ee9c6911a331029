"""The environment of the programs that we start, without credentials."""

from collections.abc import Iterable, Mapping

from loadtest.common.network import build_no_proxy

# What a program needs to start, to reach the network, to trust servers and to store files.
PASSED_ON = (
    *("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "HOME", "USERPROFILE", "TEMP", "TMP", "TMPDIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ"),
)


def build_child_environment(
    variables: Mapping[str, str], more: Iterable[str] = ()
) -> dict[str, str]:
    """Return the environment of a program that we start: only the variables named here.

    The program uses no proxy to reach this machine, whatever the user set.
    """
    passed = {name: variables[name] for name in (*PASSED_ON, *more) if variables.get(name)}
    return passed | build_no_proxy(variables)
