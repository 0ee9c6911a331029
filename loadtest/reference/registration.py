"""Dynamic client registration (RFC 7591) and its management (RFC 7592)."""

import hmac
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtest.reference.accounts import Client
from loadtest.reference.deployment import GRANT_TYPES, SCOPES, Deployment
from loadtest.reference.identity import Body, find_identity, read_body
from loadtest.reference.responses import NO_STORE, Refusal, new_id, oauth_error
from loadtest.reference.tokens import hash_secret, new_secret

AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
PATH = "/api/auth/oauth2/register"


class ClientMetadata(Body):
    """The members of client metadata (RFC 7591, section 2) that are used here."""

    redirect_uris: list[str] = Field(default_factory=list)
    client_name: str = "MCP client"
    grant_types: list[str] = Field(default_factory=lambda: ["authorization_code"])
    response_types: list[str] = Field(default_factory=lambda: ["code"])
    token_endpoint_auth_method: str = "client_secret_basic"  # noqa: S105 - a method
    application_type: str | None = None
    scope: str | None = None


class Registration:
    """Serve the registration endpoint, and let each registered client manage its own entry."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def routes(self) -> list[Route]:
        """Return the routes of this part."""
        places = [Route(PATH, self.register, methods=["POST"])]
        if self._deployment.knobs.registration_management:
            methods = ["GET", "DELETE"]
            places.append(Route(PATH + "/{client_id}", self.manage, methods=methods))
        return places

    async def register(self, request: Request) -> Response:
        """Register a client (RFC 7591, section 3); it gets a secret only with a session bearer.

        With the knob for the authentication method, every client gets a secret.
        """
        deployment, knobs = self._deployment, self._deployment.knobs
        if knobs.registration == "closed":
            return oauth_error(403, "access_denied", "client registration is closed")
        identity = find_identity(deployment, request)
        body = await read_body(request, ClientMetadata)
        problem = find_metadata_problem(body, AUTH_METHODS)
        if problem is not None:
            raise Refusal(oauth_error(400, *problem))
        method = body.token_endpoint_auth_method
        if knobs.registration_auth != "as-asked":
            method = knobs.registration_auth
        elif identity is None:
            method = "none"
        secret = None if method == "none" else new_secret()
        managing = new_secret() if knobs.registration_management else None
        client = Client(
            id=new_id(),
            name=body.client_name,
            redirect_uris=body.redirect_uris,
            grant_types=body.grant_types,
            auth_method=method,
            secret_hash=hash_secret(secret) if secret else None,
            scope=body.scope if body.scope is not None else " ".join(SCOPES),
            workspace_id=identity.sign_in.workspace_id if identity else None,
            requests_per_minute=None,
            application_type=body.application_type,
            management_hash=hash_secret(managing) if managing else None,
            created_at=deployment.clock(),
        )
        with deployment.store.begin() as db:
            db.add(client)
        deployment.registrations += 1
        answer = self._describe(client)
        if secret:
            answer |= {"client_secret": secret, "client_secret_expires_at": 0}
        if managing:
            answer["registration_access_token"] = managing
        return JSONResponse(answer, 200, headers=NO_STORE)

    async def manage(self, request: Request) -> Response:
        """Read or delete the client of a registration access token (RFC 7592, section 2)."""
        token = request.headers.get("authorization", "").partition(" ")[2]
        with self._deployment.store.begin() as db:
            client = db.get(Client, request.path_params["client_id"])
        known = client.management_hash if client else None
        if client is None or known is None or not hmac.compare_digest(known, hash_secret(token)):
            refusal = oauth_error(401, "invalid_token", "the registration access token is wrong")
            refusal.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            return refusal
        if request.method == "DELETE":
            self._deployment.forget_clients([client.id])
            return Response(status_code=204, headers=NO_STORE)
        answer = {**self._describe(client), "registration_access_token": token}
        return JSONResponse(answer, headers=NO_STORE)

    def _describe(self, client: Client) -> dict[str, Any]:
        """Return the client information response (RFC 7591, section 3.2.1) without secrets."""
        answer: dict[str, Any] = {
            "client_id": client.id,
            "client_id_issued_at": int(client.created_at),
            "client_name": client.name,
            "redirect_uris": client.redirect_uris,
            "grant_types": client.grant_types,
            "response_types": ["code"],
            "token_endpoint_auth_method": client.auth_method,
            "scope": client.scope,
        }
        if client.application_type is not None:
            answer["application_type"] = client.application_type
        if client.management_hash:
            where = f"{self._deployment.api_url}{PATH}/{client.id}"
            answer["registration_client_uri"] = where
        return answer


def find_metadata_problem(
    metadata: ClientMetadata, methods: tuple[str, ...]
) -> tuple[str, str] | None:
    """Return error and description for unusable metadata, else None (RFC 7591, section 3.2.2)."""
    unknown = set((metadata.scope or "").split()) - set(SCOPES)
    if not set(metadata.grant_types) <= set(GRANT_TYPES) or not metadata.grant_types:
        return "invalid_client_metadata", "a grant type is not supported"
    if metadata.token_endpoint_auth_method not in methods:
        message = "the token endpoint authentication method is not supported"
        return "invalid_client_metadata", message
    if unknown:
        return "invalid_client_metadata", "a scope is not supported"
    if "authorization_code" in metadata.grant_types and not metadata.redirect_uris:
        return "invalid_redirect_uri", "a redirect URI is required"
    if not all(is_allowed_redirect(uri) for uri in metadata.redirect_uris):
        return "invalid_redirect_uri", "plain http is for loopback addresses only"
    return None


def is_allowed_redirect(uri: str) -> bool:
    """Return whether a client may register `uri`: https, a private scheme, or loopback http."""
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
