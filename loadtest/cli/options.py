"""The options of all tasks: their help texts, the knobs, and the settings that they choose."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from invoke.context import Context
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from loadtest.common.command_name import spell
from loadtest.config.knobs import KNOBS
from loadtest.context import Chain

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
    "iterations": "Cold start: number of new sessions (default: the profile's)",
    "starts_per_second": "Cold start: new sessions per second (default: the profile's, if any)",
    "stages": "Ladder: session counts, as in 1,10,50 (default: the profile's)",
    "stage_seconds": "Ladder: length of each stage in seconds (default: the profile's)",
    "tools": "Path of a JSON file with the tool table (default: the environment's own)",
    "draft_tools": "Write a draft of a tool table with these tools too, as in a,b; run nothing",
    "tool": "Ladder: the tool that its sessions call (default: the first of the table)",
    "pace_seconds": "Ladder: pace of a session: 20 (seconds), exponential:20, burst:4,20, ...",
    "timeout_seconds": "Time limit of each request in seconds, for all tools (default: 30)",
    "vus": "Mix: number of virtual users, each with a session (default: the profile's)",
    "duration": "Mix: length in seconds (default: the profile's)",
    "target_rps": "Mix: open loop at this many calls per second",
    "mix_pace_seconds": "Mix: pace of a session: 20 (seconds), exponential:20, ... (default: none)",
    "stream_stages": "Streams: how many are held, as in 10,50 (default: the profile's)",
    "stream_seconds": "Streams: length of each stage in seconds (default: the profile's)",
    "soak_vus": "Soak: number of sessions at a time (default: the profile's)",
    "soak_seconds": "Soak: length in seconds (default: the profile's)",
    "session_seconds": "Soak: how long a session lasts before the next one (default: 60)",
    "scenarios": "Scenarios to run, as in cold-start,tools (default: those of the profile)",
    "cycles": "How often to fill the server and leave (default: 10)",
    "sessions": "Sessions of a cycle, at most (default: max_vus of the environment)",
    "wait_minutes": "Follow abandoned sessions for this long after the last cycle (default: 0)",
    "fit_quota": "Mix: open loop at the rate that the target's quota allows",
    "no_remeasure": "Do not measure suspicious figures again at the end of the run",
    "engine": "What runs k6: local, segments, kubernetes (default: local, one k6)",
    "parallelism": "Number of k6 processes that share the load, with segments or kubernetes",
    "render": "Print the Kubernetes objects of a run; create nothing, contact nothing",
    "out": "Additional output of k6, such as csv={scenario}.csv; may be repeated",
    "json": "Print the run as one JSON document, and everything else to standard error",
    "junit": "Write the objectives as JUnit XML to this file, a test case for each",
    "find": "What to find the most of: sessions, or calls per second (default: sessions)",
    "start": "First load to try, in sessions or calls per second (default: 10)",
    "tolerance": "How exact: the search ends when the edge is known to this share (default: 0.1)",
    "step_seconds": "Least length of a step; it is longer if its figures need more calls (10)",
    "run_id": "Run to report, from .loadtest/runs or its artifact (default: the newest)",
    "dry_run": "Print the comment as Markdown; write and post nothing",
    "before": "The earlier run: an id, last, previous, or the start of a git SHA",
    "after": "The later run, named in the same way",
    "accept": "Run (named as for compare) whose confirmed regressions become the new baseline",
    "html": "Write the history as a page with charts",
    "csv": "Print the history as CSV, one line per run and row",
    "verify": "Check again, even if everything was verified within the last hour",
    "rotate": "Change the password everywhere it is stored, or nowhere",
    "teardown": "Remove what can be removed, list the rest, delete the local files",
    "enroll_totp": "Enrol an authenticator app for the user, and keep its secret",
    "github_secrets": "Store the credentials as Actions secrets of GITHUB_REPOSITORY",
    "print_": "Print the credentials in clear, once",
    "history.check": "Fail if the newest run is older than the environment's cadence_days allow",
    "mint.check": "Sign in again, call one tool, revoke everything; tell the webhook of a failure",
    "step_outcome": "Outcome of an earlier load-test step of this job: if cut off, report its run",
    "check": "Write nothing: show the difference, and fail if a TBD cell is left",
    "url": "Address of the MCP endpoint, such as https://mcp.example.com/mcp",
    "init.env": "Name of the environment (default: made from the host name)",
    "header": "Header of an API key, as X-Api-Key or 'X-Api-Key: $NAME' (default: tries the usual)",
    "call_tools": "Tools that a load test may call besides the read-only ones, as in a,b",
    "yes": "Write without asking",
    "init.check": "Write nothing: say what is missing, and fail if anything is",
    "close": "Close the sessions that an earlier run left open on the server",
    "port": "Port on this machine (default: the port used last, else a free one)",
    "flags": "More options of `python -m loadtest.reference`, as one quoted string",
}


class StageTask(Task[Any]):
    """One of our tasks: the executor passes it the chain and the options of its caller."""


def pick_knobs(given: dict[str, Any]) -> dict[str, Any]:
    """Return the knobs among a task's options."""
    return {name: given[name] for name in KNOBS}


def task(**settings: Any) -> Callable[[Callable[..., None]], Task[Any]]:
    """Make a task whose options get the help texts above; `knobs` is replaced by all knobs.

    The executor passes the chain to the task as its first argument.
    """

    def make(body: Callable[..., None]) -> Task[Any]:
        parameters = list(inspect.signature(body).parameters.values())
        if parameters[-1].name == "knobs":
            parameters[-1:] = [parameters[-1].replace(name=name) for name in KNOBS]

        @wraps(body)
        def run(_: Context, chain: Chain, **given: Any) -> None:
            if "stages" in given:
                knobs = pick_knobs(given)
                given = {name: value for name, value in given.items() if name not in KNOBS}
                given["knobs"] = knobs
            body(chain, **given)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        names = [parameter.name for parameter in parameters[1:]]
        texts = {name: HELP.get(f"{body.__name__}.{name}") or HELP[name] for name in names}
        run.__doc__ = (body.__doc__ or "").replace("inv ", spell(""))
        make_task: Any = invoke_task  # its annotations lack the form with arguments
        made: Task[Any] = make_task(
            run, help=texts, auto_shortflags=False, klass=StageTask, **settings
        )
        return made

    return make


def load(
    env: str | None, profile: str | None = None, knobs: Any = None, mcp_url: str | None = None
) -> Any:
    """Return the settings for the options of a task."""
    from loadtest.config.loading import load_settings
    from loadtest.config.project import find_root

    return load_settings(find_root(), env, profile, knobs, mcp_url=mcp_url)
