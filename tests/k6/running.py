"""How tests run k6: short settings, an endpoint with a bearer, rows by name."""

import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtest.common.clock import utc_now
from loadtest.common.redaction import SecretStr
from loadtest.config.knobs import KNOBS, name_variable
from loadtest.config.loading import load_settings
from loadtest.config.models import USUAL_SCENARIOS
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.k6.binary import K6Binary
from loadtest.k6.plan import RunPlan, build_plan
from loadtest.k6.progress import Live, NoWatcher
from loadtest.k6.scenario import ScenarioRun, run_scenario
from loadtest.reference.server import ReferenceTarget
from loadtest.results.run import Row, Run, Target, plan_scenarios
from loadtest.results.run_folder import RunFolder, create_run_folder
from loadtest.state.bearers import Bearer, write_bearers
from tests.support.checkout import ROOT

# Where runs keep their state: a temporary folder, while tests run.
state_root = ROOT

# The shortest run of each scenario that still fills every row. The last call of two sessions is due
# half a second before their stage ends, so a busy machine may send it that late.
SHORT = {
    "ITERATIONS": "6",
    "STAGES": "1,2",
    "STAGE_SECONDS": "1",
    "VUS": "2",
    "DURATION": "1",
}


USER = {"email": "k6@novamart.example", "password": "correct horse battery"}
SELF_MINT = "/api/v1/me/load-test/mcp-token"


@dataclass(frozen=True)
class Endpoint:
    """A workspace's MCP endpoint and the bearer file for it."""

    target: ReferenceTarget
    mcp_url: str
    bearer_file: Path


def name_knobs(given: Mapping[str, str]) -> dict[str, str]:
    """Return variables in which `STAGES` and other knobs have their prefix."""
    return {
        name_variable(name) if name.lower() in KNOBS else name: text for name, text in given.items()
    }


def build_settings(**knobs: str) -> Settings:
    """Return settings of the local environment, shortened, with these knobs."""
    variables = {"PATH": os.environ["PATH"], **name_knobs(SHORT | knobs)}
    settings = load_settings(ROOT, "local", "smoke", process_env=variables)
    return replace(settings, root=state_root)


def plan_run(
    settings: Settings,
    mcp_url: str,
    bearer_file: Path,
    scenarios: Sequence[str] = USUAL_SCENARIOS,
    **changes: Any,
) -> RunPlan:
    """Return the plan of a run with these bearers; keywords as of `build_plan`."""
    return replace(build_plan(settings, scenarios, mcp_url, **changes), bearer_file=bearer_file)


def run_alone(
    plan: RunPlan, scenario: str, binary: K6Binary, out_dir: Path, **more: Any
) -> ScenarioRun:
    """Run a scenario by one k6."""
    return run_scenario(
        plan, scenario, out_dir=out_dir, binary=binary, variables=os.environ, **more
    )


def limit_rate(settings: Settings, calls_per_second: int) -> Settings:
    """Return the settings with another limit on the rate of calls."""
    limits = settings.environment.limits.model_copy(update={"max_rps": calls_per_second})
    environment = settings.environment.model_copy(update={"limits": limits})
    return replace(settings, environment=environment)


def mint_by_session(api_url: str, bearer_file: Path) -> str:
    """Sign up, make a workspace with data and mint a bearer for it; return its MCP endpoint."""
    session = post(api_url, "/api/auth/sign-up/email", {**USER, "name": "K6"})["token"]
    post(api_url, "/api/auth/organization/create", {"name": "K6", "slug": "k6"}, session)
    post(api_url, "/api/v1/onboarding/use-demo", {}, session)
    minted = post(api_url, SELF_MINT, {"ttlSeconds": 3600}, session)
    mcp_url = f"{api_url}/mcp/{minted['workspaceId']}"
    token = SecretStr(minted["bearer"])
    expires_at = time.time() + 3600
    write_bearers(bearer_file, (Bearer(token, expires_at, mcp_url, "mcp:read", "session"),))
    return mcp_url


def mint_again(endpoint: Endpoint, ttl_seconds: int) -> str:
    """Mint another bearer for the same user and workspace."""
    api_url = endpoint.target.api_url
    session = post(api_url, "/api/auth/sign-in/email", USER)["token"]
    return str(post(api_url, SELF_MINT, {"ttlSeconds": ttl_seconds}, session)["bearer"])


def post(
    api_url: str, path: str, body: dict[str, Any], bearer: str | None = None
) -> dict[str, Any]:
    """Post to the target's accounts and return its answer."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    answer = httpx.post(api_url + path, json=body, headers=headers)
    answer.raise_for_status()
    found = json.loads(answer.text)
    assert isinstance(found, dict)
    return found


def new_folder(
    runs_dir: Path, binary: K6Binary, scenarios: Sequence[str] = USUAL_SCENARIOS
) -> RunFolder:
    """Make the folder of a new run with these scenarios to come."""
    target = Target("127.0.0.1")
    run = Run("r1", "0", utc_now(), "local", "smoke", {}, target, binary.version, {})
    run = replace(run, scenarios=plan_scenarios(scenarios))
    return create_run_folder(runs_dir, run)


def check_schedule(row: Row, seconds: int, late_seconds: float) -> None:
    """Check that the calls that were due were made; a busy machine may be too late for the last."""
    assert row.offered_rate is not None
    assert row.offered_rate * (seconds - late_seconds) <= row.count <= row.offered_rate * seconds


def pick(run: ScenarioRun, kind: str, name: str) -> Row:
    """Return the one row of that kind and name."""
    found = [row for row in run.rows if (row.kind, row.name) == (kind, name)]
    assert len(found) == 1, run.result
    return found[0]


class Interrupter(NoWatcher):
    """Does something to the run as soon as k6 has counted requests."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.acted = False

    def tick(self, live: Live | None) -> None:
        """Act once the numbers come in."""
        if live is not None and live.p95_ms is not None and not self.acted:
            self.acted = True
            self.act()


def kill_k6() -> None:
    """Kill every k6 that we started, with no chance to clean up."""
    for child in psutil.Process().children():
        if "k6" in child.name():
            child.kill()


def read_lines(chain: Chain) -> str:
    """Return what the tests' chain has printed."""
    assert isinstance(chain.console.file, io.StringIO)
    return chain.console.file.getvalue()
