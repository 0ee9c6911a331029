"""Several k6 that run a scenario as one: the real binary against the reference target."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from loadtest.common.files import write_json
from loadtest.config.models import USUAL_SCENARIOS
from loadtest.config.settings import Settings
from loadtest.k6.binary import K6Binary
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.distributed.segments import build_flags, open_segments
from loadtest.k6.outputs import parse_outputs
from loadtest.k6.plan import Runners, RunPlan
from loadtest.k6.progress import Live, NoWatcher, Watcher
from loadtest.k6.scenario import ScenarioRun, run_scenario, run_scenarios
from loadtest.results.intervals import read_intervals
from loadtest.results.run import Row
from loadtest.results.run_folder import RunFolder, read_run_folder
from tests.bench.raw_samples import read_durations, take_percentile
from tests.k6 import running
from tests.k6.any_server import AnyServer, AnyTool
from tests.k6.running import (
    Endpoint,
    build_settings,
    check_schedule,
    limit_rate,
    new_folder,
    pick,
    plan_run,
)

pytestmark = pytest.mark.slow

RunFleet = Callable[..., ScenarioRun]


def plan_three(settings: Settings, endpoint: Endpoint, **changes: Any) -> RunPlan:
    """Return the plan of a run by three k6."""
    runners = Runners("segments", 3)
    return plan_run(settings, endpoint.mcp_url, endpoint.bearer_file, runners=runners, **changes)


@pytest.fixture
def fleet(tmp_path: Path, binary: K6Binary) -> RunFleet:
    """Run one scenario by three k6, shortened and with the knobs given."""

    def run(
        scenario: str,
        endpoint: Endpoint,
        watcher: Watcher | None = None,
        outputs: Sequence[str] = (),
        **knobs: str,
    ) -> ScenarioRun:
        settings = build_settings(**knobs)
        given = parse_outputs(outputs, [scenario], binary.path, "segments")
        return run_fleet(
            plan_three(settings, endpoint, outputs=given),
            scenario,
            out_dir=tmp_path / scenario,
            watcher=watcher,
            launch=open_segments(binary, settings.variables),
        )

    return run


@pytest.fixture(scope="module")
def both(
    open_endpoint: Callable[..., Endpoint],
    tmp_path_factory: pytest.TempPathFactory,
    binary: K6Binary,
) -> tuple[Endpoint, RunFolder, RunFolder]:
    """Run all three scenarios by one k6, then by three."""
    endpoint = open_endpoint()
    settings = build_settings(ITERATIONS="7", VUS="4", STAGES="1,4", STAGE_SECONDS="2")
    launch = open_segments(binary, settings.variables)
    one = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file)
    folders = [
        run_scenarios(plan, new_folder(tmp_path_factory.mktemp("runs"), binary), run=run)
        for plan, run in (
            (one, partial(run_scenario, binary=binary, variables=os.environ)),
            (plan_three(settings, endpoint), partial(run_fleet, launch=launch)),
        )
    ]
    return endpoint, folders[0], folders[1]


def test_several_runners_have_the_same_rows_as_one_k6(
    both: tuple[Endpoint, RunFolder, RunFolder],
) -> None:
    _, one, many = both
    for folder in (one, many):
        assert [(each.name, each.outcome, each.faults) for each in folder.run.scenarios] == [
            (name, "ok", ()) for name in USUAL_SCENARIOS
        ]
    assert [(row.scenario, row.kind, row.name) for row in many.rows] == [
        (row.scenario, row.kind, row.name) for row in one.rows
    ]
    assert read_run_folder(many.path) == many


def test_sessions_stages_and_rates_are_of_all_runners_together(
    both: tuple[Endpoint, RunFolder, RunFolder],
) -> None:
    _, _, many = both
    rows = {(row.scenario, row.kind, row.name): row for row in many.rows}
    assert rows["cold-start", "frame", "first dispatch"].ok == 7
    for sessions in (1, 4):
        stage = rows["sessions", "stage", str(sessions)]
        assert (stage.ok, stage.offered_rate) == (stage.count, sessions)
        assert stage.achieved_rate == stage.count / 2
        check_schedule(stage, 2, late_seconds=0.5)
        assert rows["sessions", "opening", str(sessions)].ok == sessions
    assert rows["tools", "opening", "all"].ok == 4


def test_the_intervals_of_all_runners_add_up_to_the_rows(
    both: tuple[Endpoint, RunFolder, RunFolder],
) -> None:
    _, _, many = both
    for row in many.rows:
        intervals = read_intervals(many.scenario_dir(row.scenario))
        assert intervals is not None
        if row.kind in {"frame", "stage"}:
            assert intervals.total().count(f"mcp_duration{{{row.kind}:{row.name}}}") == row.ok


def test_the_replies_of_all_runners_are_measured_together(
    both: tuple[Endpoint, RunFolder, RunFolder],
) -> None:
    _, one, many = both
    for alone, merged in zip(one.rows, many.rows, strict=True):
        if merged.kind != "tool":
            assert (alone.replies is None) == (merged.replies is None)
        if alone.replies and merged.replies and merged.kind != "tool":
            assert 0 < merged.replies.count <= merged.ok
            # Ids and times in a reply have more digits or fewer.
            assert merged.replies.size.p50 == pytest.approx(alone.replies.size.p50, rel=0.02)


def test_runners_leave_nothing_on_the_target_and_no_secret_in_their_files(
    both: tuple[Endpoint, RunFolder, RunFolder],
) -> None:
    endpoint, _, many = both
    assert endpoint.target.open_sessions == 0
    assert [each.sessions_left for each in many.run.scenarios] == [0, 0, 0]
    token = endpoint.bearer_file.read_text(encoding="utf-8").split('"access_token": "')[1][:40]
    files = [path for path in many.path.rglob("*") if path.is_file()]
    assert len(files) > 3 * 3 * 3
    assert not [path for path in files if token.encode() in path.read_bytes()]
    assert not list((running.state_root / ".loadtest" / "local").glob("k6*.log"))


def test_merged_percentiles_are_those_of_all_samples(
    fleet: RunFleet, open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    raw = f"csv={tmp_path}/raw-{{runner}}.csv"
    run = fleet("tools", open_endpoint(), outputs=[raw], VUS="6", DURATION="3")
    for row, found in zip_samples(run, tmp_path):
        assert row.duration is not None
        assert row.duration.max == pytest.approx(max(found))
        for share, merged in (
            (0.5, row.duration.p50),
            (0.95, row.duration.p95),
            (0.99, row.duration.p99),
        ):
            assert merged == pytest.approx(take_percentile(found, share), rel=0.006)


def zip_samples(run: ScenarioRun, folder: Path) -> Iterator[tuple[Row, list[float]]]:
    """Yield the rows of a mix with their raw samples; their counts are the same."""
    samples: dict[str, list[float]] = {}
    for number in (1, 2, 3):
        for tool, ms in read_durations(folder / f"raw-{number}.csv"):
            samples.setdefault(tool, []).append(ms)
    samples["all"] = [ms for found in samples.values() for ms in found]
    assert len(samples["all"]) > 100
    for tool, found in samples.items():
        row = pick(run, "tool", tool)
        assert row.ok == len(found)
        yield row, found


def test_runners_together_keep_the_limit_of_their_environment(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, binary: K6Binary
) -> None:
    endpoint = open_endpoint()
    settings = limit_rate(build_settings(VUS="6", DURATION="3"), 20)
    run = run_fleet(
        plan_three(settings, endpoint),
        "tools",
        out_dir=tmp_path,
        launch=open_segments(binary, settings.variables),
    )
    row = pick(run, "tool", "all")
    assert row.held_rate == 20
    assert 0 < row.count <= 60


class WhenOpen(NoWatcher):
    """Acts once, as soon as the target has that many sessions and two calls for each.

    k6 has the id of a session for certain once it calls in that session.
    """

    def __init__(self, endpoint: Endpoint, sessions: int, act: Callable[[], None]) -> None:
        self._endpoint, self._sessions = endpoint, sessions
        self._act = act
        self._acted = False

    def tick(self, live: Live | None) -> None:  # noqa: ARG002
        """Act when it is time."""
        target = self._endpoint.target
        is_open = target.open_sessions >= self._sessions
        if not self._acted and is_open and target.tool_calls >= 2 * self._sessions:
            self._acted = True
            self._act()


def list_runners() -> list[psutil.Process]:
    """Return the k6 processes that are ours, in the order in which they began."""
    children = psutil.Process().children()
    return [child for child in children if "k6" in child.name()]


def test_a_lost_runner_is_named_and_the_other_figures_are_kept(
    fleet: RunFleet, open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    killer = WhenOpen(endpoint, 3, lambda: list_runners()[1].kill())
    run = fleet("sessions", endpoint, killer, STAGES="1,3", STAGE_SECONDS="2")
    assert (run.result.outcome, run.result.reason) == (
        "failed",
        "runner 2 lost: killed by signal 9",
    )
    assert [(fault.runner, fault.state) for fault in run.result.faults] == [(2, "lost")]
    assert pick(run, "stage", "1").ok == 2
    # Two of three sessions call twice each, one of them shortly before the end; the lost runner may
    # have called once before it was lost.
    assert 3 <= pick(run, "stage", "3").ok <= 5
    assert endpoint.target.open_sessions == run.result.sessions_left == 0
    assert (tmp_path / "sessions" / "runners" / "3" / "summary.json").exists()


def test_after_an_interruption_runners_end_and_their_sessions_are_closed(
    fleet: RunFleet, open_endpoint: Callable[..., Endpoint]
) -> None:
    endpoint = open_endpoint()
    began = time.monotonic()
    run = fleet(
        "sessions", endpoint, WhenOpen(endpoint, 3, interrupt), STAGES="3", STAGE_SECONDS="100"
    )
    assert time.monotonic() - began < 60
    assert isinstance(run.interruption, KeyboardInterrupt)
    assert run.result.outcome == "interrupted"
    assert (list_runners(), endpoint.target.open_sessions) == ([], 0)


def interrupt() -> None:
    raise KeyboardInterrupt


class WhenCalled(NoWatcher):
    """Interrupts as soon as the target has had that many calls."""

    def __init__(self, endpoint: Endpoint, calls: int) -> None:
        self._endpoint, self._calls = endpoint, calls

    def tick(self, live: Live | None) -> None:  # noqa: ARG002
        """Interrupt when it is time."""
        if self._endpoint.target.tool_calls >= self._calls:
            interrupt()


def test_an_interruption_loses_no_sample_of_a_mix(
    fleet: RunFleet, open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    raw = f"csv={tmp_path}/raw-{{runner}}.csv"
    watcher = WhenCalled(endpoint, 600)
    run = fleet("tools", endpoint, watcher, [raw], VUS="6", DURATION="60")
    assert (run.result.outcome, run.result.faults) == ("interrupted", ())
    for row, found in zip_samples(run, tmp_path):
        assert row.duration is not None
        assert row.duration.max == pytest.approx(max(found))
        # Two neighbours on the scale of each runner are a hundredth of its samples apart.
        around = [take_percentile(found, share) for share in (0.48, 0.52)]
        assert around[0] * 0.99 <= row.duration.p50 <= around[1] * 1.01


def test_an_interruption_loses_no_sample_of_a_ladder(
    fleet: RunFleet, open_endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint = open_endpoint()
    raw = f"csv={tmp_path}/raw-{{runner}}.csv"
    watcher = WhenCalled(endpoint, 24)
    run = fleet("sessions", endpoint, watcher, [raw], STAGES="3", STAGE_SECONDS="100")
    assert (run.result.outcome, run.result.faults) == ("interrupted", ())
    files = [tmp_path / f"raw-{number}.csv" for number in (1, 2, 3)]
    stage = pick(run, "stage", "3")
    assert stage.ok == sum(len(list(read_durations(file))) for file in files) >= 20
    assert stage.response is not None
    assert pick(run, "opening", "3").ok == 3


def test_a_runner_whose_bearer_is_refused_ends_all_runners(
    fleet: RunFleet, open_endpoint: Callable[..., Endpoint]
) -> None:
    ahead = [0.0]
    endpoint = open_endpoint(clock=lambda: time.time() + ahead[0])
    expirer = WhenOpen(endpoint, 3, lambda: ahead.append(ahead.pop() + 7200))
    run = fleet("sessions", endpoint, expirer, STAGES="3", STAGE_SECONDS="100")
    assert run.result.outcome == "aborted"
    assert "refuses the bearer" in (run.result.reason or "")
    assert list_runners() == []


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_runners_are_aborted_if_the_target_is_down(
    fleet: RunFleet, open_endpoint: Callable[..., Endpoint]
) -> None:
    # Slow answers: whether a target is down does not depend on how many calls it refuses.
    endpoint = open_endpoint(error_share=1.0, tool_latency="constant:1000")
    run = fleet("tools", endpoint, VUS="6", DURATION="280")
    assert run.result.outcome == "aborted"
    assert "of the requests of the last" in (run.result.reason or "")


def test_the_shares_of_runners_are_those_of_the_operator() -> None:
    assert build_flags(2, 4) == [
        "--execution-segment=1/4:2/4",
        "--execution-segment-sequence=0,1/4,2/4,3/4,1",
        "--tag=instance_id=2",
    ]
    assert build_flags(4, 4)[0] == "--execution-segment=3/4:1"
    assert build_flags(1, 1) == ["--tag=instance_id=1"]


def test_runners_draw_different_values_of_a_pool(tmp_path: Path, binary: K6Binary) -> None:
    body = {
        "pools": {"n": {"range": [1, 10**9]}},
        "tools": {"get": {"weight": 1, "arguments": [{"n": {"$pool": "n"}}]}},
    }
    (tmp_path / "tools.json").write_text(json.dumps(body), encoding="utf-8")
    write_json(tmp_path / "bearer.json", 2, {"bearers": [{"access_token": "none"}]}, private=True)
    settings = build_settings(STAGES="3", TOOLS=str(tmp_path / "tools.json"))
    with AnyServer({"get": AnyTool({"type": "object"})}) as server:
        bearer_file = tmp_path / "bearer.json"
        plan = plan_run(
            settings, server.mcp_url, bearer_file, ["sessions"], runners=Runners("segments", 3)
        )
        launch = open_segments(binary, settings.variables)
        run_fleet(plan, "sessions", out_dir=tmp_path / "sessions", launch=launch)
    drawn = [arguments["n"] for _, arguments in server.called]
    assert len(set(drawn)) == len(drawn) > 1


@pytest.mark.parametrize(
    ("scenario", "kind", "name"), [("sessions", "stage", "6"), ("tools", "tool", "all")]
)
def test_lost_sessions_are_those_of_all_runners(
    scenario: str, kind: str, name: str, open_endpoint: Callable[..., Endpoint], fleet: RunFleet
) -> None:
    endpoint = open_endpoint(session_age_seconds=2.5)
    knobs = {"STAGES": "6", "STAGE_SECONDS": "4", "VUS": "6", "DURATION": "4"}
    run = fleet(scenario, endpoint, **knobs)
    calls, opened = pick(run, kind, name), pick(run, "opening", name)
    assert opened.lost is not None
    assert opened.lost.count == calls.failures["session_lost"] >= 6
    assert opened.ok == 6 + opened.lost.count
    assert 2 < opened.lost.ages_seconds[0] <= opened.lost.ages_seconds[1] < 5
    assert endpoint.target.open_sessions == 0
    assert run.result.faults == ()
