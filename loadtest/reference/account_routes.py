"""Serve sign-up, sign-in and organizations: `/api/auth` without OAuth."""

from functools import cached_property
from typing import Any

from argon2.exceptions import VerificationError
from pydantic import Field
from sqlalchemy import delete, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from loadtest.reference.accounts import Member, SignIn, User, Workspace
from loadtest.reference.deployment import Deployment, Mail
from loadtest.reference.identity import (
    CHALLENGE_COOKIE,
    COOKIE,
    Body,
    CamelBody,
    find_identity,
    read_body,
    require_identity,
    set_cookie,
    start_sign_in,
)
from loadtest.reference.oauth import AuthorizationServer
from loadtest.reference.responses import Refusal, account_error, iso_time
from loadtest.reference.tokens import hash_secret, new_secret

PASSWORD_CHARACTERS = (8, 128)
CHALLENGE_SECONDS = 600


class SignUpBody(Body):
    """The body of a sign-up."""

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
    password: str
    name: str


class SignInBody(Body):
    """The body of a sign-in; `oauth_query` is the signed query of the sign-in page."""

    email: str
    password: str
    oauth_query: str | None = None


class OrganizationBody(Body):
    """The body that creates an organization."""

    name: str = Field(min_length=1)
    slug: str = Field(min_length=1)


class ActiveBody(CamelBody):
    """The body that chooses the active organization."""

    organization_id: str | None = None


class AccountRoutes:
    """The account routes; a sign-in with a signed query returns the next URL."""

    def __init__(self, deployment: Deployment, server: AuthorizationServer) -> None:
        self._deployment = deployment
        self._server = server
        self._mailed: dict[str, str] = {}

    def routes(self) -> list[Route]:
        """Return the routes of this part."""
        base = "/api/auth"
        return [
            Route(f"{base}/sign-up/email", self.sign_up, methods=["POST"]),
            Route(f"{base}/sign-in/email", self.sign_in, methods=["POST"]),
            Route(f"{base}/verify-email", self.verify_email),
            Route(f"{base}/sign-out", self.sign_out, methods=["POST"]),
            Route(f"{base}/revoke-other-sessions", self.revoke_others, methods=["POST"]),
            Route(f"{base}/get-session", self.get_session),
            Route(f"{base}/organization/create", self.create_organization, methods=["POST"]),
            Route(f"{base}/organization/list", self.list_organizations),
            Route(f"{base}/organization/set-active", self.set_active, methods=["POST"]),
        ]

    async def sign_up(self, request: Request) -> Response:
        """Make a user and sign in; a knob first requires a link in a mail."""
        knobs = self._deployment.knobs
        if knobs.sign_up_captcha:
            raise Refusal(account_error(400, "MISSING_RESPONSE", "Missing CAPTCHA response"))
        body = await read_body(request, SignUpBody)
        check_password(body.password)
        hashed = await run_in_threadpool(self._deployment.hasher.hash, body.password)
        with self._deployment.store.begin() as db:
            query = select(User.id).where(User.email == body.email.lower())
            if db.scalars(query).first() is not None:
                code = "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL"
                raise Refusal(account_error(422, code, "User already exists. Use another email."))
            user = User(
                email=body.email.lower(),
                name=body.name,
                password_hash=hashed,
                email_verified=not knobs.email_verification,
                created_at=self._deployment.clock(),
            )
            db.add(user)
        if knobs.email_verification:
            self._mail_link(user)
            return JSONResponse({"token": None, "user": _describe_user(user)})
        return self.signed_in(user, None)

    async def sign_in(self, request: Request) -> Response:
        """Check a password; an unknown user and a wrong password take the same time and answer."""
        body = await read_body(request, SignInBody)
        with self._deployment.store.begin() as db:
            query = select(User).where(User.email == body.email.lower())
            user = db.scalars(query).one_or_none()
        hashed = user.password_hash if user else self._decoy
        fits = await run_in_threadpool(self._fits, hashed, body.password)
        if user is None or not fits:
            code = "INVALID_EMAIL_OR_PASSWORD"
            raise Refusal(account_error(401, code, "Invalid email or password"))
        if user.locked:
            message = "This account is locked. Ask your administrator to unlock it."
            raise Refusal(account_error(403, "ACCOUNT_LOCKED", message))
        if not user.email_verified:
            raise Refusal(account_error(403, "EMAIL_NOT_VERIFIED", "Email not verified"))
        return (
            self._challenge(user) if user.totp_enabled else self.signed_in(user, body.oauth_query)
        )

    async def verify_email(self, request: Request) -> Response:
        """Open the link of a mail, which verifies the user's address."""
        address = hash_secret(request.query_params.get("token", ""))
        user_id = self._mailed.pop(address, None)
        if user_id is None:
            raise Refusal(account_error(401, "INVALID_TOKEN", "Invalid token"))
        with self._deployment.store.begin() as db:
            db.get_one(User, user_id).email_verified = True
        return RedirectResponse(f"{self._deployment.web_url}/", 302)

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        identity = find_identity(self._deployment, request)
        if identity is not None:
            with self._deployment.store.begin() as db:
                db.execute(delete(SignIn).where(SignIn.id == identity.sign_in.id))
        response = JSONResponse({"success": True})
        response.delete_cookie(COOKIE)
        return response

    async def revoke_others(self, request: Request) -> Response:
        """End every other session of the user."""
        identity = require_identity(self._deployment, request)
        with self._deployment.store.begin() as db:
            theirs = SignIn.user_id == identity.user.id
            db.execute(delete(SignIn).where(theirs, SignIn.id != identity.sign_in.id))
        return JSONResponse({"status": True})

    async def get_session(self, request: Request) -> Response:
        """Return the session and its user, or null."""
        identity = find_identity(self._deployment, request)
        if identity is None:
            return JSONResponse(None)
        session = {
            "id": identity.sign_in.id,
            "userId": identity.user.id,
            "activeOrganizationId": identity.sign_in.workspace_id,
            "expiresAt": iso_time(identity.sign_in.expires_at),
        }
        return JSONResponse({"session": session, "user": _describe_user(identity.user)})

    async def create_organization(self, request: Request) -> Response:
        """Make a workspace that the user owns and that is active in this session."""
        identity = require_identity(self._deployment, request)
        body = await read_body(request, OrganizationBody)
        with self._deployment.store.begin() as db:
            query = select(Workspace.id).where(Workspace.slug == body.slug)
            if db.scalars(query).first() is not None:
                code = "ORGANIZATION_ALREADY_EXISTS"
                raise Refusal(account_error(400, code, "Organization already exists"))
            workspace = Workspace(
                name=body.name, slug=body.slug, created_at=self._deployment.clock()
            )
            db.add(workspace)
            db.flush()
            db.add(Member(workspace_id=workspace.id, user_id=identity.user.id, role="owner"))
            db.get_one(SignIn, identity.sign_in.id).workspace_id = workspace.id
        return JSONResponse(_describe_workspace(workspace))

    async def list_organizations(self, request: Request) -> Response:
        """Return the user's workspaces."""
        identity = require_identity(self._deployment, request)
        with self._deployment.store.begin() as db:
            query = (
                select(Workspace)
                .join(Member, Member.workspace_id == Workspace.id)
                .where(Member.user_id == identity.user.id)
                .order_by(Workspace.created_at)
            )
            return JSONResponse([_describe_workspace(workspace) for workspace in db.scalars(query)])

    async def set_active(self, request: Request) -> Response:
        """Set the session's workspace; one of other users clears it."""
        identity = require_identity(self._deployment, request)
        body = await read_body(request, ActiveBody)
        with self._deployment.store.begin() as db:
            sign_in = db.get_one(SignIn, identity.sign_in.id)
            wanted = body.organization_id
            member = db.get(Member, (wanted, identity.user.id)) if wanted else None
            sign_in.workspace_id = member.workspace_id if member else None
            workspace = db.get_one(Workspace, wanted) if member else None
        if wanted and workspace is None:
            code = "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION"
            return account_error(403, code, "User is not a member of the organization")
        return JSONResponse(_describe_workspace(workspace) if workspace else None)

    @cached_property
    def _decoy(self) -> str:
        """Return a hash that is checked only to take the same time."""
        return self._deployment.hasher.hash("nobody's password")

    def _fits(self, hashed: str, password: str) -> bool:
        try:
            return self._deployment.hasher.verify(hashed, password)
        except VerificationError:
            return False

    def _mail_link(self, user: User) -> None:
        token = new_secret()
        self._mailed[hash_secret(token)] = user.id
        link = f"{self._deployment.auth_url}/verify-email?token={token}"
        self._deployment.mails.append(Mail(user.email, link))

    def _challenge(self, user: User) -> Response:
        """Ask for a one-time code; the cookie identifies the user whose password was right."""
        secret = new_secret()
        self._deployment.challenges[hash_secret(secret)] = user.id
        response = JSONResponse({"twoFactorRedirect": True, "twoFactorMethods": ["totp"]})
        response.set_cookie(
            CHALLENGE_COOKIE, secret, CHALLENGE_SECONDS, httponly=True, samesite="lax"
        )
        return response

    def signed_in(self, user: User, oauth_query: str | None) -> Response:
        """Start a session; with a signed query, return the next URL."""
        token, identity = start_sign_in(self._deployment, user)
        answer: dict[str, Any] = {"token": token, "user": _describe_user(user)}
        if oauth_query is not None:
            answer |= {"redirect": True, "url": self._server.resume(oauth_query, identity)}
        response = JSONResponse(answer)
        set_cookie(response, token)
        return response


def check_password(password: str) -> None:
    """Refuse a password that is too short or too long."""
    shortest, longest = PASSWORD_CHARACTERS
    if len(password) < shortest:
        raise Refusal(account_error(400, "PASSWORD_TOO_SHORT", "Password too short"))
    if len(password) > longest:
        raise Refusal(account_error(400, "PASSWORD_TOO_LONG", "Password too long"))


def _describe_user(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "emailVerified": user.email_verified,
        "twoFactorEnabled": user.totp_enabled,
        "image": None,
        "createdAt": iso_time(user.created_at),
        "updatedAt": iso_time(user.created_at),
    }


def _describe_workspace(workspace: Workspace) -> dict[str, Any]:
    return {
        "id": workspace.id,
        "name": workspace.name,
        "slug": workspace.slug,
        "logo": None,
        "metadata": None,
        "createdAt": iso_time(workspace.created_at),
    }
