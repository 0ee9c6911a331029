"""A repository's GitHub Actions secrets: sealed with its public key, written through ghapi."""

import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from loadtest.errors import ConfigError, ProvisionError
from loadtest.tls import find_tls

API_URL = "https://api.github.com"
REQUEST_SECONDS = 30.0
RETRY_WAITS_SECONDS = (1.0, 5.0)
LONGEST_WAIT_SECONDS = 60


class RepositorySecrets:
    """The Actions secrets of one repository; values go in sealed and never come out again."""

    def __init__(
        self,
        api_url: str,
        repository: str,
        token: SecretStr,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.api_url = api_url
        self.repository = repository
        self._token = token
        self._pause = pause
        self._actions = _build_actions(api_url)

    def fetch_names(self) -> set[str]:
        """Return the names of the secrets that are there."""
        answer = self._ask(self._actions.list_repo_secrets, per_page=100)
        try:
            return {str(secret["name"]) for secret in answer["secrets"]}
        except (KeyError, TypeError):
            raise self._say_foreign() from None

    def put(self, values: Mapping[str, SecretStr]) -> None:
        """Make or replace secrets, one after the other."""
        from nacl.encoding import Base64Encoder
        from nacl.public import PublicKey, SealedBox

        key = self._ask(self._actions.get_repo_public_key)
        try:
            key_id = str(key["key_id"])
            box = SealedBox(PublicKey(str(key["key"]).encode(), Base64Encoder))
        except (KeyError, TypeError, ValueError):
            raise self._say_foreign() from None
        for name, value in values.items():
            sealed = b64encode(box.encrypt(value.get_secret_value().encode())).decode()
            put = self._actions.create_or_update_repo_secret
            self._ask(put, secret_name=name, encrypted_value=sealed, key_id=key_id)

    def delete(self, *names: str) -> None:
        """Remove those of these secrets that are there."""
        for name in names:
            self._ask(self._actions.delete_repo_secret, secret_name=name, missing_is_fine=True)

    def _ask(
        self, operation: Callable[..., Any], *, missing_is_fine: bool = False, **given: object
    ) -> Any:
        from ghapi.core import APIError

        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        owner, _, name = self.repository.partition("/")
        for wait_seconds in (*RETRY_WAITS_SECONDS, None):
            try:
                return operation(owner=owner, repo=name, **given, headers_=headers)
            except APIError as failure:
                status = failure.status_code
                if status == 404 and missing_is_fine and self._is_visible():
                    return None
                limited = _is_limited(failure)
                if wait_seconds is None or not (limited or failure.retryable):
                    raise ProvisionError(self._explain(failure)) from None
                self._pause(_parse_retry_after(failure) or wait_seconds)
            except ValueError:
                raise self._say_foreign() from None
        raise AssertionError("the last wait is None")

    def _say_foreign(self) -> ProvisionError:
        return ProvisionError(
            f"GitHub secrets of {self.repository}: {self.api_url} does not answer as GitHub does: "
            "correct GITHUB_API_URL"
        )

    def _is_visible(self) -> bool:
        """Tell a secret that is gone from a repository that the token cannot see."""
        self.fetch_names()
        return True

    def _explain(self, failure: Any) -> str:
        where = f"GitHub secrets of {self.repository}"
        status = failure.status_code
        if status is None:
            return f"{where}: {self.api_url} does not answer ({failure.error_type})"
        if _is_limited(failure):
            return f"{where}: GitHub's rate limit is used up (HTTP {status}): try again later"
        remedies = {
            401: "GITHUB_TOKEN is wrong or has expired",
            403: "GITHUB_TOKEN may not write them: it needs the permission 'Secrets: read and "
            "write' (classic: scope 'repo'); the token of a workflow run never has it",
            404: "GITHUB_REPOSITORY does not exist, or GITHUB_TOKEN cannot see it or its secrets",
        }
        remedy = remedies.get(status, str(failure.message)[:200])
        return f"{where}: HTTP {status}: {remedy}"


def open_secrets(
    variables: Mapping[str, str],
    pause: Callable[[float], None] = time.sleep,
    *,
    api_url: str | None = None,
    repository: str | None = None,
) -> RepositorySecrets:
    """Return the secrets of the repository that is named, else of GITHUB_REPOSITORY.

    Raises ConfigError with every variable that is missing or wrong.
    """
    api_url = (api_url or variables.get("GITHUB_API_URL") or API_URL).rstrip("/")
    repository = repository or variables.get("GITHUB_REPOSITORY", "")
    token = variables.get("GITHUB_TOKEN", "")
    faults = []
    if not token:
        faults.append("GITHUB_TOKEN is missing (permission 'Secrets: read and write')")
    if not repository:
        faults.append("GITHUB_REPOSITORY is missing")
    elif repository.count("/") != 1 or not all(repository.split("/")):
        faults.append("GITHUB_REPOSITORY is not of the form owner/name")
    parts = urlsplit(api_url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
        faults.append("GITHUB_API_URL must be https")
    if faults:
        raise ConfigError(f"GitHub secrets: {'; '.join(faults)}")
    return RepositorySecrets(api_url, repository, SecretStr(token), pause)


@cache
def _build_actions(api_url: str) -> Any:
    """Return ghapi's `actions`, built from the description that it brings along, in 0.4 s.

    The token goes with each request: ghapi's own would give way to GITHUB_JWT_TOKEN.
    """
    from ghapi.core import GhApi

    make: Any = GhApi
    api = make(gh_host=api_url, authenticate=False, timeout=REQUEST_SECONDS, sync=True)
    api.transport.verify = find_tls(api_url)
    return api.actions


def _headers(failure: Any) -> Mapping[str, str]:
    return failure.response.headers if failure.response is not None else {}


def _is_limited(failure: Any) -> bool:
    """Say whether a refusal is one of GitHub's rate limits, which also come as 403."""
    if failure.status_code == 429:
        return True
    headers = _headers(failure)
    return failure.status_code == 403 and (
        headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers
    )


def _parse_retry_after(failure: Any) -> float | None:
    text = _headers(failure).get("retry-after", "")
    believable = text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= LONGEST_WAIT_SECONDS
    return float(text) if believable else None
