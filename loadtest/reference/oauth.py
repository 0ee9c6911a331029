"""The authorization server's front: discovery, registration, authorization and consent.

The SDK's handlers are not used: they answer 201 where the product says 200, JSON where it
redirects, and know neither pages, prompts nor opaque tokens.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from loadtest.reference.accounts import Client, Consent, Grant
from loadtest.reference.deployment import SCOPES, Deployment
from loadtest.reference.identity import (
    Body,
    Identity,
    find_identity,
    read_body,
    require_identity,
)
from loadtest.reference.replies import NO_STORE, Refusal, account_error, oauth_error
from loadtest.reference.tokens import hash_secret, new_secret

QUERY_SECONDS = 600
CODE_SECONDS = 600
GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


class RegistrationBody(Body):
    """Client metadata (RFC 7591 §2), the members that matter here."""

    redirect_uris: list[str] = Field(default_factory=list)
    client_name: str = "MCP client"
    grant_types: list[str] = Field(default_factory=lambda: ["authorization_code"])
    response_types: list[str] = Field(default_factory=lambda: ["code"])
    token_endpoint_auth_method: str = "client_secret_basic"  # noqa: S105 - a method
    scope: str | None = None


class ConsentBody(Body):
    """What the consent page posts."""

    accept: bool
    oauth_query: str


class AuthorizationServer:
    """Discovery, registration, authorize and consent under the issuer."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def routes(self) -> list[Route]:
        """Every route of this room."""
        well_known, base = "/.well-known", "/api/auth"
        resource = f"{well_known}/oauth-protected-resource/mcp"
        metadata = self.server_metadata
        return [
            Route(f"{well_known}/oauth-authorization-server/api/auth", metadata),
            Route(f"{base}/.well-known/openid-configuration", metadata),
            Route(resource, self.resource_metadata),
            Route(resource + "/{anything:path}", self.resource_metadata),
            Route(f"{base}/jwks", self.jwks),
            Route(f"{base}/error", self.error_page),
            Route(f"{base}/oauth2/register", self.register, methods=["POST"]),
            Route(f"{base}/oauth2/authorize", self.authorize),
            Route(f"{base}/oauth2/consent", self.consent, methods=["POST"]),
            Route(f"{base}/oauth2/public-client", self.public_client),
        ]

    async def server_metadata(self, _request: Request) -> Response:
        """Authorization server metadata (RFC 8414 §2, RFC 9207 §3)."""
        issuer = self._deployment.issuer
        metadata = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/oauth2/authorize",
            "token_endpoint": f"{issuer}/oauth2/token",
            "registration_endpoint": f"{issuer}/oauth2/register",
            "revocation_endpoint": f"{issuer}/oauth2/revoke",
            "introspection_endpoint": f"{issuer}/oauth2/introspect",
            "userinfo_endpoint": f"{issuer}/oauth2/userinfo",
            "jwks_uri": f"{issuer}/jwks",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": list(GRANT_TYPES),
            "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
            "code_challenge_methods_supported": ["S256"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"],
            "prompt_values_supported": ["login", "consent", "none"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(metadata)

    async def resource_metadata(self, _request: Request) -> Response:
        """Protected resource metadata (RFC 9728 §2), the same for every workspace."""
        metadata = {
            "resource": self._deployment.resource,
            "authorization_servers": [self._deployment.issuer],
            "scopes_supported": ["mcp:read", "mcp:write", "offline_access"],
            "bearer_methods_supported": ["header"],
        }
        return JSONResponse(metadata)

    async def jwks(self, _request: Request) -> Response:
        """The public keys (RFC 7517 §5)."""
        return JSONResponse(self._deployment.keys.public_jwks())

    async def error_page(self, _request: Request) -> Response:
        """Where a request goes that cannot be sent back to its client (RFC 6749 §4.1.2.1)."""
        return HTMLResponse("<!doctype html><title>Error</title><h1>This link does not work</h1>")

    async def register(self, request: Request) -> Response:
        """Register a client (RFC 7591 §3); only with a session bearer can it keep a secret."""
        identity = find_identity(self._deployment, request)
        body = await read_body(request, RegistrationBody)
        _check_registration(body)
        public = identity is None or body.token_endpoint_auth_method == "none"  # noqa: S105
        secret = None if public else new_secret()
        client = Client(
            name=body.client_name,
            redirect_uris=body.redirect_uris,
            grant_types=body.grant_types,
            auth_method="none" if public else body.token_endpoint_auth_method,
            secret_hash=hash_secret(secret) if secret else None,
            scope=body.scope if body.scope is not None else " ".join(SCOPES),
            workspace_id=identity.sign_in.workspace_id if identity else None,
            requests_per_minute=None,
            created_at=self._deployment.clock(),
        )
        with self._deployment.store.begin() as db:
            db.add(client)
        answer: dict[str, Any] = {
            "client_id": client.id,
            "client_id_issued_at": int(client.created_at),
            "client_name": client.name,
            "redirect_uris": client.redirect_uris,
            "grant_types": client.grant_types,
            "response_types": body.response_types,
            "token_endpoint_auth_method": client.auth_method,
            "scope": client.scope,
        }
        if secret:
            answer |= {"client_secret": secret, "client_secret_expires_at": 0}
        return JSONResponse(answer, 200, headers=NO_STORE)

    async def public_client(self, request: Request) -> Response:
        """What the consent page shows of a client."""
        require_identity(self._deployment, request)
        with self._deployment.store.begin() as db:
            client = db.get(Client, request.query_params.get("client_id", ""))
        if client is None:
            return account_error(404, "NOT_FOUND", "Client not found")
        return JSONResponse({"client_id": client.id, "client_name": client.name})

    async def authorize(self, request: Request) -> Response:
        """The authorization endpoint (RFC 6749 §4.1.1); always answers with a redirect."""
        params = dict(request.query_params)
        with self._deployment.store.begin() as db:
            client = db.get(Client, params.get("client_id", ""))
        if client is None:
            return self._lost("invalid_client", "unknown client")
        if not fits_redirect(params.get("redirect_uri", ""), client.redirect_uris):
            return self._lost("invalid_redirect", "redirect_uri is not registered")
        problem = self._find_problem(params, client)
        if problem is not None:
            return _redirect(self._back(params, error=problem[0], error_description=problem[1]))
        identity = find_identity(self._deployment, request)
        return _redirect(self._proceed(params, identity))

    async def consent(self, request: Request) -> Response:
        """What the user decided on the consent page."""
        identity = require_identity(self._deployment, request)
        body = await read_body(request, ConsentBody)
        params = self.read_query(body.oauth_query)
        if not body.accept:
            return JSONResponse({"redirect": True, "url": self._denied(params)})
        with self._deployment.store.begin() as db:
            db.merge(
                Consent(
                    user_id=identity.user.id,
                    client_id=params["client_id"],
                    scope=params["scope"],
                )
            )
        return JSONResponse({"redirect": True, "url": self._grant(params, identity)})

    def resume(self, oauth_query: str, identity: Identity) -> str:
        """Where a page goes after its user has signed in."""
        params = self.read_query(oauth_query)
        prompts = [value for value in params.get("prompt", "").split() if value != "login"]
        return self._proceed({**params, "prompt": " ".join(prompts)}, identity)

    def read_query(self, query: str) -> dict[str, str]:
        """The parameters of a query that we signed; refused when forged or over 600 s old."""
        params = dict(parse_qsl(query.removeprefix("?"), keep_blank_values=True))
        signature = params.pop("sig", "")
        expires_at = params.get("exp", "")
        fits = hmac.compare_digest(signature.encode(), self._sign_query(params).encode())
        if not fits or self._deployment.clock() >= int(expires_at):
            raise Refusal(oauth_error(401, "invalid_request", "the query is not valid any more"))
        del params["exp"]
        return params

    def _proceed(self, params: dict[str, str], identity: Identity | None) -> str:
        """The next page, or the callback when nothing is left to ask (OpenID Connect §3.1.2.1)."""
        prompts = params.get("prompt", "").split()
        if identity is None or "login" in prompts:
            if "none" in prompts:
                return self._back(params, error="login_required")
            return self._page("/login", params)
        with self._deployment.store.begin() as db:
            consent = db.get(Consent, (identity.user.id, params["client_id"]))
        granted = set(consent.scope.split()) if consent else set()
        if "consent" in prompts or not set(self._scope(params).split()) <= granted:
            if "none" in prompts:
                return self._back(params, error="consent_required")
            return self._page("/oauth2/consent", params)
        return self._grant(params, identity)

    def _grant(self, params: dict[str, str], identity: Identity) -> str:
        """The callback with a fresh code, or with the denial that the knob asks for."""
        if self._deployment.knobs.deny_consent:
            return self._denied(params)
        code = new_secret()
        now = self._deployment.clock()
        with self._deployment.store.begin() as db:
            db.add(
                Grant(
                    hash=hash_secret(code),
                    kind="code",
                    client_id=params["client_id"],
                    user_id=identity.user.id,
                    sign_in_id=identity.sign_in.id,
                    workspace_id=identity.sign_in.workspace_id,
                    scope=self._scope(params),
                    redirect_uri=params["redirect_uri"],
                    code_challenge=params["code_challenge"],
                    nonce=params.get("nonce"),
                    issued_at=now,
                    expires_at=now + CODE_SECONDS,
                )
            )
        return self._back(params, code=code)

    def _denied(self, params: Mapping[str, str]) -> str:
        return self._back(params, error="access_denied", error_description="the user said no")

    def _scope(self, params: Mapping[str, str]) -> str:
        """The scope asked for; without one, all that the client is registered for."""
        if params.get("scope"):
            return params["scope"]
        with self._deployment.store.begin() as db:
            return db.get_one(Client, params["client_id"]).scope

    def _find_problem(self, params: Mapping[str, str], client: Client) -> tuple[str, str] | None:
        if params.get("response_type") != "code":
            return "unsupported_response_type", "response_type is code"
        if "authorization_code" not in client.grant_types:
            return "unauthorized_client", "the client did not register authorization_code"
        if not params.get("code_challenge") or params.get("code_challenge_method") != "S256":
            return "invalid_request", "PKCE with S256 is required"
        if not set(params.get("scope", "").split()) <= set(client.scope.split()):
            return "invalid_scope", "a scope is unknown or not registered"
        if params.get("resource", self._deployment.resource) != self._deployment.resource:
            return "invalid_target", "no such resource"
        return None

    def _back(self, params: Mapping[str, str], **answer: str) -> str:
        """The client's redirect URI with `answer`, `state` and `iss` (RFC 9207 §2)."""
        wrong = self._deployment.knobs.wrong_issuer == "response"
        issuer = self._deployment.foreign_issuer if wrong else self._deployment.issuer
        state = {"state": params["state"]} if "state" in params else {}
        query = urlencode({**answer, **state, "iss": issuer})
        redirect_uri = params["redirect_uri"]
        return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"

    def _page(self, path: str, params: Mapping[str, str]) -> str:
        expires_at = str(int(self._deployment.clock()) + QUERY_SECONDS)
        signed = {**params, "scope": self._scope(params), "exp": expires_at}
        signed["sig"] = self._sign_query(signed)
        return f"{self._deployment.web_url}{path}?{urlencode(signed)}"

    def _sign_query(self, params: Mapping[str, str]) -> str:
        text = urlencode(sorted(params.items()))
        digest = hmac.digest(self._deployment.query_key, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _lost(self, error: str, description: str) -> Response:
        query = urlencode({"error": error, "error_description": description})
        return _redirect(f"{self._deployment.issuer}/error?{query}")


def fits_redirect(given: str, registered: list[str]) -> bool:
    """Whether `given` is registered; a loopback address may differ in its port (RFC 8252 §7.3)."""
    if given in registered:
        return True
    try:
        wanted = urlsplit(given)
        _ = wanted.port
    except ValueError:
        return False
    if wanted.scheme != "http" or wanted.hostname not in LOOPBACK_HOSTS or wanted.username:
        return False
    return any(
        (known.scheme, known.hostname, known.path, known.query, known.fragment)
        == (wanted.scheme, wanted.hostname, wanted.path, wanted.query, wanted.fragment)
        for known in map(urlsplit, registered)
    )


def _check_registration(body: RegistrationBody) -> None:
    """Refuse metadata that no flow here could use (RFC 7591 §3.2.2)."""
    error, problem = "invalid_client_metadata", ""
    unknown = set((body.scope or "").split()) - set(SCOPES)
    if not set(body.grant_types) <= set(GRANT_TYPES) or not body.grant_types:
        problem = "a grant type is not supported"
    elif body.token_endpoint_auth_method not in AUTH_METHODS:
        problem = "the token endpoint authentication method is not supported"
    elif unknown:
        problem = "a scope is not supported"
    elif "authorization_code" in body.grant_types and not body.redirect_uris:
        error, problem = "invalid_redirect_uri", "a redirect URI is required"
    elif not all(_is_allowed_redirect(uri) for uri in body.redirect_uris):
        error, problem = "invalid_redirect_uri", "plain http is for loopback addresses only"
    if problem:
        raise Refusal(oauth_error(400, error, problem))


def _is_allowed_redirect(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return False
    if parts.fragment or not parts.scheme or parts.scheme in ("javascript", "data", "file"):
        return False
    if parts.scheme == "http":
        return parts.hostname in LOOPBACK_HOSTS
    return parts.scheme != "https" or bool(parts.hostname)


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 302, headers=NO_STORE)
