"""One TLS context for all clients: each would read the certificate authorities for 0.1 s."""

import ssl
from functools import cache


def find_tls(url: str) -> ssl.SSLContext:
    """Return what verifies servers; for a plain-http origin one that trusts nobody."""
    return _verifying() if url.startswith("https:") else _trusting_nobody()


@cache
def _verifying() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()


@cache
def _trusting_nobody() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
