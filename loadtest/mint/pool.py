"""One bearer per client, by whichever way was asked for."""

import time
from collections.abc import Callable
from pathlib import Path

from loadtest.accounts import open_session
from loadtest.browser import find_choice
from loadtest.config import Settings, check_hosted, parse_origin
from loadtest.errors import ConfigError, MintError
from loadtest.mint.bearer import Bearer
from loadtest.mint.flow import Endpoint, MintRequest, Timings, mint_pool
from loadtest.mint.options import MintOptions
from loadtest.mint.ways import MachineClient, mint_by_client_credentials, take_given

SELF_MINT_TTL_SECONDS = (60, 3600)


def mint_slots(
    settings: Settings,
    options: MintOptions,
    mcp_url: str,
    slots: tuple[int, ...],
    needed_seconds: float,
    tell: Callable[[str], None],
) -> tuple[dict[int, Bearer], Timings]:
    """Mint a bearer for each slot of the pool; return them and where the time went."""
    if options.via in {"auto", "browser"}:
        bearers, timings = mint_pool(_build_request(settings, options, mcp_url, tell), slots)
        return dict(zip(slots, bearers, strict=True)), timings
    if len(slots) > 1:
        raise ConfigError(
            f"--via {options.via} gives one and the same client: a pool needs the browser"
        )
    began = time.monotonic()
    if options.via == "session":
        bearer = _mint_by_session(settings, options, mcp_url, needed_seconds, tell)
    else:
        # No browser and nobody to sign in: these ways need neither.
        bearer = _mint_as_machine(settings, options, mcp_url, tell)
    return {slots[0]: bearer}, Timings(total_seconds=time.monotonic() - began)


def _build_request(
    settings: Settings, options: MintOptions, mcp_url: str, tell: Callable[[str], None]
) -> MintRequest:
    check_hosted(settings, "LOADTEST_EMAIL", "LOADTEST_PASSWORD")
    who = settings.credentials
    if who.email is None or who.password is None:
        raise ConfigError("nobody to sign in yet: type `inv provision` first")
    return MintRequest(
        mcp_url=mcp_url,
        environment=settings.environment,
        email=who.email,
        password=who.password,
        workspace_id=who.workspace_id,
        browser=find_choice(settings.browser_record),
        state_dir=settings.state_dir,
        tell=tell,
        totp_secret=settings.find_secret("LOADTEST_TOTP_SECRET"),
        client_id=settings.find_variable("LOADTEST_CLIENT_ID"),
        client_secret=settings.find_secret("LOADTEST_CLIENT_SECRET"),
        issuer=settings.find_variable("LOADTEST_ISSUER"),
        sign_in_origins=_parse_origins(settings.find_variable("LOADTEST_SIGN_IN_ORIGINS")),
        headed=options.headed,
        slow_ms=options.slow_ms,
        refresh=options.via == "auto",
    )


def _parse_origins(text: str | None) -> frozenset[str]:
    try:
        return frozenset(parse_origin(part.strip()) for part in (text or "").split(",") if part)
    except ValueError as failure:
        raise ConfigError(f"LOADTEST_SIGN_IN_ORIGINS: {failure}") from None


def _mint_as_machine(
    settings: Settings, options: MintOptions, mcp_url: str, tell: Callable[[str], None]
) -> Bearer:
    workspace_id = settings.credentials.workspace_id
    endpoint = Endpoint(mcp_url, settings.environment, workspace_id, tell)
    if options.via == "given":
        given = settings.find_secret("LOADTEST_BEARER")
        if given is None:
            raise ConfigError("--via given needs LOADTEST_BEARER")
        return take_given(endpoint, given)
    needed = ("LOADTEST_CLIENT_ID", "LOADTEST_ISSUER")
    missing = [name for name in needed if settings.find_variable(name) is None]
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


def _mint_by_session(
    settings: Settings,
    options: MintOptions,
    mcp_url: str,
    needed_seconds: float,
    tell: Callable[[str], None],
) -> Bearer:
    """Sign in over HTTP and have the target mint (wire contract, "Self-mint")."""
    check_hosted(settings, "LOADTEST_EMAIL", "LOADTEST_PASSWORD")
    who = settings.credentials
    if who.email is None or who.password is None or who.workspace_id is None:
        raise ConfigError("nobody to sign in yet: type `inv provision` first")
    least, most = SELF_MINT_TTL_SECONDS
    ttl_seconds = options.ttl_seconds or min(most, max(least, round(needed_seconds) + 1))
    if not least <= ttl_seconds <= most:
        raise ConfigError(f"--ttl must be from {least} to {most} seconds")
    base_url = mcp_url.removesuffix(settings.environment.build_mcp_path(who.workspace_id))
    with open_session(base_url, who.email, who.password, who.workspace_id, tell) as accounts:
        minted = accounts.self_mint(ttl_seconds)
    if minted is None:
        raise MintError(
            "the target mints no bearers by itself for this workspace: use --via browser", "session"
        )
    bearer, reply = minted
    return Bearer(
        access_token=bearer,
        expires_at=time.time() + ttl_seconds,
        mcp_url=mcp_url,
        scope=str(reply.get("scope", "")),
        via="session",
        workspace_id=who.workspace_id,
        issuer=reply.get("issuer"),
        audience=reply.get("audience"),
    )
