"""Each stage as a task runs it: skip what is still good, act, and say in a line what happened."""

import shlex

from loadtest.chain import Chain
from loadtest.config import Settings, check_hosted
from loadtest.errors import ConfigError, MintError
from loadtest.mint.bearer import Bearer, read_bearer, write_bearer

# A bearer must outlive the scheduled time by this much: cold start, gaps and clean-up.
SPARE_SECONDS = 120


def provision(chain: Chain, settings: Settings, *, verify: bool) -> None:
    """Make user, workspace and data ready, unless they were seen so within the last hour."""
    check_hosted(settings, "LOADTEST_BASE_URL", "LOADTEST_EMAIL")
    from loadtest import provision as stage

    if not verify and stage.was_verified(settings):
        chain.say("provision", "was there, verified within the last hour")
        return
    base_url = chain.open_target(settings)
    done = stage.provision(settings, base_url, lambda text: chain.say("provision", text))
    for step in done.steps:
        chain.say("provision", f"{step.state}: {step.what}")


def mint(chain: Chain, settings: Settings) -> None:
    """Have a bearer that outlives the profile: the one on disk, else one newly minted."""
    bearer, was_there = ensure_bearer(chain, settings)
    if was_there:
        chain.say("mint", f"was there, good for {bearer.seconds_left() / 60:.0f} min")


def ensure_bearer(chain: Chain, settings: Settings) -> tuple[Bearer, bool]:
    """Return a bearer that outlives the profile, and whether it was there."""
    check_hosted(settings, "LOADTEST_BASE_URL", "LOADTEST_EMAIL", "LOADTEST_PASSWORD")
    needed_seconds = settings.profile.scheduled_seconds() + SPARE_SECONDS
    bearer = read_bearer(settings.bearer_file)
    if (
        bearer is not None
        and bearer.seconds_left() > needed_seconds
        and _is_for(chain, settings, bearer)
    ):
        return bearer, True
    bearer = _mint_anew(chain, settings)
    if bearer.seconds_left() < needed_seconds:
        raise MintError(
            f"the bearer lives {bearer.seconds_left():.0f} s, profile {settings.profile_name} "
            f"needs {needed_seconds} s: choose a shorter one, or have longer tokens issued"
        )
    return bearer, False


def _is_for(chain: Chain, settings: Settings, bearer: Bearer) -> bool:
    """Return whether the bearer was minted for this target and workspace.

    A reference target that is not up yet is given the benefit of the doubt: it takes its old
    port again, and k6 asks once more when it is up.
    """
    base_url = chain.targets.get(settings.environment_name, settings.base_url)
    workspace_id = settings.credentials.workspace_id
    if workspace_id is None or bearer.workspace_id != workspace_id:
        return False
    return base_url is None or bearer.mcp_url == settings.build_mcp_url(base_url, workspace_id)


def _mint_anew(chain: Chain, settings: Settings) -> Bearer:
    from loadtest.browser import find_choice
    from loadtest.mint.flow import MintRequest
    from loadtest.mint.flow import mint as run_flow

    who = settings.credentials
    if who.email is None or who.password is None or who.workspace_id is None:
        raise ConfigError("nobody to sign in yet: type `inv provision` first")
    browser = find_choice(settings.browser_record)
    base_url = chain.open_target(settings)
    request = MintRequest(
        mcp_url=settings.build_mcp_url(base_url, who.workspace_id),
        environment=settings.environment,
        email=who.email,
        password=who.password,
        workspace_id=who.workspace_id,
        browser=browser,
        state_dir=settings.state_dir,
        tell=lambda text: chain.say("mint", text),
    )
    bearer, timings = run_flow(request)
    write_bearer(settings.bearer_file, bearer)
    chain.say(
        "mint",
        f"made in {timings.total_seconds:.1f} s (browser {timings.browser_seconds:.1f}, pages "
        f"{timings.pages_seconds:.1f}, protocol {timings.protocol_seconds:.1f}), "
        f"good for {bearer.seconds_left() / 60:.0f} min",
    )
    return bearer


def doctor(chain: Chain, settings: Settings) -> None:
    """Print what is missing; the exit code says whether a run would start."""
    from rich.table import Table
    from rich.text import Text

    from loadtest.doctor import examine

    colours = {"ok": "green", "later": "yellow", "missing": "red"}
    table = Table("what", "state", "detail", box=None, pad_edge=False)
    missing = []
    for finding in examine(settings):
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(finding.what, state, Text(finding.detail))
        if finding.state == "missing":
            missing.append(finding.what)
    chain.console.print(table)
    if missing:
        raise ConfigError(f"missing before a run: {', '.join(missing)} (see above)")


def target(chain: Chain, settings: Settings, port: str | None, flags: str) -> None:
    """Serve the reference target in the foreground until Ctrl-C, and say how to sign up."""
    from loadtest.target import serve_reference

    options = [*(["--port", port] if port else []), *shlex.split(flags)]
    with serve_reference(settings.state_dir / "target", *options) as reference:
        chain.say("target", f"reference target at {reference.api_url}; Ctrl-C stops it")
        reference.process.wait()
