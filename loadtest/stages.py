"""Each stage as a task runs it: skip what is still good, act, and say in a line what happened."""

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from loadtest import __version__
from loadtest.chain import Chain
from loadtest.common.console import open_plain, strip_controls
from loadtest.common.redaction import redact
from loadtest.config.loading import load_settings
from loadtest.config.settings import Settings, check_hosted
from loadtest.errors import (
    BusyError,
    ConfigError,
    LoadtestError,
    MintError,
    ProvisionError,
    ReportError,
    ResultsError,
    UsageError,
)
from loadtest.github.workflow_commands import build_mask
from loadtest.mint.options import WAYS, MintOptions
from loadtest.state.bearers import Bearer, find_soonest, parse_claims, read_bearers, write_bearers
from loadtest.state.mint_lock import lock_state

if TYPE_CHECKING:
    from loadtest.common.redaction import SecretStr
    from loadtest.config.models import Kubernetes
    from loadtest.k6.binary import K6Binary
    from loadtest.k6.preflight import Checked
    from loadtest.k6.scenario import RunScenario
    from loadtest.mint.oauth.revocation import Undone
    from loadtest.publish.delivery import Judged
    from loadtest.results.history import Reading
    from loadtest.results.run import Run, Target
    from loadtest.results.run_folder import RunFolder

# What provisioning a hosted environment cannot do without.
PROVISIONED = ("LOADTEST_BASE_URL", "LOADTEST_EMAIL")
# A shorter life leaves no time to renew it.
LEAST_LIFE_SECONDS = 20
# A bearer must outlive the scheduled time by this much: cold start, gaps and clean-up.
SPARE_SECONDS = 120
# A wait that is worth a line.
TOLD_SECONDS = 5


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
) -> None:
    """Make user, workspace and data ready, unless they were seen so within the last hour."""
    provisions = settings.environment.provision != "none"
    if not (provisions or teardown):
        chain.say("provision", f"nothing to provision in environment {settings.environment_name}")
        return
    if teardown and (rotate or github_secrets or enroll_totp or show):
        raise UsageError("--teardown goes with no other option than --env")
    if rotate and enroll_totp:
        raise UsageError("--rotate and --enroll-totp go one at a time")
    if github_secrets and settings.is_reference():
        raise UsageError("--github-secrets is for hosted environments: nobody else reaches ours")
    if provisions:
        check_hosted(settings, *PROVISIONED)
    from loadtest.provision import provisioner as stage

    def tell(text: str) -> None:
        chain.say("provision", text)

    if teardown:
        _tear_down(chain, settings)
        return
    looks = verify or rotate or github_secrets or enroll_totp
    seen = not looks and stage.was_verified(settings)
    if rotate:
        origin = chain.open_target(settings)
        tell(stage.rotate(settings, origin, tell, github_secrets=github_secrets).describe())
    if seen:
        tell("was there, verified within the last hour")
    elif not rotate or verify or github_secrets:
        origin = chain.open_target(settings)
        bearer = _find_look_bearer(settings, origin)
        done = stage.provision(
            settings,
            origin,
            tell,
            github_secrets=github_secrets,
            enroll_totp=enroll_totp,
            bearer=bearer,
        )
        for step in done.steps:
            tell(step.describe())
    if show:
        if not chain.console.is_terminal:
            print("warning: a password goes to what is no terminal", file=sys.stderr)
        print(stage.render_credentials(settings), end="", file=open_plain(sys.stdout))


def _tear_down(chain: Chain, settings: Settings) -> None:
    """Remove what can be removed; raise where a credential still works afterwards."""
    from loadtest.provision import provisioner as stage

    def tell(text: str) -> None:
        chain.say("provision", text)

    # What is ours on the server goes while the files that name it are still there.
    unrevoked = None
    if not settings.is_reference():
        try:
            revoke(chain, settings)
        except MintError as failure:
            unrevoked = failure
    local = settings.is_reference() or settings.environment.provision == "none"
    base_url = None if local else chain.open_target(settings)
    steps = stage.teardown(settings, base_url, tell)
    for step in steps:
        tell(step.describe())
    lasting = [step.what for step in steps if step.lasts]
    if lasting:
        kept = settings.state_dir.relative_to(settings.root)
        raise ProvisionError(
            f"not removed: {', '.join(lasting)} (see above); what still works is kept in {kept}"
        )
    if unrevoked is not None:
        raise unrevoked


def hold(chain: Chain, settings: Settings) -> None:
    """Keep other runs off the environment from before the sign-in on: the first of two runs wins.

    What is sure to be refused for want of a setting leaves no trace.
    """
    provisions = settings.environment.provision != "none"
    check_hosted(settings, *(PROVISIONED if provisions else PROVISIONED[:1]))
    chain.hold(settings)


def _find_look_bearer(settings: Settings, base_url: str) -> "SecretStr | None":
    """Return a bearer of this workspace from disk that lives long enough to look with."""
    workspace_id = settings.credentials.workspace_id
    if workspace_id is None:
        return None
    mcp_url = settings.build_mcp_url(base_url, workspace_id)
    try:
        bearers = read_bearers(settings.bearer_file)
    except MintError:
        return None
    fitting = (
        bearer
        for bearer in bearers
        if bearer.mcp_url == mcp_url and bearer.seconds_left() > SPARE_SECONDS
    )
    return next((bearer.access_token for bearer in fitting), None)


def mint(chain: Chain, settings: Settings, options: MintOptions, *, print_claims: bool) -> None:
    """Have a bearer per client that outlives the profile: those on disk, else newly minted."""
    bearers, made = ensure_bearers(chain, settings, options)
    if not made:
        soonest = find_soonest(bearers)
        count = f"{len(bearers)} bearers were" if len(bearers) > 1 else "was"
        chain.say("mint", f"{count} there, good for {soonest.seconds_left() / 60:.0f} min")
    if print_claims:
        for bearer in bearers:
            claims = parse_claims(bearer.access_token.get_secret_value())
            chain.console.print_json(data=claims or {"opaque": True})


def ensure_bearers(
    chain: Chain, settings: Settings, options: MintOptions
) -> tuple[tuple[Bearer, ...], bool]:
    """Return a bearer per client that outlives the profile, and whether one had to be made.

    Two processes never mint for one environment at once: a refresh token sent twice would end
    the whole grant.
    """
    check_hosted(settings, "LOADTEST_BASE_URL")
    needed_seconds = options.min_ttl_seconds
    if needed_seconds is None:
        needed_seconds = settings.profile.scheduled_seconds() + SPARE_SECONDS
    with lock_state(settings.state_dir):
        bearers = dict(enumerate(read_bearers(settings.bearer_file)[: settings.clients]))
        lacking = tuple(
            slot
            for slot in range(settings.clients)
            if options.via not in {None, "auto"}
            or slot not in bearers
            or bearers[slot].seconds_left() < needed_seconds
            or not _came_by(bearers[slot], options.via or settings.environment.via)
            or not _is_for(chain, settings, bearers[slot])
        )
        if not lacking:
            return tuple(bearers.values()), False
        made = _mint_anew(chain, settings, options, lacking, needed_seconds)
        pool = tuple(bearer for _, bearer in sorted({**bearers, **made}.items()))
        write_bearers(settings.bearer_file, pool)
    short_seconds = needed_seconds - find_soonest(pool).seconds_left()
    if short_seconds > 0:
        short = (
            f"the bearer lives {needed_seconds - short_seconds:.0f} s, profile "
            f"{settings.profile_name} needs {needed_seconds:.0f} s, {short_seconds:.0f} s more"
        )
        if options.min_ttl_seconds is not None or not is_renewable(pool):
            raise MintError(f"{short}: choose a shorter profile, or have longer tokens issued")
        chain.say("mint", f"{short}: k6 is given new ones while it runs")
    return pool, True


def _came_by(bearer: Bearer, via: str) -> bool:
    return via in {"auto", bearer.via} or (via == "browser" and bearer.via == "refresh")


def is_renewable(bearers: Sequence[Bearer]) -> bool:
    """Return whether more bearers can be had the way these came."""
    return all(bearer.via != "given" for bearer in bearers)


def renew_bearers(
    chain: Chain, settings: Settings, needed_seconds: float | None
) -> tuple[Bearer, ...]:
    """Return bearers that live longer than this, minted anew where none are there yet.

    With None all are minted anew: the target refuses those on disk.
    """
    with lock_state(settings.state_dir):
        bearers = read_bearers(settings.bearer_file)
        if needed_seconds is not None and find_soonest(bearers).seconds_left() > needed_seconds:
            return bearers
        way = bearers[0].via
        options = MintOptions(via=next((via for via in WAYS if via == way != "browser"), "auto"))
        slots = tuple(range(len(bearers)))
        made = _mint_anew(chain, settings, options, slots, needed_seconds or SPARE_SECONDS)
        pool = tuple(bearer for _, bearer in sorted(made.items()))
        write_bearers(settings.bearer_file, pool)
    return pool


def _is_for(chain: Chain, settings: Settings, bearer: Bearer) -> bool:
    """Return whether the bearer was minted for this target and workspace.

    A reference target that is not up yet is given the benefit of the doubt: it takes its old
    port again, and k6 asks once more when it is up.
    """
    base_url = chain.targets.get(settings.environment_name, settings.base_url)
    workspace_id = settings.credentials.workspace_id
    if bearer.workspace_id != workspace_id:
        return False
    return base_url is None or bearer.mcp_url == settings.build_mcp_url(base_url, workspace_id)


def _mint_anew(
    chain: Chain,
    settings: Settings,
    options: MintOptions,
    slots: tuple[int, ...],
    needed_seconds: float,
) -> dict[int, Bearer]:
    from loadtest.mint.pool import Order, mint_slots

    base_url = chain.open_target(settings)
    mcp_url = settings.build_mcp_url(base_url, settings.credentials.workspace_id)
    order = Order(settings, options, mcp_url, needed_seconds, lambda text: chain.say("mint", text))
    made, timings = mint_slots(order, slots)
    chain.sign_ins += bool(timings.browser_seconds)
    ways = ", ".join(dict.fromkeys(bearer.via for bearer in made.values()))
    count = f"{len(made)} bearers" if len(made) > 1 else "made"
    split = (
        f" (browser {timings.browser_seconds:.1f}, pages {timings.pages_seconds:.1f}, "
        f"protocol {timings.protocol_seconds:.1f})"
        if timings.browser_seconds
        else ""
    )
    minutes = find_soonest(tuple(made.values())).seconds_left() / 60
    chain.say(
        "mint",
        f"{count} by {ways} in {timings.total_seconds:.1f} s{split}, good for {minutes:.0f} min",
    )
    return made


def revoke(chain: Chain, settings: Settings) -> None:
    """Undo what mint did; raise MintError where something that it left cannot be revoked.

    A run that is under way goes on: its bearers are not taken from it.
    """
    chain.hold(settings)
    stays = [thing for thing in _revoke(chain, settings) if thing.state == "stays"]
    if stays:
        files = [path.name for path in _minted_files(settings) if path.exists()]
        kept = f" (kept: {', '.join(files)})" if files else ""
        raise MintError(
            f"{len(stays)} of what mint left {'stay' if len(stays) > 1 else 'stays'} on the "
            f"server, see above{kept}: `inv revoke` again tries again"
        )


def revoke_after(chain: Chain, settings: Settings) -> None:
    """Leave nothing behind on the server, where the environment says so, however the run ended.

    Bearers that end by themselves, and registrations without a secret, are only said. Where it
    does not say so, what is left is said in numbers.
    """
    try:
        if not settings.environment.revoke_after:
            _say_left(chain, settings)
            return
        chain.hold(settings)
        undone = _revoke(chain, settings)
    except BusyError:  # what is on disk is another run's
        return
    except LoadtestError as failure:
        exit_code = chain.ending.exit_code or failure.exit_code
        chain.ending.fail(exit_code, f"not all was revoked after the run: {failure}")
        return
    lasting = [thing.what for thing in undone if thing.state == "stays" and thing.lasts]
    if lasting and chain.ending.exit_code == 0:
        reason = f"not revoked after the run: {', '.join(lasting)}"
        chain.ending.fail(MintError.exit_code, reason)


def _say_left(chain: Chain, settings: Settings) -> None:
    """Say in numbers what the run leaves on a hosted server."""
    from loadtest.state.clients import ClientStore

    if settings.is_reference():
        return
    clients = ClientStore(settings.clients_file).read().values()
    bearers = [each for each in read_bearers(settings.bearer_file) if each.seconds_left() > 0]
    counts = {
        "registered client": sum(not entry.given for entry in clients),
        "refresh token": sum(entry.refresh_token is not None for entry in clients),
        "signed-in session": chain.sign_ins,
        "bearer": len(bearers),
    }
    words = [f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count]
    if bearers:
        until = datetime.fromtimestamp(max(each.expires_at for each in bearers), UTC)
        words[-1] += f" until {until:%H:%M} UTC"
    if words:
        chain.say("revoke", f"left on the server: {', '.join(words)}; `inv revoke` ends them")


def _minted_files(settings: Settings) -> tuple[Path, Path]:
    return settings.bearer_file, settings.clients_file


def _revoke(chain: Chain, settings: Settings) -> "tuple[Undone, ...]":
    """Revoke what is on disk, and say of each thing what became of it."""
    from loadtest.mint.oauth.revocation import count, revoke_all
    from loadtest.target.rest_client import find_second_factor, open_session

    def tell(text: str) -> None:
        chain.say("revoke", text)

    if not any(path.exists() for path in _minted_files(settings)):
        tell("nothing was there")
        return ()
    base_url = chain.open_target(settings) if settings.is_reference() else settings.base_url
    who, open_owner = settings.credentials, None
    provisions = settings.environment.provision == "novamart"
    if provisions and base_url and who.email and who.password:
        open_owner = partial(
            open_session,
            *(base_url, who.email, who.password, who.workspace_id, tell),
            second_factor=find_second_factor(settings),
            hide=build_mask(settings.variables),
        )
    with lock_state(settings.state_dir):
        undone = revoke_all(
            *_minted_files(settings),
            given_secret=settings.find_secret("LOADTEST_CLIENT_SECRET"),
            open_owner=open_owner,
            tell=tell,
        )
    for thing in undone:
        tell(thing.describe())
    tell(", ".join(count(undone)))
    return undone


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
    _close_earlier(chain, settings, bearers)
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
        from loadtest.k6.kubernetes.engine import Engine

        cluster = running.enter_context(open_cluster(where, settings.variables))
        engine = Engine(cluster, settings.environment_name, where)
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
    from loadtest.k6.kubernetes.manifests import build_cadence, build_manifests
    from loadtest.k6.kubernetes.manifests import render as render_manifests

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
    if where.schedule is not None:
        print("# the cadence: yours to apply, once")
        cadence = build_cadence(name, settings.environment, settings.parallelism)
        print(render_manifests(cadence), end="")


def _close_earlier(chain: Chain, settings: Settings, bearers: Sequence[Bearer]) -> None:
    """Close the sessions that an earlier run left, and say so."""
    from loadtest.k6.open_sessions import close_earlier, left_file

    closing = close_earlier(settings.state_dir, bearers, lasting=not settings.is_reference())
    for line in closing.describe(left_file(settings.state_dir).relative_to(settings.root)):
        chain.say("k6", line)


def _find_closing_bearers(settings: Settings) -> tuple[Bearer, ...]:
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


def report(
    chain: Chain,
    settings: Settings,
    run_id: str | None,
    *,
    dry_run: bool = False,
    as_json: bool = False,
) -> None:
    """Judge a run, print it, write it beside the run, post it where a repository is named.

    A run that is named is reported as one of its own environment. With `dry_run` the comment is
    printed as Markdown, and nothing is written or posted.
    """
    from loadtest.publish import delivery
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.results.run_folder import read_run_folder

    chain.ending.is_reported = True
    own = chain.ending.run_dir if run_id is None else None
    folder = read_run_folder(own or _find_run(chain, settings, run_id))
    chain.ending.run_dir = folder.path
    if folder.run.environment != settings.environment_name:
        with suppress(ConfigError):  # one that was typed in passing is in no file
            settings = load_settings(
                settings.root, folder.run.environment, process_env=settings.variables
            )
    if dry_run:
        tracker = find_tracker(settings, _pause(chain))
        judged = delivery.judge_run(settings, folder, tracker)
        print(strip_controls(judged.text))
        _note_regressions(chain, settings, judged)
    else:
        _deliver(chain, settings, folder, as_json=as_json)
    if own is None and (folder.run.has_failed() or not folder.run.has_ended()):
        chain.ending.note(folder.run)


def _find_run(chain: Chain, settings: Settings, run_id: str | None) -> Path:
    """Return a run's folder; one that is not here is fetched from its workflow run's artifact."""
    try:
        return _find_newest(chain, settings, "report", run_id)
    except ResultsError as missing:
        if run_id is None or settings.repository is None:
            raise
        from loadtest.publish.tracking_issue.artifact import fetch_run_artifact

        try:
            path = fetch_run_artifact(settings, run_id, settings.runs_dir, _pause(chain))
        except (ConfigError, ReportError) as failure:
            raise ReportError(f"{missing}; {failure}") from None
    chain.say("report", f"{run_id} fetched from the artifact of its workflow run")
    return path


def _find_newest(chain: Chain, settings: Settings, stage: str, run_id: str | None = None) -> Path:
    """Return a run's folder, by default the newest; name the runs that cannot be read."""
    from loadtest.results.run_folder import find_run_folder

    path, skipped = find_run_folder(settings.runs_dir, run_id, settings.environment_name)
    for line in skipped:
        chain.say(stage, line)
    return path


def report_failed(
    chain: Chain, settings: Settings, scenarios: str | None, failure: LoadtestError
) -> None:
    """Report a run that ended before it measured anything, where reports are posted.

    Whoever waits for Monday's comment must not take silence for good news.
    """
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.results.run import Target
    from loadtest.results.run_folder import create_run_folder, read_run_folder, write_run

    chain.ending.is_reported = True
    if find_tracker(settings) is None:
        return
    if chain.ending.run_dir is None:
        target = Target(host=urlsplit(settings.base_url or "").netloc or "unknown")
        run = build_run(settings, target, "unknown", parse_scenarios(scenarios))
        folder = create_run_folder(settings.runs_dir, run)
        chain.ending.run_dir = folder.path
    else:
        folder = read_run_folder(chain.ending.run_dir)
    if all(result.outcome == "not run" for result in folder.run.scenarios):
        folder = replace(folder, run=_mark_failed(folder.run, failure))
        write_run(folder)
    _deliver(chain, settings, folder, as_json=True)


def _mark_failed(run: "Run", failure: LoadtestError) -> "Run":
    from loadtest.common.clock import utc_now
    from loadtest.results.run import ScenarioResult

    reason = f"before the first call: {failure}"
    failed = ScenarioResult(run.scenarios[0].name, "failed", reason=reason)
    return replace(run.note(failed), ended=utc_now())


def _deliver(chain: Chain, settings: Settings, folder: "RunFolder", *, as_json: bool) -> None:
    """Judge, write, print, post and announce a run; what GitHub refuses ends it, but last."""
    from loadtest.publish import delivery
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.report.terminal import render_terminal

    run_id, failure, tracker, posted = folder.run.run_id, None, None, None
    try:
        tracker = find_tracker(settings, _pause(chain))
        judged = delivery.judge_run(settings, folder, tracker)
    except (ConfigError, ReportError) as refused:
        tracker, failure, judged = None, refused, delivery.leave_unjudged(folder)
    written = delivery.write_files(judged)
    if not as_json:
        chain.console.print(render_terminal(folder, judged.judgement))
    names = " and ".join(path.name for path in written)
    chain.say("report", f"written to {folder.path.relative_to(settings.root)}: {names}")
    if tracker is not None:
        try:
            posted = delivery.post(judged, tracker)
        except ReportError as refused:
            failure = refused
        else:
            chain.tracking_issue = str(posted.issue)
            chain.say("report", f"{'posted' if posted.created else 'updated'}: {posted.url}")
    url = posted.url if posted else None
    for warning in delivery.announce(settings.variables, judged, url):
        chain.say("report", warning)
    _note_regressions(chain, settings, judged)
    if failure is not None:
        command = f"inv report --env {settings.environment_name} --run-id {run_id}"
        raise ReportError(f"{failure}. Not posted; this posts it: {command}")


def _note_regressions(chain: Chain, settings: Settings, judged: "Judged") -> None:
    """Let confirmed regressions end the task; ours shares its machine, and proves nothing."""
    if not settings.is_reference():
        chain.ending.regressions = judged.list_regressions()
        if judged.entry.has_regressed():
            chain.ending.note_regressions(judged.folder.run.run_id)


def _pause(chain: Chain) -> Callable[[float], None]:
    """Return what waits, and says so where it takes long."""

    def pause(seconds: float) -> None:
        if seconds >= TOLD_SECONDS:
            chain.say("report", f"GitHub is busy, or a limit is reached: waiting {seconds:.0f} s")
        time.sleep(seconds)

    return pause


def compare(chain: Chain, settings: Settings, before: str, after: str) -> None:
    """Print two runs of the environment side by side."""
    from loadtest.publish.delivery import read_history
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.report.history_tables import find_entry, render_pair

    tracker = find_tracker(settings, _pause(chain))
    reading = read_history(settings, tracker)
    _say_skipped(chain, reading)
    entries = reading.entries
    chain.console.print(render_pair(find_entry(entries, before), find_entry(entries, after)))


def history(
    chain: Chain,
    settings: Settings,
    *,
    check: bool = False,
    accept: str | None = None,
    as_page: bool = False,
    as_csv: bool = False,
) -> None:
    """Print the runs of the environment, or do one of four other things with them."""
    from loadtest.compare.cadence import check_cadence
    from loadtest.publish import delivery
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.report.history_tables import find_entry, render_csv, render_history
    from loadtest.report.html.page import render_history_page
    from loadtest.report.markdown import write_readable

    if [check, accept is not None, as_page, as_csv].count(True) > 1:
        raise UsageError("--check, --accept, --html and --csv go one at a time")
    name, cadence_days = settings.environment_name, settings.environment.cadence_days
    if check and cadence_days is None:
        raise ConfigError(f"environment {name} has no cadence_days in loadtest.toml: set it")
    tracker = find_tracker(settings, _pause(chain))
    reading = delivery.read_history(settings, tracker)
    entries = reading.entries
    if as_csv:
        print(render_csv(entries), end="")
        return
    _say_skipped(chain, reading)
    if check:
        assert cadence_days is not None
        newest = check_cadence(entries, name, cadence_days, datetime.now(UTC))
        chain.say("history", f"the newest run of {name} is of {newest:%Y-%m-%d %H:%M} UTC: in time")
    elif accept is not None:
        entry = find_entry(entries, accept)
        delivery.accept(settings, tracker, entry)
        figures = f"{len(entry.confirmed)} figure{'s' * (len(entry.confirmed) != 1)}"
        chain.say("history", f"{entry.run.run_id}: the new baseline of {figures}")
    elif as_page:
        path = write_readable(settings.state_dir / "history.html", render_history_page(entries))
        chain.say("history", f"written to {path.relative_to(settings.root)}")
    elif entries:
        chain.console.print(render_history(entries))
    else:
        chain.say("history", f"no run of {name} yet: start with `inv loadtest --env {name}`")


def _say_skipped(chain: Chain, reading: "Reading") -> None:
    for line in reading.skipped:
        chain.say("history", line)


def docs_update(chain: Chain, settings: Settings, *, check: bool) -> None:
    """Link the TBD cells of the pages, or preview them in the newest run's folder."""
    from loadtest.docs.pages import check_updates, update_docs

    run_dir = None
    if settings.tracking_issue is None:
        settings = replace(settings, tracking_issue=chain.tracking_issue)
    if settings.tracking_issue is None and not check:
        run_dir = chain.ending.run_dir or _find_newest(chain, settings, "docs")
    updates = update_docs(settings, run_dir, check=check)
    for update in updates:
        if check and update.diff:
            chain.console.print(update.diff, markup=False, highlight=False, soft_wrap=True, end="")
        chain.say("docs", update.describe())
    if check:
        check_updates(updates, has_issue=settings.tracking_issue is not None)


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


def doctor(chain: Chain, settings: Settings, *, close: bool = False) -> None:
    """Print what is missing; the exit code says whether a run would start.

    With `close`, sessions that an earlier run left are closed first, by the bearers on disk.
    """
    from rich.table import Table
    from rich.text import Text

    from loadtest.doctor.checks import can_look, examine
    from loadtest.state.run_lock import lock_environment

    base_url = settings.base_url
    if settings.is_reference() and can_look(settings):
        base_url = chain.open_target(settings)
    if close:
        with lock_environment(settings.state_dir, settings.environment_name):
            _close_earlier(chain, settings, _find_closing_bearers(settings))
    colours = {"ok": "green", "later": "cyan", "warn": "yellow", "missing": "red"}
    table = Table("what", "state", "detail", box=None, pad_edge=False)
    missing = []
    findings = examine(settings, base_url, lambda line: chain.say("doctor", line))
    for (state, words, remedy), same in groupby(findings, lambda found: found.told):
        names = [found.what for found in same]
        # Before it is wrapped: half of a secret is on the next line then.
        detail = Text(strip_controls(redact(words)))
        if remedy:
            detail.append(f"\n→ {remedy}", "bold")
        table.add_row("\n".join(names), Text(state, style=colours[state]), detail)
        if state == "missing":
            missing += names
    chain.console.print(table)
    if missing:
        raise ConfigError(f"missing before a run: {', '.join(missing)} (see above)")


def target(chain: Chain, settings: Settings, port: str | None, flags: str) -> None:
    """Serve the reference target in the foreground until Ctrl-C, and say how to sign up."""
    from loadtest.target.process import serve_reference

    try:
        options = [*(["--port", port] if port else []), *shlex.split(flags)]
    except ValueError as failure:
        raise UsageError(f"--flags cannot be split into options ({failure})") from None
    with serve_reference(settings.state_dir / "target", *options) as reference:
        chain.say("target", f"reference target at {reference.api_url}; Ctrl-C stops it")
        reference.process.wait()
