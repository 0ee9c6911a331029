"""What is missing before a run: each finding with what to do about it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loadtest.common.redaction import LEAST_SECRET, is_hidable
from loadtest.config.models import Kubernetes, parse_origin
from loadtest.config.settings import Credentials, Settings, check_hosted
from loadtest.errors import (
    BusyError,
    CertificateError,
    ConfigError,
    K6Error,
    LoadtestError,
    MintError,
    ProvisionError,
    ReportError,
    TargetError,
)
from loadtest.k6.binary import find_k6
from loadtest.k6.open_sessions import find_left
from loadtest.k6.quota_demand import MOSTLY, Allowance, Demand, find_allowances, list_cures
from loadtest.mint.browser.launcher import find_choice
from loadtest.publish.tracking_issue.tracker import find_tracker
from loadtest.results.run import SCENARIOS
from loadtest.state.bearers import Bearer, find_soonest, parse_claims, read_bearers
from loadtest.state.run_lock import lock_environment
from loadtest.target.mcp_client import Greeting, Workspace
from loadtest.target.process import check_reachable

if TYPE_CHECKING:
    from loadtest.mint.oauth.discovery import Discovered

# Tokens are checked with this much leeway; from a few seconds on it is worth a word.
SKEW_LIMIT_SECONDS = 60
SKEW_TELL_SECONDS = 5
SKEW_SEEN_SECONDS = 2  # a Date is cut to the second, and some servers write it once a second
CERTIFICATE_TELL_DAYS = 14
REFUSALS = frozenset({401, 403})
NO_WORKSPACE = "none-yet"
MINT_ANEW = "inv mint --via browser makes a new one"

State = Literal["ok", "later", "warn", "missing"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table, with what to do where it is not ok.

    `later` is made by the chain, `warn` does not stop a run, `missing` does.
    """

    what: str
    state: State
    detail: str
    remedy: str = ""

    @property
    def told(self) -> tuple[State, str, str]:
        """Return what findings with the same cause have in common."""
        return self.state, self.detail, self.remedy


def examine(
    settings: Settings, base_url: str | None, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Finding]:
    """Look at everything that a run needs; nothing is made, registered or signed in to.

    `base_url` is the target's origin, None while there is none to look at.
    """
    yield Finding("settings", "ok", f"{settings.environment_name}, profile {settings.profile_name}")
    yield _look(
        "browser", lambda: find_choice(settings.browser_record).describe(), "nox -s mint brings one"
    )
    yield _look("k6", lambda: find_k6(settings.variables).describe(), "nox -s k6 brings one")
    is_up = False
    for finding in _look_at_target(settings, base_url):
        is_up = finding.state in {"ok", "warn"} and base_url is not None
        yield finding
    yield _look_at_credentials(settings)
    yield from _look_at_authorization(settings, base_url if is_up else None, tell)
    yield from _look_at_bearers(settings, base_url if is_up else None)
    yield _look_at_sessions(settings)
    yield _look_at_report(settings)
    if settings.environment.kubernetes is not None:
        yield _look_at_cluster(settings, settings.environment.kubernetes)


def can_look(settings: Settings) -> bool:
    """Return whether there is a bearer to look with: else a local target need not be started."""
    try:
        bearers = read_bearers(settings.bearer_file)
    except LoadtestError:
        return False
    return any(bearer.seconds_left() > 0 for bearer in bearers)


def _look_at_report(settings: Settings) -> Finding:
    """Find where reports go, by a look at the tracking issue; whether it may be written to, no."""
    if settings.is_reference():
        return Finding("report", "ok", "stays on this machine: the reference target is not posted")
    try:
        tracker = find_tracker(settings)
        address = tracker.find_address() if tracker else None
    except (ConfigError, ReportError) as failure:
        return Finding("report", "missing", str(failure), "see docs/reference/settings.md")
    if tracker is None:
        return Finding("report", "ok", "stays on this machine: no GITHUB_REPOSITORY is named")
    return Finding("report", "ok", f"posted on {address or 'an issue that the first one opens'}")


def _look_at_cluster(settings: Settings, where: Kubernetes) -> Finding:
    """Find whether the cluster answers and has the operator; what a run may do there, no."""
    from loadtest.k6.kubernetes.client import open_cluster
    from loadtest.k6.kubernetes.objects import check_operator

    try:
        with open_cluster(where, settings.variables) as cluster:
            check_operator(cluster)
    except K6Error as failure:
        return Finding("cluster", "warn", str(failure), "only --engine kubernetes needs it")
    return Finding(
        "cluster", "ok", f"{cluster.name}, namespace {where.namespace}: the k6-operator is there"
    )


def _look(what: str, describe: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, "ok", describe())
    except LoadtestError as failure:
        return Finding(what, "missing", str(failure), remedy)


def _look_at_target(settings: Settings, base_url: str | None) -> Iterator[Finding]:
    """Find whether it answers, then over which TLS."""
    if settings.is_reference() and base_url is None:
        yield Finding("target", "ok", "the reference target, started for the time of the run")
        yield Finding("TLS", "ok", "none: plain http, on this machine alone")
        return
    try:
        check_hosted(settings, "LOADTEST_BASE_URL")
        assert base_url is not None
        certificate = check_reachable(base_url)
    except CertificateError as failure:
        yield Finding("target", "ok", f"{base_url} takes connections")
        yield Finding("TLS", "missing", str(failure), _cure_certificate(str(failure)))
        return
    except ConfigError as failure:
        yield Finding("target", "missing", str(failure), "see docs/reference/settings.md")
        return
    except TargetError as failure:
        yield Finding("target", "missing", str(failure), "start it, or mend LOADTEST_BASE_URL")
        return
    whose = "the reference target, " if settings.is_reference() else ""
    yield Finding("target", "ok", f"{whose}{base_url} answers")
    if certificate is None:
        yield Finding("TLS", "ok", "none: plain http, on this machine alone")
        return
    detail = (
        f"{certificate.protocol}, certificate by {certificate.issuer}, "
        f"good for {int(certificate.days_left)} days"
    )
    if certificate.days_left < CERTIFICATE_TELL_DAYS:
        yield Finding("TLS", "warn", detail, "renew the certificate on the server")
    else:
        yield Finding("TLS", "ok", detail)


def _cure_certificate(words: str) -> str:
    if "expired" in words or "not yet valid" in words:
        return "renew it on the server, and compare this machine's clock"
    if "ismatch" in words:
        return "set LOADTEST_BASE_URL to a name that the certificate is for"
    return "if the authority is your own: SSL_CERT_FILE=its certificates, as PEM"


def _look_at_credentials(settings: Settings) -> Finding:
    who = settings.credentials
    if settings.environment.provision == "none":
        return _look_at_given_credentials(settings)
    if who.email and who.password and who.workspace_id:
        return _look_at_password(who, f"{who.email}, workspace {who.workspace_id}")
    try:
        check_hosted(settings, "LOADTEST_EMAIL")
    except LoadtestError as failure:
        remedy = "the load-test user's address: provision makes the user"
        return Finding("credentials", "missing", str(failure), remedy)
    have = {"user": who.email, "password": who.password, "workspace": who.workspace_id}
    lacking = ", ".join(name for name, value in have.items() if not value)
    return Finding(
        "credentials", "later", f"no {lacking} yet", "inv provision makes what is lacking"
    )


def _look_at_given_credentials(settings: Settings) -> Finding:
    """Find what nobody makes: a user of the server's, and the workspace where its path has one."""
    who = settings.credentials
    have = {"LOADTEST_EMAIL": who.email, "LOADTEST_PASSWORD": who.password}
    if "{workspace_id}" in settings.environment.mcp_path:
        have["LOADTEST_WORKSPACE_ID"] = who.workspace_id
    lacking = ", ".join(name for name, value in have.items() if not value)
    if lacking:
        remedy = "set them; who hands mint a bearer or a client's secret needs no user"
        return Finding("credentials", "later", f"no {lacking}", remedy)
    return _look_at_password(who, f"{who.email}, and nothing to provision")


def _look_at_password(who: Credentials, detail: str) -> Finding:
    """Find whether the password can be kept out of what a server says."""
    if who.password is None or is_hidable(who.password.get_secret_value()):
        return Finding("credentials", "ok", detail)
    remedy = f"choose one of {LEAST_SECRET} characters or more that is not a plain word"
    detail = "the password is so short or plain that it is shown where a server quotes it"
    return Finding("credentials", "warn", detail, remedy)


def _look_at_authorization(
    settings: Settings, base_url: str | None, tell: Callable[[str], None]
) -> Iterator[Finding]:
    """Find the authorization server, its clock, and the page on which a browser would sign in."""
    lines = ("authorization", "clock", "sign-in page")
    if base_url is None:
        _, blocked = _find_endpoint(settings, base_url)
        yield from (Finding(what, "later", *blocked) for what in lines)
        return
    workspace_id = settings.credentials.workspace_id
    # Without a bearer most servers challenge for a workspace that is none just as for another.
    mcp_url = settings.build_mcp_url(base_url, workspace_id or NO_WORKSPACE)
    from loadtest.mint.oauth.discovery import discover

    try:
        found = discover(mcp_url)
    except LoadtestError as failure:
        if workspace_id is None and "{workspace_id}" in settings.environment.mcp_path:
            detail = f"not seen without a workspace: {failure}"
            yield from (Finding(what, "later", detail, "inv provision makes one") for what in lines)
            return
        remedy = "mend the server's OAuth metadata; if it has none: inv mint --via given"
        yield Finding("authorization", "missing", str(failure), remedy)
        yield from (
            Finding(what, "later", "no authorization server", "mend that first")
            for what in lines[1:]
        )
        return
    yield Finding("authorization", "ok", found.describe())
    yield _look_at_clock(found.skew_seconds)
    yield _look_at_sign_in_page(settings, mcp_url, found, tell)


def _find_endpoint(settings: Settings, base_url: str | None) -> tuple[str | None, tuple[str, str]]:
    """Return the MCP endpoint, or None with detail and remedy of what cannot be seen yet."""
    if base_url is None:
        return None, ("the target is not up", "looked at once it is up")
    try:
        return settings.build_mcp_url(base_url, settings.credentials.workspace_id), ("", "")
    except ConfigError:
        return None, ("no workspace yet", "inv provision makes one")


def _look_at_clock(skew_seconds: float) -> Finding:
    if abs(skew_seconds) < SKEW_SEEN_SECONDS:
        return Finding("clock", "ok", "as the server's, to the second or two")
    side = "behind" if skew_seconds > 0 else "ahead of"
    detail = f"{abs(skew_seconds):.0f} s {side} the server's"
    if abs(skew_seconds) > SKEW_LIMIT_SECONDS:
        return Finding("clock", "missing", detail, "set this machine's clock (NTP)")
    if abs(skew_seconds) > SKEW_TELL_SECONDS:
        return Finding("clock", "warn", f"{detail}, allowed for", "set this machine's clock (NTP)")
    return Finding("clock", "ok", detail)


def _look_at_sign_in_page(
    settings: Settings, mcp_url: str, found: "Discovered", tell: Callable[[str], None]
) -> Finding:
    from loadtest.mint.browser.sign_in_probe import build_authorization_url, fetch_sign_in_page

    what = "sign-in page"
    try:
        configured = settings.find_sign_in_origins()
        client_id, redirect_uri = _find_client(settings, found)
    except LoadtestError as failure:
        return Finding(what, "missing", str(failure), "mend what it names")
    url = found.authorization_url
    if client_id is not None:
        url = build_authorization_url(url, client_id, settings.environment.scope, redirect_uri)
    own = _find_origins(mcp_url, found.issuer, url)
    try:
        page = fetch_sign_in_page(url, own | configured, tell)
    except MintError as failure:
        return _judge_refusal(settings, failure, is_known=client_id is not None)
    whose = "as sign_in_origins allows" if page.origin in configured else "the server's own"
    if page.has_form:
        return Finding(what, "ok", f"a form at {page.origin}, {whose}")
    if page.has_scripts:
        return Finding(what, "ok", f"{page.origin}, {whose}; scripts draw its form")
    remedy = "inv mint --headed shows what a person would see"
    return Finding(what, "warn", f"{page.origin}, {whose}: no form on it", remedy)


def _find_origins(*urls: str) -> frozenset[str]:
    """Return the origins of those that are addresses: some are a server's own words."""
    origins = set()
    for url in urls:
        with suppress(ValueError):
            origins.add(parse_origin(url))
    return frozenset(origins)


def _find_client(settings: Settings, found: "Discovered") -> tuple[str | None, str | None]:
    """Return the client that mint would sign in with, and the redirect URI that it registered.

    The client is None before mint has registered one.
    """
    from loadtest.state.clients import ClientStore

    given = settings.find_variable("LOADTEST_CLIENT_ID")
    document = settings.environment.client_metadata_url if found.takes_documents else None
    remembered = ClientStore(settings.clients_file).read().get(0)
    ours = remembered if remembered and remembered.issuer == found.issuer else None
    if given or document or ours is None:
        return given or document, None
    return ours.client.client_id, ours.client.redirect_uri


def _judge_refusal(settings: Settings, failure: MintError, *, is_known: bool) -> Finding:
    """Sort what keeps us from the page: a server shows it to clients that it knows."""
    what = "sign-in page"
    if failure.reason == "unexpected_origin":
        remedy = "if it is yours: LOADTEST_SIGN_IN_ORIGINS, or sign_in_origins in loadtest.toml"
        return Finding(what, "missing", failure.message, remedy)
    if failure.reason == "rate_limited":
        return Finding(what, "warn", failure.message, "wait a minute, then look again")
    if not is_known:
        return Finding(
            what, "later", f"not shown to strangers: {failure.message}", "inv mint registers us"
        )
    if failure.code is not None and settings.find_variable("LOADTEST_CLIENT_ID") is None:
        return Finding(
            what, "later", failure.message, "inv mint registers us anew where that helps"
        )
    return Finding(what, "missing", failure.message, "inv mint --headed shows what a person sees")


def _look_at_bearers(settings: Settings, base_url: str | None) -> Iterator[Finding]:
    """Find the bearers on disk, and what the endpoint says to them."""
    try:
        bearers = read_bearers(settings.bearer_file)[: settings.clients]
    except LoadtestError as failure:
        yield Finding("bearer", "missing", str(failure), f"rm {settings.bearer_file}; inv mint")
        bearers = ()
    else:
        yield _look_at_life(settings, bearers)
    live = tuple(bearer for bearer in bearers if bearer.seconds_left() > 0)
    greeting = None
    mcp_url, blocked = _find_endpoint(settings, base_url)
    if mcp_url is None or not live:
        reason = blocked if mcp_url is None else ("no bearer to look with", "inv mint makes one")
        yield from (Finding(what, "later", *reason) for what in ("endpoint", "workspace", "tools"))
    elif any(bearer.mcp_url != mcp_url for bearer in live):
        reason = (f"the bearer is for {live[0].mcp_url}", "inv mint makes one for this endpoint")
        yield from (Finding(what, "later", *reason) for what in ("endpoint", "workspace", "tools"))
    else:
        finding, greeting = _greet(mcp_url, live)
        yield finding
        yield _look_at_workspace(settings, live)
        yield _look_at_tools(settings, greeting)
    yield _look_at_quota(settings, live, greeting)


def _look_at_life(settings: Settings, bearers: tuple[Bearer, ...]) -> Finding:
    if not bearers:
        return Finding("bearer", "later", "none yet", "inv mint makes one")
    minutes = find_soonest(bearers).seconds_left() / 60
    if len(bearers) < settings.clients:
        detail = f"{len(bearers)} of {settings.clients} clients have one"
        return Finding("bearer", "later", detail, "inv mint makes the others")
    if minutes <= 0:
        return Finding("bearer", "later", "expired", "inv mint makes a new one")
    scheduled = settings.profile.scheduled_seconds() / 60
    detail = f"good for {minutes:.0f} min, {len(bearers)} in all"
    if minutes < scheduled:
        detail += f"; the profile takes {scheduled:.0f} min"
        return Finding("bearer", "later", detail, "inv mint makes one that outlives it")
    return Finding("bearer", "ok", detail)


def _greet(mcp_url: str, bearers: tuple[Bearer, ...]) -> tuple[Finding, Greeting | None]:
    """Open and close a session with every bearer."""
    greeting = None
    for bearer in bearers:
        workspace = Workspace(mcp_url, bearer.access_token, lambda _: None)
        try:
            greeting = workspace.greet()
        except ProvisionError as failure:
            refused = workspace.refusal_status in REFUSALS
            remedy = MINT_ANEW if refused else "mend the server, or LOADTEST_BASE_URL and mcp_path"
            return Finding("endpoint", "missing", str(failure), remedy), None
    assert greeting is not None
    detail = f"{greeting.server} takes the bearer, revision {greeting.protocol}"
    return Finding("endpoint", "ok", detail), greeting


def _look_at_workspace(settings: Settings, bearers: tuple[Bearer, ...]) -> Finding:
    """Compare the workspace that each bearer names with the one that is meant."""
    claim = settings.environment.workspace_claim
    meant = settings.credentials.workspace_id
    if claim is None or meant is None:
        return Finding("workspace", "ok", "none is configured for this endpoint")
    for bearer in bearers:
        claims = parse_claims(bearer.access_token.get_secret_value())
        if claims is None:
            detail = f"the bearer is opaque: no {claim} to compare"
            return Finding("workspace", "missing", detail, MINT_ANEW)
        if claims.get(claim) != meant:
            detail = f"the bearer is for {claims.get(claim)}, meant is {meant}"
            remedy = f"inv provision makes it the active one; {MINT_ANEW}"
            return Finding("workspace", "missing", detail, remedy)
    return Finding("workspace", "ok", f"{meant}, as the bearer says")


def _look_at_tools(settings: Settings, greeting: Greeting | None) -> Finding:
    if greeting is None:
        return Finding(
            "tools", "later", "not listed to a refused bearer", "mend the endpoint first"
        )
    wanted = set(settings.list_tools(SCENARIOS)) | set(settings.list_tools(("sessions",)))
    lacking = sorted(wanted - greeting.tools)
    if lacking:
        remedy = "give the server these tools, or run --scenarios cold-start alone"
        return Finding(
            "tools", "missing", f"the profile calls {', '.join(lacking)}: not there", remedy
        )
    return Finding(
        "tools", "ok", f"all {len(wanted)} that the profile calls, of {len(greeting.tools)}"
    )


def _look_at_quota(
    settings: Settings, bearers: tuple[Bearer, ...], greeting: Greeting | None
) -> Finding:
    """Compare what one client may do in a minute with what the profile asks of it."""
    policy = greeting.policy if greeting is not None else None
    try:
        known = [bearer.client_id for bearer in bearers]
        allowances = find_allowances(settings, known, policy)
    except LoadtestError as failure:
        return Finding("quota", "missing", str(failure), "inv provision writes it again")
    if allowances:
        is_final = len(bearers) >= settings.clients  # minting may still raise a quota
        findings = [_judge_quota(settings, each, is_final=is_final) for each in allowances]
        return max(findings, key=lambda finding: ("ok", "warn", "missing").index(finding.state))
    if settings.is_reference():
        return Finding("quota", "ok", "none: the run starts the reference target without one")
    return Finding(
        "quota", "ok", "none known; one goes into [environment.*.quota] of loadtest.toml"
    )


def _judge_quota(settings: Settings, allowance: Allowance, *, is_final: bool) -> Finding:
    profile, clients, units = settings.profile, settings.clients, allowance.units
    demand = Demand(profile, settings.tools, allowance.quota)
    peak = demand.find_peak_units(clients)
    seen = allowance.describe()
    shared = f"by {clients} client{'' if clients == 1 else 's'}"
    if peak > units:
        refused = max(demand.find_refused(clients, units).values())
        return Finding(
            "quota",
            "missing" if is_final and refused > MOSTLY else "warn",
            f"{seen}; the profile spends {peak:,} {shared}: calls will be refused",
            ", or ".join(list_cures(settings, demand, clients, units)),
        )
    if profile.tools.target_rps is None:
        rate = demand.find_mix_rate(clients, units)
        return Finding(
            "quota",
            "warn",
            f"{seen}; the ladder spends {peak:,} {shared}, the mix what the target's speed allows",
            f"--target-rps {rate:g} or less, or --fit-quota",
        )
    return Finding("quota", "ok", f"{seen}; the profile spends {peak:,} {shared}")


def _look_at_sessions(settings: Settings) -> Finding:
    """Say what a run that died left open; one that is under way has its own open, rightly."""
    try:
        left = len(find_left(settings.state_dir))
        if not left:
            return Finding("sessions", "ok", "no run left one open")
        with lock_environment(settings.state_dir, settings.environment_name):
            detail = f"{left} left open by a run"
            return Finding("sessions", "later", detail, "inv k6 closes them, or inv doctor --close")
    except BusyError as failure:
        return Finding("sessions", "ok", str(failure))
    except LoadtestError as failure:
        return Finding("sessions", "missing", str(failure), "delete that file")
