"""The stages as Invoke tasks: `inv --list` is the table of contents, `inv --help TASK` a page."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from invoke.collection import Collection
from invoke.main import program

from loadtest.cli.executor import ChainExecutor
from loadtest.cli.options import load, task
from loadtest.common.interruption import end_unread_listings
from loadtest.context import Chain

end_unread_listings()
# Pre-tasks of Invoke get none of their caller's options; this executor passes them on.
program.executor_class = ChainExecutor


@task()
def provision(
    chain: Chain,
    env: str | None = None,
    mcp_url: str | None = None,
    verify: bool = False,
    rotate: bool = False,
    teardown: bool = False,
    github_secrets: bool = False,
    enroll_totp: bool = False,
    print_: bool = False,
) -> None:
    """Create the load-test user, its workspace and data

    Creates only what is missing, so it is safe to repeat. The reference target needs no settings; a
    hosted environment needs LOADTEST_BASE_URL and LOADTEST_EMAIL.

    inv provision --env staging --github-secrets    stores the credentials in GitHub Actions
    """
    from loadtest.mint.stage import revoke as revoke_minted
    from loadtest.provision import stage

    settings = load(env, mcp_url=mcp_url)
    stage.provision(
        chain,
        settings,
        verify=verify,
        rotate=rotate,
        teardown=teardown,
        github_secrets=github_secrets,
        enroll_totp=enroll_totp,
        show=print_,
        revoke=partial(revoke_minted, chain, settings),
    )


@task(pre=[provision])
def mint(
    chain: Chain,
    env: str | None = None,
    profile: str | None = None,
    mcp_url: str | None = None,
    via: str | None = None,
    ttl: str | None = None,
    min_ttl: str | None = None,
    headed: bool = False,
    slow: str | None = None,
    print_claims: bool = False,
    check: bool = False,
    knobs: Any = None,
) -> None:
    """Mint a bearer through OAuth in a real browser

    The first time, it signs in and consents as a person would. Later it uses a refresh token, or
    does nothing if a bearer is valid for longer than the profile takes. It verifies the bearer and
    writes it to a file that only you can read.

    inv mint --env staging --headed --slow 500    shows what happens on the pages
    inv mint --env prod --check    signs in again, calls one tool, revokes everything
    """
    from loadtest.mint import stage
    from loadtest.mint.options import parse_options

    options = parse_options(via, ttl, min_ttl, headed=headed, slow=slow)
    settings = load(env, profile, knobs, mcp_url)
    if check:
        from loadtest.publish.sign_in_check import announce

        announce(chain, settings, stage.check_sign_in(chain, settings, options))
    else:
        stage.mint(chain, settings, options, print_claims=print_claims)


@task()
def revoke(chain: Chain, env: str | None = None, mcp_url: str | None = None) -> None:
    """Undo mint: revoke tokens, delete clients, end sessions

    Then it tries each bearer. A bearer that still works is listed with its expiry and stays on
    disk, and the exit code is 14.
    """
    from loadtest.mint import stage

    stage.revoke(chain, load(env, mcp_url=mcp_url))


@task(pre=[mint], iterable=["out"])
def k6(
    chain: Chain,
    env: str | None = None,
    profile: str | None = None,
    scenarios: str | None = None,
    engine: str | None = None,
    parallelism: str | None = None,
    fit_quota: bool = False,
    no_remeasure: bool = False,
    render: bool = False,
    out: Sequence[str] | None = None,
    json: bool = False,  # noqa: ARG001 (read by the executor)
    knobs: Any = None,
) -> None:
    """Run the load-test scenarios

    Cold starts, a ladder of concurrent sessions, a mix of tool calls. It first prints the load that
    it will send, and calls each tool once. Ctrl-C keeps what was measured and closes the sessions.
    If a figure is suspicious, what it belongs to is measured again at once.

    inv k6 --env staging --scenarios sessions --stages 1,50,100
    inv k6 --engine segments --parallelism 4    several k6 on this machine
    inv k6 --env prod --engine kubernetes --parallelism 12 --render    look before you run
    """
    from loadtest.k6 import stage
    from loadtest.publish.stage import build_judge

    settings = load(env, profile, knobs)
    fleet = {"engine": engine, "parallelism": parallelism}
    if render:
        stage.render(settings, scenarios, **fleet)
    else:
        judge = None if no_remeasure else build_judge(chain, settings)
        stage.k6(chain, settings, scenarios, out or (), **fleet, fit_quota=fit_quota, judge=judge)


@task(pre=[mint])
def capacity(
    chain: Chain,
    env: str | None = None,
    profile: str | None = None,
    find: str | None = None,
    start: str | None = None,
    tolerance: str | None = None,
    step_seconds: str | None = None,
    engine: str | None = None,
    parallelism: str | None = None,
    json: bool = False,
    knobs: Any = None,
) -> None:
    """Find the most load that the target bears

    Doubles the load until an objective is missed or something is refused, then narrows the range
    and repeats both sides of the edge. It brings the server to its edge: the environment must
    allow that. Ctrl-C keeps what is known.

    inv capacity --env staging                  sessions, each with a call a second
    inv capacity --env staging --find calls --start 5    calls per second of the mix
    """
    from loadtest.capacity import stage
    from loadtest.capacity.options import parse_options
    from loadtest.publish.stage import report as report_run

    settings = load(env, profile, knobs)
    options = parse_options(find, start, tolerance, step_seconds)
    report = partial(report_run, chain, settings, None, as_json=json)
    fleet = {"engine": engine, "parallelism": parallelism}
    stage.capacity(chain, settings, options, report=report, **fleet)


@task(pre=[mint])
def leaks(
    chain: Chain,
    env: str | None = None,
    cycles: str | None = None,
    sessions: str | None = None,
    wait_minutes: str | None = None,
) -> None:
    """Check that the server gets back what clients leave

    Fills the server with sessions and streams until it refuses, closes them, abandons a few as
    crashed clients do, and measures whether room, first dispatch and latency come back; then again.
    The environment must allow it. The exit code is 94 if something does not come back.

    inv leaks                                 the reference target
    inv leaks --env staging --sessions 200 --wait-minutes 30    follows abandoned sessions
    """
    from loadtest.leaks import stage

    typed = {"cycles": cycles, "sessions": sessions, "wait_minutes": wait_minutes}
    stage.check_leaks(chain, load(env), typed)


@task()
def report(
    chain: Chain,
    env: str | None = None,
    run_id: str | None = None,
    dry_run: bool = False,
    json: bool = False,
    junit: str | None = None,
    step_outcome: str | None = None,
) -> None:
    """Compare a run, print its tables, post its comment

    Compares the run with earlier comparable runs and writes report.md and report.html beside it. If
    GITHUB_REPOSITORY and GITHUB_TOKEN are set, it posts the comment on the tracking issue, but
    never for the reference target. Posting the same run again updates its comment.

    inv report --env prod --run-id 17654321098-1    posts a run from its artifact
    """
    from loadtest.publish import stage

    settings = load(env)
    if step_outcome is not None:
        stage.report_cut_off(chain, settings, step_outcome)
    else:
        stage.report(chain, settings, run_id, dry_run=dry_run, as_json=json, junit=junit)


@task()
def compare(chain: Chain, before: str, after: str, env: str | None = None) -> None:
    """Print two runs side by side

    Name the earlier run first, then the later one.

    inv compare previous last --env prod
    inv compare 1a2b3c4 last --env prod
    """
    from loadtest.publish import stage

    stage.compare(chain, load(env), before, after)


@task()
def history(
    chain: Chain,
    env: str | None = None,
    check: bool = False,
    accept: str | None = None,
    html: bool = False,
    csv: bool = False,
) -> None:
    """Print all runs, accept a regression, or check the cadence

    Reads the runs of the environment from its tracking issue, or from .loadtest/runs if it has no
    issue.

    inv history --env prod --accept last    the change was intended: make it the baseline
    inv history --env prod --csv > runs.csv
    """
    from loadtest.publish import stage

    stage.history(chain, load(env), check=check, accept=accept, as_page=html, as_csv=csv)


@task(name="docs-update")
def docs_update(chain: Chain, env: str | None = None, check: bool = False) -> None:
    """Turn the TBD cells of the docs into links

    Changes only tables of the pages that loadtest.toml names, and no other byte. Without a tracking
    issue, it writes a preview beside the newest run.
    """
    from loadtest.docs import stage

    stage.docs_update(chain, load(env), check=check)


@task(pre=[k6, report, docs_update], iterable=["out"], default=True)
def loadtest(
    chain: Chain,
    env: str | None = None,
    profile: str | None = None,
    scenarios: str | None = None,
    engine: str | None = None,
    parallelism: str | None = None,
    fit_quota: bool = False,
    no_remeasure: bool = False,
    out: Sequence[str] | None = None,
    json: bool = False,
    junit: str | None = None,
    knobs: Any = None,
) -> None:
    """Run the whole chain, provision to docs-update

    inv loadtest                                the reference target, in a minute
    inv loadtest --env prod --profile smoke     a hosted server, small
    """


@task()
def target(chain: Chain, port: str | None = None, flags: str = "") -> None:
    """Serve the reference target until Ctrl-C

    inv target --port 8020 --flags "--error-share 0.1 --session-cap 20"
    """
    from loadtest.target import stage

    stage.target(load("local"), port, flags, chain.say)


@task()
def init(
    chain: Chain,
    url: str,
    env: str | None = None,
    header: str | None = None,
    call_tools: str = "",
    yes: bool = False,
    check: bool = False,
) -> None:
    """Draft an environment for a server of your own

    Asks the server how clients sign in, signs in if it can, and calls each read-only tool once.
    Then it shows what it would add: the environment, the variables, the workflow and lines for
    .gitignore. It writes them if you agree, and changes nothing that is already there.

    inv init https://mcp.example.com/mcp
    inv init https://mcp.example.com/mcp --yes    asks nothing
    """
    from loadtest.config.project import find_root
    from loadtest.init import stage

    named = tuple(filter(None, call_tools.split(",")))
    options = stage.InitOptions(env, header, named, yes=yes, check=check)
    stage.init(chain, find_root(), url, options)


@task()
def doctor(
    chain: Chain,
    env: str | None = None,
    profile: str | None = None,
    mcp_url: str | None = None,
    close: bool = False,
    knobs: Any = None,
) -> None:
    """List what is missing before a run

    Checks settings, TLS, clock, OAuth metadata, sign-in page, bearer, workspace, tools, quota,
    where reports go, and the cluster. It creates nothing. The exit code is 10 if something is
    missing.
    """
    from loadtest.doctor import stage

    stage.doctor(chain, load(env, profile, knobs, mcp_url), close=close)


namespace = Collection(
    *(provision, mint, revoke, k6, capacity, leaks, report, docs_update, loadtest),
    *(compare, history, target, init, doctor),
)
