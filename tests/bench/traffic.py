"""The network traffic of sessions, and the size of a runner's log."""

import json
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from loadtest.config.loading import load_settings
from loadtest.k6.binary import find_k6
from loadtest.k6.distributed.run import build_request
from loadtest.k6.distributed.segments import open_segments
from loadtest.k6.plan import Runners, build_plan
from loadtest.k6.snapshots import Snapshots, is_snapshot
from tests.bench.k6_runs import Place, serve_target
from tests.support.checkout import ROOT

SESSIONS = 50  # a call a second each
SHORT, LONG = 10, 70  # seconds
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class _Traffic:
    """What one runner made of one stage: bytes sent and received, and its snapshots."""

    calls: int
    sent: int
    received: int
    snapshots: tuple[bytes, ...]

    def logged(self) -> int:
        """Return the bytes of all snapshots."""
        return sum(map(len, self.snapshots))


def bench_traffic() -> Table:
    """Measure bytes per call and per session in both eras, and what a runner's log takes.

    A call, and a minute, cost what the long stage took more than the short one; a session the rest.
    """
    table = Table(
        f"sessions.js, {SESSIONS} sessions",
        *("sent per call", "received", "sent per session"),
        *("logged per session-minute", "bytes per snapshot", "µs to add it up"),
        box=None,
    )
    for era in ("handshake", "stateless"):
        with serve_target("--eras", era) as place:
            short, long = (_run(place, seconds) for seconds in (SHORT, LONG))
        calls = long.calls - short.calls
        sent, received = (long.sent - short.sent) / calls, (long.received - short.received) / calls
        session = (short.sent - sent * short.calls) / (SESSIONS + 1)  # setup() opens one more
        minute = (long.logged() - short.logged()) / SESSIONS / (LONG - SHORT) * 60
        size = long.logged() / len(long.snapshots)
        figures = (sent, received, session, minute, size, _time_reading(long.snapshots) * 1e6)
        table.add_row(era, *(f"{figure:,.0f}" for figure in figures))
    return table


def _run(place: Place, seconds: int) -> _Traffic:
    knobs = {"LOADTEST_STAGES": str(SESSIONS), "LOADTEST_STAGE_SECONDS": str(seconds)}
    variables = {"PATH": os.environ["PATH"], **knobs}
    settings = load_settings(ROOT, "local", "smoke", process_env=variables)
    settings = replace(settings, root=place.folder)
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        plan = build_plan(settings, ("sessions",), place.mcp_url, runners=Runners("segments"))
        plan = replace(plan, bearer_file=place.bearer_file)
        scenario_request = replace(build_request(plan, "sessions"), logs=(Path(folder, "k6.log"),))
        fleet = open_segments(find_k6(os.environ), variables)(scenario_request)
        deadline = time.monotonic() + scenario_request.seconds
        try:
            while fleet.look()[0].phase == "running" and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
            (state,) = fleet.look()
        finally:
            fleet.close()
        lines = scenario_request.logs[0].read_bytes().splitlines()
    if state.exit_code != 0:
        raise SystemExit(f"sessions went wrong: {state}")
    (summary,) = (json.loads(line) for line in lines if line.startswith(b'{"loadtest":'))
    counts = {name: metric.get("count", 0) for name, metric in summary["metrics"].items()}
    return _Traffic(
        calls=counts["http_req_duration{rpc:tools/call}"],
        sent=counts["data_sent"],
        received=counts["data_received"],
        snapshots=tuple(line for line in lines if is_snapshot(line)),
    )


def _time_reading(snapshots: tuple[bytes, ...]) -> float:
    found = Snapshots()
    began = time.process_time()
    for line in snapshots:
        found.read_line(line)
    return (time.process_time() - began) / len(snapshots)
