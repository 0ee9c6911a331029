"""The endpoints that the user's browser reaches: authorization and consent.

The SDK's handlers are not used: they answer 201 instead of the product's 200, and JSON instead of
redirects, and they support no pages, prompts or opaque tokens.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from loadtest.reference.accounts import Client, Consent, Grant
from loadtest.reference.clients import Clients
from loadtest.reference.deployment import Deployment
from loadtest.reference.documents import DocumentError
from loadtest.reference.identity import Body, Identity, find_identity, read_body, require_identity
from loadtest.reference.registration import LOOPBACK_HOSTS
from loadtest.reference.responses import NO_STORE, Refusal, account_error, oauth_error
from loadtest.reference.tokens import hash_secret, new_secret

SIGNED_QUERY_SECONDS = 600
CODE_SECONDS = 600


class ConsentBody(Body):
    """The body that the consent page sends."""

    accept: bool
    oauth_query: str


class AuthorizationServer:
    """Serve authorization and consent, and the error page of requests that cannot return."""

    def __init__(self, deployment: Deployment, clients: Clients) -> None:
        self._deployment = deployment
        self._clients = clients

    def routes(self) -> list[Route]:
        """Return the routes of this part."""
        base = "/api/auth"
        return [
            Route(f"{base}/error", self.error_page),
            Route(f"{base}/oauth2/authorize", self.authorize),
            Route(f"{base}/oauth2/consent", self.consent, methods=["POST"]),
            Route(f"{base}/oauth2/public-client", self.public_client),
        ]

    async def error_page(self, _request: Request) -> Response:
        """Redirect to the error page of requests that cannot return (RFC 6749, section 4.1.2.1)."""
        return HTMLResponse("<!doctype html><title>Error</title><h1>This link does not work</h1>")

    async def public_client(self, request: Request) -> Response:
        """Return what the consent page shows of a client."""
        require_identity(self._deployment, request)
        with self._deployment.store.begin() as db:
            client = db.get(Client, request.query_params.get("client_id", ""))
        if client is None:
            return account_error(404, "NOT_FOUND", "Client not found")
        return JSONResponse({"client_id": client.id, "client_name": client.name})

    async def authorize(self, request: Request) -> Response:
        """Answer an authorization request (RFC 6749, section 4.1.1), always with a redirect."""
        params = dict(request.query_params)
        try:
            client = await self._clients.find(params.get("client_id", ""), refetch=True)
        except DocumentError as failure:
            return self._lost("invalid_client", str(failure))
        if client is None:
            return self._lost("invalid_client", "unknown client")
        any_port = self._deployment.knobs.redirect_ports == "any"
        if not fits_redirect(params.get("redirect_uri", ""), client.redirect_uris, any_port):
            return self._lost("invalid_redirect", "redirect_uri is not registered")
        problem = self._find_problem(params, client)
        if problem is not None:
            return _redirect(self._back(params, error=problem[0], error_description=problem[1]))
        identity = find_identity(self._deployment, request)
        return _redirect(self._proceed(params, identity))

    async def consent(self, request: Request) -> Response:
        """Accept the user's decision on the consent page."""
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
        """Return the next URL after the user has signed in."""
        params = self.read_query(oauth_query)
        prompts = [value for value in params.get("prompt", "").split() if value != "login"]
        return self._proceed({**params, "prompt": " ".join(prompts)}, identity)

    def read_query(self, query: str) -> dict[str, str]:
        """Return the parameters of a signed query; refuse a forged one or one older than 600 s."""
        params = dict(parse_qsl(query.removeprefix("?"), keep_blank_values=True))
        signature = params.pop("sig", "")
        expires_at = params.get("exp", "")
        fits = hmac.compare_digest(signature.encode(), self._sign_query(params).encode())
        if not fits or self._deployment.clock() >= int(expires_at):
            raise Refusal(oauth_error(401, "invalid_request", "the query is not valid any more"))
        del params["exp"]
        return params

    def _proceed(self, params: dict[str, str], identity: Identity | None) -> str:
        """Return the next page, else the callback (OpenID Connect Core, section 3.1.2.1)."""
        prompts = params.get("prompt", "").split()
        if identity is None or "login" in prompts:
            if "none" in prompts:
                return self._back(params, error="login_required")
            return self._page("/login", params)
        if identity.user.must_change_password:
            return self._page("/change-password", params)
        with self._deployment.store.begin() as db:
            consent = db.get(Consent, (identity.user.id, params["client_id"]))
        granted = set(consent.scope.split()) if consent else set()
        if "consent" in prompts or not set(self._scope(params).split()) <= granted:
            if "none" in prompts:
                return self._back(params, error="consent_required")
            return self._page("/oauth2/consent", params)
        return self._grant(params, identity)

    def _grant(self, params: dict[str, str], identity: Identity) -> str:
        """Return the callback with a new code, or with a denial if a knob asks for that."""
        if self._deployment.knobs.deny_consent:
            return self._denied(params)
        scope = self._deployment.narrow_scope(self._scope(params))
        if not scope:
            message = "no scope is left to grant"
            return self._back(params, error="invalid_scope", error_description=message)
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
                    scope=scope,
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
        """Return the requested scope, by default all that the client is registered for."""
        if params.get("scope"):
            return params["scope"]
        with self._deployment.store.begin() as db:
            return db.get_one(Client, params["client_id"]).scope

    def _find_problem(self, params: Mapping[str, str], client: Client) -> tuple[str, str] | None:
        if params.get("response_type") != "code":
            return "unsupported_response_type", "response_type is code"
        if "authorization_code" not in client.grant_types:
            return "unauthorized_client", "the client did not register authorization_code"
        method = self._deployment.pkce_method
        if not params.get("code_challenge") or params.get("code_challenge_method") != method:
            return "invalid_request", f"PKCE with {method} is required"
        if not set(params.get("scope", "").split()) <= set(client.scope.split()):
            return "invalid_scope", "a scope is unknown or not registered"
        asked = params.get("resource", self._deployment.resource)
        if self._deployment.knows_resources and asked != self._deployment.resource:
            return "invalid_target", "no such resource"
        return None

    def _back(self, params: Mapping[str, str], **answer: str) -> str:
        """Return the client's redirect URI with `answer`, `state` and `iss` (RFC 9207, section 2).

        Without metadata, a client cannot know the issuer, so `iss` is omitted.
        """
        knobs = self._deployment.knobs
        wrong = knobs.wrong_issuer == "response"
        if "state" in params:
            answer["state"] = params["state"]
        if knobs.iss_parameter in ("promised", "unpromised") and not knobs.default_endpoints:
            answer["iss"] = self._deployment.foreign_issuer if wrong else self._deployment.issuer
        query = urlencode(answer)
        redirect_uri = params["redirect_uri"]
        return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"

    def _page(self, path: str, params: Mapping[str, str]) -> str:
        expires_at = str(int(self._deployment.clock()) + SIGNED_QUERY_SECONDS)
        signed = {**params, "scope": self._scope(params), "exp": expires_at}
        signed["sig"] = self._sign_query(signed)
        return f"{self._deployment.web_url}{path}?{urlencode(signed)}"

    def _sign_query(self, params: Mapping[str, str]) -> str:
        text = urlencode(sorted(params.items()))
        digest = hmac.digest(self._deployment.query_key, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _lost(self, error: str, description: str) -> Response:
        query = urlencode({"error": error, "error_description": description})
        return _redirect(f"{self._deployment.auth_url}/error?{query}")


def fits_redirect(given: str, registered: list[str], any_port: bool) -> bool:
    """Return whether a URI is registered, `any_port` on loopback (RFC 8252, section 7.3)."""
    if given in registered or not any_port:
        return given in registered
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


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 302, headers=NO_STORE)
