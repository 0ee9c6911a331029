"""The endpoints that clients call directly: token, revoke, introspect and userinfo."""

import asyncio
import base64
import hashlib
import hmac
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from loadtest.reference.accounts import Client, Grant, Member, User
from loadtest.reference.clients import Clients, read_field
from loadtest.reference.deployment import Deployment
from loadtest.reference.responses import NO_STORE, Refusal, account_error, new_id, oauth_error
from loadtest.reference.tokens import WORKSPACE_CLAIM, WORKSPACES_CLAIM, hash_secret, new_secret

FORM = "application/x-www-form-urlencoded"
REFRESH_SECONDS = 30 * 86400


class Grants:
    """Serve the endpoints that clients call directly, form-encoded (RFC 6749, section 3.2)."""

    def __init__(self, deployment: Deployment, clients: Clients) -> None:
        self._deployment = deployment
        self._clients = clients

    def routes(self) -> list[Route]:
        """Return the routes of this part."""
        base = "/api/auth/oauth2"
        return [
            Route(f"{base}/token", self.token, methods=["POST"]),
            Route(f"{base}/revoke", self.revoke, methods=["POST"]),
            Route(f"{base}/introspect", self.introspect, methods=["POST"]),
            Route(f"{base}/userinfo", self.userinfo),
        ]

    async def token(self, request: Request) -> Response:
        """Exchange a code, a refresh token or client credentials for an access token."""
        await asyncio.sleep(self._deployment.knobs.token_delay_seconds)
        form = await _read_form(request)
        client = await self._clients.authenticate(request, form)
        grant_type = read_field(form, "grant_type")
        if grant_type not in self._deployment.grant_types:
            raise Refusal(oauth_error(400, "unsupported_grant_type", "no such grant type"))
        if grant_type not in client.grant_types:
            message = "the client is not registered for this grant type"
            raise Refusal(oauth_error(400, "unauthorized_client", message))
        if grant_type == "authorization_code":
            return self._reply(self._redeem_code(client, form))
        if grant_type == "refresh_token":
            return self._reply(self._refresh(client, form))
        return self._reply(self._grant_credentials(client, form))

    async def revoke(self, request: Request) -> Response:
        """Revoke the family of a refresh token or of an opaque access token (RFC 7009, section 2).

        A JWT stays valid until it expires, because it is verified without a lookup; a knob ends it
        too.
        """
        form = await _read_form(request)
        client = await self._clients.authenticate(request, form)
        with self._deployment.store.begin() as db:
            grant = db.get(Grant, hash_secret(read_field(form, "token")))
            if grant is not None and grant.client_id == client.id:
                self._end_family(db, grant.family)
                self._deployment.revocations += 1
        return Response(status_code=200, headers=NO_STORE)

    async def introspect(self, request: Request) -> Response:
        """Return the facts of a token of the requesting client (RFC 7662, section 2)."""
        form = await _read_form(request)
        client = await self._clients.authenticate(request, form)
        found = self._inspect(read_field(form, "token"))
        if found is None or found.get("client_id") != client.id:
            return JSONResponse({"active": False}, headers=NO_STORE)
        return JSONResponse({"active": True, **found}, headers=NO_STORE)

    async def userinfo(self, request: Request) -> Response:
        """Return the user of a token with the openid scope (OpenID Connect Core, section 5.3)."""
        bearer = request.headers.get("authorization", "").partition(" ")[2]
        found = self._inspect(bearer) if bearer else None
        if found is None or "openid" not in str(found["scope"]).split():
            refusal = oauth_error(401, "invalid_token", "a token with openid is required")
            refusal.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            return refusal
        with self._deployment.store.begin() as db:
            user = db.get_one(User, found["sub"])
        answer = {
            "sub": user.id,
            "name": user.name,
            "email": user.email,
            "email_verified": True,
        }
        return JSONResponse(answer, headers=NO_STORE)

    def _reply(self, answer: dict[str, Any]) -> Response:
        """Return a successful answer; a knob damages it after the tokens are issued."""
        match self._deployment.knobs.token_replies:
            case "garbage":
                return Response(b"{not json", media_type="application/json", headers=NO_STORE)
            case "html":
                return HTMLResponse("<!doctype html><title>Gateway</title>", headers=NO_STORE)
            case "no-access-token":
                del answer["access_token"]
            case "dpop":
                answer |= {"token_type": "DPoP"}
        return JSONResponse(answer, headers=NO_STORE)

    def _redeem_code(self, client: Client, form: FormData) -> dict[str, Any]:
        """Exchange a code, once (RFC 6749, section 4.1.3; RFC 7636, section 4.6)."""
        with self._deployment.store.begin() as db:
            grant = db.get(Grant, hash_secret(read_field(form, "code")))
            if grant is None or grant.kind != "code" or grant.client_id != client.id:
                raise Refusal(oauth_error(401, "invalid_grant", "the code is not valid"))
            db.delete(grant)
        if self._deployment.clock() >= grant.expires_at:
            raise Refusal(oauth_error(401, "invalid_grant", "the code has expired"))
        challenge = read_field(form, "code_verifier")
        if self._deployment.pkce_method == "S256":
            digest = hashlib.sha256(challenge.encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if not hmac.compare_digest(challenge.encode(), (grant.code_challenge or "").encode()):
            raise Refusal(oauth_error(401, "invalid_grant", "the code verifier is wrong"))
        if read_field(form, "redirect_uri") != grant.redirect_uri:
            raise Refusal(oauth_error(401, "invalid_grant", "the redirect_uri is another one"))
        audience = self._check_resource(form)
        with self._deployment.store.begin() as db:
            return self._issue(db, client, grant, audience)

    def _refresh(self, client: Client, form: FormData) -> dict[str, Any]:
        """Rotate a refresh token; reuse revokes its family (RFC 9700, section 4.14.2)."""
        knob = self._deployment.knobs.refresh
        self._deployment.refreshes += 1
        if knob == "refused":
            raise Refusal(oauth_error(401, "invalid_grant", "the refresh token is not accepted"))
        audience = self._check_resource(form)
        replayed = False
        with self._deployment.store.begin() as db:
            grant = db.get(Grant, hash_secret(read_field(form, "refresh_token")))
            if grant is None or grant.kind != "refresh" or grant.client_id != client.id:
                raise Refusal(oauth_error(401, "invalid_grant", "the refresh token is not valid"))
            if grant.used:
                replayed = True
                self._deployment.refresh_reuses += 1
                self._end_family(db, grant.family)
            elif self._deployment.clock() >= grant.expires_at:
                raise Refusal(oauth_error(401, "invalid_grant", "the refresh token has expired"))
            else:
                scope = read_field(form, "scope") or grant.scope
                if not set(scope.split()) <= set(grant.scope.split()):
                    message = "the scope goes beyond what was granted"
                    raise Refusal(oauth_error(400, "invalid_scope", message))
                grant.used = knob == "rotates"
                answer = self._issue(db, client, grant, audience, scope)
                if knob == "kept":
                    answer.pop("refresh_token", None)
        if replayed:
            message = "the refresh token was used before; all of its family are revoked"
            raise Refusal(oauth_error(401, "invalid_grant", message))
        return answer

    def _grant_credentials(self, client: Client, form: FormData) -> dict[str, Any]:
        """Issue a token for the client itself and its workspace (RFC 6749, section 4.4)."""
        if client.auth_method == "none":
            message = "a public client has no credentials of its own"
            raise Refusal(oauth_error(400, "unauthorized_client", message))
        own = set(client.scope.split()) & {"mcp:read", "mcp:write"}
        scope = read_field(form, "scope") or " ".join(sorted(own))
        granted = self._deployment.narrow_scope(scope)
        if not granted or not set(scope.split()) <= own:
            raise Refusal(oauth_error(400, "invalid_scope", "the scope is not the client's"))
        audience = self._check_resource(form)
        grant = Grant(
            family=new_id(),
            user_id=None,
            sign_in_id=None,
            workspace_id=client.workspace_id,
            scope=granted,
            nonce=None,
        )
        with self._deployment.store.begin() as db:
            return self._issue(db, client, grant, audience)

    def _check_resource(self, form: FormData) -> list[str]:
        """Return the requested audiences (RFC 8707, section 2); none means an opaque token.

        A server without resource indicators issues every token for its only resource.
        """
        if not self._deployment.knows_resources:
            return [self._deployment.resource]
        known = {self._deployment.resource, f"{self._deployment.issuer}/oauth2/userinfo"}
        asked = [str(value) for value in form.getlist("resource")]
        if not set(asked) <= known:
            raise Refusal(oauth_error(400, "invalid_target", "no such resource"))
        return list(dict.fromkeys(asked))

    def _issue(
        self,
        db: Session,
        client: Client,
        grant: Grant,
        audience: list[str],
        narrowed: str | None = None,
    ) -> dict[str, Any]:
        """Return the token response (RFC 6749, section 5.1) for a grant."""
        deployment = self._deployment
        now = int(deployment.clock())
        scope = narrowed or grant.scope
        scopes = scope.split()
        lifetime = deployment.knobs.access_token_seconds
        inherited = {
            "family": grant.family,
            "client_id": client.id,
            "user_id": grant.user_id,
            "sign_in_id": grant.sign_in_id,
            "workspace_id": grant.workspace_id,
            "issued_at": now,
        }
        answer: dict[str, Any] = {
            "expires_in": lifetime,
            "token_type": "Bearer",
            "scope": scope,
        }
        if audience:
            answer["access_token"] = self._sign(db, client, grant, audience, scope, now)
            if deployment.knobs.revoked_bearers == "refused":
                db.add(
                    Grant(
                        hash=hash_secret(answer["access_token"]),
                        kind="jwt",
                        scope=scope,
                        expires_at=now + lifetime,
                        **inherited,
                    )
                )
        else:
            answer["access_token"] = new_secret()
            db.add(
                Grant(
                    hash=hash_secret(answer["access_token"]),
                    kind="access",
                    scope=scope,
                    expires_at=now + lifetime,
                    **inherited,
                )
            )
        lasting = "offline_access" in scopes and "refresh_token" in client.grant_types
        if lasting and grant.user_id:
            answer["refresh_token"] = new_secret()
            db.add(
                Grant(
                    hash=hash_secret(answer["refresh_token"]),
                    kind="refresh",
                    scope=grant.scope,
                    expires_at=now + REFRESH_SECONDS,
                    **inherited,
                )
            )
        if "openid" in scopes and grant.user_id:
            claims = {
                "iss": deployment.issuer,
                "sub": grant.user_id,
                "aud": client.id,
                "iat": now,
                "exp": now + lifetime,
                "sid": grant.sign_in_id,
            }
            if grant.nonce:
                claims["nonce"] = grant.nonce
            answer["id_token"] = deployment.keys.sign(claims)
        return answer

    def _sign(
        self, db: Session, client: Client, grant: Grant, audience: list[str], scope: str, now: int
    ) -> str:
        """Return the access token as a JWT, without `nbf`; `jti` only if it can be revoked."""
        deployment = self._deployment
        audiences = list(audience)
        if "openid" in scope.split():
            audiences = list(dict.fromkeys([*audience, f"{deployment.issuer}/oauth2/userinfo"]))
        claims: dict[str, Any] = {
            "iss": deployment.claimed_issuer,
            "sub": grant.user_id or client.id,
            "aud": audiences if len(audiences) > 1 else audiences[0],
            "azp": client.id,
            "scope": scope,
            "iat": now,
            "exp": now + deployment.knobs.access_token_seconds,
        }
        if deployment.knobs.revoked_bearers == "refused":
            claims["jti"] = new_id()
        if grant.sign_in_id:
            claims["sid"] = grant.sign_in_id
        if grant.workspace_id:
            claims[WORKSPACE_CLAIM] = grant.workspace_id
        if grant.user_id:
            query = select(Member.workspace_id).where(Member.user_id == grant.user_id)
            claims[WORKSPACES_CLAIM] = list(db.scalars(query))
        if deployment.knobs.key_rotation != "never":
            deployment.keys.rotate(db, keep=deployment.knobs.key_rotation == "kept")
        return deployment.keys.sign(claims)

    def _inspect(self, token: str) -> dict[str, Any] | None:
        """Return the facts of an active access or refresh token (RFC 7662, section 2.2)."""
        claims = self._deployment.keys.verify(token, self._deployment.claimed_issuer)
        if claims is not None and "azp" in claims:
            if self._deployment.is_revoked(token):
                return None
            facts = ("iss", "sub", "aud", "scope", "iat", "exp", "sid")
            return {"client_id": claims["azp"]} | {
                name: claims[name] for name in facts if name in claims
            }
        with self._deployment.store.begin() as db:
            grant = db.get(Grant, hash_secret(token))
        usable = grant is not None and grant.kind in ("access", "refresh") and not grant.used
        if grant is None or not usable or self._deployment.clock() >= grant.expires_at:
            return None
        return {
            "client_id": grant.client_id,
            "sub": grant.user_id or grant.client_id,
            "scope": grant.scope,
            "iat": int(grant.issued_at),
            "exp": int(grant.expires_at),
        }

    def _end_family(self, db: Session, family: str) -> None:
        """Revoke everything that was issued for one authorization."""
        db.execute(delete(Grant).where(Grant.family == family, Grant.kind == "access"))
        query = update(Grant).where(Grant.family == family)
        db.execute(query.values(used=True))
        self._deployment.verdicts += 1


async def _read_form(request: Request) -> FormData:
    """Return the form; refuse any other kind of body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        code = "UNSUPPORTED_MEDIA_TYPE"
        raise Refusal(account_error(415, code, f"Content-Type must be {FORM}"))
    form = await request.form()
    if "grant_type" not in form and request.url.path.endswith("/token"):
        raise Refusal(account_error(400, "VALIDATION_ERROR", "[body.grant_type] Field required"))
    if "token" not in form and not request.url.path.endswith("/token"):
        raise Refusal(account_error(400, "VALIDATION_ERROR", "[body.token] Field required"))
    return form
