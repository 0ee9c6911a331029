"""Read what an environment's server demands: its headers, its client certificate."""

import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Annotated

from pydantic import AfterValidator

from loadtest.common.access import Access, ClientCertificate, load_certificate
from loadtest.common.files import read_whole
from loadtest.common.redaction import SecretStr, learn

_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?")  # of ASCII, section 5.5
# Our clients, k6 and the browser set these themselves.
OWNED = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length"),
        *("content-type", "cookie", "expect", "host", "keep-alive", "last-event-id", "origin"),
        *("referer", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
OWNED_PREFIXES = ("mcp-", "proxy-", "sec-")
_SECRET_NAME = re.compile("auth|cookie|key|pass|secret|token", re.IGNORECASE)
_PEM = "-----BEGIN "


def _check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Refuse names that nobody may set, and values that no header can have."""
    known: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a header")
        if lower in OWNED or lower.startswith(OWNED_PREFIXES):
            raise ValueError(f"{name} is set by loadtest itself: remove it")
        if lower in known:
            raise ValueError(f"{name} is there twice: names of headers ignore case")
        known.add(lower)
        template = Template(value)
        if not template.is_valid():
            raise ValueError(f"{name}: write $NAME for a variable, and $$ for a dollar sign")
        literal = not template.get_identifiers()
        if literal and _SECRET_NAME.search(name):
            raise ValueError(f'{name} looks like a secret: take it from a variable, as "$NAME"')
        if literal and not _VALUE.fullmatch(template.substitute()):
            raise ValueError(f"{name}: {_describe_value()}")
    return headers


# Values may contain variables: `Bearer $LOADTEST_API_KEY`.
Headers = Annotated[Mapping[str, str], AfterValidator(_check_headers)]


def list_variables(*texts: str) -> list[str]:
    """Return the names of the variables in these values."""
    return list(dict.fromkeys(name for text in texts for name in Template(text).get_identifiers()))


def read_access(
    root: Path,
    headers: Mapping[str, str],
    certificate: str | None,
    key: str | None,
    variables: Mapping[str, str],
) -> Access:
    """Fill the variables in; what is missing or wrong is in the result, by name, never by value.

    `certificate` and `key` are paths below `root`, or `$NAME`: a variable with a path or with PEM
    text. Without `key`, the key is in the file of the certificate.
    """
    names = list_variables(*headers.values(), *filter(None, (certificate, key)))
    lacking = tuple(name for name in names if not variables.get(name))
    filled = {}
    for name, text in headers.items():
        used = list_variables(text)
        # Not the whole value: `Bearer $KEY` contains a word that is not secret.
        learn(*(variables.get(each) for each in used))
        if not set(used) & set(lacking):
            filled[name] = Template(text).substitute(variables)
    faults = [
        f"headers.{name}: {_describe_value()}"
        for name, value in filled.items()
        if not _VALUE.fullmatch(value)
    ]
    if certificate is None or lacking:
        return Access(filled, None, lacking, tuple(faults))
    found = None
    try:
        found = _read_certificate(root, certificate, key, variables)
        load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), found)
    except OSError as failure:  # also an SSLError
        faults += _explain(failure)
    return Access(filled, found, lacking, tuple(faults))


def _describe_value() -> str:
    return "its value is empty, or has a control character or one that is not ASCII"


def _read_certificate(
    root: Path, certificate: str, key: str | None, variables: Mapping[str, str]
) -> ClientCertificate:
    chain = _read_pem(root, certificate, variables)
    return ClientCertificate(
        chain, SecretStr(chain if key is None else _read_pem(root, key, variables))
    )


def _read_pem(root: Path, text: str, variables: Mapping[str, str]) -> str:
    """Return PEM text: that of a variable, else that of a file."""
    given = Template(text).substitute(variables)
    if _PEM in given:
        return given.replace("\\n", "\n")  # as some env files write it
    return read_whole(root / Path(given).expanduser()).decode("latin-1")


def _explain(failure: OSError) -> Iterator[str]:
    if not isinstance(failure, ssl.SSLError):
        yield f"tls_certificate or tls_key: {failure.filename}: {failure.strerror}"
    elif failure.reason == "KEY_VALUES_MISMATCH":
        yield "tls_key does not belong to tls_certificate"
    else:
        yield "tls_certificate and tls_key are not a PEM certificate and its unencrypted key"
