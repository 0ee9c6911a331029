"""Both eras of the protocol: the real k6 against the reference target."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from loadtest.config.models import USUAL_SCENARIOS
from loadtest.k6.binary import K6Binary
from loadtest.k6.scenario import ScenarioRun, run_scenario, run_scenarios
from tests.k6.running import Endpoint, build_settings, new_folder, pick, plan_run

pytestmark = pytest.mark.slow


def test_every_scenario_runs_in_the_stateless_era_and_opens_no_session(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, binary: K6Binary
) -> None:
    endpoint = open_endpoint(eras="stateless")
    folder = run_scenarios(
        plan_run(build_settings(), endpoint.mcp_url, endpoint.bearer_file),
        new_folder(tmp_path, binary),
        run=partial(run_scenario, binary=binary, variables=os.environ),
    )
    target = folder.run.target
    assert (target.server_name, target.protocol_version) == ("novamart", "2026-07-28")
    assert target.era == "stateless"
    assert [result.outcome for result in folder.run.scenarios] == ["ok"] * len(USUAL_SCENARIOS)
    assert [result.sessions_left for result in folder.run.scenarios] == [0, 0, 0]
    assert not any(row.failures for row in folder.rows)
    frames = [(row.name, row.count) for row in folder.rows if row.kind == "frame"]
    assert frames == [
        (name, 6) for name in ("connect", "server/discover", "tools/list", "first dispatch")
    ]
    stages = {row.name: (row.count, row.ok) for row in folder.rows if row.kind == "stage"}
    assert stages == {"1": (1, 1), "2": (2, 2)}
    tools = {row.name for row in folder.rows if row.kind == "tool"}
    assert {"all", "executeSQL", "listEntities", "runMetric"} <= tools
    assert endpoint.target.open_sessions == 0


@pytest.mark.parametrize(
    ("eras", "asked", "found"),
    [
        ("handshake", "auto", ("2025-11-25", "handshake")),
        ("both", "auto", ("2026-07-28", "stateless")),
        ("both", "2026-07-28", ("2026-07-28", "stateless")),
        ("both", "2025-11-25", ("2025-11-25", "handshake")),
        ("both", "2025-06-18", ("2025-06-18", "handshake")),
        ("both", "2025-03-26", ("2025-03-26", "handshake")),
    ],
)
def test_the_requested_revision_is_used_and_auto_finds_the_newest(
    eras: str,
    asked: str,
    found: tuple[str, str],
    open_endpoint: Callable[..., Endpoint],
    measure: Callable[..., ScenarioRun],
) -> None:
    run = measure("tools", open_endpoint(eras=eras), PROTOCOL=asked)
    assert run.result.outcome == "ok"
    assert run.server is not None
    assert (run.server.protocol, run.server.era) == found
    assert pick(run, "tool", "all").ok > 0


@pytest.mark.parametrize(
    ("eras", "asked", "reason"),
    [
        ("handshake", "2026-07-28", "it answers server/discover with JSON-RPC error -32000"),
        ("stateless", "2025-11-25", "it answers initialize with JSON-RPC error -32020"),
    ],
)
def test_a_revision_that_the_target_does_not_speak_ends_the_run_in_one_line(
    eras: str,
    asked: str,
    reason: str,
    open_endpoint: Callable[..., Endpoint],
    measure: Callable[..., ScenarioRun],
) -> None:
    run = measure("tools", open_endpoint(eras=eras), PROTOCOL=asked)
    assert (run.result.outcome, run.rows) == ("failed", ())
    assert run.result.reason == f"the target does not speak {asked}: {reason}"
