"""`inv capacity` by the real k6, against a reference target with a small, known ceiling."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.capacity.options import CapacityOptions, choose_search_runners, parse_options
from loadtest.capacity.stage import capacity
from loadtest.config.models import Quota
from loadtest.config.objectives import Objective
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import ConfigError, UsageError
from loadtest.reference.server import ReferenceTarget
from loadtest.results.run import Capacity
from loadtest.results.run_folder import RunFolder, read_run_folder
from loadtest.state.bearers import bearer_path, write_bearers
from tests.k6.running import read_lines
from tests.support.checkout import ROOT
from tests.support.interrupted_code import interrupt_at
from tests.support.self_mint import self_mint
from tests.support.waiting import HANG_SECONDS

Serve = Callable[..., ReferenceTarget]
Make = Callable[[ReferenceTarget], Settings]

# These need only 30 calls, so that steps are short; a busy machine does not reach the latency.
OBJECTIVES = (
    Objective("sessions", "stage", "all", "p50", 300),
    Objective("sessions", "stage", "all", "failed", 0.1),
    Objective("sessions", "stage", "all", "holds", 10),
    Objective("tools", "tool", "all", "p50", 300),
    Objective("tools", "tool", "all", "failed", 0.1),
)
SMALL = CapacityOptions(start=4, tolerance=0.2, step_seconds=2)


def allow(settings: Settings, **limits: int) -> Settings:
    """Return settings of an environment that bears a search, with a bearer."""
    write_bearers(bearer_path(settings.state_dir), (self_mint(settings),))
    changed = settings.environment.limits.model_copy(update=limits)
    update = {"quota": None, "limits": changed, "allow": frozenset({"capacity"})}
    environment = settings.environment.model_copy(update=update)
    ladder = settings.profile.sessions.model_copy(update={"tool": "listEntities"})
    mix = settings.profile.tools.model_copy(update={"vus": 4})
    profile = settings.profile.model_copy(update={"sessions": ladder, "tools": mix})
    return replace(settings, environment=environment, objectives=OBJECTIVES, profile=profile)


def run(
    chain: Chain, settings: Settings, options: CapacityOptions = SMALL, **fleet: str
) -> RunFolder:
    capacity(chain, settings, options, report=lambda: None, **fleet)
    assert chain.ending.run_dir is not None
    return read_run_folder(chain.ending.run_dir)


def found(folder: RunFolder) -> Capacity:
    assert folder.run.capacity is not None
    return folder.run.capacity


@pytest.mark.slow
def test_a_session_cap_is_found_and_every_session_is_closed(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(tool_quota=False, session_cap=12)
    settings = allow(provisioned(target))
    folder = run(chain, settings)
    known = found(folder)
    assert (known.most, known.low, known.unit) == (12, 12, "sessions")
    assert known.high is not None
    assert known.high <= 14
    assert [step.load for step in known.steps][:4] == [4, 8, 16, 12]
    assert len(known.steps) <= 9
    last = read_lines(chain).splitlines()[-1]
    assert "Bears 12 sessions at 1 call/s, within 12 to 1" in last
    assert "; beyond it the session cap refuses (" in last
    assert target.open_sessions == 0
    assert (folder.run.profile, folder.run.outcome()) == ("capacity", "ok")
    assert chain.ending.exit_code == 0
    assert folder.run.target.server_name is not None
    assert [each.figure for each in folder.run.objectives] == ["holds"]
    stages = [row.name for row in folder.rows if row.kind == "stage"]
    assert stages == sorted({str(step.load) for step in known.steps}, key=int)
    assert (folder.path / "steps" / "1" / "summary.json").is_file()


@pytest.mark.slow
def test_calls_per_second_are_found_where_the_workers_are_busy(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    # Two workers that take 0.1 s each.
    target = serve(tool_quota=False, tool_workers=2, tool_latency="constant:100")
    settings = allow(provisioned(target))
    folder = run(chain, settings, CapacityOptions("calls", start=10, tolerance=0.2))
    known = found(folder)
    assert 15 <= known.most <= 23
    assert known.high is not None
    assert read_lines(chain).splitlines()[-1].split("Bears ")[1].startswith(f"{known.most} calls/s")
    assert {row.kind for row in folder.rows} >= {"tool", "capacity"}


@pytest.mark.slow
def test_latency_that_grows_with_the_sessions_is_found(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    # Above 8 sessions, each adds 120 ms: with 11, half of the calls take over 0.3 s.
    target = serve(tool_quota=False, crowd_latency="8,120")
    folder = run(chain, allow(provisioned(target)))
    assert 8 <= found(folder).most <= 11


@pytest.mark.slow
def test_a_search_stops_at_a_limit_and_says_so(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(tool_quota=False)
    folder = run(chain, allow(provisioned(target), max_vus=6))
    known = found(folder)
    assert [step.load for step in known.steps] == [4, 6, 6]
    assert (known.most, known.high, known.stopped) == (6, None, "max_vus allows 6")
    assert "Bears at least 6 sessions at 1 call/s; the search stopped: max_vus allows 6." in (
        read_lines(chain)
    )


@pytest.mark.slow
def test_several_k6_make_the_load_of_a_search(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    settings = allow(provisioned(serve(tool_quota=False, session_cap=3)), max_vus=6)
    folder = run(chain, settings, engine="segments", parallelism="2")
    assert found(folder).most == 3
    assert (folder.run.engine, folder.run.generators) == ("segments", 2)
    with pytest.raises(UsageError, match="--parallelism 5: sessions has 4 VUs to share"):
        run(chain, settings, engine="segments", parallelism="5")


@pytest.mark.slow
def test_a_search_stops_before_it_takes_too_long(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    settings = allow(provisioned(serve(tool_quota=False)), max_duration_seconds=25)
    known = found(run(chain, settings))
    assert known.most >= 4
    assert "max_duration_seconds leaves" in (known.stopped or "")


@pytest.mark.slow
def test_a_search_stops_as_soon_as_most_calls_fail(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    # Above 6 sessions, no call is answered within its time limit.
    settings = allow(provisioned(serve(tool_quota=False, crowd_latency="6,5000")))
    profile = settings.profile.model_copy(update={"timeout_seconds": 1})
    tools = settings.tools.limit_calls(1, over=True)
    folder = run(chain, replace(settings, profile=profile, tools=tools))
    known = found(folder)
    assert [step.load for step in known.steps] == [4, 8]
    assert "of the calls failed" in (known.stopped or "")
    assert (known.low, known.high) == (4, 8)
    assert chain.ending.exit_code == 0


def test_a_quota_bounds_the_search(serve: Serve, provisioned: Make, chain: Chain) -> None:
    settings = allow(provisioned(serve()))
    quota = Quota(units_per_minute=300)
    environment = settings.environment.model_copy(update={"quota": quota})
    with pytest.raises(ConfigError) as caught:
        run(chain, replace(settings, environment=environment), CapacityOptions(start=6))
    assert "--start 6 is above what the quota, 300 units/min per client" in str(caught.value)


TYPED = """
[environment.bearing]
target = "hosted"
default_profile = "smoke"
via = "session"
tools = "novamart"
ladder_tool = "listEntities"
allow = ["capacity"]
limits = { max_vus = 20, max_rps = 50, max_duration_seconds = 600 }

[environment.bearing.slo]
sessions = { p50_ms = 500, failed = 0.1 }
holds = 10
"""


@pytest.mark.slow
def test_a_search_as_typed_is_reported_and_judged_by_what_is_to_be_held(
    serve: Serve, checkout: Path
) -> None:
    target = serve(tool_quota=False, account_limits=False, session_cap=5)
    (checkout / "loadtest.toml").unlink()
    (checkout / "loadtest.toml").write_text(TYPED)
    typed = ("--env=bearing", "--start=4", "--step-seconds=2", "--tolerance=1", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "capacity", *typed],
        cwd=checkout,
        env={
            "PATH": os.environ["PATH"],
            "LOADTEST_BASE_URL": target.api_url,
            "LOADTEST_EMAIL": "bearing@example.com",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 95, done.stderr
    document = json.loads(done.stdout)
    most = document["run"]["capacity"]["most"]
    assert 1 <= most <= 5  # on a busy machine, fewer than the cap
    (objective,) = document["objectives"]
    assert (objective["objective"], objective["standing"]) == ("holds 10 sessions", "missed")
    lines = done.stderr.splitlines()
    assert f"Bears {most} session" in lines[-2]
    assert "; beyond it " in lines[-2]
    assert lines[-1].endswith("1 objective missed (docs/reference/exit-codes.md#exit-95)")
    (path,) = (checkout / ".loadtest" / "runs").iterdir()
    assert {"report.md", "report.html", "badge.json"} <= {file.name for file in path.iterdir()}
    assert target.open_sessions == 0


INTERRUPTED = """
import sys
from dataclasses import replace
from pathlib import Path
from loadtest.capacity.options import CapacityOptions
from loadtest.capacity.stage import capacity
from loadtest.cli.exit_guard import guard
from loadtest.config.loading import load_settings
from loadtest.config.objectives import Objective
with guard() as chain:
    settings = load_settings(Path.cwd(), "staging", "smoke")
    update = {"quota": None, "allow": frozenset({"capacity"})}
    environment = settings.environment.model_copy(update=update)
    figures = {"p50": 300, "failed": 0.1}
    objectives = [Objective("sessions", "stage", "all", *each) for each in figures.items()]
    settings = replace(settings, environment=environment, objectives=tuple(objectives))
    options = CapacityOptions(start=4, tolerance=0.2, step_seconds=2)
    capacity(chain, settings, options, report=lambda: None)
sys.exit(chain.ending.exit_code)
"""


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_known_and_closes_every_session(
    serve: Serve, provisioned: Make
) -> None:
    target = serve(tool_quota=False)
    settings = allow(provisioned(target))
    assert settings.base_url is not None
    variables: dict[str, Any] = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "LOADTEST_BASE_URL": settings.base_url,
        "LOADTEST_EMAIL": settings.credentials.email,
        "LOADTEST_WORKSPACE_ID": settings.credentials.workspace_id,
    }
    code, said = interrupt_at(
        "step 1: 4 sessions: borne", "8 sessions", INTERRUPTED, settings.root, variables
    )
    assert code == 130, said
    assert "Bears at least 4 sessions at 1 call/s; the search stopped: it was interrupted." in said
    (path,) = settings.runs_dir.iterdir()
    folder = read_run_folder(path)
    assert (found(folder).most, folder.run.outcome()) == (4, "interrupted")
    assert target.open_sessions == 0


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("users", None, None, None), "--find users: there are sessions, calls"),
        ((None, "0", None, None), "--start must be a whole number above 0"),
        ((None, None, "2", None), "--tolerance must be a share from 0.01 to 1"),
        ((None, None, "nan", None), "--tolerance must be a share"),
        ((None, None, None, "-1"), "--step-seconds must be a whole number above 0"),
    ],
)
def test_a_wrong_option_is_named(typed: tuple[str | None, ...], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(*typed)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (CapacityOptions(start=201), "--start 201 is above max_vus of environment staging"),
        (CapacityOptions("calls", start=401), "is above max_vus of environment staging"),
        (CapacityOptions(step_seconds=9999), "--step-seconds 9999 is above max_duration_seconds"),
    ],
)
def test_a_start_above_the_limits_is_refused_before_the_first_request(
    options: CapacityOptions, words: str, settings_for: Make, serve: Serve
) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_search_runners(settings_for(serve()), options, None, None)
    assert words in str(caught.value)


def test_an_environment_that_does_not_allow_it_is_never_searched(
    settings_for: Make, serve: Serve, chain: Chain
) -> None:
    with pytest.raises(ConfigError, match=r'set allow = \["capacity"\]'):
        capacity(chain, settings_for(serve()), SMALL, report=lambda: None)
    assert read_lines(chain) == ""
