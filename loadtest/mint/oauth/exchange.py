"""Observe the requests and responses of a mint: step, refusals, metadata, clock."""

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from loadtest.common.network import is_loopback
from loadtest.common.parsing import parse_json, tidy_text
from loadtest.common.redaction import learn, learn_members, read_authorization, redact
from loadtest.common.tls import is_secure
from loadtest.config.models import parse_origin
from loadtest.errors import MintError

if TYPE_CHECKING:
    import httpx2

# The maximum length of a quoted error_description.
MAX_QUOTED = 200


# The reason of a MintError: only a client can sign in there, as itself.
CLIENT_CREDENTIALS_ONLY = "client_credentials_only"


@dataclass
class Exchange:
    """The state of one flow, updated by `note_request` and `note_response`.

    `metadata` is the authorization server's document (RFC 8414), `registration` its response to
    our registration (RFC 7591), `resource` the endpoint's name for itself (RFC 9728);
    `skew_seconds` is the server's clock minus ours at its last response. With `needs_person` a
    user signs in, else the client signs in as itself.
    """

    mcp_url: str
    step: str = "discovery"
    needs_person: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)
    registration: dict[str, Any] = field(default_factory=dict, repr=False)
    resource: object = None
    skew_seconds: float = 0.0
    _refusal: tuple[int, dict[str, Any]] | None = None
    _sent_at: float = 0.0

    @property
    def authorization_endpoint(self) -> str | None:
        """Return the authorization endpoint of the server's metadata, if any."""
        return self.metadata.get("authorization_endpoint")

    @property
    def refusal_status(self) -> int | None:
        """Return the HTTP status of the last refusal."""
        return self._refusal[0] if self._refusal else None

    @property
    def refusal_code(self) -> str | None:
        """Return the `error` of the last refusal (RFC 6749, section 5.2)."""
        code = self._refusal[1].get("error") if self._refusal else None
        return code if isinstance(code, str) else None

    @property
    def refusal_scope(self) -> str | None:
        """Return the `scope` of the last refusal's body, if the challenge has none."""
        scope = self._refusal[1].get("scope") if self._refusal else None
        return scope if isinstance(scope, str) else None

    async def note_request(self, request: "httpx2.Request") -> None:
        """Set the step by the endpoint of the request; refuse an insecure URL."""
        url = str(request.url)
        form = _parse_form(request)
        if "/.well-known/" in url:
            self.step = "discovery"
        elif "grant_type" in form:
            self.step = "exchange"
        elif url == self.metadata.get("registration_endpoint") or url.endswith("/register"):
            self.step = "registration"
        self.check_secure(url)
        learn_members(form)
        learn(form.get("code"), *read_authorization(request.headers.get("authorization", "")))
        if request.method == "DELETE":  # closes the session, and must not clear an earlier refusal
            return
        self._refusal = None
        self._sent_at = time.time()

    async def note_response(self, response: "httpx2.Response") -> None:
        """Keep the server's metadata, its clock, and the OAuth error of a refusal."""
        if response.request.method == "DELETE":
            return
        if "date" in response.headers:
            self.skew_seconds = measure_skew(response.headers["date"], self._sent_at)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return
        body = parse_object(await response.aread())
        learn_members(body)
        if response.status_code >= 400:
            self._refusal = (response.status_code, body)
        elif "/.well-known/" in str(response.request.url) and "token_endpoint" in body:
            self.metadata = body
            self._check_grant_types()
        elif "/.well-known/oauth-protected-resource" in str(response.request.url):
            self.resource = body.get("resource")
        elif self.step == "registration" and "client_id" in body:
            self.registration = body

    def describe_refusal(self) -> str | None:
        """Return the server's message of its last refusal, None if it refused nothing."""
        return f"the server answers {describe_refusal(*self._refusal)}" if self._refusal else None

    def _check_grant_types(self) -> None:
        """Refuse to register or sign in if only clients may sign in (RFC 8414, section 2)."""
        offered = self.metadata.get("grant_types_supported")
        if not self.needs_person or not isinstance(offered, list):
            return
        if "client_credentials" in offered and "authorization_code" not in offered:
            raise MintError(
                "the authorization server offers only client credentials: set LOADTEST_CLIENT_ID, "
                "LOADTEST_ISSUER, and LOADTEST_CLIENT_SECRET or LOADTEST_CLIENT_KEY_FILE",
                "discovery",
                reason=CLIENT_CREDENTIALS_ONLY,
            )

    def check_secure(self, url: str) -> None:
        """Raise MintError unless something may be sent to this URL."""
        check_secure(url, self.step, self.mcp_url)

    def describe_name(self, mcp_url: str) -> str | None:
        """Explain that the server's metadata name another origin than the requested one."""
        try:
            named, asked = parse_origin(str(self.resource)), parse_origin(mcp_url)
        except ValueError:
            return None
        if named == asked:
            return None
        return (
            f"the server's metadata name {named}, but we used {asked}: set LOADTEST_BASE_URL (or "
            f"--mcp-url) to {named}, if that is its name"
        )

    def check_pkce(self) -> None:
        """Refuse an authorization server without S256 (MCP authorization, PKCE; RFC 7636)."""
        methods = self.metadata.get("code_challenge_methods_supported")
        if self.metadata and (not isinstance(methods, list) or "S256" not in methods):
            raise MintError(
                "the authorization server does not offer PKCE with S256, which MCP requires",
                "discovery",
            )

    def pick_secret_method(self) -> Literal["client_secret_basic", "client_secret_post"]:
        """Return how a secret is sent; basic is the default (RFC 8414, section 2)."""
        offered = self.metadata.get("token_endpoint_auth_methods_supported")
        if isinstance(offered, list) and "client_secret_basic" not in offered:
            return "client_secret_post"
        return "client_secret_basic"


def describe_refusal(status: int, body: Mapping[str, Any]) -> str:
    """Return the status and the OAuth error of a refusal, and nothing else of the response."""
    members = (body.get(name) for name in ("error", "error_description"))
    texts = (redact(text) for text in members if text and isinstance(text, str))
    return ": ".join([f"HTTP {status}", *(tidy_text(text, MAX_QUOTED) for text in texts)])


def measure_skew(date: str | None, sent_at: float) -> float:
    """Return the server's clock minus ours in seconds, by a Date header; 0 without a header.

    `sent_at` is when the request was sent. A Date is truncated to the second and lies between
    request and response: a Date within that time is not a difference.
    """
    try:
        theirs = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    now = time.time()
    return 0.0 if sent_at - 1 <= theirs <= now else theirs - now


def check_secure(url: str, step: str, mcp_url: str) -> None:
    """Raise MintError unless something may be sent to a URL that the target named.

    It must be https, or http on loopback (OAuth 2.1, section 1.5). It must not be on this machine
    unless the target is: a server elsewhere must not reach what listens here.
    """
    try:
        parts, target = urlsplit(url), urlsplit(mcp_url)
    except ValueError:
        raise MintError("the server's metadata contain an invalid address", step) from None
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if not is_secure(url):
        raise MintError(f"{where} is not https: nothing is sent there", step)
    if is_loopback(parts.hostname or "") and not is_loopback(target.hostname or ""):
        raise MintError(
            f"{target.hostname} names {where}, which is this machine: nothing is sent there", step
        )


def _parse_form(request: "httpx2.Request") -> dict[str, str]:
    if "form" not in request.headers.get("content-type", ""):
        return {}
    found = parse_qs(request.content.decode("utf-8", "replace"))
    return {name: values[0] for name, values in found.items()}


def parse_object(content: bytes) -> dict[str, Any]:
    """Return a JSON object, empty for anything else."""
    try:
        body = parse_json(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
