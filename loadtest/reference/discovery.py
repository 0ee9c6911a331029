"""Serve the metadata of the resource and of its authorization server."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtest.reference.assertions import ALGORITHMS
from loadtest.reference.deployment import SCOPES, Deployment

WELL_KNOWN = "/.well-known"
RESOURCE_METADATA = f"{WELL_KNOWN}/oauth-protected-resource"
MISMATCHES = {"host": "https://mcp.elsewhere.example/mcp", "path": "/mc"}
"""Resources that do not match the endpoint: another host, or only a prefix of its path."""


class Discovery:
    """Serve the well-known documents and the keys, at the places that the knobs allow."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def routes(self) -> list[Route]:
        """Return the routes of this part."""
        places = [Route("/api/auth/jwks", self.jwks)]
        places += [Route(path, self.server_metadata) for path in self._server_paths()]
        match self._deployment.knobs.resource_metadata:
            case "path":
                path = f"{RESOURCE_METADATA}/mcp"
                places.append(Route(path, self.resource_metadata))
                places.append(Route(path + "/{anything:path}", self.resource_metadata))
            case "root":
                places.append(Route(RESOURCE_METADATA, self.resource_metadata))
        return places

    async def server_metadata(self, _request: Request) -> Response:
        """Serve authorization server metadata (RFC 8414, section 2; RFC 9207, section 3)."""
        deployment, knobs = self._deployment, self._deployment.knobs
        base = deployment.auth_url
        metadata: dict[str, Any] = {
            "issuer": deployment.issuer,
            "authorization_endpoint": f"{base}/oauth2/authorize",
            "token_endpoint": f"{base}/oauth2/token",
            "revocation_endpoint": f"{base}/oauth2/revoke",
            "introspection_endpoint": f"{base}/oauth2/introspect",
            "userinfo_endpoint": f"{base}/oauth2/userinfo",
            "jwks_uri": f"{base}/jwks",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": list(deployment.grant_types),
            "token_endpoint_auth_methods_supported": list(deployment.auth_methods),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"],
            "prompt_values_supported": ["login", "consent", "none"],
        }
        if knobs.registration == "open":
            metadata["registration_endpoint"] = f"{base}/oauth2/register"
        if "private_key_jwt" in deployment.auth_methods:
            metadata["token_endpoint_auth_signing_alg_values_supported"] = list(ALGORITHMS)
        if knobs.s256 != "absent":
            methods = ["S256"] if knobs.s256 == "listed" else ["plain"]
            metadata["code_challenge_methods_supported"] = methods
        if knobs.iss_parameter in ("promised", "withheld"):
            metadata["authorization_response_iss_parameter_supported"] = True
        if knobs.client_metadata_documents:
            metadata["client_id_metadata_document_supported"] = True
        return JSONResponse(metadata)

    async def resource_metadata(self, _request: Request) -> Response:
        """Serve protected resource metadata (RFC 9728, section 2), the same for every workspace."""
        deployment = self._deployment
        resource = deployment.resource
        match deployment.knobs.resource_mismatch:
            case "host":
                resource = MISMATCHES["host"]
            case "path":
                resource = deployment.api_url + MISMATCHES["path"]
        metadata = {
            "resource": resource,
            "authorization_servers": [deployment.issuer],
            "scopes_supported": ["mcp:read", "mcp:write", "offline_access"],
            "bearer_methods_supported": ["header"],
        }
        return JSONResponse(metadata)

    async def jwks(self, _request: Request) -> Response:
        """Serve the public keys (RFC 7517, section 5)."""
        return JSONResponse(self._deployment.keys.public_jwks())

    def _server_paths(self) -> list[str]:
        """Return the paths (RFC 8414, sections 3.1 and 5; OpenID Connect Discovery, section 4)."""
        path = "/api/auth" if self._deployment.knobs.issuer_path else ""
        inserted = f"{WELL_KNOWN}/oauth-authorization-server{path}"
        openid_inserted = f"{WELL_KNOWN}/openid-configuration{path}"
        openid_appended = f"{path}{WELL_KNOWN}/openid-configuration"
        return {
            "both": [inserted, openid_appended],
            "inserted": [inserted],
            "openid-inserted": [openid_inserted],
            "openid-appended": [openid_appended],
            "nowhere": [],
        }[self._deployment.knobs.server_metadata]


def build_challenge(deployment: Deployment, workspace_id: str, **members: str) -> str:
    """Return the edge's `WWW-Authenticate` value (RFC 6750, section 3; RFC 9728, section 5.1)."""
    knobs = deployment.knobs
    parameters = {"realm": "mcp", **members}
    if knobs.challenge != "bare" and knobs.resource_metadata != "nowhere":
        place = f"{deployment.api_url}{RESOURCE_METADATA}"
        at_root = knobs.resource_metadata == "root"
        parameters["resource_metadata"] = place if at_root else f"{place}/mcp/{workspace_id}"
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())
