"""Serve the REST routes under `/api`: health, demo data, passwords, OAuth clients, self-mint."""

import secrets

from argon2.exceptions import VerificationError
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from loadtest.reference.account_routes import check_password
from loadtest.reference.accounts import Client, Entity, Grant, Member, User
from loadtest.reference.deployment import MCP_SCOPE, Deployment
from loadtest.reference.identity import AnyBody, CamelBody, Identity, find_identity
from loadtest.reference.novamart import ENTITIES
from loadtest.reference.responses import Refusal, iso_time, new_id, rest_error
from loadtest.reference.tokens import WORKSPACE_CLAIM

LOAD_TEST_CLIENT = "atlas-load-test"
MOST_REQUESTS_PER_MINUTE = 3600
MINT_SECONDS = (60, 300, 3600)
"""The shortest, default and longest life of a self-minted bearer."""
MINTS_PER_MINUTE = 10


class PasswordBody(CamelBody):
    """The body that changes a password."""

    current_password: str
    new_password: str


class RateLimitBody(CamelBody):
    """The body that raises a client's quota."""

    requests_per_minute: int


class MintBody(CamelBody):
    """The body of a self-mint."""

    ttl_seconds: int = MINT_SECONDS[1]


class Rest:
    """The REST routes; errors have the form `{error, message, requestId}`."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def routes(self) -> list[Route]:
        """Return the routes of this part."""
        clients = "/api/v1/admin/oauth-clients"
        return [
            Route("/api/health", self.health),
            Route("/api/v1/onboarding/use-demo", self.use_demo, methods=["POST"]),
            Route("/api/v1/admin/me/password", self.change_password, methods=["POST"]),
            Route(clients, self.list_clients),
            Route(clients + "/{client_id}/rate-limit", self.set_rate_limit, methods=["PATCH"]),
            Route(clients + "/{client_id}/revoke", self.revoke_client, methods=["POST"]),
            Route("/api/v1/me/load-test/mcp-token", self.mint, methods=["POST"]),
        ]

    async def health(self, _request: Request) -> Response:
        """Answer that the target is up."""
        return JSONResponse({"status": "ok"})

    async def use_demo(self, request: Request) -> Response:
        """Attach NovaMart to the active workspace; a second call duplicates every entity."""
        workspace_id = self._require_workspace(self._require(request), "no_organization")
        connection_id = new_id()
        with self._deployment.store.begin() as db:
            db.add_all(
                Entity(workspace_id=workspace_id, connection_id=connection_id, name=name)
                for name in ENTITIES
            )
        self._deployment.forget_entities(workspace_id)
        answer = {
            "connectionId": connection_id,
            "entitiesImported": len(ENTITIES),
            "partialFailures": [],
        }
        return JSONResponse(answer, 201)

    async def change_password(self, request: Request) -> Response:
        """Change the user's password, which also fulfils an administrator's demand to do so."""
        identity = self._require(request, may_owe_password=True)
        self._require_second_factor(identity)
        body = await self._read(request, PasswordBody)
        check_password(body.new_password)
        try:
            await run_in_threadpool(
                self._deployment.hasher.verify, identity.user.password_hash, body.current_password
            )
        except VerificationError:
            message = "the current password is wrong"
            raise Refusal(rest_error(400, "invalid_password", message)) from None
        hashed = await run_in_threadpool(self._deployment.hasher.hash, body.new_password)
        with self._deployment.store.begin() as db:
            user = db.get_one(User, identity.user.id)
            user.password_hash = hashed
            user.must_change_password = False
        return JSONResponse({"success": True})

    async def set_rate_limit(self, request: Request) -> Response:
        """Raise a client's quota: for owners of its workspace, and before its first call."""
        identity = self._require_owner(request)
        body = await self._read(request, RateLimitBody)
        if not 1 <= body.requests_per_minute <= MOST_REQUESTS_PER_MINUTE:
            message = f"requestsPerMinute is 1 to {MOST_REQUESTS_PER_MINUTE}"
            raise Refusal(rest_error(400, "invalid_body", message))
        client_id = request.path_params["client_id"]
        with self._deployment.store.begin() as db:
            client = self._find_client(db, identity, client_id)
            client.requests_per_minute = body.requests_per_minute
        answer = {"clientId": client_id, "requestsPerMinute": body.requests_per_minute}
        return JSONResponse(answer)

    async def list_clients(self, request: Request) -> Response:
        """Return the OAuth clients that were registered with a session of this workspace."""
        identity = self._require_owner(request)
        with self._deployment.store.begin() as db:
            theirs = Client.workspace_id == identity.sign_in.workspace_id
            clients = db.scalars(select(Client).where(theirs).order_by(Client.created_at)).all()
        listed = [
            {
                "clientId": client.id,
                "clientName": client.name,
                "redirectUris": client.redirect_uris,
                "createdAt": iso_time(client.created_at),
                "disabled": False,
            }
            for client in clients
        ]
        return JSONResponse({"clients": listed})

    async def revoke_client(self, request: Request) -> Response:
        """Delete a client of the workspace and its tokens; a JWT stays valid until it expires."""
        identity = self._require_owner(request)
        client_id = request.path_params["client_id"]
        with self._deployment.store.begin() as db:
            self._find_client(db, identity, client_id)
            live = Grant.kind.in_(("access", "refresh")) & Grant.used.is_(False)
            count = select(func.count()).where(Grant.client_id == client_id, live)
            revoked = db.scalar(count)
        self._deployment.forget_clients([client_id])
        return JSONResponse({"success": True, "tokensRevoked": revoked})

    async def mint(self, request: Request) -> Response:
        """Mint a short-lived MCP bearer for the session's workspace, without a browser."""
        deployment = self._deployment
        identity = self._require(request, bearer_only=True)
        workspace_id = self._require_workspace(identity, "no_active_workspace")
        if deployment.knobs.self_mint == "not-allowlisted":
            return PlainTextResponse("404 Not Found", 404)
        body = await self._read(request, MintBody)
        shortest, _, longest = MINT_SECONDS
        if not shortest <= body.ttl_seconds <= longest:
            message = f"ttlSeconds is {shortest} to {longest}"
            raise Refusal(rest_error(400, "invalid_body", message))
        limited = deployment.knobs.account_limits and deployment.minted.charge(
            identity.user.id, 1, MINTS_PER_MINUTE
        )
        if limited:
            refusal = rest_error(429, "rate_limited", "too many bearers minted")
            refusal.headers["Retry-After"] = "60"
            return refusal
        if deployment.knobs.self_mint == "no-jwks":
            return rest_error(503, "jwks_not_initialized", "no signing key yet")
        now = int(deployment.clock())
        claims = {
            "iss": deployment.claimed_issuer,
            "sub": f"loadtest:{workspace_id}:{secrets.token_hex(8)}",
            "aud": deployment.resource,
            "azp": LOAD_TEST_CLIENT,
            "scope": MCP_SCOPE,
            "iat": now,
            "exp": now + body.ttl_seconds,
            WORKSPACE_CLAIM: workspace_id,
        }
        answer = {
            "bearer": deployment.keys.sign(claims),
            "workspaceId": workspace_id,
            "audience": claims["aud"],
            "issuer": claims["iss"],
            "expiresAt": iso_time(now + body.ttl_seconds),
            "sub": claims["sub"],
            "scope": MCP_SCOPE,
        }
        return JSONResponse(answer)

    def _require(
        self, request: Request, *, may_owe_password: bool = False, bearer_only: bool = False
    ) -> Identity:
        identity = find_identity(self._deployment, request)
        if identity is None:
            raise Refusal(rest_error(401, "auth_error", "sign in first"))
        if bearer_only and identity.by_cookie:
            message = "a session token is needed as bearer; a cookie is not enough"
            raise Refusal(rest_error(401, "bearer_required", message))
        if identity.user.must_change_password and not may_owe_password:
            raise Refusal(rest_error(403, "auth_error", "password_change_required"))
        return identity

    def _require_owner(self, request: Request) -> Identity:
        """Return an owner of the session's workspace; a knob also requires a second factor."""
        identity = self._require(request)
        workspace_id = identity.sign_in.workspace_id
        with self._deployment.store.begin() as db:
            member = db.get(Member, (workspace_id, identity.user.id)) if workspace_id else None
        if member is None or member.role != "owner":
            raise Refusal(rest_error(403, "forbidden", "only an owner may do this"))
        self._require_second_factor(identity)
        return identity

    def _require_second_factor(self, identity: Identity) -> None:
        if self._deployment.knobs.second_factor == "required" and not identity.user.totp_enabled:
            message = "Two-factor authentication is required. Enroll an authenticator to continue."
            url = "/admin/settings/security"
            raise Refusal(rest_error(403, "mfa_enrollment_required", message, enrollmentUrl=url))

    @staticmethod
    def _find_client(db: Session, identity: Identity, client_id: str) -> Client:
        """Return a client that was registered with a session of the same workspace."""
        client = db.get(Client, client_id)
        if client is None or client.workspace_id != identity.sign_in.workspace_id:
            raise Refusal(rest_error(404, "not_found", "no such client in this workspace"))
        return client

    @staticmethod
    def _require_workspace(identity: Identity, code: str) -> str:
        if identity.sign_in.workspace_id is None:
            raise Refusal(rest_error(400, code, "the session has no active workspace"))
        return identity.sign_in.workspace_id

    @staticmethod
    async def _read(request: Request, kind: type[AnyBody]) -> AnyBody:
        try:
            return kind.model_validate_json(await request.body() or b"{}")
        except ValidationError as failure:
            first = failure.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise Refusal(rest_error(400, "invalid_body", f"{where}: {first['msg']}")) from None
