"""Runners write to a real Prometheus: counts add up, percentiles come from wide buckets."""

import json
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.k6.binary import K6Binary, find_k6
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.distributed.segments import open_segments
from loadtest.k6.outputs import build_output_flags, parse_outputs
from loadtest.k6.plan import Runners
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from tests.bench.raw_samples import read_durations
from tests.interop.prometheus import Prometheus
from tests.k6.running import build_settings, mint_by_session, pick, plan_run

CONSTANT = Path(__file__).with_name("scripts") / "constant.js"
CONSTANT_SECONDS = 60.0
RUNNERS = 2
SERIES = "k6_mcp_duration_seconds"
# Ratio of a bucket's end to its begin: k6 requests 1.1 at most, and gets the next root of 2.
GROWTH = 2 ** (1 / 8)


@pytest.fixture(scope="module")
def binary() -> K6Binary:
    """Find the real k6."""
    return find_k6(os.environ)


def list_durations(path: Path) -> list[float]:
    """Return the single samples that k6 wrote, in ms."""
    return [ms for _, ms in read_durations(path)]


def read_metrics(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))["metrics"]


def ask_percentile(prometheus: Prometheus, share: float) -> float:
    """Return a percentile over all runners, in ms."""
    return prometheus.ask(f"histogram_quantile({share}, sum({SERIES}))")[()] * 1000


@pytest.mark.slow
def test_counts_of_runners_add_up_and_our_percentiles_are_more_exact(
    prometheus: Prometheus, binary: K6Binary, tmp_path: Path
) -> None:
    settings = build_settings(VUS="4", DURATION="3", **prometheus.variables)
    names = ("prometheus-rw", f"csv={tmp_path}/{{runner}}.csv")
    outputs = parse_outputs(names, ("tools",), binary.path, "segments")
    with ReferenceTarget(Knobs(tool_quota=False, tool_latency="heavy:20,0.7")) as target:
        plan = plan_run(
            replace(settings, root=tmp_path),
            mint_by_session(target.api_url, tmp_path / "bearer.json"),
            tmp_path / "bearer.json",
            runners=Runners("segments", RUNNERS),
            outputs=outputs,
        )
        run = run_fleet(
            plan,
            "tools",
            out_dir=tmp_path / "tools",
            launch=open_segments(binary, settings.variables),
        )
    assert run.result.outcome == "ok", run.result
    summaries = [
        read_metrics(tmp_path / "tools" / "runners" / str(number) / "summary.json")
        for number in range(1, RUNNERS + 1)
    ]
    assert prometheus.ask(f"histogram_count(sum by (instance_id) ({SERIES}))") == {
        (str(number),): metrics["mcp_duration"]["count"]
        for number, metrics in enumerate(summaries, 1)
    }
    assert prometheus.ask("sum(k6_mcp_sessions_opened_total)") == {
        (): sum(metrics["mcp_sessions_opened"]["count"] for metrics in summaries)
    }
    samples = [list_durations(tmp_path / f"{number}.csv") for number in range(1, RUNNERS + 1)]
    exact = sorted(ms for of_runner in samples for ms in of_runner)
    row = pick(run, "tool", "all")
    assert prometheus.ask(f"histogram_count(sum({SERIES}))") == {(): row.ok} == {(): len(exact)}
    assert row.duration is not None
    for name, share in {"p50": 0.5, "p95": 0.95, "p99": 0.99}.items():
        place = share * (len(exact) - 1)
        low, high = exact[math.floor(place)], exact[math.ceil(place)]
        assert low / 1.005 < getattr(row.duration, name) < high * 1.005
        assert low / GROWTH < ask_percentile(prometheus, share) < high * GROWTH


def test_a_percentile_of_prometheus_may_be_off_by_several_per_cent(
    prometheus: Prometheus, binary: K6Binary, tmp_path: Path
) -> None:
    outputs = parse_outputs(("prometheus-rw", f"csv={tmp_path}/1.csv"), ("",), binary.path)
    subprocess.run(
        [
            *(str(binary.path), "run", "--quiet", "--no-usage-report", "--address=127.0.0.1:0"),
            *(*build_output_flags(outputs, ""), str(CONSTANT)),
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **prometheus.variables},
        check=True,
        timeout=CONSTANT_SECONDS,
    )
    samples = list_durations(tmp_path / "1.csv")
    assert set(samples) == {100.0}
    assert prometheus.ask(f"histogram_count({SERIES})").popitem()[1] == len(samples)
    assert 1.04 < ask_percentile(prometheus, 0.99) / 100 < GROWTH
