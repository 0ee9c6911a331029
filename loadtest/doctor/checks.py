"""The doctor's findings: what a run needs, whether it is there, and what to do if it is not."""

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
from loadtest.target.mcp_client import Greeting, WorkspaceClient
from loadtest.target.process import check_reachable

if TYPE_CHECKING:
    from loadtest.mint.oauth.discovery import Discovered

# Token times are checked with this much leeway.
SKEW_LIMIT_SECONDS = 60
SKEW_WARN_SECONDS = 5
# A Date header has whole seconds, and some servers update theirs once a second.
SKEW_RESOLUTION_SECONDS = 2
CERTIFICATE_WARN_DAYS = 14
REFUSED_STATUSES = frozenset({401, 403})
NO_WORKSPACE = "none-yet"
MINT_AGAIN = "inv mint --via browser makes a new one"

CheckState = Literal["ok", "later", "warn", "missing"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table, with what to do if it is not ok.

    `later`: a stage of the chain will make it. `warn`: a run starts anyway. `missing`: no run
    starts.
    """

    what: str
    state: CheckState
    detail: str
    remedy: str = ""

    @property
    def cause(self) -> tuple[CheckState, str, str]:
        """Return what findings with the same cause have in common."""
        return self.state, self.detail, self.remedy


def examine(
    settings: Settings, base_url: str | None, say: Callable[[str], None] = lambda _: None
) -> Iterator[Check]:
    """Check everything that a run needs; create nothing, register nothing, sign in nowhere.

    `base_url` is the target's origin, or None while there is no target to check.
    """
    yield Check("settings", "ok", f"{settings.environment_name}, profile {settings.profile_name}")
    yield _examine_program(
        "browser",
        lambda: find_choice(settings.browser_record).describe(),
        "nox -s mint installs one",
    )
    yield _examine_program(
        "k6", lambda: find_k6(settings.variables).describe(), "nox -s k6 installs one"
    )
    is_up = False
    for finding in _examine_target(settings, base_url):
        is_up = finding.state in {"ok", "warn"} and base_url is not None
        yield finding
    yield _examine_credentials(settings)
    yield from _examine_authorization(settings, base_url if is_up else None, say)
    yield from _examine_bearers(settings, base_url if is_up else None)
    yield _examine_sessions(settings)
    yield _examine_report(settings)
    if settings.environment.kubernetes is not None:
        yield _examine_cluster(settings, settings.environment.kubernetes)


def has_valid_bearer(settings: Settings) -> bool:
    """Return whether a bearer is valid; without one, the reference target need not be started."""
    try:
        bearers = read_bearers(settings.bearer_file)
    except LoadtestError:
        return False
    return any(bearer.seconds_left() > 0 for bearer in bearers)


def _examine_report(settings: Settings) -> Check:
    """Check where reports go by reading the tracking issue, not by writing to it."""
    if settings.is_reference():
        return Check("report", "ok", "stays on this machine, as for every reference target")
    try:
        tracker = find_tracker(settings)
        address = tracker.find_address() if tracker else None
    except (ConfigError, ReportError) as failure:
        return Check("report", "missing", str(failure), "see docs/reference/settings.md")
    if tracker is None:
        return Check("report", "ok", "stays on this machine: GITHUB_REPOSITORY is not set")
    return Check("report", "ok", f"posted on {address or 'an issue that the first run opens'}")


def _examine_cluster(settings: Settings, where: Kubernetes) -> Check:
    """Check that the cluster answers and has the operator, but not what a run may do there."""
    from loadtest.k6.kubernetes.client import open_cluster
    from loadtest.k6.kubernetes.objects import check_operator

    try:
        with open_cluster(where, settings.variables) as cluster:
            check_operator(cluster)
    except K6Error as failure:
        return Check("cluster", "warn", str(failure), "only --engine kubernetes needs it")
    return Check(
        "cluster", "ok", f"{cluster.name}, namespace {where.namespace}: has the k6-operator"
    )


def _examine_program(what: str, describe: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(what, "ok", describe())
    except LoadtestError as failure:
        return Check(what, "missing", str(failure), remedy)


def _examine_target(settings: Settings, base_url: str | None) -> Iterator[Check]:
    """Check that the target answers, then its TLS."""
    if settings.is_reference() and base_url is None:
        yield Check("target", "ok", "the reference target, started for the run")
        yield Check("TLS", "ok", "none: plain http, only on this machine")
        return
    try:
        check_hosted(settings, "LOADTEST_BASE_URL")
        assert base_url is not None
        certificate = check_reachable(base_url)
    except CertificateError as failure:
        yield Check("target", "ok", f"{base_url} accepts connections")
        yield Check("TLS", "missing", str(failure), _find_certificate_remedy(str(failure)))
        return
    except ConfigError as failure:
        yield Check("target", "missing", str(failure), "see docs/reference/settings.md")
        return
    except TargetError as failure:
        yield Check("target", "missing", str(failure), "start it, or correct LOADTEST_BASE_URL")
        return
    whose = "the reference target, " if settings.is_reference() else ""
    yield Check("target", "ok", f"{whose}{base_url} answers")
    if certificate is None:
        yield Check("TLS", "ok", "none: plain http, only on this machine")
        return
    detail = (
        f"{certificate.protocol}, certificate by {certificate.issuer}, "
        f"valid for {int(certificate.days_left)} days"
    )
    if certificate.days_left < CERTIFICATE_WARN_DAYS:
        yield Check("TLS", "warn", detail, "renew the certificate on the server")
    else:
        yield Check("TLS", "ok", detail)


def _find_certificate_remedy(message: str) -> str:
    if "expired" in message or "not yet valid" in message:
        return "renew it on the server, and check the clock of this machine"
    if "ismatch" in message:
        return "set LOADTEST_BASE_URL to a name that the certificate is for"
    return "if the certificate authority is your own, set SSL_CERT_FILE to its certificates (PEM)"


def _examine_credentials(settings: Settings) -> Check:
    who = settings.credentials
    if settings.environment.provision == "none":
        return _examine_given_credentials(settings)
    if who.email and who.password and who.workspace_id:
        return _examine_password(who, f"{who.email}, workspace {who.workspace_id}")
    try:
        check_hosted(settings, "LOADTEST_EMAIL")
    except LoadtestError as failure:
        remedy = "set it to the e-mail address of the load-test user; provision creates the user"
        return Check("credentials", "missing", str(failure), remedy)
    have = {"user": who.email, "password": who.password, "workspace": who.workspace_id}
    lacking = ", ".join(name for name, value in have.items() if not value)
    return Check("credentials", "later", f"no {lacking} yet", "inv provision makes what is missing")


def _examine_given_credentials(settings: Settings) -> Check:
    """Check what provision does not make here: a user, and a workspace if the path needs one."""
    who = settings.credentials
    have = {"LOADTEST_EMAIL": who.email, "LOADTEST_PASSWORD": who.password}
    if "{workspace_id}" in settings.environment.mcp_path:
        have["LOADTEST_WORKSPACE_ID"] = who.workspace_id
    lacking = ", ".join(name for name, value in have.items() if not value)
    if lacking:
        remedy = "set them; with LOADTEST_BEARER or a client secret, mint needs no user"
        return Check("credentials", "later", f"no {lacking}", remedy)
    return _examine_password(who, f"{who.email}, nothing to provision")


def _examine_password(who: Credentials, detail: str) -> Check:
    """Check that the password can be redacted from a server's messages."""
    if who.password is None or is_hidable(who.password.get_secret_value()):
        return Check("credentials", "ok", detail)
    remedy = f"choose one of at least {LEAST_SECRET} characters that is not a plain word"
    detail = "the password is too short or plain to be redacted when a server quotes it"
    return Check("credentials", "warn", detail, remedy)


def _examine_authorization(
    settings: Settings, base_url: str | None, say: Callable[[str], None]
) -> Iterator[Check]:
    """Check the authorization server, its clock, and the page where a browser would sign in."""
    lines = ("authorization", "clock", "sign-in page")
    if base_url is None:
        _, blocked = _find_endpoint(settings, base_url)
        yield from (Check(what, "later", *blocked) for what in lines)
        return
    workspace_id = settings.credentials.workspace_id
    # Without a bearer, most servers send the same challenge for a workspace that does not exist.
    mcp_url = settings.build_mcp_url(base_url, workspace_id or NO_WORKSPACE)
    from loadtest.mint.oauth.discovery import discover

    try:
        found = discover(mcp_url)
    except LoadtestError as failure:
        if workspace_id is None and "{workspace_id}" in settings.environment.mcp_path:
            detail = f"cannot be checked without a workspace: {failure}"
            yield from (Check(what, "later", detail, "inv provision makes one") for what in lines)
            return
        remedy = "fix the server's OAuth metadata; if it has none: inv mint --via given"
        yield Check("authorization", "missing", str(failure), remedy)
        yield from (
            Check(what, "later", "no authorization server", "fix authorization first")
            for what in lines[1:]
        )
        return
    yield Check("authorization", "ok", found.describe())
    yield _examine_clock(found.skew_seconds)
    yield _examine_sign_in_page(settings, mcp_url, found, say)


def _find_endpoint(settings: Settings, base_url: str | None) -> tuple[str | None, tuple[str, str]]:
    """Return the MCP endpoint, or None with the detail and remedy of what cannot be checked yet."""
    if base_url is None:
        return None, ("the target is not up", "checked when it is up")
    try:
        return settings.build_mcp_url(base_url, settings.credentials.workspace_id), ("", "")
    except ConfigError:
        return None, ("no workspace yet", "inv provision makes one")


def _examine_clock(skew_seconds: float) -> Check:
    if abs(skew_seconds) < SKEW_RESOLUTION_SECONDS:
        return Check("clock", "ok", f"within {SKEW_RESOLUTION_SECONDS} s of the server's")
    side = "behind" if skew_seconds > 0 else "ahead of"
    detail = f"{abs(skew_seconds):.0f} s {side} the server's"
    if abs(skew_seconds) > SKEW_LIMIT_SECONDS:
        return Check("clock", "missing", detail, "set this machine's clock (NTP)")
    if abs(skew_seconds) > SKEW_WARN_SECONDS:
        return Check("clock", "warn", f"{detail}, tolerated", "set this machine's clock (NTP)")
    return Check("clock", "ok", detail)


def _examine_sign_in_page(
    settings: Settings, mcp_url: str, found: "Discovered", say: Callable[[str], None]
) -> Check:
    from loadtest.mint.browser.sign_in_probe import build_authorization_url, fetch_sign_in_page

    what = "sign-in page"
    try:
        configured = settings.find_sign_in_origins()
        client_id, redirect_uri = _find_client(settings, found)
    except LoadtestError as failure:
        return Check(what, "missing", str(failure), "correct what it names")
    url = found.authorization_url
    if client_id is not None:
        url = build_authorization_url(url, client_id, settings.environment.scope, redirect_uri)
    own = _find_origins(mcp_url, found.issuer, url)
    try:
        page = fetch_sign_in_page(url, own | configured, say)
    except MintError as failure:
        return _explain_refusal(settings, failure, is_known=client_id is not None)
    whose = "allowed by sign_in_origins" if page.origin in configured else "the server's own"
    if page.has_form:
        return Check(what, "ok", f"a form at {page.origin}, {whose}")
    if page.has_scripts:
        return Check(what, "ok", f"{page.origin}, {whose}; its form is made by scripts")
    remedy = "inv mint --headed shows what a person sees"
    return Check(what, "warn", f"{page.origin}, {whose}: no form on it", remedy)


def _find_origins(*urls: str) -> frozenset[str]:
    """Return the origins of the URLs; skip text from a server that is not a URL."""
    origins = set()
    for url in urls:
        with suppress(ValueError):
            origins.add(parse_origin(url))
    return frozenset(origins)


def _find_client(settings: Settings, found: "Discovered") -> tuple[str | None, str | None]:
    """Return the client ID that mint would use, and the redirect URI that mint registered.

    The client ID is None before mint has registered a client.
    """
    from loadtest.state.clients import ClientStore

    given = settings.find_variable("LOADTEST_CLIENT_ID")
    document = settings.environment.client_metadata_url if found.takes_documents else None
    remembered = ClientStore(settings.clients_file).read().get(0)
    ours = remembered if remembered and remembered.issuer == found.issuer else None
    if given or document or ours is None:
        return given or document, None
    return ours.client.client_id, ours.client.redirect_uri


def _explain_refusal(settings: Settings, failure: MintError, *, is_known: bool) -> Check:
    """Explain why the page was not shown; a server shows it only to clients that it knows."""
    what = "sign-in page"
    if failure.reason == "unexpected_origin":
        remedy = "if it is yours, add it to LOADTEST_SIGN_IN_ORIGINS or sign_in_origins"
        return Check(what, "missing", failure.message, remedy)
    if failure.reason == "rate_limited":
        return Check(what, "warn", failure.message, "wait a minute, then try again")
    if not is_known:
        detail = f"not shown to an unregistered client: {failure.message}"
        return Check(what, "later", detail, "inv mint registers a client")
    if failure.code is not None and settings.find_variable("LOADTEST_CLIENT_ID") is None:
        return Check(
            what, "later", failure.message, "inv mint registers a new client where that helps"
        )
    return Check(what, "missing", failure.message, "inv mint --headed shows what a person sees")


def _examine_bearers(settings: Settings, base_url: str | None) -> Iterator[Check]:
    """Check the bearers on disk, and whether the endpoint accepts them."""
    try:
        bearers = read_bearers(settings.bearer_file)[: settings.clients]
    except LoadtestError as failure:
        yield Check("bearer", "missing", str(failure), f"rm {settings.bearer_file}; inv mint")
        bearers = ()
    else:
        yield _examine_life(settings, bearers)
    live = tuple(bearer for bearer in bearers if bearer.seconds_left() > 0)
    greeting = None
    mcp_url, blocked = _find_endpoint(settings, base_url)
    if mcp_url is None or not live:
        reason = blocked if mcp_url is None else ("no valid bearer", "inv mint makes one")
        yield from (Check(what, "later", *reason) for what in ("endpoint", "workspace", "tools"))
    elif any(bearer.mcp_url != mcp_url for bearer in live):
        reason = (f"the bearer is for {live[0].mcp_url}", "inv mint makes one for this endpoint")
        yield from (Check(what, "later", *reason) for what in ("endpoint", "workspace", "tools"))
    else:
        finding, greeting = _greet(mcp_url, live)
        yield finding
        yield _examine_workspace(settings, live)
        yield _examine_tools(settings, greeting)
    yield _examine_quota(settings, live, greeting)


def _examine_life(settings: Settings, bearers: tuple[Bearer, ...]) -> Check:
    if not bearers:
        return Check("bearer", "later", "none yet", "inv mint makes one")
    minutes = find_soonest(bearers).seconds_left() / 60
    if len(bearers) < settings.clients:
        detail = f"{len(bearers)} of {settings.clients} clients have one"
        return Check("bearer", "later", detail, "inv mint makes the others")
    if minutes <= 0:
        return Check("bearer", "later", "expired", "inv mint makes a new one")
    scheduled = settings.profile.scheduled_seconds() / 60
    detail = f"valid for {minutes:.0f} min, {len(bearers)} in all"
    if minutes < scheduled:
        detail += f"; the profile takes {scheduled:.0f} min"
        return Check("bearer", "later", detail, "inv mint makes one that outlives it")
    return Check("bearer", "ok", detail)


def _greet(mcp_url: str, bearers: tuple[Bearer, ...]) -> tuple[Check, Greeting | None]:
    """Open and close a session with every bearer."""
    greeting = None
    for bearer in bearers:
        workspace = WorkspaceClient(mcp_url, bearer.access_token, lambda _: None)
        try:
            greeting = workspace.greet()
        except ProvisionError as failure:
            refused = workspace.refusal_status in REFUSED_STATUSES
            remedy = "fix the server, or correct LOADTEST_BASE_URL and mcp_path"
            remedy = MINT_AGAIN if refused else remedy
            return Check("endpoint", "missing", str(failure), remedy), None
    assert greeting is not None
    detail = f"{greeting.server} accepts the bearer, revision {greeting.protocol}"
    return Check("endpoint", "ok", detail), greeting


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
            remedy = f"inv provision makes {configured} the active one; then {MINT_AGAIN}"
            return Check("workspace", "missing", detail, remedy)
    return Check("workspace", "ok", f"{configured}, the same in the bearer")


def _examine_tools(settings: Settings, greeting: Greeting | None) -> Check:
    if greeting is None:
        return Check("tools", "later", "not listed for a refused bearer", "fix the endpoint first")
    needed = set(settings.list_tools(SCENARIOS)) | set(settings.list_tools(("sessions",)))
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
    policy = greeting.policy if greeting is not None else None
    try:
        known = [bearer.client_id for bearer in bearers]
        allowances = find_allowances(settings, known, policy)
    except LoadtestError as failure:
        return Check("quota", "missing", str(failure), "inv provision writes it again")
    if allowances:
        is_final = len(bearers) >= settings.clients  # minting can still raise a quota
        findings = [_compare_quota(settings, each, is_final=is_final) for each in allowances]
        return max(findings, key=lambda finding: ("ok", "warn", "missing").index(finding.state))
    if settings.is_reference():
        return Check("quota", "ok", "none: the run starts the reference target without one")
    return Check(
        "quota", "ok", "none known; if there is one, set [environment.*.quota] in loadtest.toml"
    )


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
            ", or ".join(list_cures(settings, demand, clients, units)),
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


def _examine_sessions(settings: Settings) -> Check:
    """Check for sessions that a dead run left open; those of a current run do not count."""
    try:
        left = len(find_left(settings.state_dir))
        if not left:
            return Check("sessions", "ok", "none left open by an earlier run")
        with lock_environment(settings.state_dir, settings.environment_name):
            detail = f"{left} left open by an earlier run"
            return Check("sessions", "later", detail, "inv k6 or inv doctor --close closes them")
    except BusyError as failure:
        return Check("sessions", "ok", str(failure))
    except LoadtestError as failure:
        return Check("sessions", "missing", str(failure), "delete that file")
