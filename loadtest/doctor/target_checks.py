"""Check that the target answers, and its TLS."""

from collections.abc import Iterator

from loadtest.config.settings import Settings, check_hosted
from loadtest.doctor.check import Check
from loadtest.errors import CertificateError, ConfigError, TargetError
from loadtest.target.process import check_reachable

CERTIFICATE_WARN_DAYS = 14


def examine_target(settings: Settings, base_url: str | None) -> Iterator[Check]:
    """Check that the target answers, then its TLS."""
    if settings.is_reference() and base_url is None:
        yield Check("target", "ok", "the reference target, started for the run")
        yield Check("TLS", "ok", "none: plain http, only on this machine")
        return
    try:
        check_hosted(settings, "LOADTEST_BASE_URL")
        assert base_url is not None
        certificate = check_reachable(base_url)
    except CertificateError as failure:
        yield Check("target", "ok", f"{base_url} accepts connections")
        yield Check("TLS", "missing", str(failure), _find_certificate_remedy(str(failure)))
        return
    except ConfigError as failure:
        yield Check("target", "missing", str(failure), "see docs/reference/settings.md")
        return
    except TargetError as failure:
        yield Check("target", "missing", str(failure), "start it, or correct LOADTEST_BASE_URL")
        return
    whose = "the reference target, " if settings.is_reference() else ""
    yield Check("target", "ok", f"{whose}{base_url} answers")
    if certificate is None:
        yield Check("TLS", "ok", "none: plain http, only on this machine")
        return
    detail = (
        f"{certificate.protocol}, certificate by {certificate.issuer}, "
        f"valid for {int(certificate.days_left)} days"
    )
    if certificate.days_left < CERTIFICATE_WARN_DAYS:
        yield Check("TLS", "warn", detail, "renew the certificate on the server")
    else:
        yield Check("TLS", "ok", detail)


def _find_certificate_remedy(message: str) -> str:
    if "expired" in message or "not yet valid" in message:
        return "renew it on the server, and check the clock of this machine"
    if "ismatch" in message:
        return "set LOADTEST_BASE_URL to a name that the certificate is for"
    return "if the certificate authority is your own, set SSL_CERT_FILE to its certificates (PEM)"
