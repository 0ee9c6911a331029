"""Run the scenarios into a new run folder."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from loadtest.common.command_name import spell
from loadtest.config.settings import Settings, check_hosted
from loadtest.context import Chain
from loadtest.errors import MintError, UsageError
from loadtest.mint.options import MintOptions
from loadtest.mint.stage import ensure_bearers, is_renewable, renew_bearers
from loadtest.provision.stage import PROVISIONED
from loadtest.state.bearers import (
    SPARE_SECONDS,
    Bearer,
    bearer_path,
    build_anonymous,
    find_soonest,
    read_bearers,
)

if TYPE_CHECKING:
    from loadtest.config.models import Profile
    from loadtest.k6.binary import K6Binary
    from loadtest.k6.plan import Runners, RunPlan
    from loadtest.k6.progress import ProgressDisplay
    from loadtest.k6.quota_demand import Allowance
    from loadtest.k6.repeats import Judge
    from loadtest.k6.scenario import RunScenario
    from loadtest.results.run import Run
    from loadtest.results.run_folder import RunFolder


# A shorter lifetime leaves no time to renew the bearer.
LEAST_LIFE_SECONDS = 20


def hold(chain: Chain, settings: Settings) -> None:
    """Lock the environment before the sign-in: of two runs, the first one wins.

    If a setting is missing, nothing is created.
    """
    provisions = settings.environment.provision != "none"
    check_hosted(settings, *(PROVISIONED if provisions else PROVISIONED[:1]))
    chain.hold(settings)


def k6(
    chain: Chain,
    settings: Settings,
    scenarios: str | None,
    outputs: Sequence[str] = (),
    *,
    engine: str | None = None,
    parallelism: str | None = None,
    fit_quota: bool = False,
    judge: "Judge | None" = None,
) -> None:
    """Run the scenarios into a new run folder; their figures decide the exit code.

    What the judge finds suspicious is measured again; without one, nothing is.
    """
    from loadtest.k6.options import choose_runners, parse_scenarios

    chosen = parse_scenarios(scenarios, settings.profile)
    runners = choose_runners(settings, chosen, engine, parallelism)
    ready = prepare_run(chain, settings, chosen, runners, outputs, fit_quota=fit_quota)
    folder = begin_run(chain, settings, ready, ready.run)
    chain.ending.note(_run(chain, settings, ready, folder, judge).run)


@dataclass(frozen=True)
class ReadyRun:
    """A run that can begin, after the target was checked; `run` are its facts.

    `allowances` are the quotas of each of the `clients`. `pauses`: a quota needs a minute without
    calls between two scenarios.
    """

    plan: "RunPlan"
    run: "Run"
    binary: "K6Binary"
    bearers: Sequence[Bearer]
    allowances: "Sequence[Allowance]"
    clients: int
    pauses: bool


def prepare_run(
    chain: Chain,
    settings: Settings,
    chosen: Sequence[str],
    runners: "Runners",
    outputs: Sequence[str] = (),
    *,
    fit_quota: bool = False,
) -> ReadyRun:
    """Open and check the target, print the load, and return the plan of a run."""
    from loadtest.config.models import find_unit
    from loadtest.k6.binary import find_k6
    from loadtest.k6.control import describe_lack, find_control
    from loadtest.k6.outputs import parse_outputs
    from loadtest.k6.plan import build_plan, find_bearer_file
    from loadtest.k6.preflight import check_target, find_slow_calls
    from loadtest.k6.quota_demand import find_allowances, needs_pause
    from loadtest.k6.run_facts import build_run, describe_load, find_commit
    from loadtest.results.run import Target

    def say(text: str) -> None:
        chain.say("k6", text)

    binary = find_k6(settings.variables)
    outs = parse_outputs(outputs, chosen, binary.path, runners.engine)
    target = Target(host=urlsplit(chain.open_target(settings)).netloc)
    least = MintOptions(min_ttl_seconds=LEAST_LIFE_SECONDS)
    bearers, _ = ensure_bearers(chain, settings, least)
    mcp_url = bearers[0].mcp_url
    close_earlier_sessions(chain, settings, bearers)
    unit = find_unit(settings.protocol)
    load = describe_load(settings.profile, settings.tools, chosen, unit, runners.count)
    say(f"{load}{_describe_runners(runners)}, to {target.host}")
    checked = check_target(
        settings, mcp_url, find_bearer_file(settings), chosen, binary=binary, tell=say
    )
    durations_ms = checked.durations_ms
    for line in find_slow_calls(settings.profile, checked.tools, chosen, durations_ms):
        say(f"warning: {line}")
    search = find_control(settings.environment, mcp_url)
    ids = [bearer.client_id for bearer in bearers]
    # Bearers of one client share its quota.
    clients = len(ids) if None in ids else len(set(ids))
    allowances = find_allowances(settings, ids, checked.limits)
    profile = _fit_profile(
        chain, settings, chosen, allowances, durations_ms, clients, fit_quota=fit_quota
    )
    pauses = needs_pause(settings, profile, chosen, allowances, durations_ms, clients)
    plan = build_plan(
        settings,
        chosen,
        mcp_url,
        control=search.control,
        runners=runners,
        outputs=outs,
        profile=profile,
        protocol=checked.protocol,
        tools=checked.tools,
    )
    lack = search.missing or describe_lack(chosen, plan.profile, plan.limits)
    if lack is not None:
        say(lack)
    commit, unknown = find_commit(settings, checked)
    if unknown is not None:
        say(f"warning: {unknown}")
    target = replace(target, repository=settings.environment.repository, commit=commit)
    k6_version = runners.cluster.image if runners.cluster else binary.version
    run = build_run(settings, plan, target, k6_version)
    return ReadyRun(plan, run, binary, bearers, allowances, clients, pauses)


def begin_run(chain: Chain, settings: Settings, ready: ReadyRun, run: "Run") -> "RunFolder":
    """Make the folder of a run, and print what makes the load and where the results will be."""
    from loadtest.results.run_folder import create_run_folder

    folder = create_run_folder(settings.runs_dir, run)
    chain.ending.run_dir = folder.path
    cluster = ready.plan.runners.cluster
    where = f"{cluster.image} in namespace {cluster.namespace}" if cluster else None
    what = where or ready.binary.describe()
    chain.say("k6", f"{what}, into {folder.path.relative_to(settings.root)}")
    return folder


def _fit_profile(
    chain: Chain,
    settings: Settings,
    scenarios: Sequence[str],
    allowances: "Sequence[Allowance]",
    durations_ms: Mapping[str, float],
    clients: int,
    *,
    fit_quota: bool,
) -> "Profile":
    """Return the profile, fitted to the target's quota if asked to; refuse one that is far over."""
    from loadtest.k6.quota_demand import check_quota, fit_mix

    profile = settings.profile
    quota = settings.environment.quota
    if "tools" in scenarios and (fit_quota or (quota is not None and quota.fit)):
        profile = fit_mix(settings, allowances, clients)
        rate = profile.tools.target_rps
        chain.say("k6", f"the tool mix is fitted to the target's quota: {rate:g} calls/s")
    for line in check_quota(settings, profile, scenarios, allowances, durations_ms, clients):
        chain.say("k6", f"warning: {line}")
    return profile


def _describe_runners(runners: "Runners") -> str:
    return "" if runners.engine == "local" else f", by {runners.count} k6 ({runners.engine})"


def _run(
    chain: Chain,
    settings: Settings,
    ready: ReadyRun,
    folder: "RunFolder",
    judge: "Judge | None",
) -> "RunFolder":
    """Run the scenarios of the plan; then what is suspicious, again."""
    from loadtest.k6.repeats import find_budget, measure_again
    from loadtest.k6.scenario import run_scenarios

    plan = ready.plan
    with open_generator(chain, settings, ready) as generator:
        folder = run_scenarios(
            plan,
            folder,
            run=generator.run,
            watcher=generator.watcher,
            renewal_url=generator.renewal_url,
        )
        if judge is None or plan.profile.remeasure_minutes == 0:
            return folder
        left_seconds = find_soonest(ready.bearers).seconds_left() - SPARE_SECONDS
        return measure_again(
            plan,
            folder,
            run=generator.run,
            judge=judge,
            budget=find_budget(
                plan,
                folder.run,
                math.inf if generator.renewal_url else left_seconds,
                pauses=ready.pauses,
            ),
            tell=lambda text: chain.say("k6", text),
            watcher=generator.watcher,
            renewal_url=generator.renewal_url,
        )


@dataclass(frozen=True)
class OpenGenerator:
    """What runs scenarios and shows them; `renewal_url` is where k6 gets fresh bearers."""

    run: "RunScenario"
    watcher: "ProgressDisplay"
    renewal_url: str | None


@contextmanager
def open_generator(chain: Chain, settings: Settings, ready: ReadyRun) -> Iterator[OpenGenerator]:
    """Open the engine of a run, with fresh bearers while it runs if they can be renewed."""
    from loadtest.k6.bearer_renewal import Renewal
    from loadtest.k6.progress import ProgressDisplay
    from loadtest.k6.stream_observer import observe_streams

    with ExitStack() as running:
        display = running.enter_context(ProgressDisplay(chain.console))
        run, pass_on = _open_engine(settings, ready.plan.runners, ready.binary, running)
        renewal_url = None
        if is_renewable(ready.bearers):

            def renew(needed_seconds: float | None) -> Sequence[Bearer]:
                fresh = renew_bearers(chain, settings, needed_seconds)
                pass_on(fresh)
                return fresh

            renewal = Renewal(ready.bearers, renew, lambda text: chain.say("k6", text))
            renewal_url = running.enter_context(renewal).url
        yield OpenGenerator(observe_streams(run), display, renewal_url)


def _open_engine(
    settings: Settings, runners: "Runners", binary: "K6Binary", running: ExitStack
) -> "tuple[RunScenario, Callable[[Sequence[Bearer]], None]]":
    """Return the function that runs a scenario, and one that passes fresh bearers to a cluster."""
    from loadtest.k6.distributed.run import run_fleet
    from loadtest.k6.distributed.segments import open_segments
    from loadtest.k6.scenario import run_scenario

    variables = settings.variables
    if runners.cluster is not None:
        from loadtest.k6.kubernetes.client import open_cluster
        from loadtest.k6.kubernetes.engine import KubernetesEngine

        cluster = running.enter_context(open_cluster(runners.cluster, variables))
        engine = KubernetesEngine(cluster, settings.environment_name, runners.cluster)
        return partial(run_fleet, launch=engine.launch), engine.renew
    if runners.engine == "segments":
        launch = open_segments(binary, variables)
        return partial(run_fleet, launch=launch), lambda _: None
    return partial(run_scenario, binary=binary, variables=variables), lambda _: None


def check_cluster(settings: Settings, runners: "Runners") -> None:
    """Raise K6Error if there is no way to the cluster that is to run k6; send it no request."""
    if runners.cluster is not None:
        from loadtest.k6.kubernetes.client import open_cluster

        with open_cluster(runners.cluster, settings.variables):
            pass


def render(
    settings: Settings, scenarios: str | None, *, engine: str | None, parallelism: str | None
) -> None:
    """Print what a run would make in Kubernetes, without a bearer and without a cluster."""
    from loadtest.k6.distributed.run import build_request
    from loadtest.k6.kubernetes.manifests import (
        build_client_access,
        build_manifests,
        render_manifests,
    )
    from loadtest.k6.options import choose_runners, parse_scenarios
    from loadtest.k6.plan import build_plan

    chosen = parse_scenarios(scenarios, settings.profile)
    runners = choose_runners(settings, chosen, engine, parallelism)
    cluster = runners.cluster
    if cluster is None:
        raise UsageError("--render needs --engine kubernetes: the others have no objects to print")
    name = settings.environment_name
    # Addresses and bearers are only in the Secret, whose values are not printed.
    mcp_url = settings.base_url or "https://unknown.invalid/"
    plan = build_plan(settings, chosen, mcp_url, runners=runners)
    for scenario in chosen:
        request = build_request(plan, scenario, "by the cluster")
        print(f"# {scenario}: created, watched and removed by a run")
        print(render_manifests(build_manifests(request, name, cluster).list()), end="")
    print("# an account with the rights that a run needs: apply it once")
    print(render_manifests(build_client_access(name, cluster)), end="")


def close_earlier_sessions(chain: Chain, settings: Settings, bearers: Sequence[Bearer]) -> None:
    """Close the sessions that an earlier run left, and print how many."""
    from loadtest.k6.open_sessions import close_earlier, left_file

    closing = close_earlier(settings.state_dir, bearers, lasting=not settings.is_reference())
    for line in closing.describe(left_file(settings.state_dir).relative_to(settings.root)):
        chain.say("k6", line)


def find_closing_bearers(settings: Settings) -> tuple[Bearer, ...]:
    """Return the bearers on disk if there are sessions to close with them."""
    from loadtest.k6.open_sessions import find_left

    if settings.is_reference() or not (left := find_left(settings.state_dir)):
        return ()
    if settings.environment.auth != "bearer":
        return (build_anonymous(left[0].mcp_url),)
    bearers = read_bearers(bearer_path(settings.state_dir))
    if not bearers or find_soonest(bearers).seconds_left() <= 0:
        raise MintError(
            f"there is no valid bearer to close sessions with: run {spell('mint')}, then repeat"
        )
    return bearers
