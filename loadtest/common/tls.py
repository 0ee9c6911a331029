"""TLS of every client of ours: one context for all, and what a server shows of itself.

Each context of its own would read the certificate authorities for 0.1 s.
"""

import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

DAY_SECONDS = 24 * 3600
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class NetworkStream(Protocol):
    """The connection below an answer, as the HTTP client shows it."""

    def get_extra_info(self, info: str) -> Any:
        """Return the `ssl_object`, None where there is no TLS."""


@dataclass(frozen=True)
class Certificate:
    """A verified certificate: who issued it, how many days it is good for, over which TLS."""

    issuer: str
    days_left: float
    protocol: str


def is_sealed(url: str) -> bool:
    """Return whether nobody reads along on the way there: https, or this machine itself."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    return False


def find_tls(url: str) -> ssl.SSLContext:
    """Return what verifies servers; for a plain-http origin one that trusts nobody."""
    return _verifying() if url.startswith("https:") else _trusting_nobody()


def read_certificate(stream: NetworkStream) -> Certificate | None:
    """Return what the server showed, None over plain http."""
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
    """Return why a certificate was refused, in OpenSSL's words; None for another failure."""
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
def _trusting_nobody() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
