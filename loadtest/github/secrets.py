"""Write a repository's GitHub Actions secrets, encrypted with its public key, through ghapi."""

import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import TypeAdapter

from loadtest.common.redaction import SecretStr
from loadtest.errors import ProvisionError
from loadtest.github.client import Github, GithubRefusal, open_github

PERMISSION = "Secrets: read and write"
REMEDIES = {
    301: "the repository was renamed: correct GITHUB_REPOSITORY",
    403: f"GITHUB_TOKEN may not write them: it needs the permission '{PERMISSION}' (classic: scope "
    "'repo'); the token of a workflow run never has it",
    404: "GITHUB_REPOSITORY does not exist, or GITHUB_TOKEN cannot see it or its secrets",
}


@dataclass(frozen=True)
class _Secret:
    name: str


@dataclass(frozen=True)
class _Secrets:
    secrets: tuple[_Secret, ...]


@dataclass(frozen=True)
class _PublicKey:
    key_id: str
    key: str


_SECRETS = TypeAdapter(_Secrets)
_PUBLIC_KEY = TypeAdapter(_PublicKey)


class RepositorySecrets:
    """The Actions secrets of one repository; they can be written but never read back."""

    def __init__(self, github: Github) -> None:
        self.api_url = github.api_url
        self.repository = github.repository
        self._github = github

    def fetch_names(self) -> set[str]:
        """Return the names of the secrets that exist."""
        with self._explaining():
            found = self._github.fetch(_SECRETS, "actions.list_repo_secrets", per_page=100)
        return {secret.name for secret in found.secrets}

    def put(self, values: Mapping[str, SecretStr | str]) -> None:
        """Create or replace secrets, one after the other."""
        from nacl.encoding import Base64Encoder
        from nacl.public import PublicKey, SealedBox

        with self._explaining():
            key = self._github.fetch(_PUBLIC_KEY, "actions.get_repo_public_key")
            try:
                box = SealedBox(PublicKey(key.key.encode(), Base64Encoder))
            except ValueError:
                raise GithubRefusal(f"{self.api_url} returned no public key") from None
            for name, value in values.items():
                text = value if isinstance(value, str) else value.get_secret_value()
                sealed = b64encode(box.encrypt(text.encode())).decode()
                put = "actions.create_or_update_repo_secret"
                self._github.ask(put, secret_name=name, encrypted_value=sealed, key_id=key.key_id)

    def delete(self, *names: str) -> None:
        """Remove the secrets that exist."""
        for name in names:
            with self._explaining():
                try:
                    self._github.ask("actions.delete_repo_secret", secret_name=name)
                except GithubRefusal as refusal:
                    if refusal.status != 404:
                        raise
                    # Raises if the token cannot see the repository at all.
                    self.fetch_names()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except GithubRefusal as refusal:
            where = f"GitHub secrets of {self.repository}"
            raise ProvisionError(refusal.explain(where, REMEDIES)) from None


def open_secrets(
    variables: Mapping[str, str],
    pause: Callable[[float], None] = time.sleep,
    *,
    api_url: str | None = None,
    repository: str | None = None,
) -> RepositorySecrets:
    """Return the secrets of the given repository, else of GITHUB_REPOSITORY.

    Raises ConfigError that names every variable that is missing or wrong.
    """
    github = open_github(
        *(variables, "GitHub secrets", PERMISSION, pause), api_url=api_url, repository=repository
    )
    return RepositorySecrets(github)
