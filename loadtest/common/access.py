"""What a target demands of every request to its origin: extra headers, a client certificate.

Every HTTP client of this package looks this up by the address of a request. So no client can
forget it, and no other origin gets it.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from loadtest.common.files import write_text
from loadtest.common.redaction import SecretStr

Origin = tuple[str, str | None, int | None]
USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class ClientCertificate:
    """A client certificate with its chain, and its private key, as PEM text."""

    chain: str = field(repr=False)
    key: SecretStr


@dataclass(frozen=True)
class Access:
    """What an origin gets with every request.

    `lacking` are the variables of it that are not set, `faults` what else is wrong with it: where
    there is any, nothing may be sent.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificate: ClientCertificate | None = None
    lacking: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


NO_ACCESS = Access()
_accesses: dict[Origin, Access] = {}


def set_access(url: str, access: Access) -> None:
    """Send this from now on with every request to the origin of the URL."""
    _accesses[_find_origin(url)] = access


def find_access(url: str) -> Access:
    """Return what the origin of the URL gets: nothing, unless it was set."""
    return _accesses.get(_find_origin(url), NO_ACCESS)


def build_authorization(bearer: SecretStr) -> dict[str, str]:
    """Return the header of a bearer (RFC 6750, section 2.1); none for a caller without one."""
    token = bearer.get_secret_value()
    return {"Authorization": f"Bearer {token}"} if token else {}


def load_certificate(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """Have a TLS context present a certificate; raise ssl.SSLError if it is not usable."""
    # OpenSSL reads only files; this one exists for the length of the call.
    with TemporaryDirectory() as folder:
        file = Path(folder) / "client.pem"
        text = f"{certificate.chain}\n{certificate.key.get_secret_value()}\n"
        write_text(file, text, private=True)
        context.load_cert_chain(file, password="")  # without a password, OpenSSL would ask for one


def _find_origin(url: str) -> Origin:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or USUAL_PORTS.get(parts.scheme)
