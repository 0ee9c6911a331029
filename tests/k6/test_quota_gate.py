"""A run is compared with the target's quota before it is sent: refused, warned of, or fitted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.files import write_json
from loadtest.config.models import Quota
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import ConfigError, UsageError
from loadtest.k6 import stage
from loadtest.k6.options import check_fit
from loadtest.reference.server import ReferenceTarget
from loadtest.results.run import Row
from loadtest.results.run_folder import read_run_folder
from loadtest.state.bearers import bearer_path, write_bearers
from tests.k6.running import read_lines
from tests.provision.gate import open_gate
from tests.support.self_mint import self_mint

pytestmark = pytest.mark.slow

WEIGHTS = {"executeSQL": 5, "runMetric": 3}
Serve = Callable[..., ReferenceTarget]
Make = Callable[[ReferenceTarget], Settings]
LADDER = {"stages": (1, 2), "stage_seconds": 10, "tool": "executeSQL"}


def prepare(settings: Settings, base_url: str, **knobs: Any) -> Settings:
    """Mint a bearer by the session, and give the settings with short knobs."""
    mcp_url = settings.build_mcp_url(base_url, settings.credentials.workspace_id)
    write_bearers(bearer_path(settings.state_dir), (replace(self_mint(settings), mcp_url=mcp_url),))
    profile = settings.profile
    tools = profile.tools.model_copy(update={"vus": 2, "duration_seconds": 8, **knobs})
    sessions = profile.sessions.model_copy(update=LADDER)
    profile = profile.model_copy(update={"tools": tools, "sessions": sessions})
    return replace(settings, base_url=base_url, profile=profile)


def with_quota(settings: Settings, quota: Quota | None) -> Settings:
    environment = settings.environment.model_copy(update={"quota": quota})
    return replace(settings, environment=environment)


def pick_mix(chain: Chain) -> Row:
    assert chain.ending.run_dir is not None
    rows = read_run_folder(chain.ending.run_dir).rows
    return next(row for row in rows if row.kind == "tool" and row.name == "all")


def test_a_run_of_mostly_refusals_is_not_started_and_the_error_has_remedies(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    # Slow tools: what a closed loop sends does not depend on this machine.
    target = serve(tool_latency="constant:500")
    settings = prepare(provisioned(target), target.api_url)
    quota = Quota(units_per_minute=60, most_units_per_minute=3600, weights=WEIGHTS)
    settings = with_quota(settings, quota)
    before = target.tool_calls
    with pytest.raises(ConfigError, match="not started") as caught:
        stage.k6(chain, settings, "sessions,tools")
    words = str(caught.value)
    assert "the ladder (2 sessions make 2 calls/s, at 5 units a call)" in words
    assert "the tool mix (2 VUs that call again after " in words
    assert "60 units/min per client (configured), by 1 client" in words
    assert "have the quota raised to " in words
    assert "--stages of 1 at most" in words
    assert "--fit-quota, which is --target-rps 0.18" in words
    # One call of each tool, to look; no run, and no row in the target's audit log.
    assert target.tool_calls - before == 4
    assert not settings.runs_dir.exists()


def test_more_clients_are_a_remedy_if_they_are_enough(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(tool_quota=False)
    settings = prepare(provisioned(target), target.api_url)
    settings = with_quota(settings, Quota(units_per_minute=50, weights=WEIGHTS))
    with pytest.raises(ConfigError, match="not started") as caught:
        stage.k6(chain, with_stages(settings, (4,)), "sessions")
    words = str(caught.value)
    assert "--clients 4 or have the quota raised to 200" in words


def with_stages(settings: Settings, sessions: tuple[int, ...]) -> Settings:
    ladder = settings.profile.sessions.model_copy(update={"stages": sessions})
    profile = settings.profile.model_copy(update={"sessions": ladder})
    return replace(settings, profile=profile)


def test_a_fitted_mix_is_not_refused_by_a_target_with_a_quota(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(quota_units=600)
    settings = prepare(provisioned(target), target.api_url)
    settings = with_quota(settings, Quota(units_per_minute=600, weights=WEIGHTS))
    stage.k6(chain, settings, "tools", fit_quota=True)
    assert "the tool mix is fitted to the target's quota: 2.3 calls/s" in read_lines(chain)
    row = pick_mix(chain)
    assert (row.offered_rate, row.failures) == (2.3, {})
    assert row.ok > 0
    run = read_run_folder(chain.ending.run_dir or Path()).run
    assert run.knobs["tools"]["target_rps"] == 2.3


def test_an_environment_can_have_its_mix_always_fitted(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(quota_units=600)
    settings = prepare(provisioned(target), target.api_url)
    settings = with_quota(settings, Quota(units_per_minute=600, weights=WEIGHTS, fit=True))
    stage.k6(chain, settings, "tools")
    assert pick_mix(chain).offered_rate == 2.3


def test_a_raised_quota_replaces_the_configured_one(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(tool_quota=False)
    settings = prepare(provisioned(target), target.api_url, target_rps=2)
    settings = with_quota(settings, Quota(units_per_minute=10, weights=WEIGHTS))
    with pytest.raises(ConfigError, match="10 units/min per client"):
        stage.k6(chain, settings, "tools")
    write_json(settings.state_dir / "quota.json", 1, {"raised": {"ours": 3600}}, private=True)
    stage.k6(chain, settings, "tools")
    assert pick_mix(chain).ok > 0


def test_a_quota_that_the_target_announces_counts_too(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(tool_quota=False)
    ready = with_quota(provisioned(target), Quota(units_per_minute=50_000, weights=WEIGHTS))
    with open_gate(target.api_url) as gate:
        gate.headers["RateLimit-Policy"] = '"default";q=5;w=60'
        settings = prepare(ready, gate.url, target_rps=4)
        with pytest.raises(ConfigError, match="not started") as caught:
            stage.k6(chain, settings, "tools")
    assert "5 units/min per client (its RateLimit headers)" in str(caught.value)
    assert "the tool mix (4 calls/s, at 1 unit a call)" in str(caught.value)


def test_a_run_with_some_refusals_starts_with_a_warning(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(tool_quota=False)
    settings = prepare(provisioned(target), target.api_url, target_rps=4)
    settings = with_quota(settings, Quota(units_per_minute=80, weights=WEIGHTS))
    stage.k6(chain, settings, "tools")
    assert "warning: the target's quota would refuse about 31% of the calls" in read_lines(chain)
    assert pick_mix(chain).ok > 0


def test_a_mix_cannot_be_fitted_to_an_unknown_quota(
    serve: Serve, provisioned: Make, chain: Chain
) -> None:
    target = serve(tool_quota=False)
    settings = with_quota(prepare(provisioned(target), target.api_url), None)
    with pytest.raises(ConfigError, match=r"no quota is known: set it in \[environment.staging"):
        stage.k6(chain, settings, "tools", fit_quota=True)


def test_a_ladder_alone_cannot_be_fitted() -> None:
    with pytest.raises(UsageError, match="to fit a ladder, use --stages, --tool or --clients"):
        check_fit(("sessions",))
