"""Check that a server gets its room and its speed back after clients have left."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loadtest.config.settings import Settings, check_allowed
from loadtest.context import Chain
from loadtest.errors import LeakError
from loadtest.k6.stage import close_earlier_sessions
from loadtest.leaks.load import find_seconds, plan_load
from loadtest.mint.options import MintOptions
from loadtest.mint.stage import ensure_bearers

if TYPE_CHECKING:
    from loadtest.leaks.cycles import Observation


def check_leaks(chain: Chain, settings: Settings, typed: Mapping[str, str | None]) -> None:
    """Run the cycles and print what came back; raise LeakError if anything did not.

    Sessions are in the journal of open ones from the moment they open: what a kill leaves is closed
    by the next run, or by `doctor --close`.
    """
    from loadtest.leaks.cycles import observe
    from loadtest.target.mcp_client import WorkspaceClient

    def say(text: str) -> None:
        chain.say("leaks", text)

    check_allowed(settings, "leaks")
    load = plan_load(settings, typed)
    bearers, _ = ensure_bearers(chain, settings, MintOptions(min_ttl_seconds=find_seconds(load)))
    close_earlier_sessions(chain, settings, bearers)
    mcp_url, protocol = bearers[0].mcp_url, settings.protocol
    if protocol == "auto":
        protocol = WorkspaceClient(mcp_url, bearers[0].access_token, say).greet().protocol
    say(
        f"{load.cycles} cycles of up to {load.sessions} sessions, of which {load.abandoned} are "
        f"abandoned; at most {load.most_rate} requests/s"
    )
    _report(chain, observe(settings.state_dir, bearers, protocol, load, say))


def _report(chain: Chain, seen: "Observation") -> None:
    """Print the cycles as a table, then what else was seen; raise LeakError with the leaks."""
    from rich.table import Column, Table

    from loadtest.leaks.findings import LEAST_CYCLES, describe, find_leaks

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
