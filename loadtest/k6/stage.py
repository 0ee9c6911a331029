"""Run the scenarios into a new run folder."""

import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from loadtest import __version__
from loadtest.config.settings import Settings, check_hosted
from loadtest.context import Chain
from loadtest.errors import MintError, UsageError
from loadtest.mint.options import MintOptions
from loadtest.mint.stage import ensure_bearers, is_renewable, renew_bearers
from loadtest.provision.stage import PROVISIONED
from loadtest.state.bearers import Bearer, find_soonest, read_bearers

if TYPE_CHECKING:
    from loadtest.config.models import Kubernetes
    from loadtest.k6.binary import K6Binary
    from loadtest.k6.preflight import Checked
    from loadtest.k6.scenario import RunScenario
    from loadtest.results.run import Run, Target


# A shorter life leaves no time to renew it.
LEAST_LIFE_SECONDS = 20


def hold(chain: Chain, settings: Settings) -> None:
    """Keep other runs off the environment from before the sign-in on: the first of two runs wins.

    What is sure to be refused for want of a setting leaves no trace.
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
) -> None:
    """Run the scenarios into a new run folder; what their numbers say decides the exit code."""
    from loadtest.k6.bearer_renewal import Renewal
    from loadtest.k6.binary import find_k6
    from loadtest.k6.distributed.options import choose_engine
    from loadtest.k6.outputs import parse_outputs
    from loadtest.k6.preflight import check_target
    from loadtest.k6.progress import ProgressDisplay
    from loadtest.k6.scenario import run_scenarios
    from loadtest.results.run import Target
    from loadtest.results.run_folder import create_run_folder

    chosen = parse_scenarios(scenarios)
    settings = choose_engine(settings, chosen, engine, parallelism)
    binary = find_k6(settings.variables)
    settings = replace(
        settings, outputs=parse_outputs(outputs, chosen, binary.path, settings.engine)
    )
    base_url = chain.open_target(settings)
    least = MintOptions(min_ttl_seconds=LEAST_LIFE_SECONDS)
    bearers, _ = ensure_bearers(chain, settings, least)
    close_earlier_sessions(chain, settings, bearers)
    target = Target(host=urlsplit(base_url).netloc)
    chain.say(
        "k6", f"{describe_load(settings, chosen)}{_describe_fleet(settings)}, to {target.host}"
    )
    checked = check_target(
        settings,
        bearers[0].mcp_url,
        settings.bearer_file,
        chosen,
        binary=binary,
        tell=lambda text: chain.say("k6", text),
    )
    settings = _keep_quota(chain, checked, chosen, bearers, fit_quota=fit_quota)
    where = find_cluster(settings)
    k6_version = where.image if where else binary.version
    run_facts = build_run(settings, target, k6_version, chosen)
    folder = create_run_folder(settings.runs_dir, run_facts)
    chain.ending.run_dir = folder.path
    what = f"{where.image} in namespace {where.namespace}" if where else binary.describe()
    chain.say("k6", f"{what}, into {folder.path.relative_to(settings.root)}")
    with ExitStack() as running:
        display = running.enter_context(ProgressDisplay(chain.console))
        run, pass_on = _open_engine(settings, binary, running)
        renewal_url = None
        if is_renewable(bearers):

            def renew(needed_seconds: float | None) -> Sequence[Bearer]:
                fresh = renew_bearers(chain, settings, needed_seconds)
                pass_on(fresh)
                return fresh

            renewal = Renewal(bearers, renew, lambda text: chain.say("k6", text))
            renewal_url = running.enter_context(renewal).url
        folder = run_scenarios(
            settings,
            folder,
            bearers[0].mcp_url,
            settings.bearer_file,
            run=run,
            scenarios=chosen,
            watcher=display,
            renewal_url=renewal_url,
        )
    chain.ending.note(folder.run)


def _keep_quota(
    chain: Chain,
    checked: "Checked",
    scenarios: Sequence[str],
    bearers: Sequence[Bearer],
    *,
    fit_quota: bool,
) -> Settings:
    """Return the settings of a run that the target's quota bears; refuse one that it does not."""
    from loadtest.k6.quota_demand import check_quota, find_allowances, fit_mix

    settings = checked.settings
    ids = [bearer.client_id for bearer in bearers]
    # Bearers of one client share its quota.
    clients = len(ids) if None in ids else len(set(ids))
    allowances = find_allowances(settings, ids, checked.policy)
    quota = settings.environment.quota
    if "tools" in scenarios and (fit_quota or (quota is not None and quota.fit)):
        settings = fit_mix(settings, allowances, clients)
        rate = settings.profile.tools.target_rps
        chain.say("k6", f"the tool mix is fitted to the target's quota: {rate:g} calls/s")
    for line in check_quota(settings, scenarios, allowances, checked.durations_ms, clients):
        chain.say("k6", f"warning: {line}")
    return settings


def check_fit(scenarios: Sequence[str]) -> None:
    """Raise UsageError where there is no mix to fit; a ladder's rate is its number of sessions."""
    if "tools" not in scenarios:
        raise UsageError(
            "--fit-quota fits the tool mix, which --scenarios leaves out; a ladder is fitted by "
            "--stages, --tool or --clients"
        )


def _describe_fleet(settings: Settings) -> str:
    if settings.engine == "local":
        return ""
    return f", by {settings.parallelism} k6 ({settings.engine})"


def _open_engine(
    settings: Settings, binary: "K6Binary", running: ExitStack
) -> "tuple[RunScenario, Callable[[Sequence[Bearer]], None]]":
    """Return what runs a scenario, and what takes fresh bearers to where k6 cannot ask for them."""
    from loadtest.k6.distributed.run import run_fleet
    from loadtest.k6.distributed.segments import open_segments
    from loadtest.k6.scenario import run_scenario

    where = find_cluster(settings)
    if where is not None:
        from loadtest.k6.kubernetes.client import open_cluster
        from loadtest.k6.kubernetes.engine import KubernetesEngine

        cluster = running.enter_context(open_cluster(where, settings.variables))
        engine = KubernetesEngine(cluster, settings.environment_name, where)
        return partial(run_fleet, launch=engine.launch), engine.renew
    if settings.engine == "segments":
        launch = open_segments(binary, settings.variables)
        return partial(run_fleet, launch=launch), lambda _: None
    return partial(run_scenario, binary=binary), lambda _: None


def find_cluster(settings: Settings) -> "Kubernetes | None":
    """Return where runners run as pods; None where k6 runs on this machine."""
    return settings.environment.kubernetes if settings.engine == "kubernetes" else None


def check_cluster(settings: Settings) -> None:
    """Raise K6Error where there is no way to the cluster that is to run k6; ask it nothing."""
    where = find_cluster(settings)
    if where is not None:
        from loadtest.k6.kubernetes.client import open_cluster

        with open_cluster(where, settings.variables):
            pass


def render(
    settings: Settings, scenarios: str | None, *, engine: str | None, parallelism: str | None
) -> None:
    """Print what a run would make in Kubernetes, and ask nobody: no bearer, no cluster."""
    from loadtest.k6.distributed.options import choose_engine
    from loadtest.k6.distributed.run import build_order
    from loadtest.k6.kubernetes.manifests import (
        build_client_access,
        build_manifests,
        render_manifests,
    )

    chosen = parse_scenarios(scenarios)
    settings = choose_engine(settings, chosen, engine, parallelism)
    where = find_cluster(settings)
    if where is None:
        raise UsageError("--render goes with --engine kubernetes: the others make no manifests")
    name = settings.environment_name
    # Addresses and bearers stand in the Secret alone, of which no value is shown.
    mcp_url = settings.base_url or "https://unknown.invalid/"
    for scenario in chosen:
        order = build_order(scenario, settings, mcp_url, settings.bearer_file, "by the cluster")
        print(f"# {scenario}: made, followed and removed by a run")
        print(render_manifests(build_manifests(order, name, where).list()), end="")
    print("# the account of whoever starts runs, with the rights that it needs: apply it once")
    print(render_manifests(build_client_access(name, where)), end="")


def close_earlier_sessions(chain: Chain, settings: Settings, bearers: Sequence[Bearer]) -> None:
    """Close the sessions that an earlier run left, and say so."""
    from loadtest.k6.open_sessions import close_earlier, left_file

    closing = close_earlier(settings.state_dir, bearers, lasting=not settings.is_reference())
    for line in closing.describe(left_file(settings.state_dir).relative_to(settings.root)):
        chain.say("k6", line)


def find_closing_bearers(settings: Settings) -> tuple[Bearer, ...]:
    """Return the bearers on disk, where there are sessions to close with them."""
    from loadtest.k6.open_sessions import find_left

    if settings.is_reference() or not find_left(settings.state_dir):
        return ()
    bearers = read_bearers(settings.bearer_file)
    if not bearers or find_soonest(bearers).seconds_left() <= 0:
        raise MintError("there is no fresh bearer to close sessions with: inv mint, then again")
    return bearers


def describe_load(settings: Settings, scenarios: Sequence[str]) -> str:
    """Say in words what a run is about to send: how much at once, how many calls, how long."""
    from loadtest.k6.command import build_phases

    profile, unit = settings.profile, settings.unit
    ladder, mix = profile.sessions, profile.tools
    climbed = sum(ladder.stages) * ladder.stage_seconds
    mixed = mix.duration_seconds * mix.target_rps if mix.target_rps else None
    words = {
        "cold-start": f"{profile.cold_start.iterations} cold starts by {profile.cold_start.vus}",
        "sessions": f"{', '.join(map(str, ladder.stages))} {unit}s for {ladder.stage_seconds} s "
        f"each, 1 call/s per {unit}, {climbed:,} calls",
        "tools": f"tool mix by {mix.vus} for {mix.duration_seconds} s, "
        + (f"{mixed:,} calls" if mixed else "as fast as it is answered"),
    }
    phases = [
        phase
        for scenario in scenarios
        for phase in build_phases(scenario, profile, unit, settings.parallelism)
    ]
    took = _describe_length([phase.seconds for phase in phases])
    return f"{'; '.join(words[scenario] for scenario in scenarios)}; {took}"


def _describe_length(lengths: Sequence[float | None]) -> str:
    """Say how long phases take; one without a length has an end after ten minutes."""
    from loadtest.k6.command import COLD_START_MAX_SECONDS

    seconds = sum(length or 0 for length in lengths)
    took = f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
    if None not in lengths:
        return took
    most = f"{COLD_START_MAX_SECONDS / 60:.0f} min at most for the cold starts"
    return f"{took} and {most}" if seconds else most


def build_run(
    settings: Settings, target: "Target", k6_version: str, scenarios: Sequence[str]
) -> "Run":
    """Return the facts of a run that begins now, with these scenarios to come."""
    from loadtest.common.clock import utc_now
    from loadtest.results.run import Run, plan_scenarios
    from loadtest.results.run_folder import build_run_id

    git_sha = _find_git_sha(settings.root)
    return Run(
        run_id=build_run_id(git_sha, settings.variables),
        loadtest_version=__version__,
        started=utc_now(),
        environment=settings.environment_name,
        profile=settings.profile_name,
        knobs=settings.profile.model_dump(mode="json") | {"tool_table": settings.tools.describe()},
        target=target,
        k6_version=k6_version,
        machine=_describe_machine(settings, target),
        git_sha=git_sha,
        scenarios=plan_scenarios(scenarios),
        run_url=build_run_url(settings.variables),
        clients=settings.clients,
        engine=settings.engine,
        generators=settings.parallelism,
    )


def _describe_machine(settings: Settings, target: "Target") -> dict[str, object]:
    where = find_cluster(settings)
    if where is not None:
        return {"cpu": where.cpu, "memory": where.memory}
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "shares_with_target": target.host.split(":")[0] in {"127.0.0.1", "localhost"},
    }


def build_run_url(variables: Mapping[str, str]) -> str | None:
    """Return the address of the workflow run that we are in, or None outside of one."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    if not all(variables.get(name) for name in names):
        return None
    server, repository, run = (variables[name] for name in names)
    return f"{server}/{repository}/actions/runs/{run}"


def parse_scenarios(text: str | None) -> tuple[str, ...]:
    """Return the scenarios named, all without a name; raise UsageError for an unknown one."""
    from loadtest.results.run import SCENARIOS

    chosen = tuple(part.strip() for part in text.split(",")) if text else SCENARIOS
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        raise UsageError(f"unknown scenario '{unknown[0]}': there are {', '.join(SCENARIOS)}")
    return chosen


def _find_git_sha(root: Path) -> str | None:
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
