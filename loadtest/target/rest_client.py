"""Call the target's account, workspace and client endpoints as its own pages do."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote, urljoin, urlsplit

from loadtest.common.command_name import spell
from loadtest.common.parsing import parse_json
from loadtest.common.redaction import SecretStr, learn_members, redact
from loadtest.common.retry_after import wait_out
from loadtest.common.totp import Totp, shorten
from loadtest.config.models import parse_origin
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError, ProvisionError

if TYPE_CHECKING:
    import httpx2

OAUTH_CLIENTS = "/api/v1/admin/oauth-clients"
REQUEST_SECONDS = 30.0
ATTACH_SECONDS = 120.0
# Longer than all waits for an import and for the quota together.
SHORT_TTL_SECONDS = 600
# Another sign-in may have just used the first code.
CODE_TRIES = 2
ORIGIN_REFUSALS = frozenset({"INVALID_ORIGIN", "MISSING_OR_NULL_ORIGIN"})

WorkspaceState = Literal["already there", "made"]


class NoAnswerError(ProvisionError):
    """A request was sent, or may have been sent, and no answer came."""


class WrongPasswordError(ProvisionError):
    """The target refuses this user and password."""


class OneTimeCodeError(ProvisionError):
    """The sign-in needs a one-time code and there is none, or it refuses the code."""


class EmailNotVerifiedError(ProvisionError):
    """The user cannot sign in until a person opens the link in a mail."""


class PasswordChangeRequiredError(ProvisionError):
    """The server allows this user only to change the password."""


class SecondFactorRequiredError(ProvisionError):
    """The server demands an authenticator app that the user does not have."""


@dataclass(frozen=True)
class SecondFactor:
    """What is needed to answer a request for a one-time code.

    `secret` is that of the user's authenticator app; `origins` are the possible origins of the
    server's sign-in pages, from which alone it accepts a code.
    """

    secret: SecretStr | None = None
    origins: tuple[str, ...] = ()


def find_second_factor(settings: Settings) -> SecondFactor:
    """Return the second factor of an environment's user."""
    origins = tuple(sorted(settings.find_sign_in_origins()))
    return SecondFactor(settings.credentials.totp_secret, origins)


class Accounts:
    """Client of the target's account endpoints, with a bearer and without a cookie jar.

    The target refuses a request that has cookies but no `Origin` (wire contract, "Accounts,
    workspace, data"). `hide` gets every secret that the target returns before it is used; `pause`
    waits, in seconds. `asked_for_code`: whether the sign-in needed a one-time code.
    """

    asked_for_code = False

    def __init__(
        self,
        base_url: str,
        say: Callable[[str], None],
        *,
        second_factor: SecondFactor = SecondFactor(),
        hide: Callable[[SecretStr], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from loadtest.common.http import open_client  # not needed by a task that skips itself

        self._http = open_client(REQUEST_SECONDS, base_url=base_url)
        self._token = SecretStr("")
        self._second_factor = second_factor
        self._say = say
        self._hide = hide
        self._pause = pause
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.sign_out()
        finally:
            self._http.close()

    def sign_in(self, email: str, password: SecretStr) -> bool:
        """Sign in; return False if the target refuses this user and password.

        If the user has an authenticator app, the server asks for a one-time code.
        """
        self.sign_out()
        body = {"email": email, "password": password.get_secret_value()}
        answer = self._ask("POST", "/api/auth/sign-in/email", body)
        if answer.status_code == 200 and _body(answer).get("twoFactorRedirect"):
            answer = self._answer_challenge(email, answer)
            self.asked_for_code = True
        if answer.status_code == 200:
            self._token = self._take(answer, "token")
            return True
        if _code(answer) == "EMAIL_NOT_VERIFIED":
            raise _not_verified(email)
        if _code(answer) != "INVALID_EMAIL_OR_PASSWORD":
            raise ProvisionError(f"sign-in of {email} failed: {self._quote(answer)}")
        return False

    def sign_up(self, email: str, password: SecretStr) -> bool:
        """Make the user and sign in; return False if a user has this e-mail address.

        Raises EmailNotVerifiedError if the user was made and must open a mail first.
        """
        body = {"email": email, "password": password.get_secret_value(), "name": "Load test"}
        answer = self._ask("POST", "/api/auth/sign-up/email", body)
        if _code(answer) == "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL":
            return False
        if answer.status_code != 200:
            reason = self._quote(answer)
            if "captcha" in reason.lower():
                reason += "; make the user by hand, on the server's own page, and set "
                reason += "LOADTEST_PASSWORD to its password"
            raise ProvisionError(f"sign-up of {email} failed: {reason}")
        if "user" in _body(answer) and _body(answer).get("token") is None:
            raise _not_verified(email)
        self._token = self._take(answer, "token")
        return True

    def sign_out(self) -> None:
        """End the session if the target allows it, so that no session stays open."""
        import httpx2

        if self._token.get_secret_value():
            with suppress(httpx2.HTTPError):
                self._send("POST", "/api/auth/sign-out", {}, REQUEST_SECONDS)
            self._token = SecretStr("")

    def start_enrollment(self, password: SecretStr) -> SecretStr:
        """Have the target make a secret for an authenticator app of the signed-in user.

        The target asks for codes only after `confirm_enrollment` has sent the first one.
        """
        body = {"password": password.get_secret_value()}
        answer = self._ask("POST", "/api/auth/two-factor/enable", body)
        if answer.status_code != 200:
            raise ProvisionError(f"no authenticator can be enrolled: {self._quote(answer)}")
        uri = self._take(answer, "totpURI")
        backups = _body(answer).get("backupCodes")
        for backup in backups if isinstance(backups, list) else ():
            self._hide(SecretStr(str(backup)))
        try:
            secret = SecretStr(shorten(uri.get_secret_value()))
        except ValueError:
            raise ProvisionError(
                "no authenticator can be enrolled: the target's totpURI is not valid"
            ) from None
        self._hide(secret)
        return secret

    def confirm_enrollment(self, secret: SecretStr) -> None:
        """Send the target a first code; from now on every sign-in asks for one."""
        answer = self._try_codes(secret, lambda code: self._post_code(code, {}))
        if answer.status_code != 200:
            raise ProvisionError(f"the first one-time code is refused: {self._quote(answer)}")
        self._token = self._take(answer, "token")
        self._second_factor = replace(self._second_factor, secret=secret)

    def change_password(self, current: SecretStr, new: SecretStr) -> None:
        """Change the signed-in user's password; the target may end other sessions."""
        body = {
            "currentPassword": current.get_secret_value(),
            "newPassword": new.get_secret_value(),
        }
        answer = self._ask("POST", "/api/v1/admin/me/password", body)
        if answer.status_code != 200:
            raise ProvisionError(f"the password cannot be changed: {self._quote(answer)}")

    def ensure_workspace(self, email: str, workspace_id: str | None) -> tuple[str, WorkspaceState]:
        """Make the given workspace, or ours, the active one; create ours if it is missing."""
        slug = build_slug(email)
        # Make only a listed workspace active: another user's id would clear the active one.
        for found in self.list_workspaces(email):
            if found["id"] == workspace_id or (workspace_id is None and found["slug"] == slug):
                body = {"organizationId": found["id"]}
                answer = self._ask("POST", "/api/auth/organization/set-active", body)
                if answer.status_code != 200:
                    raise ProvisionError(
                        f"workspace {found['id']} cannot be made active: {self._quote(answer)}"
                    )
                return found["id"], "already there"
        if workspace_id is not None:
            raise ProvisionError(
                f"{email} is not a member of workspace {workspace_id}: correct "
                "LOADTEST_WORKSPACE_ID"
            )
        body = {"name": "MCP load test", "slug": slug}
        answer = self._ask("POST", "/api/auth/organization/create", body)
        if answer.status_code != 200:
            raise ProvisionError(f"workspace {slug} cannot be created: {self._quote(answer)}")
        return self._member(answer, "id"), "made"

    def list_workspaces(self, email: str) -> list[dict[str, str]]:
        """Return `id` and `slug` of every workspace that the user belongs to."""
        answer = self._ask("GET", "/api/auth/organization/list")
        listed = _json(answer)
        if answer.status_code != 200 or not isinstance(listed, list):
            reason = self._quote(answer)
            raise ProvisionError(f"the workspaces of {email} cannot be listed: {reason}")
        return [
            {"id": str(found["id"]), "slug": str(found.get("slug", ""))}
            for found in listed
            if isinstance(found, dict) and "id" in found
        ]

    def attach_data(self) -> None:
        """Attach the NovaMart data; a second call for a workspace would duplicate each entity."""
        answer = self._ask("POST", "/api/v1/onboarding/use-demo", {}, ATTACH_SECONDS)
        if answer.status_code != 201:
            raise ProvisionError(f"the demo data cannot be attached: {self._quote(answer)}")
        if _body(answer).get("partialFailures"):
            raise ProvisionError("only a part of the demo data was attached: see the target's log")

    def mint_short_bearer(self) -> SecretStr | None:
        """Mint a short-lived bearer to read the data; None if the target does not offer this."""
        minted = self.self_mint(SHORT_TTL_SECONDS)
        return minted[0] if minted else None

    def self_mint(self, ttl_seconds: int) -> tuple[SecretStr, dict[str, Any]] | None:
        """Have the target mint a bearer for the active workspace, without OAuth.

        Returns the bearer and the whole reply (`issuer`, `audience`, `scope`, …); None if the
        target does not offer this to the workspace.
        """
        path = "/api/v1/me/load-test/mcp-token"
        answer = self._ask("POST", path, {"ttlSeconds": ttl_seconds})
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise ProvisionError(f"the target's self-mint failed: {self._quote(answer)}")
        return self._take(answer, "bearer"), _body(answer)

    def register_client_with_session(
        self, endpoint: str, metadata: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Register an OAuth client (RFC 7591) in the active workspace; return the whole reply.

        `endpoint` is the `registration_endpoint` of the authorization server's metadata; the
        session is sent only to the target's origin. Only the quota of such a client can be raised,
        and only before its first call.
        """
        parts = urlsplit(endpoint)
        ours = urlsplit(str(self._http.base_url))
        if (parts.scheme, parts.netloc) != (ours.scheme, ours.netloc):
            raise ProvisionError(
                f"the registration endpoint is at {parts.netloc}, not at the target: the session "
                "is not sent there"
            )
        answer = self._ask("POST", endpoint, dict(metadata))
        body = _body(answer)
        if answer.status_code not in {200, 201} or not isinstance(body.get("client_id"), str):
            raise ProvisionError(f"the client cannot be registered: {self._quote(answer)}")
        learn_members(body)
        if isinstance(body.get("client_secret"), str):
            self._hide(SecretStr(body["client_secret"]))
        return body

    def raise_quota(self, client_id: str, requests_per_minute: int) -> str | None:
        """Raise a client's quota per minute; return the reason if we may not raise it."""
        path = f"{OAUTH_CLIENTS}/{quote(client_id, safe='')}/rate-limit"
        answer = self._ask("PATCH", path, {"requestsPerMinute": requests_per_minute})
        if answer.status_code in {403, 404}:
            return self._quote(answer)
        if answer.status_code != 200:
            raise ProvisionError(
                f"the quota of client {client_id} cannot be raised: {self._quote(answer)}"
            )
        return None

    def list_clients(self) -> dict[str, str]:
        """Return the id and name of every OAuth client of the active workspace."""
        answer = self._ask("GET", OAUTH_CLIENTS)
        listed = _body(answer).get("clients")
        if answer.status_code != 200 or not isinstance(listed, list):
            reason = self._quote(answer)
            raise ProvisionError(f"the clients of the workspace cannot be listed: {reason}")
        return {
            str(found["clientId"]): str(found.get("clientName") or "")
            for found in listed
            if isinstance(found, dict) and "clientId" in found
        }

    def revoke_client(self, client_id: str) -> str | None:
        """Delete a client of the workspace and its tokens; return the reason if that fails."""
        return self._remove(f"{OAUTH_CLIENTS}/{quote(client_id, safe='')}/revoke", {})

    def revoke_other_sessions(self) -> str | None:
        """End every other session of the signed-in user; return the reason if that fails."""
        return self._remove("/api/auth/revoke-other-sessions", {})

    def delete_workspace(self, workspace_id: str) -> str | None:
        """Delete a workspace and its content; return the reason if that fails."""
        body = {"organizationId": workspace_id}
        return self._remove("/api/auth/organization/delete", body)

    def delete_user(self, password: SecretStr) -> str | None:
        """Delete the signed-in user; return the reason if that fails."""
        return self._remove("/api/auth/delete-user", {"password": password.get_secret_value()})

    def _answer_challenge(self, email: str, challenge: "httpx2.Response") -> "httpx2.Response":
        """Finish a sign-in with a one-time code and the cookies of its first step."""
        secret = self._second_factor.secret
        if secret is None:
            raise OneTimeCodeError(
                f"the sign-in of {email} asks for a one-time code: set LOADTEST_TOTP_SECRET to the "
                "secret of its authenticator app"
            )
        cookies = "; ".join(f"{name}={value}" for name, value in challenge.cookies.items())
        for value in challenge.cookies.values():
            self._hide(SecretStr(value))
        answer = self._try_codes(secret, lambda code: self._post_from_a_page(code, cookies))
        if answer.status_code != 200:
            raise OneTimeCodeError(
                f"the one-time code of {email} is refused: {self._quote(answer)}; correct "
                "LOADTEST_TOTP_SECRET or this machine's clock"
            )
        return answer

    def _try_codes(
        self, secret: SecretStr, post: "Callable[[str], httpx2.Response]"
    ) -> "httpx2.Response":
        """Send a code that we have not used; send the next one if another process used it."""
        try:
            totp = Totp(secret.get_secret_value(), self._clock)
        except ValueError:
            raise ConfigError(
                "LOADTEST_TOTP_SECRET is neither base32 nor an otpauth://totp URI"
            ) from None
        for tries_left in range(CODE_TRIES - 1, -1, -1):
            wait_seconds = totp.fresh_in_seconds()
            if wait_seconds:
                self._say(f"waiting {wait_seconds:.0f} s for the next one-time code")
                self._pause(wait_seconds)
            code = totp.take()
            answer = post(code)
            if answer.status_code not in {400, 401} or not tries_left:
                break
        return answer

    def _post_from_a_page(self, code: str, cookies: str) -> "httpx2.Response":
        """Send a code as a page does, with the first origin that the server accepts."""
        origins = dict.fromkeys(
            (*self._second_factor.origins, parse_origin(str(self._http.base_url)))
        )
        for origin in origins:
            answer = self._post_code(code, {"Cookie": cookies, "Origin": origin})
            if _code(answer) not in ORIGIN_REFUSALS:
                return answer
        raise OneTimeCodeError(
            f"the server accepts no one-time code from {' or '.join(origins)}: set "
            "LOADTEST_SIGN_IN_ORIGINS to the origin of its sign-in page"
        )

    def _post_code(self, code: str, headers: dict[str, str]) -> "httpx2.Response":
        path = "/api/auth/two-factor/verify-totp"
        return self._ask("POST", path, {"code": code}, headers=headers)

    def _remove(self, path: str, body: dict[str, Any]) -> str | None:
        answer = self._ask("POST", path, body)
        return None if answer.status_code == 200 else self._quote(answer)

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_seconds: float = REQUEST_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> "httpx2.Response":
        import httpx2

        from loadtest.common.http import explain

        send = partial(self._send, method, path, body, timeout_seconds, headers)
        try:
            answer = wait_out(send, path, self._say, self._pause)
        except httpx2.HTTPError as failure:
            url = self._http.base_url.join(path)
            raise NoAnswerError(f"{url} does not answer ({explain(failure)})") from None
        if answer.status_code == 403 and "password_change_required" in answer.text:
            raise PasswordChangeRequiredError(
                f"{path} is refused until the password is changed: run `{spell('provision')}`"
            )
        if answer.status_code == 403 and _body(answer).get("error") == "mfa_enrollment_required":
            raise SecondFactorRequiredError(
                f"{path} is refused: {self._quote(answer)}{self._describe_enrollment(answer)}"
            )
        return answer

    def _describe_enrollment(self, answer: "httpx2.Response") -> str:
        """Return how to enrol a second factor; the server's URL is relative to its pages."""
        given = str(_body(answer).get("enrollmentUrl") or "")
        url = urljoin(next(iter(self._second_factor.origins), ""), given)
        shown = "".join(c for c in url if c.isprintable() and c != " ")[:200]
        where = f"at {shown}, or " if shown else ""
        return f" (enrol one {where}with `{spell('provision --enroll-totp')}`)"

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> "httpx2.Response":
        token = self._token.get_secret_value()
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self._http.request(
            method, path, json=body, headers={**bearer, **(headers or {})}, timeout=timeout_seconds
        )
        self._http.cookies.clear()
        return answer

    def _take(self, answer: "httpx2.Response", name: str) -> SecretStr:
        secret = SecretStr(self._member(answer, name))
        self._hide(secret)
        return secret

    def _member(self, answer: "httpx2.Response", name: str) -> str:
        value = _body(answer).get(name)
        if not isinstance(value, str) or not value:
            raise ProvisionError(f"{answer.request.url.path} answered without '{name}'")
        return value

    def _quote(self, answer: "httpx2.Response") -> str:
        """Quote only the error of a reply, in any of the target's three formats."""
        body = _body(answer)
        keys = ("code", "error", "error_description", "message")
        error = redact(": ".join(str(body[key]) for key in keys if body.get(key)))
        return f"HTTP {answer.status_code}" + (f": {error}"[:300] if error else "")


@contextmanager
def open_session(
    base_url: str,
    email: str,
    password: SecretStr,
    workspace_id: str | None,
    say: Callable[[str], None],
    *,
    second_factor: SecondFactor = SecondFactor(),
    hide: Callable[[SecretStr], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Accounts]:
    """Sign in a provisioned user, make its workspace active, and sign out at the end."""
    with Accounts(base_url, say, second_factor=second_factor, hide=hide, pause=pause) as accounts:
        if not accounts.sign_in(email, password):
            raise WrongPasswordError(
                f"wrong password for {email}: run `{spell('provision --verify')}`"
            )
        accounts.ensure_workspace(email, workspace_id)
        yield accounts


def _not_verified(email: str) -> EmailNotVerifiedError:
    return EmailNotVerifiedError(f"open the link that was mailed to {email}, then run this again")


def build_slug(email: str) -> str:
    """Return the slug of the workspace that we make and may remove."""
    return f"loadtest-{hashlib.sha256(email.encode()).hexdigest()[:12]}"


def _json(answer: "httpx2.Response") -> Any:
    try:
        return parse_json(answer.content)
    except ValueError:
        return None


def _body(answer: "httpx2.Response") -> dict[str, Any]:
    body = _json(answer)
    return body if isinstance(body, dict) else {}


def _code(answer: "httpx2.Response") -> str | None:
    code = _body(answer).get("code")
    return code if isinstance(code, str) else None
