"""Summaries as runners print them."""

import json
from collections.abc import Mapping
from typing import Any

from loadtest.k6.summary import Summary

SERVER = {"name": "novamart", "version": "1", "protocol": "2025-11-25", "era": "handshake"}


def build_summary(
    scenario: str = "sessions",
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    began: float = 0.0,
    elapsed_ms: float = 10_000.0,
) -> Summary:
    """Return the summary of a runner."""
    slices = [] if scenario == "cold-start" else [build_slice(scenario)]
    own = {
        "version": 1,
        "scenario": scenario,
        "slices": slices,
        "tools": ["look", "find"] if scenario == "tools" else [],
        "server": SERVER,
        "clients": 1,
        "began": 1_000_000.0 + began,
        "elapsed_ms": elapsed_ms,
    }
    return Summary.model_validate({"loadtest": own, "metrics": metrics or {}})


def build_slice(scenario: str) -> dict[str, Any]:
    """Return the one slice that such a scenario has."""
    name, rate = ("10", 10) if scenario == "sessions" else ("all", None)
    return {"name": name, "vus": 10, "seconds": 5, "rate": rate, "begins": 1}


def print_summary(summary: Summary) -> bytes:
    """Return a summary as the line that a runner prints."""
    return json.dumps(summary.model_dump(mode="json"), separators=(",", ":")).encode() + b"\n"
