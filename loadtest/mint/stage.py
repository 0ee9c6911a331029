"""Mint for each client a bearer that lasts longer than the profile; revoke what was minted."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.common.command_name import spell
from loadtest.config.settings import Settings, check_hosted
from loadtest.context import Chain
from loadtest.errors import BusyError, LoadtestError, MintError, ProvisionError, UsageError
from loadtest.github.workflow_commands import build_mask
from loadtest.mint.options import MINT_GRANT_TYPES, MintOptions
from loadtest.state.bearers import (
    SPARE_SECONDS,
    Bearer,
    bearer_path,
    build_anonymous,
    find_soonest,
    parse_claims,
    read_bearers,
    write_bearers,
)
from loadtest.state.mint_lock import lock_state

if TYPE_CHECKING:
    from loadtest.mint.oauth.revocation import RevocationResult


def mint(chain: Chain, settings: Settings, options: MintOptions, *, print_claims: bool) -> None:
    """Ensure a bearer per client that outlives the profile: from disk, else newly minted."""
    auth = settings.environment.auth
    if auth != "bearer":
        why = f'environment {settings.environment_name} has auth = "{auth}"'
        if options.via is not None or print_claims:
            raise UsageError(f"there is no bearer to mint: {why}")
        chain.say("mint", f"nothing to mint: {why}")
        return
    bearers, made = ensure_bearers(chain, settings, options)
    if not made:
        soonest = find_soonest(bearers)
        count = f"{len(bearers)} bearers " if len(bearers) > 1 else ""
        chain.say("mint", f"{count}already there, valid for {soonest.seconds_left() / 60:.0f} min")
    if print_claims:
        for bearer in bearers:
            claims = parse_claims(bearer.access_token.get_secret_value())
            chain.console.print_json(data=claims or {"opaque": True})


def ensure_bearers(
    chain: Chain, settings: Settings, options: MintOptions
) -> tuple[tuple[Bearer, ...], bool]:
    """Return a bearer per client that outlives the profile, and whether one was minted.

    Two processes never mint for one environment at once: a refresh token sent twice would revoke
    the whole grant. A target that takes no bearer is only asked whether it lets us in.
    """
    check_hosted(settings, "LOADTEST_BASE_URL")
    if settings.environment.auth != "bearer":
        return (_find_anonymous(chain, settings),), False
    needed_seconds = options.min_ttl_seconds
    if needed_seconds is None:
        needed_seconds = settings.profile.scheduled_seconds(settings.tools) + SPARE_SECONDS
    with lock_state(settings.state_dir):
        bearers = dict(enumerate(read_bearers(bearer_path(settings.state_dir))[: settings.clients]))
        lacking = tuple(
            slot
            for slot in range(settings.clients)
            if options.again
            or options.via not in {None, "auto"}
            or slot not in bearers
            or bearers[slot].seconds_left() < needed_seconds
            or not _has_grant_type(bearers[slot], options.via or settings.environment.via)
            or not _matches_target(chain, settings, bearers[slot])
        )
        if not lacking:
            return tuple(bearers.values()), False
        made = _mint_new(chain, settings, options, lacking, needed_seconds)
        pool = tuple(bearer for _, bearer in sorted({**bearers, **made}.items()))
        write_bearers(bearer_path(settings.state_dir), pool)
    short_seconds = needed_seconds - find_soonest(pool).seconds_left()
    if short_seconds > 0:
        short = (
            f"the bearer is valid for {needed_seconds - short_seconds:.0f} s, but profile "
            f"{settings.profile_name} needs {needed_seconds:.0f} s"
        )
        if options.min_ttl_seconds is not None or not is_renewable(pool):
            raise MintError(f"{short}: choose a shorter profile, or have longer tokens issued")
        chain.say("mint", f"{short}: k6 gets new ones during the run")
    return pool, True


def _find_anonymous(chain: Chain, settings: Settings) -> Bearer:
    """Return the caller of a target that takes no bearer; raise MintError if it is refused."""
    from loadtest.common.http import open_client
    from loadtest.mint.oauth.acceptance import check_let_in
    from loadtest.mint.oauth.request import REQUEST_SECONDS

    base_url = chain.open_target(settings)
    caller = build_anonymous(settings.build_mcp_url(base_url, settings.credentials.workspace_id))
    with open_client(REQUEST_SECONDS) as http:
        check_let_in(caller.mcp_url, settings.environment, http)
    return caller


def _has_grant_type(bearer: Bearer, via: str) -> bool:
    return via in {"auto", bearer.via} or (via == "browser" and bearer.via == "refresh")


def is_renewable(bearers: Sequence[Bearer]) -> bool:
    """Return whether more bearers can be minted with the same grant types."""
    return all(bearer.via not in {"given", "none"} for bearer in bearers)


def renew_bearers(
    chain: Chain, settings: Settings, needed_seconds: float | None
) -> tuple[Bearer, ...]:
    """Return bearers that live longer than this: from disk, else newly minted.

    With None, new ones are always minted: the target refuses those on disk.
    """
    with lock_state(settings.state_dir):
        bearers = read_bearers(bearer_path(settings.state_dir))
        if needed_seconds is not None and find_soonest(bearers).seconds_left() > needed_seconds:
            return bearers
        earlier = bearers[0].via
        named = (via for via in MINT_GRANT_TYPES if via == earlier and via != "browser")
        options = MintOptions(via=next(named, "auto"))
        slots = tuple(range(len(bearers)))
        made = _mint_new(chain, settings, options, slots, needed_seconds or SPARE_SECONDS)
        pool = tuple(bearer for _, bearer in sorted(made.items()))
        write_bearers(bearer_path(settings.state_dir), pool)
    return pool


def _matches_target(chain: Chain, settings: Settings, bearer: Bearer) -> bool:
    """Return whether the bearer was minted for this target and workspace.

    For a reference target that is not running yet, the answer is yes: it takes its old port
    again, and k6 checks again when it is running.
    """
    base_url = chain.targets.get(settings.environment_name, settings.base_url)
    workspace_id = settings.credentials.workspace_id
    if bearer.workspace_id != workspace_id:
        return False
    return base_url is None or bearer.mcp_url == settings.build_mcp_url(base_url, workspace_id)


def _mint_new(
    chain: Chain,
    settings: Settings,
    options: MintOptions,
    slots: tuple[int, ...],
    needed_seconds: float,
) -> dict[int, Bearer]:
    from loadtest.mint.pool import MintRequest, mint_slots

    base_url = chain.open_target(settings)
    mcp_url = settings.build_mcp_url(base_url, settings.credentials.workspace_id)
    request = MintRequest(
        settings, options, mcp_url, needed_seconds, lambda text: chain.say("mint", text)
    )
    made, timings = mint_slots(request, slots)
    chain.sign_ins += bool(timings.browser_seconds)
    grant_types = ", ".join(dict.fromkeys(bearer.via for bearer in made.values()))
    count = f"{len(made)} bearers minted" if len(made) > 1 else "minted"
    split = (
        f" (browser {timings.browser_seconds:.1f}, pages {timings.pages_seconds:.1f}, "
        f"protocol {timings.protocol_seconds:.1f})"
        if timings.browser_seconds
        else ""
    )
    minutes = find_soonest(tuple(made.values())).seconds_left() / 60
    took = f"in {timings.total_seconds:.1f} s{split}"
    chain.say("mint", f"{count} by {grant_types} {took}, valid for {minutes:.0f} min")
    return made


def check_sign_in(chain: Chain, settings: Settings, options: MintOptions) -> str:
    """Sign in again, call one tool, revoke everything; return in a sentence what happened.

    Raises MintError if a step fails, or if the server refuses a revocation that it offers.
    """
    from loadtest.mint.oauth.revocation import count

    chain.hold(settings)
    settings = replace(settings, clients=1)
    least = options.min_ttl_seconds or 0
    options = replace(options, again=True, min_ttl_seconds=least)
    try:
        (bearer,), _ = ensure_bearers(chain, settings, options)
        called = _call_one_tool(chain, settings, bearer)
    except LoadtestError:
        with suppress(LoadtestError):
            _revoke(chain, settings)
        raise
    results = _revoke(chain, settings)
    if refused := [thing for thing in results if thing.refused]:
        raise MintError("; ".join(thing.describe() for thing in refused), "revocation")
    signed_in = "no sign-in is needed" if bearer.via == "none" else f"signed in by {bearer.via}"
    return f"{signed_in}; {called}; {', '.join(count(results)) or 'nothing to revoke'}"


def _call_one_tool(chain: Chain, settings: Settings, bearer: Bearer) -> str:
    """Call the first tool of the table, or without a table list the tools; return what happened."""
    from loadtest.mint.pool import find_call
    from loadtest.target.mcp_client import WorkspaceClient

    client = WorkspaceClient(
        bearer.mcp_url, bearer.access_token, lambda text: chain.say("mint", text)
    )
    call = find_call(settings)
    try:
        if call is None:
            return f"{len(client.greet().tools)} tools listed, none called: no tool is configured"
        client.call_tool(call.name, call.arguments)
    except ProvisionError as failure:
        raise MintError(str(failure), "tool call") from None
    return f"{call.name} answered"


def revoke(chain: Chain, settings: Settings) -> None:
    """Undo what mint did; raise MintError if something cannot be revoked.

    A run in progress continues: its bearers are not revoked.
    """
    chain.hold(settings)
    stays = [thing for thing in _revoke(chain, settings) if thing.state == "stays"]
    if stays:
        files = [path.name for path in _find_minted_files(settings)]
        kept = f" (kept: {', '.join(files)})" if files else ""
        raise MintError(
            f"{len(stays)} {'things' if len(stays) > 1 else 'thing'} could not be revoked, see "
            f"above{kept}: `{spell('revoke')}` tries again"
        )


def revoke_after(chain: Chain, settings: Settings) -> None:
    """If the environment asks for it, revoke everything after a run, even after a failed one.

    Bearers that expire, and registrations without a secret, are only reported. If the environment
    does not ask for it, the number of things left on the server is reported.
    """
    try:
        if not settings.environment.revoke_after:
            _report_left(chain, settings)
            return
        chain.hold(settings)
        results = _revoke(chain, settings)
    except BusyError:  # the files on disk belong to another run
        return
    except LoadtestError as failure:
        exit_code = chain.ending.exit_code or failure.exit_code
        chain.ending.fail(exit_code, f"not everything was revoked after the run: {failure}")
        return
    lasting = [thing.what for thing in results if thing.state == "stays" and thing.lasts]
    if lasting and chain.ending.exit_code == 0:
        reason = f"not revoked after the run: {', '.join(lasting)}"
        chain.ending.fail(MintError.exit_code, reason)


def _report_left(chain: Chain, settings: Settings) -> None:
    """Report how many things the run leaves on a hosted server."""
    from loadtest.state.clients import ClientStore

    if settings.is_reference():
        return
    clients = ClientStore(settings.state_dir).read().values()
    bearers = [
        each for each in read_bearers(bearer_path(settings.state_dir)) if each.seconds_left() > 0
    ]
    counts = {
        "registered client": sum(not entry.given for entry in clients),
        "refresh token": sum(entry.refresh_token is not None for entry in clients),
        "signed-in session": chain.sign_ins,
        "bearer": len(bearers),
    }
    parts = [f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count]
    if bearers:
        until = datetime.fromtimestamp(max(each.expires_at for each in bearers), UTC)
        parts[-1] += f" until {until:%H:%M} UTC"
    if parts:
        chain.say(
            "revoke", f"left on the server: {', '.join(parts)}; `{spell('revoke')}` revokes them"
        )


def _find_minted_files(settings: Settings) -> list[Path]:
    from loadtest.state.clients import ClientStore

    paths = (bearer_path(settings.state_dir), ClientStore(settings.state_dir).path)
    return [path for path in paths if path.exists()]


def _revoke(chain: Chain, settings: Settings) -> "tuple[RevocationResult, ...]":
    """Revoke what is stored on disk, and report the result of each thing."""
    from loadtest.mint.oauth.revocation import count, revoke_all
    from loadtest.target.rest_client import find_second_factor, open_session

    def tell(text: str) -> None:
        chain.say("revoke", text)

    if not _find_minted_files(settings):
        tell("nothing to revoke")
        return ()
    check_hosted(settings)
    base_url = chain.open_target(settings) if settings.is_reference() else settings.base_url
    who, open_owner = settings.credentials, None
    provisions = settings.environment.provision == "novamart"
    if provisions and base_url and who.email and who.password:
        open_owner = partial(
            open_session,
            *(base_url, who.email, who.password, who.workspace_id, tell),
            second_factor=find_second_factor(settings),
            hide=build_mask(settings.variables),
        )
    with lock_state(settings.state_dir):
        results = revoke_all(
            settings.state_dir,
            given_secret=settings.find_secret("LOADTEST_CLIENT_SECRET"),
            open_owner=open_owner,
            tell=tell,
        )
    for thing in results:
        tell(thing.describe())
    tell(", ".join(count(results)))
    return results
