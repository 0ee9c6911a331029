"""Check everything that a run needs, and say what to do about what is missing."""

from collections.abc import Callable, Iterator

from loadtest.common.access import NO_ACCESS
from loadtest.common.command_name import spell
from loadtest.config.models import Kubernetes
from loadtest.config.settings import Settings
from loadtest.doctor.bearer_checks import examine_bearers, examine_without_bearer
from loadtest.doctor.check import Check
from loadtest.doctor.credential_checks import examine_access, examine_credentials
from loadtest.doctor.sign_in_checks import examine_authorization
from loadtest.doctor.target_checks import examine_target
from loadtest.errors import BusyError, ConfigError, K6Error, LoadtestError, ReportError
from loadtest.k6.binary import find_k6
from loadtest.k6.open_sessions import find_left
from loadtest.mint.browser.launcher import find_choice
from loadtest.publish.tracking_issue.tracker import find_tracker
from loadtest.state.bearers import bearer_path, read_bearers
from loadtest.state.run_lock import lock_environment


def examine(
    settings: Settings, base_url: str | None, say: Callable[[str], None] = lambda _: None
) -> Iterator[Check]:
    """Check everything that a run needs; create nothing, register nothing, sign in nowhere.

    `base_url` is the target's origin, or None while there is no target to check.
    """
    yield Check("settings", "ok", f"{settings.environment_name}, profile {settings.profile_name}")
    if settings.environment.auth == "bearer":
        yield _examine_program(
            "browser",
            lambda: find_choice(settings.browser_record).describe(),
            f"{spell('mint')} downloads one",
        )
    yield _examine_program(
        "k6", lambda: find_k6(settings.variables).describe(), "with Nox, `nox -s k6` installs one"
    )
    is_up = False
    for check in examine_target(settings, base_url):
        is_up = check.state in {"ok", "warn"} and base_url is not None
        yield check
    if settings.access != NO_ACCESS:
        yield examine_access(settings)
    if settings.environment.auth == "bearer":
        yield examine_credentials(settings)
        yield from examine_authorization(settings, base_url if is_up else None, say)
        yield from examine_bearers(settings, base_url if is_up else None)
    else:
        yield from examine_without_bearer(settings, base_url if is_up else None)
    yield _examine_sessions(settings)
    yield _examine_report(settings)
    if settings.environment.kubernetes is not None:
        yield _examine_cluster(settings, settings.environment.kubernetes)


def has_valid_bearer(settings: Settings) -> bool:
    """Return whether a bearer is valid; without one, the reference target need not be started."""
    try:
        bearers = read_bearers(bearer_path(settings.state_dir))
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


def _examine_sessions(settings: Settings) -> Check:
    """Check for sessions that a dead run left open; those of a current run do not count."""
    try:
        left = len(find_left(settings.state_dir))
        if not left:
            return Check("sessions", "ok", "none left open by an earlier run")
        with lock_environment(settings.state_dir, settings.environment_name):
            detail = f"{left} left open by an earlier run"
            return Check(
                "sessions",
                "later",
                detail,
                f"{spell('k6')} or {spell('doctor --close')} closes them",
            )
    except BusyError as failure:
        return Check("sessions", "ok", str(failure))
    except LoadtestError as failure:
        return Check("sessions", "missing", str(failure), "delete that file")
