"""Certificates for servers of the tests, by an authority of the tests."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Signer = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def build_certificate(
    name: str, organization: str, signer: Signer | None = None, days: float = 90
) -> Signer:
    """Make a key and a certificate: signed by `signer`, else by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    alternative: x509.GeneralName = x509.DNSName(name)
    if name[0].isdigit():
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    authority = name == organization
    issuer_key, issuer = (signer[0], signer[1].subject) if signer else (key, subject)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=100))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        names = x509.SubjectAlternativeName([alternative])
        certificate = certificate.add_extension(names, critical=False)
    return key, certificate.sign(issuer_key, hashes.SHA256())


def dump(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def dump_key(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    hidden = serialization.BestAvailableEncryption(password) if password else None
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        hidden or serialization.NoEncryption(),
    )


def write_client(folder: Path, password: bytes | None = None) -> tuple[Path, Path]:
    """Write a client's certificate and key, and `clients.pem`: the authority that signed it."""
    authority = build_certificate("Canary Clients", "Canary Clients")
    key, certificate = build_certificate("load-test", "Canary Clients", authority)
    (folder / "clients.pem").write_bytes(dump(authority[1]))
    (folder / "client.pem").write_bytes(dump(certificate))
    (folder / "client.key").write_bytes(dump_key(key, password))
    return folder / "client.pem", folder / "client.key"


def build_server_tls(
    folder: Path, name: str, days: float = 90, *, by_authority: bool = True
) -> ssl.SSLContext:
    """Return a server's TLS context for `name`; its certificate authority is in the folder."""
    key, certificate = build_certificate("Canary Authority", "Canary Authority")
    (folder / "authority.pem").write_bytes(dump(certificate))
    signer = (key, certificate) if by_authority else None
    own_key, own = build_certificate(name, "Canary Authority", signer, days)
    (folder / "server.pem").write_bytes(dump_key(own_key) + dump(own))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
