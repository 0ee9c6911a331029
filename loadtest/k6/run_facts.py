"""The facts of a run: the load that it will send, and what its `run.json` begins with."""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from loadtest import __version__
from loadtest.common.clock import utc_now
from loadtest.config.models import COLD_START_MAX_SECONDS, Profile
from loadtest.config.refusals import describe_patterns
from loadtest.config.settings import Settings
from loadtest.config.tool_table import ToolTable
from loadtest.github.workflow_commands import build_run_url
from loadtest.k6.command import build_phases
from loadtest.k6.plan import RunPlan
from loadtest.results.run import Run, Target, plan_scenarios
from loadtest.results.run_folder import build_run_id


def build_run(settings: Settings, plan: RunPlan, target: Target, k6_version: str) -> Run:
    """Return the facts of a run that begins now, with its scenarios to come."""
    git_sha = _find_git_sha(settings.root)
    return Run(
        run_id=build_run_id(git_sha, settings.variables),
        loadtest_version=__version__,
        started=utc_now(),
        environment=settings.environment_name,
        profile=settings.profile_name,
        knobs=plan.profile.model_dump(mode="json")
        | _describe_tools(plan.tools)
        | {
            "auth": settings.environment.auth,
            "control": plan.control.name if plan.control else None,
            "refusals": describe_patterns(settings.environment.refusals),
        },
        target=target,
        k6_version=k6_version,
        machine=_describe_machine(plan, target),
        git_sha=git_sha,
        scenarios=plan_scenarios(plan.scenarios),
        run_url=build_run_url(settings.variables),
        clients=settings.clients,
        engine=plan.runners.engine,
        generators=plan.runners.count,
    )


def _describe_tools(tools: ToolTable) -> dict[str, object]:
    """Return which calls are made: the table, whether arguments vary, how many calls differ."""
    return {
        "tool_table": tools.describe(),
        "arguments": tools.describe_arguments(),
        "different_calls": tools.count_calls(),
    }


def describe_load(
    profile: Profile, tools: ToolTable, scenarios: Sequence[str], unit: str, runners: int = 1
) -> str:
    """Return the load of a run as text: how much at once, how many calls, how long."""
    starts, ladder, mix = profile.cold_start, profile.sessions, profile.tools
    pace = ladder.pace
    climbed = round(sum(ladder.stages) * ladder.stage_seconds * pace.find_rate())
    most = "" if pace.kind == "interval" else "at most "
    mixed = mix.duration_seconds * mix.target_rps if mix.target_rps else None
    thought = mix.pace.describe(unit) if mix.pace else "as fast as it is answered"
    loads = {
        "cold-start": f"{starts.iterations} cold starts by {starts.vus}"
        + (f", {starts.starts_per_second:g} per second" if starts.starts_per_second else ""),
        "sessions": f"{', '.join(map(str, ladder.stages))} {unit}s for {ladder.stage_seconds} s "
        f"each, {pace.describe(unit)}, {most}{climbed:,} calls",
        "tools": f"tool mix by {mix.vus} for {mix.duration_seconds} s, "
        + (f"{mixed:,} calls" if mixed else thought)
        + (f", observed every {mix.observe_seconds:g} s" if mix.observe_seconds else ""),
    }
    lengths = [
        phase.seconds
        for scenario in scenarios
        for phase in build_phases(scenario, profile, tools, unit, runners)
    ]
    return f"{'; '.join(loads[scenario] for scenario in scenarios)}; {_describe_length(lengths)}"


def _describe_length(lengths: Sequence[float | None]) -> str:
    """Return how long phases take; cold starts have no length, only a limit."""
    seconds = sum(length or 0 for length in lengths)
    length = f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
    if None not in lengths:
        return length
    most = f"{COLD_START_MAX_SECONDS / 60:.0f} min at most for the cold starts"
    return f"{length} and {most}" if seconds else most


def _describe_machine(plan: RunPlan, target: Target) -> dict[str, object]:
    cluster = plan.runners.cluster
    if cluster is not None:
        return {"cpu": cluster.cpu, "memory": cluster.memory}
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "shares_with_target": target.host.split(":")[0] in {"127.0.0.1", "localhost"},
    }


def _find_git_sha(root: Path) -> str | None:
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
