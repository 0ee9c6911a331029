"""Time-based one-time codes (RFC 6238), each used only once."""

import base64
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from loadtest.common.redaction import learn, learn_code

# Key → the last time step whose code was used, for all sign-ins of this process: a server accepts
# a code only once (RFC 6238, section 5.2).
_used: dict[bytes, int] = {}


@dataclass(frozen=True)
class _Parameters:
    key: bytes = field(repr=False)
    digits: int = 6
    period_seconds: int = 30
    algorithm: str = "sha1"


class Totp:
    """Codes of one secret, given in base32 as on a setup page, or as an otpauth:// URI.

    Raises ValueError for anything else, without quoting it.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._parameters = _parse(secret.strip())
        self._clock = clock

    def fresh_in_seconds(self) -> float:
        """Return how long to wait for a code that was not used yet."""
        last = _used.get(self._parameters.key, -1)
        return max(0.0, (last + 1) * self._parameters.period_seconds - self._clock())

    def take(self) -> str:
        """Return the code of this time step; it counts as used from now on."""
        step = self.find_step()
        _used[self._parameters.key] = step
        code = self.build_code(step)
        learn_code(code)
        return code

    def find_step(self) -> int:
        """Return the current time step."""
        return int(self._clock()) // self._parameters.period_seconds

    def build_code(self, step: int) -> str:
        """Return the code of a time step (RFC 4226, section 5.3: dynamic truncation)."""
        parameters = self._parameters
        digest = hmac.digest(parameters.key, step.to_bytes(8, "big"), parameters.algorithm)
        offset = digest[-1] & 0xF
        number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
        return str(number % 10**parameters.digits).zfill(parameters.digits)


def shorten(uri: str) -> str:
    """Return only the secret of an otpauth:// URI, unless it has parameters of its own."""
    parameters = _parse(uri.strip())
    if parameters != _Parameters(parameters.key):
        return uri.strip()
    return base64.b32encode(parameters.key).decode().rstrip("=")


def _parse(text: str) -> _Parameters:
    """Read a secret as users paste it: with spaces or dashes, in any case, often unpadded."""
    given: dict[str, str] = {}
    if text.lower().startswith("otpauth:"):
        parts = urlsplit(text)
        if parts.netloc.lower() != "totp":
            raise ValueError("not a time-based secret")
        given = dict(parse_qsl(parts.query))
        text = given.get("secret", "")
    compact = "".join(text.split()).replace("-", "").rstrip("=").upper()
    learn(compact)
    key = base64.b32decode(compact + "=" * (-len(compact) % 8))
    parameters = _Parameters(
        key,
        digits=int(given.get("digits", "6")),
        period_seconds=int(given.get("period", "30")),
        algorithm=given.get("algorithm", "sha1").lower(),
    )
    if not key or not 6 <= parameters.digits <= 10 or not 0 < parameters.period_seconds <= 86_400:
        raise ValueError("not valid parameters of a code")
    if parameters.algorithm not in {"sha1", "sha256", "sha512"}:
        raise ValueError("not an algorithm of RFC 6238")
    return parameters
