"""The command line of k6, its environment and its time limits."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest.common.processes import build_child_environment
from loadtest.common.scripts import SCRIPTS
from loadtest.config.models import COLD_START_MAX_SECONDS, Limits, Profile
from loadtest.config.pace import DEFAULT_TIMEOUT_SECONDS
from loadtest.config.refusals import RefusalPattern
from loadtest.config.tool_table import ToolTable
from loadtest.k6.binary import RUN_FLAGS, K6Binary
from loadtest.k6.control import find_rate
from loadtest.k6.health import ABORT_SECONDS, MEMORY_SHARE, find_memory_bytes
from loadtest.k6.outputs import build_output_flags
from loadtest.k6.plan import RunPlan
from loadtest.k6.progress import Phase

OPENINGS_PER_SECOND = 300  # by one k6: the sessions of a slice open first, spread evenly
SLOT_CLOSE_SECONDS = 1  # at the end of a slice: its sessions are deleted
K6_STOP_SECONDS = 15  # k6 gets this long to write its summary before it is killed
# What VUs measure is kept by interval: as many as this per scenario, at most.
MOST_INTERVALS = 120
INTERVAL_SECONDS = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600)
LINES_PER_SECOND = 100  # of k6's log: each VU prints one per interval
DASHBOARD_POINTS = 30  # per scenario, at most
# In place of the bearer file of a target that takes no bearer.
NO_BEARER = "none"
SETUP_SECONDS = 90  # for the start of k6 and its probe, at most, with the usual time limit
PROBE_REQUESTS = 5  # of setup() in k6/lib/run.js, at most

# Settings of Go. The user's own K6_* settings are not passed to k6.
GO_VARIABLES = ("GOMAXPROCS", "GOGC", "GOMEMLIMIT")
# Go collects garbage when this much has been added to what is in use; its default is 100.
GARBAGE_PER_CENT = "400"
# Above this share of the memory, all k6 together, Go collects as often as it must to stay below.
SOFT_MEMORY_SHARE = MEMORY_SHARE / 2


def build_knobs(
    scenario: str, profile: Profile, tools: ToolTable, generators: int = 1
) -> dict[str, str]:
    """Return the variables that set the load of one script, by this many k6."""
    knobs = {"MAX_FAILURE_SHARE": str(profile.max_failure_share)}
    if scenario == "cold-start":
        knobs |= {
            "ITERATIONS": str(profile.cold_start.iterations),
            "VUS": str(profile.cold_start.vus),
            "MAX_SECONDS": str(COLD_START_MAX_SECONDS),
        }
        if profile.cold_start.starts_per_second is not None:
            knobs["STARTS_PER_SECOND"] = str(profile.cold_start.starts_per_second)
        return knobs
    seconds = profile.find_slice_seconds(scenario)
    knobs |= {
        "SLOT_SECONDS": str(_slot_seconds(scenario, profile, tools, generators)),
        "OPEN_SECONDS": str(find_open_seconds(scenario, profile, generators)),
        "DRAIN_SECONDS": str(profile.find_drain_seconds(scenario, tools)),
        "CLOSE_SECONDS": str(SLOT_CLOSE_SECONDS),
    }
    if stages := profile.list_stages(scenario):
        knobs |= {
            "STAGES": ",".join(map(str, stages)),
            "STAGE_SECONDS": str(seconds),
            "TOOL": str(profile.sessions.tool),
            "PACE": profile.sessions.pace.text,
        }
    elif scenario == "soak" and profile.soak is not None:
        knobs |= {
            "VUS": str(profile.soak.vus),
            "DURATION": str(seconds),
            "SESSION_SECONDS": str(profile.soak.session_seconds),
            "PACE": profile.soak.pace.text,
        }
    else:
        knobs |= {"VUS": str(profile.tools.vus), "DURATION": str(seconds)}
        if profile.tools.target_rps is not None:
            knobs["TARGET_RPS"] = str(profile.tools.target_rps)
        if profile.tools.pace is not None:
            knobs["PACE"] = profile.tools.pace.text
    return knobs


def find_open_seconds(scenario: str, profile: Profile, generators: int = 1) -> int:
    """Return how long the sessions of a slice open: 1 s, or longer if there are many."""
    most = profile.tools.vus if scenario == "tools" else profile.count_vus()[scenario]
    return max(1, math.ceil(most / (OPENINGS_PER_SECOND * generators)))


def build_phases(
    scenario: str,
    profile: Profile,
    tools: ToolTable,
    unit: str = "session",
    generators: int = 1,
) -> tuple[Phase, ...]:
    """Return the phases of a scenario; cold starts have no fixed length. `unit` is a ladder's."""
    if scenario == "cold-start":
        return (Phase(f"{profile.cold_start.iterations} cold starts", None),)
    slot = _slot_seconds(scenario, profile, tools, generators)
    if scenario == "tools":
        return (Phase(_count(profile.tools.vus, unit), slot),)
    if scenario == "soak" and profile.soak is not None:
        return (Phase(f"{_count(profile.soak.vus, unit)} at a time", slot),)
    what = "stream" if scenario == "streams" else unit
    return tuple(Phase(_count(stage, what), slot) for stage in profile.list_stages(scenario))


def find_interval(scenario: str, profile: Profile, phases: Sequence[Phase]) -> int:
    """Return the seconds of an interval: a scenario has about 60 to 120 of them.

    They are longer with many VUs, and in a scenario that is too short or of unknown length.
    """
    seconds = sum(phase.seconds or profile.cold_start.find_seconds() for phase in phases)
    vus = profile.count_vus()[scenario]
    least = max(seconds / MOST_INTERVALS, vus / LINES_PER_SECOND)
    return next((each for each in INTERVAL_SECONDS if each >= least), INTERVAL_SECONDS[-1])


def find_period(phases: Sequence[Phase]) -> int:
    """Return the seconds between two points of the dashboard; each one sorts all samples."""
    seconds = sum(phase.seconds or 0 for phase in phases)
    return max(1, round(seconds / DASHBOARD_POINTS))


def build_command(
    binary: K6Binary,
    scenario: str,
    outputs: Sequence[str] = (),
    *,
    runner: int = 1,
    more: Sequence[str] = (),
) -> list[str]:
    """Return the argument list of k6: no secrets, no knobs, its API on a free loopback port."""
    flags = (
        flag if value is None else f"{flag}={value}"
        for flag, value in RUN_FLAGS.items()
        if flag in binary.flags
    )
    outs = build_output_flags(outputs, scenario, runner)
    return [str(binary.path), "run", *flags, *outs, *more, str(SCRIPTS / f"{scenario}.js")]


def build_limits(limits: Limits, host: str) -> dict[str, str]:
    """Return the environment's limits and its host, which the scripts check again."""
    return {
        "LIMIT_VUS": str(limits.max_vus),
        "LIMIT_RPS": str(limits.max_rps),
        "LIMIT_SECONDS": str(limits.max_duration_seconds),
        "LIMIT_HOST": host,
    }


def build_switches(
    protocol: str, profile: Profile, refusals: Sequence[RefusalPattern] = ()
) -> dict[str, str]:
    """Return how the scripts speak with the target, and its own words for refusals."""
    switches = {
        "MCP_PROTOCOL": protocol,
        "CALL_TIMEOUT_SECONDS": str(profile.timeout_seconds or DEFAULT_TIMEOUT_SECONDS),
    }
    if refusals:
        switches["REFUSALS"] = json.dumps([pattern.export() for pattern in refusals])
    return switches


def build_script_env(plan: RunPlan, scenario: str) -> dict[str, str]:
    """Return the variables that one script reads, without places."""
    limits = build_limits(plan.limits, plan.host)
    if scenario == "tools" and plan.profile.tools.observed_rps:
        # The client that observes keeps the limit together with k6.
        rest = plan.limits.max_rps - plan.profile.tools.observed_rps
        limits["LIMIT_RPS"] = str(max(0.01, round(rest, 3)))
    if scenario != "cold-start":
        limits["STREAMS"] = str(plan.streams or scenario == "streams").lower()
    if plan.control is not None:
        rate = find_rate(scenario, plan.profile, plan.limits)
        limits |= {"CONTROL_RPS": str(rate)} if rate else {}
    seconds = find_interval(scenario, plan.profile, list_phases(plan, scenario))
    return (
        build_knobs(scenario, plan.profile, plan.tools, plan.runners.count)
        | {"INTERVAL_SECONDS": str(seconds)}
        | limits
        | build_switches(plan.protocol, plan.profile, plan.refusals)
    )


def list_phases(plan: RunPlan, scenario: str) -> tuple[Phase, ...]:
    """Return the phases of a scenario of the plan."""
    return build_phases(scenario, plan.profile, plan.tools, plan.unit, plan.runners.count)


def build_environment(
    variables: Mapping[str, str],
    script_env: Mapping[str, str],
    *,
    mcp_url: str,
    bearer_file: Path | None,
    out_dir: Path,
    private_variables: Mapping[str, str] | None = None,
    processes: int = 1,
) -> dict[str, str]:
    """Return the whole environment of one of several k6 processes; `script_env` has no places."""
    return {
        "GOGC": GARBAGE_PER_CENT,
        "GOMEMLIMIT": str(int(SOFT_MEMORY_SHARE * find_memory_bytes() / processes)),
        **build_child_environment(variables, GO_VARIABLES),
        **(private_variables or {}),
        "SUMMARY_FILE": str(out_dir / "summary.json"),  # `script_env` may replace it
        **script_env,
        "HOME": str(out_dir),  # without the user's own k6 configuration
        "MCP_URL": mcp_url,
        "MCP_BEARER_FILE": str(bearer_file.resolve()) if bearer_file else NO_BEARER,
        "TOOLS_FILE": str(out_dir / "tools.json"),
        "K6_WEB_DASHBOARD": "true",
        # Only the file is needed, but k6 2.x listens too; with port -1, on every interface.
        "K6_WEB_DASHBOARD_HOST": "127.0.0.1",
        "K6_WEB_DASHBOARD_PORT": "0",
        "K6_WEB_DASHBOARD_EXPORT": str(out_dir / "dashboard.html"),
    }


def _count(count: int, unit: str) -> str:
    return f"{count} {unit}{'s' * (count != 1)}"


def _slot_seconds(scenario: str, profile: Profile, tools: ToolTable, generators: int) -> float:
    """Return how long a slice takes in all: its sessions open, call, end their calls and close."""
    opening = find_open_seconds(scenario, profile, generators)
    drain = profile.find_drain_seconds(scenario, tools)
    return opening + profile.find_slice_seconds(scenario) + drain + SLOT_CLOSE_SECONDS


def bound_seconds(phases: tuple[Phase, ...], profile: Profile) -> float:
    """Return after how many seconds k6 is stopped even if it hangs."""
    scheduled = sum(phase.seconds or COLD_START_MAX_SECONDS for phase in phases)
    return find_setup_seconds(profile) + scheduled + K6_STOP_SECONDS


def find_abort_seconds(plan: RunPlan, scenario: str) -> float:
    """Return for how long a target must fail to be down: for two calls of a slow tool at least."""
    if scenario == "cold-start":
        return max(ABORT_SECONDS, plan.profile.timeout_seconds or 0)
    pace = 0.0
    if scenario in {"sessions", "streams"}:
        pace = plan.profile.sessions.pace.mean_seconds
    elif scenario == "soak" and plan.profile.soak is not None:
        pace = plan.profile.soak.pace.mean_seconds
    return max(ABORT_SECONDS, 2 * pace, plan.tools.find_timeout(least=0))


def find_setup_seconds(profile: Profile) -> float:
    """Return how long k6 may take to start and to probe the target, with few requests."""
    more = (profile.timeout_seconds or 0) - DEFAULT_TIMEOUT_SECONDS
    return SETUP_SECONDS + PROBE_REQUESTS * max(0, more)
