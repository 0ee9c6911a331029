"""Call GitHub's API for one repository through ghapi; wait out rate limits and short outages."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from loadtest.common.redaction import SecretStr, redact, redact_json
from loadtest.common.tls import is_secure
from loadtest.errors import ConfigError

API_URL = "https://api.github.com"
SERVER_URL = "https://github.com"
# GitHub supports it at least until March 2028. The next one, 2026-03-10, is not known to every
# supported GitHub Enterprise Server.
API_VERSION = "2022-11-28"
REQUEST_SECONDS = 30.0
# Waits after an outage, and after a rate limit without an end.
OUTAGE_WAITS_SECONDS = (1.0, 5.0, 20.0)
LIMIT_WAITS_SECONDS = (60.0, 60.0, 60.0)
# Limit of all waits of one request together: a primary rate limit may last an hour.
MOST_WAIT_SECONDS = 300.0
MOST_QUOTED = 200
# A page of 100 comments of GitHub's maximum length is 7 MB.
MOST_BYTES = 32 * 2**20

_T = TypeVar("_T")


class GithubRefusal(Exception):  # noqa: N818 (each caller turns it into an error of its stage)
    """GitHub answered with an error status, or did not answer.

    `message` is GitHub's own; `is_limit` marks a rate limit, which can also be a 403, and `ends`
    is the end of the limit, if it is known.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        is_outage: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = " ".join(redact(message).split())[:MOST_QUOTED]
        self.status = status
        self.is_outage = is_outage
        self.location = (headers or {}).get("location")
        self._headers = headers or {}
        self.is_limit = status == 429 or (
            status == 403
            and (
                self._headers.get("x-ratelimit-remaining") == "0"
                or "retry-after" in self._headers
                or "rate limit" in message
            )
        )

    @property
    def ends(self) -> datetime | None:
        """Return when the primary rate limit is reset, by GitHub's clock."""
        text = self._headers.get("x-ratelimit-reset", "")
        if self._headers.get("x-ratelimit-remaining") != "0" or not re.fullmatch(
            r"\d{1,11}", text, re.ASCII
        ):
            return None
        return datetime.fromtimestamp(int(text), UTC)

    def plan_wait(self, tries: int) -> float | None:
        """Return how many seconds to wait before the next try; None if waiting is useless."""
        if tries >= len(OUTAGE_WAITS_SECONDS):
            return None
        if self.is_limit:
            text = self._headers.get("retry-after", "")
            if re.fullmatch(r"\d{1,6}", text, re.ASCII):
                return float(text) or 1.0
            if self.ends is not None:
                return max(1.0, (self.ends - self._read_date()).total_seconds() + 1)
            return LIMIT_WAITS_SECONDS[tries]
        return OUTAGE_WAITS_SECONDS[tries] if self.is_outage else None

    def explain(self, where: str, remedies: Mapping[int, str]) -> str:
        """Return one line with the failure and what to do; `remedies` are per status."""
        if self.status is None:
            return f"{where}: {self.message}"
        if self.is_limit:
            later = f"after {self.ends:%H:%M} UTC" if self.ends else "later"
            return (
                f"{where}: GitHub's rate limit is used up (HTTP {self.status}): try again {later}"
            )
        known = {401: "GITHUB_TOKEN is wrong or has expired", **remedies}
        outage = f"{self.message}: GitHub has an outage, try again later"
        remedy = known.get(self.status, outage if self.status >= 500 else self.message)
        return f"{where}: HTTP {self.status}: {remedy}"

    def _read_date(self) -> datetime:
        with suppress(ValueError):
            return parsedate_to_datetime(self._headers.get("date", ""))
        return datetime.now(UTC)


class Github:
    """A client for one repository, with its token; `pause` waits, in seconds."""

    def __init__(
        self,
        api_url: str,
        repository: str,
        token: SecretStr,
        pause: Callable[[float], None] = time.sleep,
        server_url: str = SERVER_URL,
    ) -> None:
        self.api_url = api_url
        self.repository = repository
        self.repository_url = f"{server_url}/{repository}"
        self.pause = pause
        self._token = token

    def ask(self, operation: str, **given: object) -> bytes:
        """Call an operation of ghapi, such as `issues.get`; return the body of the answer.

        Raises GithubRefusal when waiting is useless.
        """
        return self.retry(lambda: self._send(operation, given))

    def fetch(
        self,
        shape: TypeAdapter[_T],
        operation: str,
        *,
        find_done: Callable[[], _T | None] = lambda: None,
        **given: object,
    ) -> _T:
        """Call an operation and return its answer, which must have this shape.

        Before another try, `find_done` checks whether the failed one took effect anyway.
        """

        def send() -> _T:
            body = self._send(operation, given)
            try:
                return shape.validate_json(body)
            except ValidationError:
                message = f"{self.api_url} does not answer as GitHub does: correct GITHUB_API_URL"
                raise GithubRefusal(message) from None

        return self.retry(send, find_done)

    def retry(self, act: Callable[[], _T], find_done: Callable[[], _T | None] = lambda: None) -> _T:
        """Do something that GitHub may refuse; repeat it after a rate limit or an outage."""
        waited = 0.0
        tries = 0
        while True:
            try:
                return act()
            except GithubRefusal as refusal:
                wait = refusal.plan_wait(tries)
                if wait is None or waited + wait > MOST_WAIT_SECONDS:
                    raise
                is_outage = refusal.is_outage
            self.pause(wait)
            waited += wait
            tries += 1
            done = find_done() if is_outage else None
            if done is not None:
                return done

    def _send(self, operation: str, given: Mapping[str, object]) -> bytes:
        from ghapi.core import APIError

        from loadtest.common.http import explain

        group, _, name = operation.partition(".")
        function = getattr(getattr(_build_api(self.api_url), group), name)
        owner, _, repo = self.repository.partition("/")
        place = {"owner": owner, "repo": repo} if "{owner}" in function.path else {}
        headers = {
            "Authorization": f"Bearer {self._token.get_secret_value()}",
            "X-GitHub-Api-Version": API_VERSION,
        }
        given = redact_json(dict(given))
        try:
            answer = function(**place, **given, headers_=headers, raw_=True)
        except APIError as failure:
            if failure.status_code is None:
                message = f"{self.api_url} does not answer ({explain(failure.raw)})"
                raise GithubRefusal(message, is_outage=bool(failure.retryable)) from None
            status = int(failure.status_code)
            headers = failure.response.headers
            message = str(failure.message)
            raise GithubRefusal(message, status, headers, is_outage=status >= 500) from None
        return bytes(answer.content)


def open_github(
    variables: Mapping[str, str],
    what: str,
    permission: str,
    pause: Callable[[float], None] = time.sleep,
    *,
    api_url: str | None = None,
    repository: str | None = None,
    faults: Sequence[str] = (),
) -> Github:
    """Return a client for the given repository, else for GITHUB_REPOSITORY, with GITHUB_TOKEN.

    Raises ConfigError that names `what`, every variable that is missing or wrong, and `faults`.
    """
    api_url = (api_url or variables.get("GITHUB_API_URL") or API_URL).rstrip("/")
    repository = repository or variables.get("GITHUB_REPOSITORY", "")
    token = variables.get("GITHUB_TOKEN", "")
    found = []
    if not token:
        found.append(f"GITHUB_TOKEN is missing (permission '{permission}')")
    if not repository:
        found.append("GITHUB_REPOSITORY is missing")
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        found.append("GITHUB_REPOSITORY is not of the form owner/name")
    if not is_secure(api_url):
        found.append("GITHUB_API_URL must be https")
    found += faults
    if found:
        raise ConfigError(f"{what}: {'; '.join(found)}")
    server_url = (variables.get("GITHUB_SERVER_URL") or SERVER_URL).rstrip("/")
    return Github(api_url, repository, SecretStr(token), pause, server_url)


@cache
def _build_api(api_url: str) -> Any:
    """Return ghapi, built in 0.4 s from the API description that it contains.

    Each request carries the token: ghapi itself would prefer GITHUB_JWT_TOKEN. ghapi follows no
    redirect, which would turn a POST into a GET, and retries nothing by itself.
    """
    from ghapi.core import GhApi

    from loadtest.common.http import open_client

    make: Any = GhApi
    api = make(gh_host=api_url, authenticate=False, sync=True)
    api.transport.client = open_client(REQUEST_SECONDS, most_bytes=MOST_BYTES)
    api.transport.retries = 0
    return api
