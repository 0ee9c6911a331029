"""Scenarios in a cluster, with the real scripts, k6 and target."""

from base64 import b64decode
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from loadtest.common.redaction import SecretStr
from loadtest.config.models import Kubernetes
from loadtest.k6.distributed.protocol import ScenarioRequest
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.kubernetes.client import Cluster
from loadtest.k6.kubernetes.engine import KubernetesEngine
from loadtest.k6.kubernetes.test_run import ClusterFleet
from loadtest.k6.plan import Runners, RunPlan
from loadtest.k6.progress import Live, NoWatcher
from loadtest.reference.server import ReferenceTarget
from loadtest.results.run import RunnerFault
from loadtest.state.bearers import Bearer
from tests.k6.kubernetes.kubernetes_server import CONTEXT, NAMESPACE, KubernetesServer
from tests.k6.kubernetes.launched import BOUNDS, READER, are, watch
from tests.k6.kubernetes.operator_stand_in import Operator
from tests.k6.running import build_settings, mint_by_session, plan_run

pytestmark = pytest.mark.slow


class Killer(NoWatcher):
    """Kills a runner as soon as it runs."""

    def __init__(self, operator: Operator, number: int) -> None:
        self._operator = operator
        self._number = number

    def tick(self, _: Live | None) -> None:
        """Kill the runner once it runs."""
        if self._operator.has_started.is_set():
            self._operator.kill(self._number, "OOMKilled")


def plan_two(root: Path, mcp_url: str, bearer_file: Path, **knobs: str) -> RunPlan:
    """Return the plan of a run by two runners."""
    settings = replace(build_settings(**knobs), root=root)
    return plan_run(settings, mcp_url, bearer_file, runners=Runners("kubernetes", 2))


@pytest.fixture
def engine(cluster: Cluster, where: Kubernetes) -> KubernetesEngine:
    """Return the engine of a run."""
    return KubernetesEngine(cluster, "staging", where)


@pytest.mark.parametrize("scenario", ["cold-start", "sessions", "tools"])
def test_a_scenario_in_a_cluster_has_complete_results(
    serve: Callable[..., ReferenceTarget],
    operator: Operator,
    engine: KubernetesEngine,
    tmp_path: Path,
    scenario: str,
) -> None:
    operator.scripts.clear()
    target = serve(tool_quota=False)
    bearer_file = tmp_path / "bearer" / "bearer.json"
    mcp_url = mint_by_session(target.api_url, bearer_file)
    plan = plan_two(tmp_path, mcp_url, bearer_file, VUS="2", STAGES="2,4")
    run = run_fleet(plan, scenario, out_dir=tmp_path / scenario, launch=engine.launch)
    assert (run.result.outcome, run.result.reason, run.result.faults) == ("ok", None, ())
    assert run.rows
    assert all(row.ok == row.count > 0 for row in run.rows if row.kind != "tool"), run.rows


def test_a_lost_runner_is_named_and_the_figures_of_the_others_are_kept(
    serve: Callable[..., ReferenceTarget],
    operator: Operator,
    engine: KubernetesEngine,
    tmp_path: Path,
) -> None:
    operator.scripts.clear()
    target = serve(tool_quota=False)
    bearer_file = tmp_path / "bearer" / "bearer.json"
    mcp_url = mint_by_session(target.api_url, bearer_file)
    run = run_fleet(
        plan_two(tmp_path, mcp_url, bearer_file, VUS="2", DURATION="3"),
        "tools",
        out_dir=tmp_path / "tools",
        watcher=Killer(operator, 2),
        launch=engine.launch,
    )
    assert RunnerFault(2, "lost", "OOMKilled") in run.result.faults
    assert run.rows


def test_pods_that_end_slowly_are_a_warning_and_the_run_counts(
    serve: Callable[..., ReferenceTarget],
    operator: Operator,
    kubernetes: KubernetesServer,
    launch: Callable[..., ClusterFleet],
    tmp_path: Path,
) -> None:
    operator.scripts.clear()
    kubernetes.keeps_pods = True
    target = serve(tool_quota=False)
    bearer_file = tmp_path / "bearer" / "bearer.json"
    mcp_url = mint_by_session(target.api_url, bearer_file)
    plan = plan_two(tmp_path, mcp_url, bearer_file, STAGES="2")

    def start(scenario_request: ScenarioRequest) -> ClusterFleet:
        changes = {
            field.name: getattr(scenario_request, field.name) for field in fields(scenario_request)
        }
        return launch(replace(BOUNDS, close=0.2), **changes)

    out_dir = tmp_path / "sessions"
    run = run_fleet(plan, "sessions", out_dir=out_dir, launch=start)
    assert run.result.outcome == "ok"
    assert run.result.reason == (
        "mcp-loadtest-staging-sessions is deleted, but 3 pods are still there after 0 s: check "
        f"`kubectl --context {CONTEXT} get pods -l k6_cr=mcp-loadtest-staging-sessions "
        f"-n {NAMESPACE}`"
    )
    assert run.rows
    kubernetes.keeps_pods = False


def test_a_fresh_bearer_reaches_runners_only_through_their_secret(
    launch: Callable[..., ClusterFleet], operator: Operator, scenario_request: ScenarioRequest
) -> None:
    operator.scripts["sessions.js"] = READER
    log = scenario_request.logs[0]
    fleet = launch(renewal_url="http://127.0.0.1:1/unused", parallelism=1, logs=(log,))
    watch(fleet, are("running"))
    watch(fleet, lambda _: "serial 0, expires at" in log.read_text(encoding="utf-8"))
    fresh = Bearer(SecretStr("fresh-canary"), 4102444800, "http://127.0.0.1/mcp", "", "session")
    fleet.update_bearers([fresh])
    expected = "serial 1, expires at 4102444800"
    watch(fleet, lambda _: expected in log.read_text(encoding="utf-8"))
    fleet.stop()
    text = log.read_text(encoding="utf-8")
    assert "another: 403" in text
    assert "canary" not in text
    fleet.update_bearers([fresh])  # ignored: the runners were removed


def test_a_bearer_that_is_renewed_while_runners_are_created_is_put_into_their_secret(
    operator: Operator,
    kubernetes: KubernetesServer,
    engine: KubernetesEngine,
    scenario_request: ScenarioRequest,
) -> None:
    operator.dies_at = ""
    fresh = Bearer(SecretStr("fresh-canary"), 4102444800, "http://127.0.0.1/mcp", "", "session")
    kubernetes.on_create = lambda _: engine.renew([fresh])
    fleet = engine.launch(scenario_request)
    (secret,) = kubernetes.list_things("secrets")
    assert b"fresh-canary" in b64decode(secret["data"]["bearer.json"])
    fleet.close()
