"""Create user, workspace and data, unless they were verified within the last hour."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from loadtest.common.console import open_plain
from loadtest.config.settings import Settings, check_hosted
from loadtest.context import Chain
from loadtest.errors import MintError, ProvisionError, UsageError
from loadtest.state.bearers import SPARE_SECONDS, bearer_path, read_bearers

if TYPE_CHECKING:
    from loadtest.common.redaction import SecretStr


# What provisioning a hosted environment needs.
PROVISIONED = ("LOADTEST_BASE_URL", "LOADTEST_EMAIL")


def provision(
    chain: Chain,
    settings: Settings,
    *,
    verify: bool = False,
    rotate: bool = False,
    teardown: bool = False,
    github_secrets: bool = False,
    enroll_totp: bool = False,
    show: bool = False,
    revoke: Callable[[], None],
) -> None:
    """Create user, workspace and data, unless they were verified within the last hour."""
    provisions = settings.environment.provision != "none"
    if not (provisions or teardown):
        chain.say("provision", f"nothing to provision in environment {settings.environment_name}")
        return
    if teardown and (rotate or github_secrets or enroll_totp or show):
        raise UsageError("--teardown cannot be combined with any option other than --env")
    if rotate and enroll_totp:
        raise UsageError("--rotate and --enroll-totp cannot be combined")
    if github_secrets and settings.is_reference():
        raise UsageError(
            "--github-secrets is for hosted environments: GitHub cannot reach the reference target"
        )
    if provisions:
        check_hosted(settings, *PROVISIONED)
    from loadtest.provision import provisioner
    from loadtest.provision.records import was_verified

    def say(text: str) -> None:
        chain.say("provision", text)

    if teardown:
        _tear_down(chain, settings, revoke)
        return
    acts = verify or rotate or github_secrets or enroll_totp
    verified = not acts and was_verified(settings)
    if rotate:
        origin = chain.open_target(settings)
        say(provisioner.rotate(settings, origin, say, github_secrets=github_secrets).describe())
    if verified:
        say("already there, verified within the last hour")
    elif not rotate or verify or github_secrets:
        origin = chain.open_target(settings)
        bearer = _find_bearer(settings, origin)
        done = provisioner.provision(
            settings,
            origin,
            say,
            github_secrets=github_secrets,
            enroll_totp=enroll_totp,
            bearer=bearer,
        )
        for step in done.steps:
            say(step.describe())
    if show:
        if not chain.console.is_terminal:
            print("warning: printing a password, and not to a terminal", file=sys.stderr)
        print(provisioner.render_credentials(settings), end="", file=open_plain(sys.stdout))


def _tear_down(chain: Chain, settings: Settings, revoke: Callable[[], None]) -> None:
    """Remove what can be removed; raise if a credential still works afterwards."""
    from loadtest.provision.teardown import teardown

    def say(text: str) -> None:
        chain.say("provision", text)

    # Revoke on the server first: the local files name what is to be revoked.
    unrevoked = None
    if not settings.is_reference():
        try:
            revoke()
        except MintError as failure:
            unrevoked = failure
    local = settings.is_reference() or settings.environment.provision == "none"
    base_url = None if local else chain.open_target(settings)
    steps = teardown(settings, base_url, say)
    for step in steps:
        say(step.describe())
    lasting = [step.what for step in steps if step.lasts]
    if lasting:
        kept = settings.state_dir.relative_to(settings.root)
        raise ProvisionError(
            f"not removed: {', '.join(lasting)} (see above); credentials that still work are kept "
            f"in {kept}"
        )
    if unrevoked is not None:
        raise unrevoked


def _find_bearer(settings: Settings, base_url: str) -> "SecretStr | None":
    """Return a bearer from disk that reads this workspace and is valid long enough."""
    workspace_id = settings.credentials.workspace_id
    if workspace_id is None:
        return None
    mcp_url = settings.build_mcp_url(base_url, workspace_id)
    try:
        bearers = read_bearers(bearer_path(settings.state_dir))
    except MintError:
        return None
    fitting = (
        bearer
        for bearer in bearers
        if bearer.mcp_url == mcp_url and bearer.seconds_left() > SPARE_SECONDS
    )
    return next((bearer.access_token for bearer in fitting), None)
