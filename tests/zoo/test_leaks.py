"""What servers that others wrote get back from clients that left: everything, but for one."""

from pathlib import Path

import pytest

from loadtest.leaks.cycles import Observation, observe
from loadtest.leaks.findings import describe, find_leaks
from loadtest.leaks.load import Load
from loadtest.state.bearers import build_anonymous
from tests.support.waiting import HANG_SECONDS
from tests.zoo.catalog import SERVERS_OF_OTHERS, Places, Server
from tests.zoo.running import run_server
from tests.zoo.test_streams import STAYING

LOAD = Load(cycles=8, sessions=20, abandoned=1, most_rate=500, most_seconds=120, settle_seconds=0.5)
ALONE = [each for each in SERVERS_OF_OTHERS if each.replicas == 1 and not each.signs_in]


def look(server: Server, places: Places, folder: Path) -> Observation:
    """Run the cycles against a server."""
    with run_server(server.command(places), server.variables(places), folder / "log") as port:
        caller = build_anonymous(f"http://127.0.0.1:{port}{server.path}")
        return observe(folder, (caller,), server.shown.revision, LOAD, lambda _: None)


@pytest.mark.parametrize("server", ALONE, ids=lambda each: each.name)
@pytest.mark.timeout(2 * HANG_SECONDS)
def test_sessions_and_streams_of_a_server_come_back(
    server: Server, places: Places, tmp_path: Path
) -> None:
    seen = look(server, places, tmp_path)
    assert find_leaks(seen) == ()
    assert len(seen.cycles) == LOAD.cycles
    assert all(cycle.streams == cycle.opened for cycle in seen.cycles)
    said = [*describe(seen)]
    if "capacity" in server.shown.failures:
        assert said[0] == "it refuses session 4: HTTP 503: Too many open sessions"
    elif seen.has_sessions:
        assert said[0] == "it has room for at least 20 sessions"


def test_sessions_and_streams_that_stay_after_delete_are_named(
    places: Places, tmp_path: Path
) -> None:
    assert find_leaks(look(STAYING, places, tmp_path)) == (
        "152 of 152 sessions still answer after their DELETE.",
        "152 streams stay open after the DELETE of their session (152 sessions).",
    )
