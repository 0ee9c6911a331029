"""What is missing before a run: each finding with what to do about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from loadtest.browser import find_choice
from loadtest.config import Settings, check_hosted
from loadtest.errors import LoadtestError, MintError
from loadtest.k6 import find_k6
from loadtest.mint.bearer import find_soonest, read_bearers
from loadtest.target import check_reachable

SKEW_LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table; `missing` stops a run, `later` is made by the chain."""

    what: str
    state: Literal["ok", "later", "missing"]
    detail: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything that a run needs; nothing is made, registered or signed in to."""
    yield Finding("settings", "ok", f"{settings.environment_name}, profile {settings.profile_name}")
    yield _look("browser", lambda: find_choice(settings.browser_record).describe())
    yield _look("k6", lambda: find_k6(settings.variables).describe())
    yield _look("target", lambda: _describe_target(settings))
    yield _look_at_credentials(settings)
    if settings.base_url is not None:
        yield _look("authorization", lambda: _describe_authorization(settings))
    yield _look_at_bearer(settings)


def _look(what: str, describe: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", describe())
    except LoadtestError as failure:
        return Finding(what, "missing", str(failure))


def _describe_target(settings: Settings) -> str:
    if settings.is_reference():
        return "the reference target, started for the time of the run"
    check_hosted(settings, "LOADTEST_BASE_URL")
    assert settings.base_url is not None
    check_reachable(settings.base_url)
    return f"{settings.base_url} answers"


def _describe_authorization(settings: Settings) -> str:
    from loadtest.mint.discovery import discover

    assert settings.base_url is not None
    workspace_id = settings.credentials.workspace_id
    found = discover(settings.build_mcp_url(settings.base_url, workspace_id))
    if abs(found.skew_seconds) > SKEW_LIMIT_SECONDS:
        raise MintError(
            f"this machine's clock and the server's differ by {found.skew_seconds:+.0f} s: set ours"
        )
    return found.describe()


def _look_at_credentials(settings: Settings) -> Finding:
    who = settings.credentials
    if who.email and who.password and who.workspace_id:
        return Finding("credentials", "ok", f"{who.email}, workspace {who.workspace_id}")
    try:
        check_hosted(settings, "LOADTEST_EMAIL")
    except LoadtestError as failure:
        return Finding("credentials", "missing", str(failure))
    return Finding("credentials", "later", "inv provision makes what is lacking")


def _look_at_bearer(settings: Settings) -> Finding:
    try:
        bearers = read_bearers(settings.bearer_file)
    except LoadtestError as failure:
        return Finding("bearer", "missing", str(failure))
    if len(bearers) < settings.clients or find_soonest(bearers).seconds_left() <= 0:
        return Finding("bearer", "later", "none that is fresh: inv mint makes one")
    minutes = find_soonest(bearers).seconds_left() / 60
    return Finding("bearer", "ok", f"good for {minutes:.0f} min, {len(bearers)} in all")
