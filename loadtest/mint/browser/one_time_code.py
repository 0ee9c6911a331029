"""One-time codes for the sign-in page."""

import time
from collections.abc import Callable

from loadtest.common.redaction import SecretStr
from loadtest.common.totp import Totp
from loadtest.errors import MintError


class OneTimeCodes(Totp):
    """Codes of LOADTEST_TOTP_SECRET; raises MintError if that is not a valid secret."""

    def __init__(self, secret: SecretStr, clock: Callable[[], float] = time.time) -> None:
        try:
            super().__init__(secret.get_secret_value(), clock)
        except ValueError:
            raise MintError(
                "LOADTEST_TOTP_SECRET is neither base32 nor an otpauth://totp URI",
                "sign-in",
                reason="totp_secret",
            ) from None
