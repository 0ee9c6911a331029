"""The facts of a run: the load that it will send, and what its `run.json` begins with."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from loadtest import __version__
from loadtest.common.clock import utc_now
from loadtest.common.redaction import redact
from loadtest.config.models import COLD_START_MAX_SECONDS, Profile
from loadtest.config.refusals import describe_patterns
from loadtest.config.settings import Settings
from loadtest.config.tool_table import ToolTable
from loadtest.github.workflow_commands import build_run_url
from loadtest.k6.command import build_phases
from loadtest.k6.machine import describe_machine
from loadtest.k6.plan import RunPlan
from loadtest.k6.preflight import Checked
from loadtest.results.run import Run, Target, plan_scenarios
from loadtest.results.run_folder import build_run_id

# A SHA, or a name such as v1.4.0 or release-2026-11-30: with a digit, and valid in git.
_COMMIT = re.compile(r"(?=[^\d]*\d)[A-Za-z0-9](?:[A-Za-z0-9_+-]|\.(?=[A-Za-z0-9])){0,63}", re.ASCII)


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
        machine=describe_machine(target.host, settings.variables, plan.runners.cluster),
        git_sha=git_sha,
        scenarios=plan_scenarios(plan.scenarios),
        run_url=build_run_url(settings.variables),
        clients=settings.clients,
        streams=False,  # until a session has held one
        engine=plan.runners.engine,
        generators=plan.runners.count,
        objectives=tuple(each for each in settings.objectives if each.scenario in plan.scenarios),
    )


def find_commit(settings: Settings, checked: Checked) -> tuple[str | None, str | None]:
    """Return the commit (or tag) that is deployed on the target, and why it is not known."""
    source = settings.environment.deployed_commit
    if source is None:
        return None, None
    kind, _, name = source.partition(":")
    if source.startswith("$"):
        text, where = settings.variables.get(source[1:]), f"the variable {source[1:]}"
    elif kind == "header":
        text, where = checked.headers.get(name), f"the header {name} of the server's replies"
    else:
        text, where = checked.server_version, "the version that the server reports"
    text = (text or "").strip()
    if not text:
        return None, f"deployed_commit is not known: {where} is missing"
    # The text may come from the server, which could send one of our secrets back.
    if not _COMMIT.fullmatch(text) or redact(text) != text:
        return None, f"deployed_commit is not known: {where} is neither a commit nor a tag"
    return text, None


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
        "streams": _describe_streams(profile, unit),
        "tools": f"tool mix by {mix.vus} for {mix.duration_seconds} s, "
        + (f"{mixed:,} calls" if mixed else thought)
        + (f", observed every {mix.observe_seconds:g} s" if mix.observe_seconds else ""),
    }
    if profile.soak is not None:
        soak = profile.soak
        loads["soak"] = (
            f"soak by {soak.vus} {unit}s at a time, a new one after {soak.session_seconds} s, "
            f"{soak.pace.describe(unit)}"
        )
    lengths = [
        phase.seconds
        for scenario in scenarios
        for phase in build_phases(scenario, profile, tools, unit, runners)
    ]
    return f"{'; '.join(loads[scenario] for scenario in scenarios)}; {_describe_length(lengths)}"


def _describe_streams(profile: Profile, unit: str) -> str:
    if profile.streams is None:
        return ""
    stages = ", ".join(map(str, profile.streams.stages))
    seconds = profile.streams.stage_seconds
    return f"{stages} streams for {seconds} s each, beside one {unit} that calls"


def _describe_length(lengths: Sequence[float | None]) -> str:
    """Return how long phases take; cold starts have no length, only a limit."""
    seconds = sum(length or 0 for length in lengths)
    length = f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
    if None not in lengths:
        return length
    most = f"{COLD_START_MAX_SECONDS / 60:.0f} min at most for the cold starts"
    return f"{length} and {most}" if seconds else most


def _find_git_sha(root: Path) -> str | None:
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
