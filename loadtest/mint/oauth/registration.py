"""Register clients with a session: an owner can raise the quota of these only."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from loadtest.common.redaction import SecretStr
from loadtest.errors import ProvisionError
from loadtest.mint.oauth.callback import CALLBACK_PATH
from loadtest.mint.oauth.discovery import discover
from loadtest.mint.oauth.request import ClientRequest, build_client_metadata
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient
from loadtest.state.quotas import MOST_REQUESTS_PER_MINUTE, ensure_quota
from loadtest.target.rest_client import (
    OneTimeCodeError,
    SecondFactor,
    WrongPasswordError,
    open_session,
)


def register_with_session(
    request: ClientRequest,
    base_url: str,
    email: str,
    password: SecretStr,
    slots: Sequence[int],
    scope: str | None,
    *,
    second_factor: SecondFactor,
) -> None:
    """Register a client for each slot without one, and raise its quota before its first call.

    If this fails, the flow registers without a session, as on any server. Only a wrong password
    or code is raised: another attempt could lock the account.
    """
    store = ClientStore(request.state_dir)
    lacking = [slot for slot in slots if store.find(slot, None) is None]
    if not lacking:
        return
    found = discover(request.mcp_url)
    endpoint = found.registration_endpoint
    if endpoint is None or urlsplit(endpoint).netloc != urlsplit(base_url).netloc:
        return
    # The authorization request may use any port (RFC 8252, section 7.3).
    metadata = build_client_metadata(f"http://127.0.0.1{CALLBACK_PATH}", scope)
    who = (email, password, request.workspace_id)
    try:
        with open_session(
            base_url, *who, request.tell, second_factor=second_factor, hide=request.hide
        ) as accounts:
            for slot in lacking:
                reply = accounts.register_client_with_session(endpoint, metadata)
                client = ClientInformation.model_validate(
                    metadata | reply | {"issuer": found.issuer}
                )
                remembered = StoredClient(
                    client=client,
                    issuer=found.issuer,
                    management_url=reply.get("registration_client_uri"),
                    management_token=reply.get("registration_access_token"),
                )
                store.keep(slot, remembered)
                raised = ensure_quota(accounts, request.state_dir, client.client_id)
                request.tell(
                    f"client {slot + 1} registered with the session, quota "
                    + (f"{MOST_REQUESTS_PER_MINUTE} a minute" if raised == "made" else raised)
                )
    except (WrongPasswordError, OneTimeCodeError):
        raise
    except ProvisionError as failure:
        request.tell(f"registering without the session: {failure}")
