"""The 0600 env file of an environment: the user, and the next password during a rotation."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.common.files import ensure_private_dir, write_text
from loadtest.common.redaction import SecretStr
from loadtest.config.env_file import name_env_file, parse_env_file
from loadtest.config.settings import Settings

EMAIL = "LOADTEST_EMAIL"
PASSWORD = "LOADTEST_PASSWORD"  # noqa: S105 (a name)
WORKSPACE_ID = "LOADTEST_WORKSPACE_ID"
TOTP_SECRET = "LOADTEST_TOTP_SECRET"  # noqa: S105 (a name)
# A password that may already be set on the server, until a run has seen which of the two works.
NEXT = "LOADTEST_PASSWORD_NEXT"
# The value of the variable when the password was changed: the variable no longer counts then.
BEFORE = "LOADTEST_PASSWORD_BEFORE"

REFERENCE_EMAIL = "loadtest@novamart.example"


@dataclass(frozen=True)
class KnownUser:
    """What is known about the user; `passwords` are worth trying, the most likely first.

    `typed` is the password of a variable that still counts. `totp_secret` belongs to the user's
    authenticator app; `totp_typed` is whether a variable has it.
    """

    email: str
    passwords: tuple[SecretStr, ...]
    workspace_id: str | None
    typed: SecretStr | None
    pending: bool
    totp_secret: SecretStr | None
    totp_typed: bool


class CredentialsFile:
    """The env file, which adds to the variables; one user at a time, others are set aside."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._variables = {} if settings.is_reference() else settings.variables
        self.path = settings.credentials_file

    def read(self) -> KnownUser:
        """Return the current content of file and variables; settings may have been read earlier."""
        settings = self._settings
        kept = parse_env_file(self.path)
        email = self._variables.get(EMAIL) or settings.credentials.email or kept.get(EMAIL)
        email = email or REFERENCE_EMAIL
        if kept.get(EMAIL) not in {None, email}:
            kept = {}
        typed = self._variables.get(PASSWORD)
        if typed == kept.get(BEFORE):
            typed = None
        known = settings.credentials.password
        candidates = [
            typed,
            kept.get(PASSWORD),
            kept.get(NEXT),
            self._variables.get(NEXT),
            known.get_secret_value() if known else None,
        ]
        passwords = dict.fromkeys(text for text in candidates if text)
        workspace_id = self._variables.get(WORKSPACE_ID) or kept.get(WORKSPACE_ID)
        totp_secret = self._variables.get(TOTP_SECRET) or kept.get(TOTP_SECRET)
        return KnownUser(
            email=email,
            passwords=tuple(SecretStr(text) for text in passwords),
            workspace_id=workspace_id or settings.credentials.workspace_id,
            typed=SecretStr(typed) if typed else None,
            pending=bool(kept.get(NEXT) or self._variables.get(NEXT)),
            totp_secret=SecretStr(totp_secret) if totp_secret else None,
            totp_typed=TOTP_SECRET in self._variables,
        )

    def keep(self, values: Mapping[str, SecretStr | str | None]) -> None:
        """Merge values into the file in one step; None removes a name."""
        merged: dict[str, str] = parse_env_file(self.path)
        for name, value in values.items():
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if text is None:
                merged.pop(name, None)
            else:
                merged[name] = text
        ensure_private_dir(self.path.parent)
        text = "".join(f"{name}={value}\n" for name, value in merged.items())
        write_text(self.path, text, private=True)

    def take_up(self, email: str) -> None:
        """Switch the file to this user; the file of another user is set aside for later."""
        other = parse_env_file(self.path).get(EMAIL)
        if other == email:
            return
        if other is not None:
            self.path.rename(self._aside(other))
        if not self.path.exists() and self._aside(email).exists():
            self._aside(email).rename(self.path)
        self.keep({EMAIL: email})

    def list_aside(self) -> list[Path]:
        """Return the files of other users that were set aside."""
        return sorted(self.path.parent.glob("credentials-????????.env"))

    def is_typed_in_env_file(self) -> bool:
        """Return whether the password variable that counts is in an env file of the project."""
        typed = self.read().typed
        return typed is not None and self._typed_in_env_file() == typed.get_secret_value()

    def promote(self, password: SecretStr, others: Sequence[SecretStr]) -> None:
        """Keep only the password that signs in, in place of `others`; write the file last."""
        if self._typed_in_env_file() in {other.get_secret_value() for other in others}:
            _replace_line(self._env_file, PASSWORD, password.get_secret_value())
        typed = self.read().typed
        kept: dict[str, SecretStr | str | None] = {NEXT: None}
        if typed != password:
            kept |= {PASSWORD: password} | ({BEFORE: typed} if typed else {})
        self.keep(kept)

    def _typed_in_env_file(self) -> str | None:
        return parse_env_file(self._env_file).get(PASSWORD)

    def _aside(self, email: str) -> Path:
        mark = hashlib.sha256(email.encode()).hexdigest()[:8]
        return self.path.with_name(f"credentials-{mark}.env")

    @property
    def _env_file(self) -> Path:
        root = self._settings.root
        own = name_env_file(root, self._settings.environment_name)
        return own if PASSWORD in parse_env_file(own) else root / ".env"


def _replace_line(path: Path, name: str, value: str) -> None:
    """Replace the value of `name` in an env file; keep the rest."""
    pattern = rf"(?m)^(\s*(?:export\s+)?{name}\s*=\s*).*$"
    text = path.read_text(encoding="utf-8")
    changed = re.sub(pattern, lambda match: match[1] + value, text)
    write_text(path, changed, private=True)
