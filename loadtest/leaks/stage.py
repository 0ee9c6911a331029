"""Check that a server gets its room and its speed back after clients have left."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.table import Column, Table

from loadtest.common.interruption import run_coroutine
from loadtest.common.parsing import parse_count
from loadtest.config.settings import Settings, check_allowed
from loadtest.context import Chain
from loadtest.errors import LeakError, TargetError, UsageError
from loadtest.k6.open_sessions import (
    close_sessions,
    note_closed,
    note_opened,
    open_log,
    settle_log,
)
from loadtest.k6.stage import close_earlier_sessions
from loadtest.leaks.client import RefusedError
from loadtest.leaks.cycles import CALLS, PROBES, Load, Observation, Watch
from loadtest.leaks.findings import LEAST_CYCLES, describe, find_leaks
from loadtest.mint.options import MintOptions
from loadtest.mint.stage import ensure_bearers
from loadtest.state.bearers import SPARE_SECONDS, Bearer
from loadtest.target.mcp_client import WorkspaceClient

USUAL_CYCLES = 10
ABANDONED_SHARE = 0.05  # of the sessions of a cycle, at least one
REQUESTS_PER_CLIENT = 4  # two that open, the stream, DELETE
CYCLE_SECONDS = 10.0  # of waiting, at most, in a cycle of a server that is quick


def plan_load(settings: Settings, typed: Mapping[str, str | None]) -> Load:
    """Return what the options ask for; raise UsageError if the limits do not allow it."""
    limits = settings.environment.limits
    cycles = _parse("cycles", typed.get("cycles")) or USUAL_CYCLES
    sessions = _parse("sessions", typed.get("sessions")) or limits.max_vus
    wait_seconds = 60.0 * _parse("wait-minutes", typed.get("wait_minutes"), least=0)
    if sessions > limits.max_vus:
        raise UsageError(
            f"--sessions {sessions} is above max_vus, which is {limits.max_vus} in environment "
            f"{settings.environment_name}: type fewer, or raise the limit"
        )
    load = Load(
        cycles=cycles,
        sessions=sessions,
        abandoned=max(1, round(sessions * ABANDONED_SHARE)),
        most_rate=limits.max_rps,
        most_seconds=limits.max_duration_seconds,
        wait_seconds=wait_seconds,
    )
    if (seconds := find_seconds(load)) > limits.max_duration_seconds:
        raise UsageError(
            f"{cycles} cycles of {sessions} sessions take up to {seconds:.0f} s, and environment "
            f"{settings.environment_name} allows {limits.max_duration_seconds} s: type fewer "
            "--cycles or --sessions, or raise max_duration_seconds"
        )
    return load


def find_seconds(load: Load) -> float:
    """Return how long the cycles take, at most, if the server is quick."""
    requests = load.sessions * REQUESTS_PER_CLIENT + PROBES * (CALLS + REQUESTS_PER_CLIENT)
    cycle_seconds = requests / load.most_rate + CYCLE_SECONDS
    return load.cycles * cycle_seconds + load.wait_seconds + SPARE_SECONDS


def _parse(name: str, text: str | None, least: int = 1) -> int:
    try:
        return parse_count(text, least=least) if text else 0
    except ValueError:
        raise UsageError(f"--{name} must be a whole number of at least {least}") from None


def check_leaks(chain: Chain, settings: Settings, typed: Mapping[str, str | None]) -> None:
    """Run the cycles and print what came back; raise LeakError if anything did not.

    Sessions are in the journal of open ones from the moment they open: what a kill leaves is closed
    by the next run, or by `doctor --close`.
    """
    check_allowed(settings, "leaks")
    load = plan_load(settings, typed)
    bearers, _ = ensure_bearers(chain, settings, MintOptions(min_ttl_seconds=find_seconds(load)))
    close_earlier_sessions(chain, settings, bearers)
    protocol = settings.protocol
    if protocol == "auto":
        protocol = (
            WorkspaceClient(
                bearers[0].mcp_url, bearers[0].access_token, partial(chain.say, "leaks")
            )
            .greet()
            .protocol
        )
    chain.say(
        "leaks",
        f"{load.cycles} cycles of up to {load.sessions} sessions, of which {load.abandoned} are "
        f"abandoned; at most {load.most_rate} requests/s",
    )
    _report(
        chain, observe(settings.state_dir, bearers, protocol, load, partial(chain.say, "leaks"))
    )


def observe(
    state_dir: Path,
    bearers: Sequence[Bearer],
    protocol: str,
    load: Load,
    tell: Callable[[str], None],
) -> Observation:
    """Run the cycles and close every session that they opened, also after an interruption.

    Raises TargetError if not even the first client is let in.
    """
    with open_log(state_dir, bearers[0].mcp_url) as log:
        watch = Watch(
            bearers,
            protocol,
            load,
            opened=lambda one: note_opened(log, str(one.session_id), one.number, protocol),
            closed=lambda one: note_closed(log, str(one.session_id)),
            tell=tell,
        )
        try:
            run_coroutine(watch.run())
        except RefusedError as refusal:
            raise TargetError(f"no client is let in: {refusal}") from None
        finally:
            close_sessions(state_dir, settle_log(state_dir), bearers)
    return watch.seen


def _report(chain: Chain, seen: Observation) -> None:
    """Print the cycles as a table, then what else was seen; raise LeakError with the leaks."""
    names = ("cycle", "sessions", "streams", "abandoned", "first dispatch ms", "latency ms")
    table = Table(*(Column(name, justify="right") for name in names), box=None, pad_edge=False)
    for number, cycle in enumerate(seen.cycles, 1):
        table.add_row(
            str(number),
            str(cycle.opened),
            str(cycle.streams),
            str(cycle.abandoned),
            f"{cycle.first_dispatch_ms:.1f}",
            f"{cycle.latency_ms:.1f}",
        )
    chain.console.print(table)
    for line in describe(seen):
        chain.say("leaks", line)
    if leaks := find_leaks(seen):
        raise LeakError(" ".join(leaks))
    if len(seen.cycles) < LEAST_CYCLES:
        chain.say("leaks", f"fewer than {LEAST_CYCLES} cycles: a slow leak cannot be seen")
    clients = sum(cycle.opened for cycle in seen.cycles)
    chain.say("leaks", f"no leak found after {clients} clients in {len(seen.cycles)} cycles")
