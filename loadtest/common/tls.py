"""The TLS context that all our clients share, and the certificate of a server.

A second context would need 0.1 s to read the certificate authorities again.
"""

import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from loadtest.common.access import ClientCertificate, find_access, load_certificate

DAY_SECONDS = 24 * 3600
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class NetworkStream(Protocol):
    """The connection of an answer, as the HTTP client returns it."""

    def get_extra_info(self, info: str) -> Any:
        """Return the `ssl_object`, or None without TLS."""


@dataclass(frozen=True)
class Certificate:
    """A verified certificate: its issuer, the days until it expires, and the TLS version."""

    issuer: str
    days_left: float
    protocol: str


def is_secure(url: str) -> bool:
    """Return whether nobody can read the traffic to a URL: https, or this machine itself."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    return False


def find_tls(url: str) -> ssl.SSLContext:
    """Return the context that verifies servers; for plain http, one that trusts no server.

    It presents our client certificate to the origin that demands one, and to no other.
    """
    if not url.startswith("https:"):
        return _trusting_nobody()
    certificate = find_access(url).certificate
    return _verifying() if certificate is None else _presenting(certificate)


def read_certificate(stream: NetworkStream) -> Certificate | None:
    """Return the server's certificate, None over plain http."""
    connection = stream.get_extra_info("ssl_object")
    if connection is None:
        return None
    shown = connection.getpeercert()
    names = {name: value for pairs in shown["issuer"] for name, value in pairs}
    ends = ssl.cert_time_to_seconds(shown["notAfter"])
    return Certificate(
        issuer=names.get("organizationName") or names.get("commonName") or "an unnamed issuer",
        days_left=(ends - time.time()) / DAY_SECONDS,
        protocol=connection.version(),
    )


def find_verify_error(failure: BaseException | None) -> str | None:
    """Return OpenSSL's reason for refusing a certificate; None for another failure."""
    while failure is not None:
        if isinstance(failure, ssl.SSLCertVerificationError):
            return str(failure.verify_message)
        failure = failure.__cause__ or failure.__context__
    return None


@cache
def _verifying() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()


@cache
def _presenting(certificate: ClientCertificate) -> ssl.SSLContext:
    import httpx2

    context = httpx2.create_ssl_context()
    load_certificate(context, certificate)
    return context


@cache
def _trusting_nobody() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
