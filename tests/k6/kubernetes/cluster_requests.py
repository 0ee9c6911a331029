"""Requests for one scenario with a known bearer, and tables of clusters."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.common.redaction import SecretStr
from loadtest.config.loading import load_settings
from loadtest.config.models import Kubernetes, Profile
from loadtest.k6.distributed.protocol import ScenarioRequest
from loadtest.k6.distributed.run import build_request as build_run_request
from loadtest.k6.plan import build_plan
from loadtest.state.bearers import Bearer, write_bearers
from tests.support.checkout import ROOT

TOKEN = "canary-token-of-the-tests"
MCP_URL = "https://mcp.canary.example/mcp/canary-workspace"

PLAIN = Kubernetes(namespace="load-tests")
FULL = Kubernetes.model_validate(
    {
        "namespace": "load-tests",
        "context": "eu-production",
        "image": "registry.example.com/mirror/k6@sha256:" + "5" * 64,
        "starter_image": "registry.example.com/mirror/k6-operator:starter-v1.6.0",
        "cpu": "1500m",
        "memory": "4Gi",
        "spread": "zone",
        "node_selector": {"example.com/pool": "load"},
        "tolerations": [
            {"key": "example.com/load", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "spot", "value": "true"},
        ],
        "image_pull_secrets": ["registry"],
    }
)


def load_profiles() -> dict[str, Profile]:
    """Return the profiles of loadtest.toml."""
    names = ("smoke", "standard", "full")
    return {name: load_settings(ROOT, "prod", name, process_env={}).profile for name in names}


def build_request(folder: Path, scenario: str, profile: Profile, **update: Any) -> ScenarioRequest:
    """Return a request whose bearer file is in the folder; keywords replace its fields."""
    bearer_file = folder / "bearer.json"
    bearer = Bearer(SecretStr(TOKEN), time.time() + 3600, MCP_URL, "mcp:read", "session", "ws")
    write_bearers(bearer_file, [bearer, bearer])
    variables = {"LOADTEST_BASE_URL": MCP_URL.partition("/mcp/")[0]}
    settings = replace(load_settings(ROOT, "prod", process_env=variables), profile=profile)
    plan = build_plan(settings, (scenario,), MCP_URL)
    scenario_request = build_run_request(
        replace(plan, bearer_file=bearer_file), scenario, "http://127.0.0.1:1/loopback-secret-path"
    )
    return replace(scenario_request, **{"parallelism": 4, "seconds": 2000.5, **update})
