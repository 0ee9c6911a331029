"""The stages as Invoke tasks: `inv --list` is the table of contents, `inv --help TASK` a page."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.executor import Executor
from invoke.tasks import Call, Task
from invoke.tasks import task as invoke_task

from loadtest import chain
from loadtest.common.interruption import end_unread_listings
from loadtest.common.parsing import check_text
from loadtest.errors import BusyError, ConfigError, LoadtestError, UsageError, explain_refusal

end_unread_listings()

HELP = {
    "env": "Environment of loadtest.toml to test (default: local, the reference target)",
    "profile": "Profile of loadtest.toml: how hard to test (default: the environment's own)",
    "mcp_url": "Any MCP endpoint, instead of the environment's own; nothing is provisioned there",
    "via": "auto, browser, session, client-credentials or given (default: the environment's own)",
    "ttl": "Lifetime in seconds to request from the server (with --via session)",
    "min_ttl": "Seconds for which the bearer must still be valid (default: what the profile needs)",
    "headed": "Show the browser",
    "slow": "Milliseconds to wait between the actions of the browser, to watch them",
    "print_claims": "Print the claims of the bearer, never the bearer itself",
    "protocol": "MCP revision to speak: auto, or a date such as 2025-11-25 (default: auto)",
    "clients": "Number of OAuth clients to spread sessions over (default: the environment's)",
    "iterations": "Cold start: number of new sessions (default of all knobs: the profile's)",
    "stages": "Ladder: session counts, as in 1,10,50",
    "stage_seconds": "Ladder: length of each stage in seconds",
    "tools": "Path of a JSON file: the tools to call (default: the environment's own)",
    "tool": "Ladder: the tool that its sessions call (default: the first of the table)",
    "vus": "Mix: number of virtual users, each with a session",
    "duration": "Mix: length in seconds",
    "target_rps": "Mix: open loop at this many calls per second",
    "scenarios": "Scenarios to run, as in cold-start,tools (default: all three)",
    "fit_quota": "Mix: open loop at the rate that the target's quota allows",
    "engine": "What runs k6: local, segments, kubernetes (default: local, one k6)",
    "parallelism": "Number of k6 that share the load, with segments or kubernetes",
    "render": "Print the Kubernetes objects of a run; create nothing, contact nothing",
    "out": "Additional output of k6, such as csv={scenario}.csv; may be repeated",
    "json": "Print the run as one JSON document, and everything else to standard error",
    "run_id": "Run to report, from .loadtest/runs or its artifact (default: the newest)",
    "dry_run": "Print the comment as Markdown; write and post nothing",
    "before": "The earlier run: an id, last, previous, or the start of a git SHA",
    "after": "The later run, named in the same way",
    "accept": "Make a run, named as for compare, the baseline of its confirmed regressions",
    "html": "Write the history as a page with charts",
    "csv": "Print the history as CSV, one line per run and row",
    "verify": "Check again, even if everything was there within the last hour",
    "rotate": "Change the password everywhere it is stored, or nowhere",
    "teardown": "Remove what can be removed, list the rest, delete the local files",
    "enroll_totp": "Enrol an authenticator app for the user, and keep its secret",
    "github_secrets": "Store the credentials as Actions secrets of GITHUB_REPOSITORY",
    "print_": "Print the credentials in clear, once",
    "history.check": "Fail if the newest run is older than the environment's cadence_days allow",
    "check": "Write nothing: show the difference, and fail if a TBD cell is left",
    "close": "Close the sessions that an earlier run left open on the server",
    "port": "Port on this machine (default: the port of the last time, else a free one)",
    "flags": "More options of `python -m loadtest.reference`, as one quoted string",
}
KNOBS = (
    "protocol",
    "clients",
    "iterations",
    "stages",
    "stage_seconds",
    "tools",
    "tool",
    "vus",
    "duration",
    "target_rps",
)


class ChainExecutor(Executor):
    """Gives pre-tasks the options typed for their caller; ends errors in one line."""

    def execute(self, *tasks: Any) -> Any:
        """Run the calls inside one guard, which closes what they opened."""
        as_json = any(call.kwargs.get("json") for call in self.normalize(tasks))
        with chain.guard(as_json=as_json) as ending:
            runs = [check(call) for call in self.normalize(tasks)]
            try:
                for settings in filter(None, runs):
                    hold(settings)
                super().execute(*tasks)
            except (LoadtestError, OSError) as caught:
                failure = explain_refusal(caught) if isinstance(caught, OSError) else caught
                for call in self.normalize(tasks):
                    report_failed(call, failure)
                raise failure from None
            finally:
                for call in self.normalize(tasks):
                    revoke_after(call)
        if ending.exit_code:
            raise Exit(code=ending.exit_code)

    def expand_calls(self, calls: Sequence[Call | Task[Any]]) -> list[Call]:
        """Hand every option that a pre-task shares with its caller down to it."""
        expanded: list[Call] = []
        for call in calls:
            call = Call(call) if isinstance(call, Task) else call
            # Equal calls run once, so every option is spelled out.
            call.kwargs = {option.name: option.default for option in options(call)} | call.kwargs
            # What only shows needs nothing made before.
            for pre in [] if call.kwargs.get("render") else call.pre:
                shared = {option.name for option in options(pre)} & call.kwargs.keys()
                handed = {name: call.kwargs[name] for name in shared}
                expanded += self.expand_calls([Call(pre, kwargs=handed)])
            expanded.append(call)
        return expanded


def options(call: Call | Task[Any]) -> Any:
    """Return a task's options, each with `name` and `default`."""
    return call.get_arguments()


def check(call: Call) -> Any:
    """Refuse what a later task would refuse, before an earlier one makes anything.

    Returns the settings where a run is asked for.
    """
    given = {option.name: option.default for option in options(call)} | call.kwargs
    for name, value in given.items():
        try:
            check_text(value)
        except ValueError as failure:
            raise UsageError(f"--{name.strip('_').replace('_', '-')}: {failure}") from None
    if "stages" in given:
        settings = load(given["env"], given["profile"], pick_knobs(given), given.get("mcp_url"))
    if "scenarios" in given:
        from loadtest.k6 import stage
        from loadtest.k6.distributed.options import choose_engine

        chosen = stage.parse_scenarios(given["scenarios"])
        settings = choose_engine(settings, chosen, given["engine"], given["parallelism"])
        if given.get("fit_quota"):
            stage.check_fit(chosen)
        if not given.get("render"):
            stage.check_cluster(settings)
            return settings
    return None


def hold(settings: Any) -> None:
    """Keep other runs off the environment, before a pre-task signs in."""
    from loadtest.k6 import stage

    stage.hold(chain.current(), settings)


def report_failed(call: Call, failure: LoadtestError) -> None:
    """Report a chain that failed before its report; a wrong option or a second process is none."""
    ending = chain.current().ending
    if call.task.name != "loadtest" or ending.is_reported:
        return
    if isinstance(failure, UsageError | BusyError):
        return
    from loadtest.publish import stage

    given = {option.name: option.default for option in options(call)} | call.kwargs
    settings = load(given["env"], given["profile"], pick_knobs(given))
    try:
        stage.report_failed(chain.current(), settings, given["scenarios"], failure)
    except LoadtestError as other:
        chain.current().say("report", f"warning: the failure is not reported: {other}")


def revoke_after(call: Call) -> None:
    """End a chain by revoking what it left on the server, or by saying what that is."""
    if call.task.name != "loadtest":
        return
    from loadtest.mint import stage

    given = {option.name: option.default for option in options(call)} | call.kwargs
    try:
        settings = load(given["env"], given["profile"])
    except ConfigError:  # a chain without settings has left nothing
        return
    stage.revoke_after(chain.current(), settings)


def pick_knobs(given: dict[str, Any]) -> dict[str, Any]:
    """Return the knobs among a task's options, by the names of their variables."""
    return {name.upper(): given[name] for name in KNOBS}


def task(**settings: Any) -> Callable[[Callable[..., None]], Task[Any]]:
    """Make a task whose options have the help texts above; `knobs` stands for all knobs."""

    def make(body: Callable[..., None]) -> Task[Any]:
        parameters = list(inspect.signature(body).parameters.values())
        if parameters[-1].name == "knobs":
            parameters[-1:] = [parameters[-1].replace(name=name) for name in KNOBS]

        @wraps(body)
        def run(context: Context, **given: Any) -> None:
            if "stages" in given:
                knobs = pick_knobs(given)
                given = {name: value for name, value in given.items() if name not in KNOBS}
                given["knobs"] = knobs
            body(context, **given)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        names = [parameter.name for parameter in parameters[1:]]
        texts = {name: HELP.get(f"{body.__name__}.{name}") or HELP[name] for name in names}
        make_task: Any = invoke_task  # its annotations forget the decorator form
        made: Task[Any] = make_task(run, help=texts, auto_shortflags=False, **settings)
        return made

    return make


def load(
    env: str | None, profile: str | None = None, knobs: Any = None, mcp_url: str | None = None
) -> Any:
    """Return the settings that a task was typed with."""
    from loadtest.config.loading import load_settings

    return load_settings(chain.ROOT, env, profile, knobs, mcp_url=mcp_url)


@task()
def provision(
    _: Context,
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
    from loadtest.provision import stage

    stage.provision(
        chain.current(),
        load(env, mcp_url=mcp_url),
        verify=verify,
        rotate=rotate,
        teardown=teardown,
        github_secrets=github_secrets,
        enroll_totp=enroll_totp,
        show=print_,
    )


@task(pre=[provision])
def mint(
    _: Context,
    env: str | None = None,
    profile: str | None = None,
    mcp_url: str | None = None,
    via: str | None = None,
    ttl: str | None = None,
    min_ttl: str | None = None,
    headed: bool = False,
    slow: str | None = None,
    print_claims: bool = False,
    knobs: Any = None,
) -> None:
    """Mint a bearer through OAuth in a real browser

    The first time, it signs in and consents as a person would. Later it uses a refresh token, or
    does nothing if a bearer is valid for longer than the profile takes. It verifies the bearer and
    writes it to a file that only you can read.

    inv mint --env staging --headed --slow 500    shows what happens on the pages
    """
    from loadtest.mint import stage
    from loadtest.mint.options import parse_options

    options = parse_options(via, ttl, min_ttl, headed=headed, slow=slow)
    settings = load(env, profile, knobs, mcp_url)
    stage.mint(chain.current(), settings, options, print_claims=print_claims)


@task()
def revoke(_: Context, env: str | None = None, mcp_url: str | None = None) -> None:
    """Undo mint: revoke tokens, delete clients, end sessions

    Then it tries each bearer. A bearer that still works is listed with its expiry and stays on
    disk, and the exit code is 14.
    """
    from loadtest.mint import stage

    stage.revoke(chain.current(), load(env, mcp_url=mcp_url))


@task(pre=[mint], iterable=["out"])
def k6(
    _: Context,
    env: str | None = None,
    profile: str | None = None,
    scenarios: str | None = None,
    engine: str | None = None,
    parallelism: str | None = None,
    fit_quota: bool = False,
    render: bool = False,
    out: Sequence[str] | None = None,
    json: bool = False,  # noqa: ARG001 (read by the executor)
    knobs: Any = None,
) -> None:
    """Run the three load-test scenarios

    Cold starts, a ladder of concurrent sessions, a mix of tool calls. It first prints the load that
    it will send, and calls each tool once. Ctrl-C keeps what was measured and closes the sessions.

    inv k6 --env staging --scenarios sessions --stages 1,50,100
    inv k6 --engine segments --parallelism 4    several k6 on this machine
    inv k6 --env prod --engine kubernetes --parallelism 12 --render    look before you run
    """
    from loadtest.k6 import stage

    settings = load(env, profile, knobs)
    fleet = {"engine": engine, "parallelism": parallelism}
    if render:
        stage.render(settings, scenarios, **fleet)
    else:
        stage.k6(chain.current(), settings, scenarios, out or (), **fleet, fit_quota=fit_quota)


@task()
def report(
    _: Context,
    env: str | None = None,
    run_id: str | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Compare a run, print its tables, post its comment

    Compares the run with earlier comparable runs and writes report.md and report.html beside it. If
    GITHUB_REPOSITORY and GITHUB_TOKEN are set, it posts the comment on the tracking issue, but
    never for the reference target. Posting the same run again updates its comment.

    inv report --env prod --run-id 17654321098-1    posts a run that is still an artifact
    """
    from loadtest.publish import stage

    stage.report(chain.current(), load(env), run_id, dry_run=dry_run, as_json=json)


@task()
def compare(_: Context, before: str, after: str, env: str | None = None) -> None:
    """Print two runs side by side

    Name the earlier run first, then the later one.

    inv compare previous last --env prod
    inv compare 1a2b3c4 last --env prod
    """
    from loadtest.publish import stage

    stage.compare(chain.current(), load(env), before, after)


@task()
def history(
    _: Context,
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

    stage.history(chain.current(), load(env), check=check, accept=accept, as_page=html, as_csv=csv)


@task(name="docs-update")
def docs_update(_: Context, env: str | None = None, check: bool = False) -> None:
    """Turn the TBD cells of the docs into links

    Changes only tables of the pages that loadtest.toml names, and no other byte. Without a tracking
    issue, it writes a preview beside the newest run.
    """
    from loadtest.docs import stage

    stage.docs_update(chain.current(), load(env), check=check)


@task(pre=[k6, report, docs_update], iterable=["out"], default=True)
def loadtest(
    _: Context,
    env: str | None = None,
    profile: str | None = None,
    scenarios: str | None = None,
    engine: str | None = None,
    parallelism: str | None = None,
    fit_quota: bool = False,
    out: Sequence[str] | None = None,
    json: bool = False,
    knobs: Any = None,
) -> None:
    """Run the whole chain, provision to docs-update

    inv loadtest                                the reference target, in a minute
    inv loadtest --env prod --profile smoke     a hosted server, small
    """


@task()
def target(_: Context, port: str | None = None, flags: str = "") -> None:
    """Serve the reference target until Ctrl-C

    inv target --port 8020 --flags "--error-share 0.1 --session-cap 20"
    """
    from loadtest.target import stage

    stage.target(chain.current(), load("local"), port, flags)


@task()
def doctor(
    _: Context,
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

    stage.doctor(chain.current(), load(env, profile, knobs, mcp_url), close=close)


ns = Collection(
    *(provision, mint, revoke, k6, report, docs_update, loadtest),
    *(compare, history, target, doctor),
)
