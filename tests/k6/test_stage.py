"""What a stage says before it acts, and what it needs installed."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtest.compare.objectives import judge_objectives
from loadtest.config.loading import load_settings
from loadtest.config.objectives import Objective
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.k6 import stage
from loadtest.k6.run_facts import describe_load
from loadtest.reference.server import ReferenceTarget
from loadtest.results.history import Entry
from loadtest.results.run_folder import read_run_folder
from loadtest.state.bearers import bearer_path, write_bearers
from tests.k6.running import name_knobs
from tests.support.checkout import ROOT
from tests.support.self_mint import self_mint


def test_a_run_first_prints_the_load_that_it_will_send() -> None:
    knobs = name_knobs({"STAGES": "2,3", "STAGE_SECONDS": "60", "VUS": "4", "DURATION": "30"})
    settings = load_settings(ROOT, "local", "smoke", process_env=knobs)
    assert describe_load(settings.profile, settings.tools, ("sessions", "tools"), "session") == (
        "2, 3 sessions for 60 s each, 1 call/s per session, 300 calls; "
        "tool mix by 4 for 30 s, as fast as it is answered; about 3 min"
    )
    knobs["LOADTEST_TARGET_RPS"] = "7"
    settings = load_settings(ROOT, "local", "smoke", process_env=knobs)
    assert (
        describe_load(settings.profile, settings.tools, ("tools",), "session")
        == "tool mix by 4 for 30 s, 210 calls; about 35 s"
    )
    mix = settings.profile.tools.model_copy(update={"observe_seconds": 2.5})
    observed = settings.profile.model_copy(update={"tools": mix})
    assert "210 calls, observed every 2.5 s;" in describe_load(
        observed, settings.tools, ("tools",), "session"
    )


def test_cold_starts_are_given_a_time_limit() -> None:
    settings = load_settings(ROOT, "local", "smoke", process_env={"LOADTEST_ITERATIONS": "100"})
    assert describe_load(settings.profile, settings.tools, ("cold-start",), "session") == (
        "100 cold starts by 4; 10 min at most for the cold starts"
    )
    assert describe_load(
        settings.profile, settings.tools, ("cold-start", "tools"), "session"
    ).endswith("about 14 s and 10 min at most for the cold starts")


def test_the_stages_load_where_only_the_packages_of_every_session_are_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    missing = {re.split(r"[><\[]", each)[0] for each in extras} - {"mcp-loadtest"}
    modules = {name.replace("-", "_") for name in missing} | {"argon2", "markdown_it", "nacl"}
    stages = [f"loadtest.{path.parent.name}.stage" for path in ROOT.glob("loadtest/*/stage.py")]
    assert len(stages) == 10
    imports = ", ".join(("tasks", *stages))
    code = f"import sys; sys.modules.update(dict.fromkeys({modules})); import {imports}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_keeps_the_objectives_of_its_scenarios_and_is_judged_by_them(
    serve: Callable[..., ReferenceTarget],
    provisioned: Callable[[ReferenceTarget], Settings],
    chain: Chain,
) -> None:
    settings = provisioned(serve(tool_quota=False, tool_latency="constant:50"))
    write_bearers(bearer_path(settings.state_dir), (self_mint(settings),))
    environment = settings.environment.model_copy(update={"quota": None})
    mix = settings.profile.tools.model_copy(update={"vus": 2, "duration_seconds": 5})
    missed = Objective("tools", "tool", "all", "p50", 40)
    met = Objective("tools", "tool", "all", "p50", 60_000)
    other = Objective("cold-start", "frame", "connect", "p50", 1)
    settings = replace(
        settings,
        environment=environment,
        profile=settings.profile.model_copy(update={"tools": mix}),
        objectives=(missed, met, other),
    )
    stage.k6(chain, settings, "tools")
    assert chain.ending.run_dir is not None
    folder = read_run_folder(chain.ending.run_dir)
    assert folder.run.objectives == (missed, met)
    judged = judge_objectives(Entry(folder.run, folder.rows))
    assert [each.standing for each in judged] == ["missed", "met"]
