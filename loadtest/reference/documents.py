"""Client ID Metadata Documents: the URL of a client's description is its client_id."""

import asyncio
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from loadtest.reference.accounts import Client
from loadtest.reference.deployment import SCOPES
from loadtest.reference.registration import LOOPBACK_HOSTS, ClientMetadata, find_metadata_problem

MOST_BYTES = 5 * 1024
FETCH_SECONDS = 5.0
_METHODS = ("none", "private_key_jwt")


class DocumentError(Exception):
    """The document cannot be fetched, or it does not describe a client."""


class ClientDocument(ClientMetadata):
    """The members of the document that are used here; it must not contain a shared secret."""

    client_id: str
    token_endpoint_auth_method: str = "none"  # noqa: S105 - a method
    client_secret: Any = None
    jwks: dict[str, Any] | None = None


def is_document_url(client_id: str) -> bool:
    """Return whether a client_id is the URL of a document that this target may fetch.

    It has a path, no fragment, no user (draft-ietf-oauth-client-id-metadata-document, section 3)
    and a loopback host: the target never sends a request beyond this machine.
    """
    try:
        parts = urlsplit(client_id)
        _ = parts.port
    except ValueError:
        return False
    named = parts.username is None and not parts.fragment and parts.path not in ("", "/")
    dots = {".", ".."} & set(parts.path.split("/"))
    return (
        parts.scheme in ("http", "https")
        and parts.hostname in LOOPBACK_HOSTS
        and named
        and not dots
    )


async def fetch_client(url: str, now: float) -> Client:
    """Return the client that the document at `url` describes, or raise `DocumentError`."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            body = await _fetch(url)
    except TimeoutError:
        raise DocumentError(f"the document takes longer than {FETCH_SECONDS:g} s") from None
    return parse_document(url, body, now)


def parse_document(url: str, body: bytes, now: float) -> Client:
    """Parse a document into a client; raise `DocumentError` if it does not describe one."""
    try:
        document = ClientDocument.model_validate_json(body)
    except ValidationError:
        raise DocumentError("the document is not client metadata in JSON") from None
    if document.client_id != url:
        raise DocumentError("the document names another client_id")
    method = document.token_endpoint_auth_method
    if method not in _METHODS or document.client_secret is not None:
        raise DocumentError("the document may not use a shared secret")
    if method == "private_key_jwt" and not document.jwks:
        raise DocumentError("the document has no jwks to check assertions with")
    problem = find_metadata_problem(document, _METHODS)
    if problem is not None:
        raise DocumentError(problem[1])
    return Client(
        id=url,
        name=document.client_name,
        redirect_uris=document.redirect_uris,
        grant_types=document.grant_types,
        auth_method=method,
        secret_hash=None,
        scope=document.scope if document.scope is not None else " ".join(SCOPES),
        workspace_id=None,
        requests_per_minute=None,
        jwks=json.dumps(document.jwks) if document.jwks else None,
        application_type=document.application_type,
        created_at=now,
    )


async def _fetch(url: str) -> bytes:
    """Fetch a JSON body with status 200; follow no redirect and use no proxy."""
    import httpx2  # slow to import, and seldom needed

    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if url.startswith("https:"):
        # Uses SSL_CERT_FILE, so that a test's own certificate can be trusted.
        trust.load_default_certs()
    try:
        async with (
            httpx2.AsyncClient(trust_env=False, verify=trust, timeout=FETCH_SECONDS) as http,
            http.stream("GET", url, headers={"Accept": "application/json"}) as response,
        ):
            if response.status_code != 200:
                raise DocumentError(f"the document's URL answers {response.status_code}")
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" and not kind.endswith("+json"):
                raise DocumentError("the document is not served as JSON")
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise DocumentError(f"the document is longer than {MOST_BYTES} bytes")
            return body
    except httpx2.HTTPError as failure:
        raise DocumentError(f"the document cannot be fetched: {type(failure).__name__}") from None
