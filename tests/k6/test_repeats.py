"""What is suspicious is measured again: which part, how often, how long, and what is left of it."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.config.models import USUAL_SCENARIOS, Profile, Quota
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import K6Error, ReportError
from loadtest.k6 import stage
from loadtest.k6.plan import Runners, RunPlan
from loadtest.k6.quota_demand import Allowance, needs_pause
from loadtest.k6.repeats import Budget, find_budget, measure_again
from loadtest.k6.scenario import ScenarioRun
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from loadtest.results.history_files import read_local_history
from loadtest.results.run import Outcome, Row, ScenarioResult
from loadtest.results.run_folder import (
    RunFolder,
    create_run_folder,
    read_run_folder,
    write_rows,
)
from loadtest.state.bearers import bearer_path, write_bearers
from tests.compare.plain_runs import RUN, build_row
from tests.k6.running import build_settings, plan_run, read_lines
from tests.support.checkout import ROOT
from tests.support.interrupted_code import interrupt_at
from tests.support.self_mint import self_mint

Serve = Callable[..., ReferenceTarget]
Make = Callable[[ReferenceTarget], Settings]

KEYS = {
    "cold-start": [("frame", "connect")],
    "sessions": [("stage", "10"), ("stage", "50")],
    "tools": [("tool", "executeSQL"), ("tool", "all")],
}
LONG = Budget(10_000.0, "remeasure_minutes")


def build_rows(scenario: str, *, failed: int = 0) -> tuple[Row, ...]:
    return tuple(
        build_row((scenario, kind, name), 40.0, failed=failed) for kind, name in KEYS[scenario]
    )


def make_plan(tmp_path: Path, scenarios: Sequence[str] = USUAL_SCENARIOS, **knobs: str) -> RunPlan:
    given = {"ITERATIONS": "200", "STAGES": "10,50", "STAGE_SECONDS": "60", "DURATION": "120"}
    return plan_run(build_settings(**given | knobs), "", tmp_path / "bearer.json", scenarios)


def make_folder(tmp_path: Path, outcome: Outcome = "ok", *, failed: int = 0) -> RunFolder:
    """Write a run: a minute of cold starts, 150 s of ladder, 140 s of the mix."""
    minutes = {"cold-start": ("00:00", "01:00"), "sessions": ("01:00", "03:30")}
    minutes["tools"] = ("03:30", "05:50")
    times = {name: [f"2026-01-01T06:{each}Z" for each in both] for name, both in minutes.items()}
    results = tuple(
        ScenarioResult(name, outcome, started=begin, ended=end)
        for name, (begin, end) in times.items()
    )
    folder = create_run_folder(tmp_path / "runs", replace(RUN, scenarios=results))
    for name in USUAL_SCENARIOS:
        folder = write_rows(folder, name, build_rows(name, failed=failed))
    return folder


@dataclass
class FakeRun:
    """Runs nothing; keeps the plans that it was given, and what `run.json` said meanwhile."""

    outcome: Outcome = "ok"
    failed: int = 0
    interruption: BaseException | None = None
    error: K6Error | None = None
    ran: list[tuple[str, Profile]] = field(default_factory=list)
    plans: list[RunPlan] = field(default_factory=list)
    written: list[Any] = field(default_factory=list)

    def __call__(self, plan: RunPlan, scenario: str, *, out_dir: Path, **_: Any) -> ScenarioRun:
        """Return the rows of a scenario."""
        self.ran.append((scenario, plan.profile))
        self.plans.append(plan)
        body = json.loads((out_dir.parents[2] / "run.json").read_text(encoding="utf-8"))
        self.written.append(body["repeats"])
        if self.error is not None:
            raise self.error
        result = ScenarioResult(scenario, self.outcome, reason="stopped" if self.outcome else None)
        rows = build_rows(scenario, failed=self.failed)
        if self.failed:
            rows = tuple(replace(row, failures={"rate_limited": self.failed}) for row in rows)
        return ScenarioRun(result, rows, interruption=self.interruption)

    @property
    def names(self) -> list[str]:
        """The scenarios that ran."""
        return [name for name, _ in self.ran]


def suspect(*rounds: Mapping[str, Sequence[str]]) -> Callable[[RunFolder], Any]:
    """Return a judge with a finding for each round; the last one stays."""

    def judge(folder: RunFolder) -> Mapping[str, Sequence[str]]:
        return rounds[min(len(folder.repeats), len(rounds) - 1)]

    return judge


def repeat(
    plan: RunPlan,
    folder: RunFolder,
    run: FakeRun,
    judge: Callable[[RunFolder], Any],
    budget: Budget = LONG,
    said: list[str] | None = None,
    waited: list[float] | None = None,
) -> RunFolder:
    return measure_again(
        plan,
        folder,
        run=run,
        judge=judge,
        budget=budget,
        tell=list[str]().append if said is None else said.append,
        pause=list[float]().append if waited is None else waited.append,
    )


def test_only_the_suspicious_scenario_is_measured_again_three_times_at_most(
    tmp_path: Path,
) -> None:
    run, said = FakeRun(), list[str]()
    folder = make_folder(tmp_path)
    found = repeat(make_plan(tmp_path), folder, run, suspect({"tools": ()}), said=said)
    assert run.names == ["tools"] * 3
    assert found.repeats == (build_rows("tools"),) * 3
    assert (found.rows, found.run.scenarios) == (folder.rows, folder.run.scenarios)
    assert [each.number for each in found.run.repeats] == [1, 2, 3]
    assert found.run.repeats_note is None
    assert read_run_folder(found.path) == found
    assert len(said) == 3
    assert said[0].startswith("suspicious: tools; measured again, round 1 of at most 3, about ")


def test_of_a_ladder_only_the_suspicious_stages_are_measured_again(tmp_path: Path) -> None:
    run = FakeRun()
    judge = suspect({"sessions": ("50",)})
    found = repeat(make_plan(tmp_path), make_folder(tmp_path), run, judge)
    assert [profile.sessions.stages for _, profile in run.ran] == [(50,)] * 3
    assert run.names == ["sessions"] * 3
    assert found.run.repeats[0].remeasured == {"sessions": ("50",)}


def test_a_ladder_without_named_stages_is_measured_again_as_a_whole(tmp_path: Path) -> None:
    run = FakeRun()
    repeat(make_plan(tmp_path), make_folder(tmp_path), run, suspect({"sessions": ()}, {}))
    assert [profile.sessions.stages for _, profile in run.ran] == [(10, 50)]


def test_it_stops_as_soon_as_nothing_is_suspicious_any_more(tmp_path: Path) -> None:
    run = FakeRun()
    judge = suspect({"tools": (), "sessions": ("10",)}, {"tools": ()}, {})
    found = repeat(make_plan(tmp_path), make_folder(tmp_path), run, judge)
    assert run.names == ["sessions", "tools", "tools"]
    assert [dict(each.remeasured) for each in found.run.repeats] == [
        {"sessions": ("10",), "tools": ()},
        {"tools": ()},
    ]


def test_an_unchanged_run_is_not_measured_again(tmp_path: Path) -> None:
    run, said = FakeRun(), list[str]()
    folder = make_folder(tmp_path)
    assert repeat(make_plan(tmp_path), folder, run, suspect({}), said=said) == folder
    assert (run.ran, said) == ([], [])
    assert not (folder.path / "repeats").exists()


@pytest.mark.parametrize("outcome", ["aborted", "interrupted", "failed", "not run"])
def test_a_run_that_did_not_end_well_is_not_measured_again(
    outcome: Outcome, tmp_path: Path
) -> None:
    def judge(_: RunFolder) -> Mapping[str, Sequence[str]]:
        raise AssertionError("nobody asks the judge")

    folder = make_folder(tmp_path, outcome)
    assert repeat(make_plan(tmp_path), folder, FakeRun(), judge) == folder


def test_a_run_that_was_rate_limited_is_not_measured_again_and_says_why(tmp_path: Path) -> None:
    folder, run = make_folder(tmp_path), FakeRun()
    limited = replace(build_rows("tools", failed=600)[0], failures={"rate_limited": 600})
    folder = replace(folder, rows=(*folder.rows, limited))
    found = repeat(make_plan(tmp_path), folder, run, suspect({"cold-start": ()}))
    assert run.ran == []
    assert found.run.repeats_note == "cold-start: the quota refused calls of tools"
    assert read_run_folder(found.path).run.repeats_note == found.run.repeats_note


def test_without_a_history_it_says_so_in_one_line_and_measures_nothing(tmp_path: Path) -> None:
    def judge(_: RunFolder) -> Mapping[str, Sequence[str]]:
        raise ReportError("the tracking issue cannot be read (HTTP 502)")

    said, folder = list[str](), make_folder(tmp_path)
    assert repeat(make_plan(tmp_path), folder, FakeRun(), judge, said=said) == folder
    assert said == ["nothing is measured again: the tracking issue cannot be read (HTTP 502)"]


def test_slices_become_shorter_so_that_three_rounds_fit_the_budget(tmp_path: Path) -> None:
    run = FakeRun()
    # In the run, the mix took 140 s: 8 s to start, and 132 s of which 120 s were calls.
    budget = Budget(3 * 80.0, "remeasure_minutes")
    found = repeat(make_plan(tmp_path), make_folder(tmp_path), run, suspect({"tools": ()}), budget)
    assert run.names == ["tools"] * 3
    assert run.ran[0][1].tools.duration_seconds == 60
    assert found.run.repeats[0].share == 0.5
    assert found.run.repeats_note is None


def test_a_whole_slice_is_measured_again_if_there_is_time(tmp_path: Path) -> None:
    run = FakeRun()
    found = repeat(make_plan(tmp_path), make_folder(tmp_path), run, suspect({"cold-start": ()}))
    assert run.ran[0][1].cold_start.iterations == 200
    assert found.run.repeats[0].share == 1.0


def test_what_does_not_fit_the_budget_is_named(tmp_path: Path) -> None:
    run, said = FakeRun(), list[str]()
    judge = suspect({"sessions": ("10", "50"), "tools": ()})
    budget = Budget(60.0, "remeasure_minutes")
    found = repeat(make_plan(tmp_path), make_folder(tmp_path), run, judge, budget, said)
    assert run.names == ["tools"] * 3
    assert found.run.repeats_note is not None
    assert found.run.repeats_note.startswith("sessions 50 and 10: remeasure_minutes leaves 60 s, ")
    assert [line for line in said if "not measured again" in line] == [
        f"suspicious, but not measured again: {found.run.repeats_note}"
    ]


@pytest.mark.parametrize("seconds", [1.0, -20.0])
def test_with_too_short_a_budget_nothing_is_measured_again(seconds: float, tmp_path: Path) -> None:
    run, folder = FakeRun(), make_folder(tmp_path)
    budget = Budget(seconds, "max_duration_seconds")
    found = repeat(make_plan(tmp_path), folder, run, suspect({"tools": ()}), budget)
    assert (run.ran, found.repeats, found.run.repeats) == ([], (), ())
    assert found.run.repeats_note is not None
    assert found.run.repeats_note.startswith("tools: max_duration_seconds leaves ")
    assert not (folder.path / "repeats").exists()


def test_a_slice_is_never_shorter_than_two_paces_of_its_sessions(tmp_path: Path) -> None:
    run = FakeRun()
    plan = make_plan(tmp_path, PACE_SECONDS="20")
    repeat(plan, make_folder(tmp_path), run, suspect({"sessions": ("10",)}), Budget(160.0, "x"))
    assert run.ran[0][1].sessions.stage_seconds == 40


@pytest.mark.parametrize(("calls", "share"), [(6000, 0.25), (600, 0.5), (310, 1.0), (200, 0.25)])
def test_a_slice_keeps_enough_calls_for_the_percentiles_that_the_run_had(
    calls: int, share: float, tmp_path: Path
) -> None:
    run, folder = FakeRun(), make_folder(tmp_path)
    rows = tuple(replace(row, count=calls, ok=calls) for row in folder.rows)
    judge, budget = suspect({"sessions": ("50",)}, {}), Budget(100.0, "remeasure_minutes")
    found = repeat(make_plan(tmp_path), replace(folder, rows=rows), run, judge, budget)
    assert found.run.repeats[0].share == share


def test_what_is_measured_again_goes_to_no_other_output_of_k6(tmp_path: Path) -> None:
    run = FakeRun()
    plan = replace(make_plan(tmp_path), outputs=("csv={scenario}.csv",))
    repeat(plan, make_folder(tmp_path), run, suspect({"tools": ()}, {}))
    assert [plan.outputs for plan in run.plans] == [()]


def test_a_stage_with_fewer_sessions_than_runners_is_not_measured_alone(tmp_path: Path) -> None:
    run = FakeRun()
    plan = replace(make_plan(tmp_path), runners=Runners("segments", 12))
    judge = suspect({"sessions": ("10", "50")})
    found = repeat(plan, make_folder(tmp_path), run, judge)
    assert [profile.sessions.stages for _, profile in run.ran] == [(50,)] * 3
    assert found.run.repeats_note == "sessions 10: fewer sessions than the 12 runners"


@pytest.mark.parametrize("outcome", ["failed", "aborted"])
def test_a_repeat_that_fails_is_the_last_one_and_leaves_the_run_as_it_was(
    outcome: Outcome, tmp_path: Path
) -> None:
    run, folder = FakeRun(outcome), make_folder(tmp_path)
    found = repeat(make_plan(tmp_path), folder, run, suspect({"tools": ()}))
    assert run.names == ["tools"]
    assert found.run.repeats_note == "tools: round 1: stopped"
    assert (found.run.outcome(), found.repeats) == ("ok", ())
    assert found.run.repeats[0].scenarios[0].outcome == outcome


def test_a_k6_that_cannot_start_fails_only_the_repeat(tmp_path: Path) -> None:
    run = FakeRun(error=K6Error("no runner was started"))
    found = repeat(make_plan(tmp_path), make_folder(tmp_path), run, suspect({"tools": ()}))
    assert found.run.repeats_note == "tools: round 1: no runner was started"
    assert found.run.outcome() == "ok"


def test_nothing_is_concluded_from_a_repeat_that_the_quota_refused(tmp_path: Path) -> None:
    run = FakeRun(failed=600)
    found = repeat(make_plan(tmp_path), make_folder(tmp_path), run, suspect({"tools": ()}))
    assert (run.names, found.repeats) == (["tools"], ())
    assert found.run.repeats_note == "tools: round 1: it was rate limited"
    assert read_run_folder(found.path).repeats == ()


def test_an_interrupted_repeat_is_marked_and_the_run_stays_whole(tmp_path: Path) -> None:
    run = FakeRun("interrupted", interruption=KeyboardInterrupt())
    folder = make_folder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        repeat(make_plan(tmp_path), folder, run, suspect({"tools": ()}))
    read = read_run_folder(folder.path)
    assert (read.run.outcome(), read.rows, read.repeats) == ("ok", folder.rows, ())
    assert [each.outcome for each in read.run.repeats[0].scenarios] == ["interrupted"]
    assert (folder.path / "repeats" / "1" / "tools" / "rows.json").is_file()


def test_a_repeat_that_is_killed_is_marked_in_the_run_as_it_runs(tmp_path: Path) -> None:
    run = FakeRun()
    judge = suspect({"sessions": (), "tools": ()}, {})
    repeat(make_plan(tmp_path), make_folder(tmp_path), run, judge)
    first, second = run.written
    assert [each["outcome"] for each in first[0]["scenarios"]] == ["interrupted", "not run"]
    assert [each["outcome"] for each in second[0]["scenarios"]] == ["ok", "interrupted"]


def test_with_a_quota_a_minute_passes_before_tools_are_called_again(tmp_path: Path) -> None:
    run, waited = FakeRun(), list[float]()
    judge = suspect({"cold-start": (), "tools": ()}, {"tools": ()}, {})
    budget = replace(LONG, pauses=True)
    repeat(make_plan(tmp_path), make_folder(tmp_path), run, judge, budget, waited=waited)
    assert run.names == ["cold-start", "tools", "tools"]
    assert [round(seconds) for seconds in waited] == [60, 60]


def test_the_pauses_for_a_quota_count_for_the_budget(tmp_path: Path) -> None:
    run = FakeRun()
    budget = Budget(90.0, "remeasure_minutes", pauses=True)
    found = repeat(make_plan(tmp_path), make_folder(tmp_path), run, suspect({"tools": ()}), budget)
    assert run.ran == []
    assert found.run.repeats_note is not None
    assert "leaves 90 s, " in found.run.repeats_note


@pytest.mark.parametrize(("units", "pauses"), [(60, False), (30, True)])
def test_a_minute_passes_only_if_the_quota_does_not_allow_the_rate_for_ever(
    units: int, pauses: bool
) -> None:
    settings = build_settings(DURATION="20", TARGET_RPS="1", STAGES="1", STAGE_SECONDS="10")
    quota = Quota(units_per_minute=units)
    allowance = Allowance(quota, units, "configured")
    for scenarios, expected in ((("tools",), pauses), (("cold-start",), False)):
        found = needs_pause(settings, settings.profile, scenarios, (allowance,), {}, 1)
        assert found is expected


def test_the_budget_is_a_quarter_of_the_run_within_what_the_environment_allows(
    tmp_path: Path,
) -> None:
    plan, run = make_plan(tmp_path), make_folder(tmp_path).run
    assert find_budget(plan, run, math.inf, pauses=False).seconds == 350 / 4
    limits = plan.limits.model_copy(update={"max_duration_seconds": 380})
    limited = find_budget(replace(plan, limits=limits), run, math.inf, pauses=False)
    assert limited == Budget(30.0, "max_duration_seconds")
    mortal = find_budget(plan, run, 20.0, pauses=True)
    assert mortal == Budget(20.0, "the lifetime of the bearer", pauses=True)
    profile = plan.profile.model_copy(update={"remeasure_minutes": 2})
    assert find_budget(replace(plan, profile=profile), run, math.inf, pauses=False).seconds == 120


# With the real k6 and the reference target.


def prepare(settings: Settings, minutes: float | None = None) -> Settings:
    """Mint a bearer by the session, and give the settings with a mix of 8 s."""
    write_bearers(bearer_path(settings.state_dir), (self_mint(settings),))
    mix = settings.profile.tools.model_copy(update={"vus": 2, "duration_seconds": 8})
    update = {"tools": mix, "remeasure_minutes": minutes}
    environment = settings.environment.model_copy(update={"quota": None})
    profile = settings.profile.model_copy(update=update)
    return replace(settings, environment=environment, profile=profile)


def build_judge(settings: Settings) -> Callable[[RunFolder], Any]:
    """Return a judge by a rule of thumb: a run is suspicious if its mix took twice as long."""

    def judge(folder: RunFolder) -> Mapping[str, Sequence[str]]:
        earlier = read_local_history(settings.runs_dir).list_earlier(folder.run)
        before, now = (
            find_p50(rows) for rows in (earlier[-1].rows if earlier else (), folder.rows)
        )
        return {"tools": ()} if before and now and now > 2 * before else {}

    return judge


def find_p50(rows: Sequence[Row]) -> float | None:
    found = (row.duration for row in rows if (row.kind, row.name) == ("tool", "all"))
    return next((duration.p50 for duration in found if duration), None)


@pytest.mark.slow
def test_a_tool_that_became_slow_is_measured_again_and_an_unchanged_one_is_not(
    new_state: Callable[[], Path], provisioned: Make, chain: Chain
) -> None:
    state_dir = new_state()
    knobs = Knobs(tool_quota=False, tool_latency="constant:20")
    with ReferenceTarget(knobs, state_dir=state_dir) as target:
        settings = prepare(provisioned(target), 0.5)
        for _ in range(2):
            stage.k6(chain, settings, "tools", judge=build_judge(settings))
    assert "measured again" not in read_lines(chain)
    assert chain.ending.run_dir is not None
    assert not (chain.ending.run_dir / "repeats").exists()

    with ReferenceTarget(replace(knobs, tool_latency="constant:200"), state_dir=state_dir) as slow:
        settings = prepare(replace(settings, base_url=slow.api_url), 0.5)
        chain.targets.clear()
        stage.k6(chain, settings, "tools", judge=build_judge(settings))
        assert slow.open_sessions == 0
    assert "suspicious: tools; measured again, round 1 of at most 3, about " in read_lines(chain)
    folder = read_run_folder(chain.ending.run_dir)
    assert (folder.run.outcome(), chain.ending.exit_code) == ("ok", 0)
    assert 1 <= len(folder.repeats) <= 3
    for rows in folder.repeats:
        assert (find_p50(rows) or 0) >= 200
    files = {path.name for path in folder.repeat_dir(1, "tools").iterdir()}
    assert {"rows.json", "summary.json", "k6.log", "tools.json"} <= files


@pytest.mark.slow
def test_a_profile_without_remeasure_minutes_is_never_measured_again(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    settings = prepare(provisioned(serve(tool_quota=False)), 0)
    stage.k6(chain, settings, "cold-start", judge=suspect({"cold-start": ()}))
    assert "suspicious" not in read_lines(chain)


INTERRUPTED = """
import sys
from dataclasses import replace
from pathlib import Path
from loadtest.cli.exit_guard import guard
from loadtest.config.loading import load_settings
from loadtest.k6 import stage
with guard() as chain:
    settings = load_settings(Path.cwd(), "staging", "smoke")
    environment = settings.environment.model_copy(update={"quota": None})
    settings = replace(settings, environment=environment)
    stage.k6(chain, settings, "tools", judge=lambda folder: {"tools": ()})
sys.exit(chain.ending.exit_code)
"""


@pytest.mark.slow
def test_ctrl_c_in_a_repeat_ends_the_process_and_leaves_a_whole_run_and_no_session(
    serve: Serve, provisioned: Make
) -> None:
    target = serve(tool_quota=False)
    settings = provisioned(target)
    write_bearers(bearer_path(settings.state_dir), (self_mint(settings),))
    with (settings.root / CONFIG_FILE).open("a") as config:
        config.write("\n[profile.smoke]\nremeasure_minutes = 1\n")
    credentials = settings.credentials
    variables = {
        "PATH": os.environ["PATH"],
        "LOADTEST_BASE_URL": target.api_url,
        "LOADTEST_EMAIL": credentials.email or "",
        "LOADTEST_WORKSPACE_ID": credentials.workspace_id or "",
        "PYTHONPATH": str(ROOT),
        "LOADTEST_DURATION": "12",
        "LOADTEST_VUS": "2",
        "LOADTEST_TARGET_RPS": "2",
    }
    code, said = interrupt_at(
        "measured again, round 1", "0 failed", INTERRUPTED, settings.root, variables
    )
    assert code == 130, said
    (path,) = settings.runs_dir.iterdir()
    run = read_run_folder(path).run
    assert run.outcome() == "ok"
    assert [each.outcome for each in run.repeats[0].scenarios] == ["interrupted"]
    assert target.open_sessions == 0
    assert (path / "repeats" / "1" / "tools" / "rows.json").is_file()
