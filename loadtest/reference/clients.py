"""Find and authenticate the client that sends a request."""

import base64
import binascii
import hmac
from urllib.parse import unquote

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from loadtest.reference.accounts import Client
from loadtest.reference.assertions import ASSERTION_TYPE, Assertions, read_subject
from loadtest.reference.deployment import Deployment
from loadtest.reference.documents import DocumentError, fetch_client, is_document_url
from loadtest.reference.responses import Refusal, oauth_error
from loadtest.reference.tokens import hash_secret


class Clients:
    """Find a client, whether it is registered, given, or described by a document."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._assertions = Assertions(deployment.clock)

    async def find(self, client_id: str, *, refetch: bool = False) -> Client | None:
        """Return the client or None; with `refetch`, fetch its document again if it has one.

        Raises `DocumentError` for a document that cannot be fetched or is not valid.
        """
        knobs, store = self._deployment.knobs, self._deployment.store
        described = knobs.client_metadata_documents and is_document_url(client_id)
        if not described or not refetch:
            with store.begin() as db:
                found = db.get(Client, client_id)
            if found is not None or not described:
                return found
        client = await fetch_client(client_id, self._deployment.clock())
        with store.begin() as db:
            return db.merge(client)

    async def authenticate(self, request: Request, form: FormData) -> Client:
        """Authenticate the client by its registered method (RFC 6749, section 2.3.1)."""
        client_id, secret = read_field(form, "client_id"), read_field(form, "client_secret")
        assertion = read_field(form, "client_assertion")
        kind, _, encoded = request.headers.get("authorization", "").partition(" ")
        method = "client_secret_post" if secret else "none"
        if assertion:
            method = "private_key_jwt"
            client_id = client_id or read_subject(assertion)
        elif kind.lower() == "basic":
            method = "client_secret_basic"
            client_id, secret = _read_basic(encoded)
        try:
            client = await self.find(client_id)
        except DocumentError as failure:
            raise Refusal(oauth_error(401, "invalid_client", str(failure))) from None
        if client is None or client.auth_method != method:
            raise Refusal(_bad_client())
        if client.secret_hash and not hmac.compare_digest(client.secret_hash, hash_secret(secret)):
            raise Refusal(_bad_client())
        if assertion:
            self._check_assertion(client, form, assertion)
        return client

    def _check_assertion(self, client: Client, form: FormData, assertion: str) -> None:
        """Refuse an assertion of another type or for another audience (RFC 7523, section 3)."""
        if read_field(form, "client_assertion_type") != ASSERTION_TYPE:
            raise Refusal(oauth_error(401, "invalid_client", "no such client_assertion_type"))
        # Newer advice allows only the issuer, but many clients name the token endpoint.
        audiences = {self._deployment.issuer, f"{self._deployment.auth_url}/oauth2/token"}
        problem = self._assertions.find_problem(client, assertion, audiences)
        if problem is not None:
            raise Refusal(oauth_error(401, "invalid_client", problem))


def read_field(form: FormData, name: str) -> str:
    """Return a field of a form as text; empty if it is absent or a file."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _read_basic(encoded: str) -> tuple[str, str]:
    """Return client_id and secret of a form-encoded Basic value (RFC 6749, section 2.3.1)."""
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client_id, _, secret = text.partition(":")
    return unquote(client_id), unquote(secret)


def _bad_client() -> Response:
    return oauth_error(401, "invalid_client", "the client is unknown or did not authenticate")
