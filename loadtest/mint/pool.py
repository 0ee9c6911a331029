"""Mint one bearer per client with the requested grant type."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.common.command_name import spell
from loadtest.common.redaction import SecretStr
from loadtest.config.settings import Settings, check_hosted
from loadtest.errors import ConfigError, MintError
from loadtest.github.workflow_commands import build_mask
from loadtest.mint.oauth.refresh import refresh_slots
from loadtest.mint.oauth.request import ClientRequest, Endpoint, Timings, ToolCall
from loadtest.mint.options import MintOptions
from loadtest.state.bearers import Bearer
from loadtest.state.clients import ClientStore
from loadtest.target.rest_client import find_second_factor, open_session

if TYPE_CHECKING:
    from loadtest.mint.browser.session import SignInRequest

SELF_MINT_TTL_SECONDS = (60, 3600)
# The identity of a client that signs in as itself; it also needs a secret or a key.
MACHINE_VARIABLES = ("LOADTEST_CLIENT_ID", "LOADTEST_ISSUER")


@dataclass(frozen=True)
class MintRequest:
    """What to mint: for which endpoint, for how long, and where to print progress."""

    settings: Settings
    options: MintOptions
    mcp_url: str
    needed_seconds: float
    tell: Callable[[str], None]

    @property
    def base_url(self) -> str:
        """Return the target's origin."""
        settings = self.settings
        path = settings.environment.build_mcp_path(settings.credentials.workspace_id)
        return self.mcp_url.removesuffix(path)

    @property
    def hide(self) -> Callable[[SecretStr], None]:
        """Return a function that masks a secret in the logs of GitHub Actions."""
        return build_mask(self.settings.variables)


def find_call(settings: Settings) -> ToolCall | None:
    """Return a call of the first tool of the table, None if no tools are configured."""
    if settings.tools_assumed or not settings.tools.tools:
        return None
    name = next(iter(settings.tools.tools))
    return ToolCall(name, next(settings.tools.spread_arguments(name, 1))[1])


def mint_slots(request: MintRequest, slots: tuple[int, ...]) -> tuple[dict[int, Bearer], Timings]:
    """Mint a bearer for each slot of the pool; return them and how long each part took."""
    began = time.monotonic()
    via: str = request.options.via or request.settings.environment.via
    if via == "auto" and _offers_client_credentials_only(request):
        via = "client-credentials"
    if via in {"auto", "browser"}:
        client = _build_client(request)
        return mint_pool(
            client,
            slots,
            lambda lacking: _build_sign_in(request, client, lacking),
            refresh=via == "auto" and not request.options.again,
        )
    if len(slots) > 1:
        raise ConfigError(
            f"--via {via} always uses the same client: several clients need --via browser"
        )
    # No browser; only `session` signs a user in.
    bearer = _mint_by_session(request) if via == "session" else _mint_without_user(request, via)
    return {slots[0]: bearer}, Timings(total_seconds=time.monotonic() - began)


def mint_pool(
    client: ClientRequest,
    slots: tuple[int, ...],
    build_sign_in: Callable[[tuple[int, ...]], "SignInRequest"],
    *,
    refresh: bool = True,
) -> tuple[dict[int, Bearer], Timings]:
    """Refresh if possible, else sign in; `build_sign_in` gets the slots that still need a bearer.

    The imports of the sign-in would slow the other grant types down.
    """
    began = time.monotonic()
    timings = Timings()
    bearers = refresh_slots(client, slots) if refresh else {}
    lacking = tuple(slot for slot in slots if slot not in bearers)
    if lacking:
        from loadtest.mint.browser.session import sign_in_slots

        signed_in, timings = sign_in_slots(build_sign_in(lacking), lacking)
        bearers |= dict(zip(lacking, signed_in, strict=True))
    timings.total_seconds = time.monotonic() - began
    return bearers, timings


def _build_client(request: MintRequest) -> ClientRequest:
    settings = request.settings
    return ClientRequest(
        mcp_url=request.mcp_url,
        environment=settings.environment,
        workspace_id=settings.credentials.workspace_id,
        tell=request.tell,
        hide=request.hide,
        call=find_call(settings),
        state_dir=settings.state_dir,
        client_id=settings.find_variable("LOADTEST_CLIENT_ID"),
        client_secret=settings.find_secret("LOADTEST_CLIENT_SECRET"),
        issuer=settings.find_variable("LOADTEST_ISSUER"),
    )


def _build_sign_in(
    request: MintRequest, client: ClientRequest, slots: tuple[int, ...]
) -> "SignInRequest":
    from loadtest.mint.browser.launcher import obtain_choice
    from loadtest.mint.browser.session import SignInRequest
    from loadtest.mint.oauth.registration import register_with_session

    settings = request.settings
    email, password = _find_user(settings)
    environment = settings.environment
    registers = client.client_id is None and environment.client_metadata_url is None

    def register(slots: tuple[int, ...], scope: str | None) -> None:
        if environment.provision == "novamart" and registers:
            who = (request.base_url, email, password)
            second_factor = find_second_factor(settings)
            register_with_session(client, *who, slots, scope, second_factor=second_factor)

    register(slots, environment.scope)
    return SignInRequest(
        **{spec.name: getattr(client, spec.name) for spec in fields(client)}
        | {"register": register},
        email=email,
        password=password,
        browser=obtain_choice(settings.browser_record, request.tell),
        totp_secret=settings.credentials.totp_secret,
        sign_in_origins=settings.find_sign_in_origins(),
        headed=request.options.headed,
        slow_ms=request.options.slow_ms,
    )


def _find_user(settings: Settings) -> tuple[str, SecretStr]:
    check_hosted(settings, "LOADTEST_EMAIL", "LOADTEST_PASSWORD")
    who = settings.credentials
    if who.email is None or who.password is None:
        raise ConfigError(f"no user to sign in yet: type `{spell('provision')}` first")
    return who.email, who.password


def _offers_client_credentials_only(request: MintRequest) -> bool:
    """Return whether the server offers only client credentials, and we have such a client."""
    settings = request.settings
    secrets = ("LOADTEST_CLIENT_SECRET", "LOADTEST_CLIENT_KEY_FILE")
    if not all(map(settings.find_variable, MACHINE_VARIABLES)) or not any(
        map(settings.find_variable, secrets)
    ):
        return False
    if any(found.refresh_token for found in ClientStore(settings.state_dir).read().values()):
        return False  # a user has signed in there
    from loadtest.mint.oauth.discovery import discover
    from loadtest.mint.oauth.exchange import CLIENT_CREDENTIALS_ONLY

    try:
        discover(request.mcp_url)
    except MintError as failure:
        return failure.reason == CLIENT_CREDENTIALS_ONLY
    return False


def _mint_without_user(request: MintRequest, via: str) -> Bearer:
    from loadtest.mint.oauth.non_interactive import (
        MachineClient,
        mint_by_client_credentials,
        take_given,
    )

    settings = request.settings
    workspace_id = settings.credentials.workspace_id
    endpoint = Endpoint(
        request.mcp_url,
        settings.environment,
        workspace_id,
        request.tell,
        hide=request.hide,
        call=find_call(settings),
    )
    if via == "given":
        given = settings.find_secret("LOADTEST_BEARER")
        if given is None:
            raise ConfigError("--via given needs LOADTEST_BEARER")
        return take_given(endpoint, given)
    missing = [name for name in MACHINE_VARIABLES if settings.find_variable(name) is None]
    if missing:
        raise ConfigError(f"--via client-credentials needs {', '.join(missing)}")
    key_file = settings.find_variable("LOADTEST_CLIENT_KEY_FILE")
    client = MachineClient(
        client_id=settings.variables["LOADTEST_CLIENT_ID"],
        issuer=settings.variables["LOADTEST_ISSUER"],
        secret=settings.find_secret("LOADTEST_CLIENT_SECRET"),
        key_file=Path(key_file) if key_file else None,
    )
    return mint_by_client_credentials(endpoint, client)


def _mint_by_session(request: MintRequest) -> Bearer:
    """Sign in over HTTP and have the target mint (wire contract, "Self-mint")."""
    email, password = _find_user(request.settings)
    workspace_id = request.settings.credentials.workspace_id
    if workspace_id is None:
        raise ConfigError(f"there is no workspace yet: type `{spell('provision')}` first")
    least, most = SELF_MINT_TTL_SECONDS
    ttl_seconds = request.options.ttl_seconds or min(
        most, max(least, round(request.needed_seconds) + 1)
    )
    if not least <= ttl_seconds <= most:
        raise ConfigError(f"--ttl must be from {least} to {most} seconds")
    with open_session(
        request.base_url,
        email,
        password,
        workspace_id,
        request.tell,
        second_factor=find_second_factor(request.settings),
        hide=request.hide,
    ) as accounts:
        minted = accounts.self_mint(ttl_seconds)
    if minted is None:
        raise MintError(
            "the target does not mint bearers for this workspace: use --via browser", "session"
        )
    bearer, reply = minted
    return Bearer(
        access_token=bearer,
        expires_at=time.time() + ttl_seconds,
        mcp_url=request.mcp_url,
        scope=str(reply.get("scope", "")),
        via="session",
        workspace_id=workspace_id,
        issuer=reply.get("issuer"),
        audience=reply.get("audience"),
    )
