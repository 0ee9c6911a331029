"""One-time codes of an authenticator app: enrol one, and finish a sign-in with one."""

import base64
import secrets
from urllib.parse import quote, urlencode

from argon2.exceptions import VerificationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtest.common.totp import Totp
from loadtest.reference.account_routes import AccountRoutes
from loadtest.reference.accounts import User
from loadtest.reference.deployment import Deployment
from loadtest.reference.identity import (
    CHALLENGE_COOKIE,
    Body,
    find_identity,
    read_body,
    require_identity,
)
from loadtest.reference.responses import Refusal, account_error
from loadtest.reference.tokens import hash_secret

BACKUP_CODES = 10
# Codes of the steps before and after are accepted too (RFC 6238, section 5.2).
LEEWAY_STEPS = 1


class EnableBody(Body):
    """The body of an enrolment."""

    password: str


class CodeBody(Body):
    """The body that verifies a code; `oauth_query` is the signed query of the sign-in page."""

    code: str
    oauth_query: str | None = None


class SecondFactorRoutes:
    """The routes of authenticator apps."""

    def __init__(self, deployment: Deployment, accounts: AccountRoutes) -> None:
        self._deployment = deployment
        self._accounts = accounts

    def routes(self) -> list[Route]:
        """Return the routes of this part."""
        base = "/api/auth/two-factor"
        return [
            Route(f"{base}/enable", self.enable, methods=["POST"]),
            Route(f"{base}/verify-totp", self.verify, methods=["POST"]),
        ]

    async def enable(self, request: Request) -> Response:
        """Give the user a new secret; it is enabled when a code of it is verified."""
        user = require_identity(self._deployment, request).user
        body = await read_body(request, EnableBody)
        try:
            await run_in_threadpool(
                self._deployment.hasher.verify, user.password_hash, body.password
            )
        except VerificationError:
            raise Refusal(account_error(400, "INVALID_PASSWORD", "Invalid password")) from None
        secret = base64.b32encode(secrets.token_bytes(20)).decode()
        with self._deployment.store.begin() as db:
            enrolling = db.get_one(User, user.id)
            enrolling.totp_secret, enrolling.totp_enabled = secret, False
        parameters = {"secret": secret, "issuer": "NovaMart", "digits": 6, "period": 30}
        uri = f"otpauth://totp/NovaMart:{quote(user.email)}?{urlencode(parameters)}"
        backups = [secrets.token_urlsafe(8) for _ in range(BACKUP_CODES)]
        return JSONResponse({"totpURI": uri, "backupCodes": backups})

    async def verify(self, request: Request) -> Response:
        """Accept a code once; it finishes a sign-in, or the enrolment of the signed-in user."""
        deployment = self._deployment
        body = await read_body(request, CodeBody)
        challenge = hash_secret(request.cookies.get(CHALLENGE_COOKIE, ""))
        identity = find_identity(deployment, request)
        user_id = deployment.challenges.get(challenge) or (identity.user.id if identity else None)
        if user_id is None:
            message = "Invalid two factor cookie"
            raise Refusal(account_error(401, "INVALID_TWO_FACTOR_COOKIE", message))
        with deployment.store.begin() as db:
            user = db.get_one(User, user_id)
            if not self._takes(user, body.code):
                raise Refusal(account_error(401, "INVALID_CODE", "Invalid code"))
            user.totp_enabled = True
        deployment.challenges.pop(challenge, None)
        response = self._accounts.signed_in(user, body.oauth_query)
        response.delete_cookie(CHALLENGE_COOKIE)
        return response

    def _takes(self, user: User, code: str) -> bool:
        if user.totp_secret is None:
            return False
        totp = Totp(user.totp_secret, self._deployment.clock)
        now, last = totp.find_step(), self._deployment.typed_codes.get(user.id, -1)
        for step in range(max(now - LEEWAY_STEPS, last + 1), now + LEEWAY_STEPS + 1):
            if secrets.compare_digest(totp.build_code(step).encode(), code.encode()):
                self._deployment.typed_codes[user.id] = step
                return True
        return False
