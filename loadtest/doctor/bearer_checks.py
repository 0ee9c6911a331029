"""Check the bearers, and what the endpoint allows with them: workspace, tools and quota."""

from collections.abc import Iterator
from dataclasses import replace

from loadtest.common.command_name import spell
from loadtest.config.settings import Settings
from loadtest.doctor.check import Check, find_endpoint
from loadtest.doctor.replica_checks import examine_replicas
from loadtest.errors import LoadtestError, ProvisionError
from loadtest.k6.quota_demand import MOSTLY, Allowance, Demand, find_allowances, list_remedies
from loadtest.state.bearers import (
    Bearer,
    bearer_path,
    build_anonymous,
    find_soonest,
    parse_claims,
    read_bearers,
)
from loadtest.target.mcp_client import Greeting, WorkspaceClient
from loadtest.target.rate_limits import RateLimits

REFUSED_STATUSES = frozenset({401, 403})
UNKNOWN_SESSION_STATUS = 404
# What can be checked only with a bearer.
OF_A_BEARER = ("endpoint", "replicas", "workspace", "tools")
MINT_AGAIN = f"{spell('mint --via browser')} makes a new one"
REFUSED_REMEDIES = {
    "bearer": MINT_AGAIN,
    "header": "correct the variable of the key, or the name of its header in loadtest.toml",
    "none": 'set auth = "bearer" or "header" in loadtest.toml',
}


def examine_bearers(settings: Settings, base_url: str | None) -> Iterator[Check]:
    """Check the bearers on disk, and whether the endpoint accepts them."""
    path = bearer_path(settings.state_dir)
    try:
        bearers = read_bearers(path)[: settings.clients]
    except LoadtestError as failure:
        yield Check("bearer", "missing", str(failure), f"rm {path}; {spell('mint')}")
        bearers = ()
    else:
        yield _examine_life(settings, bearers)
    live = tuple(bearer for bearer in bearers if bearer.seconds_left() > 0)
    greeting = None
    mcp_url, blocked = find_endpoint(settings, base_url)
    if mcp_url is None or not live:
        reason = blocked if mcp_url is None else ("no valid bearer", f"{spell('mint')} makes one")
        yield from (Check(what, "later", *reason) for what in OF_A_BEARER)
    elif any(bearer.mcp_url != mcp_url for bearer in live):
        reason = (
            f"the bearer is for {live[0].mcp_url}",
            f"{spell('mint')} makes one for this endpoint",
        )
        yield from (Check(what, "later", *reason) for what in OF_A_BEARER)
    else:
        checks, greeting = _examine_endpoint(mcp_url, live, settings)
        yield from checks
        yield _examine_workspace(settings, live)
        yield _examine_tools(settings, greeting)
    yield _examine_quota(settings, live, greeting)


def examine_without_bearer(settings: Settings, base_url: str | None) -> Iterator[Check]:
    """Check an endpoint that takes no bearer."""
    auth = settings.environment.auth
    yield Check("credentials", "ok", f'no user and no bearer needed: auth = "{auth}"')
    greeting = None
    mcp_url, blocked = find_endpoint(settings, base_url)
    if mcp_url is None:
        yield from (Check(what, "later", *blocked) for what in ("endpoint", "replicas", "tools"))
    else:
        callers = (build_anonymous(mcp_url),)
        checks, greeting = _examine_endpoint(mcp_url, callers, settings)
        yield from checks
        yield _examine_tools(settings, greeting)
    yield _examine_quota(settings, (), greeting)


def _examine_life(settings: Settings, bearers: tuple[Bearer, ...]) -> Check:
    if not bearers:
        return Check("bearer", "later", "none yet", f"{spell('mint')} makes one")
    minutes = find_soonest(bearers).seconds_left() / 60
    if len(bearers) < settings.clients:
        detail = f"{len(bearers)} of {settings.clients} clients have one"
        return Check("bearer", "later", detail, f"{spell('mint')} makes the others")
    if minutes <= 0:
        return Check("bearer", "later", "expired", f"{spell('mint')} makes a new one")
    scheduled = settings.profile.scheduled_seconds(settings.tools) / 60
    detail = f"valid for {minutes:.0f} min, {len(bearers)} in all"
    if minutes < scheduled:
        detail += f"; the profile takes {scheduled:.0f} min"
        return Check("bearer", "later", detail, f"{spell('mint')} makes one that lasts longer")
    return Check("bearer", "ok", detail)


def _examine_endpoint(
    mcp_url: str, bearers: tuple[Bearer, ...], settings: Settings
) -> tuple[tuple[Check, ...], Greeting | None]:
    """Check that the endpoint accepts the bearers, and that no replica forgets a session."""
    endpoint, greeting, status = _greet(mcp_url, bearers, settings)
    if greeting is None and status in REFUSED_STATUSES:
        refused = Check("replicas", "later", "not tried after a refusal", "fix the endpoint first")
        return (endpoint, refused), None
    protocol = greeting.protocol if greeting is not None else None
    replicas = examine_replicas(mcp_url, bearers[0].access_token, protocol)
    if greeting is None and status == UNKNOWN_SESSION_STATUS and replicas.state == "warn":
        # The client of the SDK gives up where k6 opens another session.
        endpoint = replace(endpoint, state="warn", remedy=replicas.remedy)
    return (endpoint, replicas), greeting


def _greet(
    mcp_url: str, bearers: tuple[Bearer, ...], settings: Settings
) -> tuple[Check, Greeting | None, int | None]:
    """Open and close a session with every bearer; return also the status of a refusal."""
    greeting = None
    for bearer in bearers:
        workspace = WorkspaceClient(mcp_url, bearer.access_token, lambda _: None)
        try:
            greeting = workspace.greet()
        except ProvisionError as failure:
            refused = workspace.refusal_status in REFUSED_STATUSES
            remedy = "fix the server, or correct LOADTEST_BASE_URL and mcp_path"
            auth = settings.environment.auth
            remedy = REFUSED_REMEDIES[auth] if refused else remedy
            return (
                Check("endpoint", "missing", str(failure), remedy),
                None,
                workspace.refusal_status,
            )
    assert greeting is not None
    whom = {"bearer": "the bearer", "header": "the headers", "none": "everyone"}
    detail = (
        f"{greeting.server} accepts {whom[settings.environment.auth]}, revision {greeting.protocol}"
    )
    return Check("endpoint", "ok", detail), greeting, None


def _examine_workspace(settings: Settings, bearers: tuple[Bearer, ...]) -> Check:
    """Compare the workspace in each bearer with the configured one."""
    claim = settings.environment.workspace_claim
    configured = settings.credentials.workspace_id
    if claim is None or configured is None:
        return Check("workspace", "ok", "none is configured for this endpoint")
    for bearer in bearers:
        claims = parse_claims(bearer.access_token.get_secret_value())
        if claims is None:
            detail = f"the bearer is opaque: no {claim} to compare"
            return Check("workspace", "missing", detail, MINT_AGAIN)
        if claims.get(claim) != configured:
            detail = f"the bearer is for {claims.get(claim)}, not for {configured}"
            remedy = f"{spell('provision')} makes {configured} the active one; then {MINT_AGAIN}"
            return Check("workspace", "missing", detail, remedy)
    return Check("workspace", "ok", f"{configured}, the same in the bearer")


def _examine_tools(settings: Settings, greeting: Greeting | None) -> Check:
    if greeting is None:
        return Check(
            "tools",
            "later",
            "not listed, because the endpoint refuses us",
            "fix the endpoint first",
        )
    needed = set(settings.tools.list_tools())
    missing = sorted(needed - greeting.tools)
    if missing:
        remedy = "add these tools to the server, or run only --scenarios cold-start"
        detail = f"the profile calls tools that the server lacks: {', '.join(missing)}"
        return Check("tools", "missing", detail, remedy)
    return Check(
        "tools", "ok", f"all {len(needed)} that the profile calls, of {len(greeting.tools)}"
    )


def _examine_quota(
    settings: Settings, bearers: tuple[Bearer, ...], greeting: Greeting | None
) -> Check:
    """Compare what a client may spend per minute with what the profile needs."""
    limits = greeting.limits if greeting is not None else None
    try:
        known = [bearer.client_id for bearer in bearers]
        allowances = find_allowances(settings, known, limits)
    except LoadtestError as failure:
        return Check("quota", "missing", str(failure), f"{spell('provision')} writes it again")
    if allowances:
        is_final = len(bearers) >= settings.clients  # minting can still raise a quota
        checks = [_compare_quota(settings, each, is_final=is_final) for each in allowances]
        return max(checks, key=lambda check: ("ok", "warn", "missing").index(check.state))
    if limits is not None:
        return _compare_limits(settings, limits)
    if settings.is_reference():
        return Check("quota", "ok", "none: the run starts the reference target without one")
    return Check(
        "quota", "ok", "none known; if there is one, set [environment.*.quota] in loadtest.toml"
    )


def _compare_limits(settings: Settings, limits: RateLimits) -> Check:
    """Compare a limit for longer than a minute with the scheduled rate."""
    rate, seconds = settings.profile.most_rps(), settings.profile.scheduled_seconds(settings.tools)
    detail = f"the server announces {limits.describe()}; the profile makes {rate:g} calls/s at most"
    if limits.find_excess(rate, seconds):
        remedy = "--stages and --target-rps lower, or have the limit raised"
        return Check("quota", "warn", f"{detail}: calls will be refused", remedy)
    return Check("quota", "ok", detail)


def _compare_quota(settings: Settings, allowance: Allowance, *, is_final: bool) -> Check:
    profile, clients, units = settings.profile, settings.clients, allowance.units
    demand = Demand(profile, settings.tools, allowance.quota)
    peak = demand.find_peak_units(clients)
    allowed = allowance.describe()
    shared = f"with {clients} client{'' if clients == 1 else 's'}"
    if peak > units:
        refused = max(demand.find_refused(clients, units).values())
        return Check(
            "quota",
            "missing" if is_final and refused > MOSTLY else "warn",
            f"{allowed}; the profile spends {peak:,} {shared}: calls will be refused",
            ", or ".join(list_remedies(settings, demand, clients, units)),
        )
    if profile.tools.target_rps is None:
        rate = demand.find_mix_rate(clients, units)
        return Check(
            "quota",
            "warn",
            f"{allowed}; the ladder spends {peak:,} {shared}; the mix depends on the target's "
            "speed",
            f"--target-rps {rate:g} or less, or --fit-quota",
        )
    return Check("quota", "ok", f"{allowed}; the profile spends {peak:,} {shared}")
