"""Runs to render: one that went well, and one for each way in which a run can go otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.config.objectives import Objective
from loadtest.results.run import (
    MOST_STRAIN,
    Capacity,
    CapacityStep,
    Generator,
    HeldStreams,
    Percentiles,
    Replies,
    Row,
    RowKind,
    Run,
    RunnerFault,
    ScenarioResult,
    Spread,
    Target,
)
from loadtest.results.run_folder import RunFolder


def spread(p50: float) -> Percentiles:
    return Percentiles(p50=p50, p90=p50 * 1.5, p95=p50 * 1.7, p99=p50 * 2.4, max=p50 * 4)


def row(
    scenario: str,
    kind: RowKind,
    name: str,
    ok: int,
    p50: float | None,
    *,
    seconds: float = 60,
    offered: float | None = None,
    failures: Mapping[str, int] | None = None,
) -> Row:
    failures = failures or {}
    count = ok + sum(failures.values())
    return Row(
        scenario=scenario,
        kind=kind,
        name=name,
        count=count,
        ok=ok,
        failures=failures,
        seconds=seconds,
        offered_rate=offered,
        achieved_rate=count / seconds if seconds else 0.0,
        duration=None if p50 is None else spread(p50),
        response=None if p50 is None or offered is None else spread(p50 * 1.02),
    )


def stage(
    sessions: int,
    p50: float | None,
    *,
    share: float = 1.0,
    seconds: float = 60,
    failures: Mapping[str, int] | None = None,
) -> Row:
    ok = round(sessions * seconds * share) - sum((failures or {}).values())
    return row(
        *("sessions", "stage", str(sessions), max(ok, 0) if p50 is not None else 0, p50),
        seconds=seconds,
        offered=float(sessions),
        failures=failures,
    )


def opening(sessions: int, ok: int, failures: Mapping[str, int] | None = None) -> Row:
    return row("sessions", "opening", str(sessions), ok, 12.0, seconds=1, failures=failures)


def with_replies(
    rows: tuple[Row, ...], size: float, *, factor: float = 1.0, silence_ms: float | None = None
) -> tuple[Row, ...]:
    """Return the rows with replies of about that size, where there are any."""
    found = []
    for place, each in enumerate(rows, start=1):
        if each.name in {"connect", "first dispatch"} or each.duration is None:
            found.append(each)
            continue
        middle, first = size * place, each.duration.p50 * factor
        observed = None if silence_ms is None else Spread(0.0, silence_ms / 2, silence_ms)
        replies = Replies(
            each.ok // 3,
            Spread(middle, middle * 4, middle * 9),
            Spread(first * 0.9, first * 1.4, first * 3.1),
            Spread(0.05, 0.4, first / 3),
            observed,
            0 if observed is None else 12,
        )
        found.append(replace(each, replies=replies))
    return tuple(found)


COLD_START = (
    row("cold-start", "frame", "connect", 200, 0.42),
    row("cold-start", "frame", "initialize", 200, 4.21),
    row("cold-start", "frame", "tools/list", 200, 6.3),
    row("cold-start", "frame", "first dispatch", 200, 11.6),
)
LADDER = (stage(1, 9.3), stage(10, 9.8), stage(50, 11.2), stage(100, 14.4))
TOOLS = (
    row("tools", "tool", "executeSQL", 7204, 31.0),
    row("tools", "tool", "listEntities", 2380, 8.1),
    row("tools", "tool", "describeEntity", 1201, 7.9),
    row("tools", "tool", "runMetric", 1198, 1240.0),
    row("tools", "tool", "all", 11983, 22.0),
)
SCENARIOS = tuple(ScenarioResult(name, "ok", 0) for name in ("cold-start", "sessions", "tools"))
RUN = Run(
    run_id="20260803T120000Z-1a2b3c4",
    loadtest_version="0.1.0",
    started="2026-08-03T12:00:00Z",
    ended="2026-08-03T12:07:53Z",
    environment="staging",
    profile="standard",
    knobs={"sessions": {"stages": [1, 10, 50, 100], "stage_seconds": 60}, "tools": {"vus": 50}},
    target=Target("api.example.com", "atlas", "1.4.0", "2025-11-25", "handshake"),
    k6_version="1.1.0",
    machine={"system": "Linux", "architecture": "x86_64", "cpus": 4, "shares_with_target": False},
    git_sha="1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d",
    scenarios=SCENARIOS,
)


def folder(
    *groups: tuple[Row, ...], outcomes: Mapping[str, ScenarioResult] | None = None, **changes: Any
) -> RunFolder:
    scenarios = tuple((outcomes or {}).get(result.name, result) for result in SCENARIOS)
    run = replace(RUN, **{"scenarios": scenarios, **changes})
    rows = tuple(row for group in groups for row in group)
    return RunFolder(Path("/home/user/checkout/.loadtest/runs") / run.run_id, run, rows)


def smoke() -> RunFolder:
    return folder(
        tuple(replace(item, count=20, ok=20) for item in COLD_START),
        tuple(stage(sessions, 9.0 + sessions, seconds=5) for sessions in (1, 5, 10)),
        tuple(replace(item, count=item.count // 100, ok=item.ok // 100) for item in TOOLS),
        environment="local",
        profile="smoke",
        target=Target("127.0.0.1:40123", "reference", "0.1.0", "2025-11-25", "handshake"),
    )


def broken_ladder() -> RunFolder:
    failures = {"tool_error:internal_error": 120, "http_502": 1, "timeout": 200, "cut_off": 4}
    return folder(
        COLD_START,
        (
            *LADDER,
            stage(200, 61.0, share=0.5, failures=failures),
            opening(100, 100),
            opening(200, 100, {"capacity": 100}),
        ),
        TOOLS,
        outcomes={
            "sessions": ScenarioResult(
                "sessions", "thresholds crossed", 99, crossed=("failures: rate<0.01",)
            )
        },
    )


def interrupted() -> RunFolder:
    return folder(
        COLD_START,
        (stage(1, 9.3), stage(10, 9.8, seconds=20), replace(stage(50, None), seconds=0.0)),
        outcomes={
            "sessions": ScenarioResult(
                "sessions", "interrupted", 105, "stopped by a signal", sessions_left=3
            ),
            "tools": ScenarioResult("tools", "not run"),
        },
        ended=None,
    )


def failed() -> RunFolder:
    return folder(
        COLD_START,
        (),
        (),
        outcomes={
            "sessions": ScenarioResult("sessions", "failed", 107, "the probe met HTTP 503"),
            "tools": ScenarioResult("tools", "failed", 107, "the probe met HTTP 503"),
        },
        git_sha=None,
        target=Target("api.example.com"),
        machine={},
    )


def aborted() -> RunFolder:
    reason = "over half of the calls failed for 30 s (HTTP 502): `inv doctor --env staging` looks"
    return folder(
        COLD_START,
        (*LADDER[:2], stage(50, 11.2, seconds=31, failures={"http_502": 900})),
        outcomes={
            "sessions": ScenarioResult("sessions", "aborted", 108, reason),
            "tools": ScenarioResult("tools", "not run"),
        },
    )


def failed_at_sign_in() -> RunFolder:
    reason = "at sign-in: the page says that the password is wrong: set it with `inv provision`"
    return folder(
        outcomes={
            "cold-start": ScenarioResult("cold-start", "failed", reason=reason),
            "sessions": ScenarioResult("sessions", "not run"),
            "tools": ScenarioResult("tools", "not run"),
        },
    )


def rate_limited() -> RunFolder:
    limited = {"rate_limited": 400, "tool_error:rate_limited": 1}
    return folder(
        COLD_START,
        tuple(
            replace(item, ok=item.ok // 2, failures={"rate_limited": item.ok // 2})
            for item in LADDER
        ),
        (row("tools", "tool", "executeSQL", 12, 31.0, failures=limited),),
    )


def short_of_runners() -> RunFolder:
    late = RunnerFault(7, "late", "it began 7.3 s after the first")
    partial = RunnerFault(9, "partial", "1,204 of its 52,000 samples are lost")
    lost = RunnerFault(3, "lost", "OOMKilled")
    generator = Generator(None, None, 2.5)
    return folder(
        COLD_START,
        LADDER,
        TOOLS,
        outcomes={
            "sessions": ScenarioResult(
                "sessions", "ok", generator=generator, faults=(late, partial)
            ),
            "tools": ScenarioResult("tools", "failed", reason=lost.describe(), faults=(lost,)),
        },
        k6_version="grafana/k6:1.1.0",
        machine={"cpu": "3500m", "memory": "6Gi"},
        engine="kubernetes",
        generators=12,
        regions=("eu-west-1", "us-east-1"),
    )


def hostile() -> RunFolder:
    name = "[bold red]x[/] | <img src=x onerror=alert(1)>\n# `pwn` **b** _i_ \x1b[31m\u202e"
    return folder(
        (row("cold-start", "frame", name, 0, None),),
        (),
        (
            row("tools", "tool", name, 3, 31.0, failures={f"tool_error:{name}": 2, name: 1}),
            row("tools", "tool", "all", 0, None, seconds=0, failures={"timeout": 2}),
        ),
        outcomes={"sessions": ScenarioResult("sessions", "failed", 1, name)},
        environment=name,
        target=Target("api.example.com", name, name, name),
        machine={name: name},
        knobs={name: [name]},
        git_sha=name,
        objectives=(Objective("tools", "tool", name, "p95", 0.5),),
    )


def with_objectives() -> RunFolder:
    return folder(
        COLD_START,
        LADDER,
        TOOLS,
        objectives=(
            Objective("tools", "tool", "executeSQL", "p95", 60),
            Objective("tools", "tool", "runMetric", "p95", 2000),
            Objective("tools", "tool", "all", "failed", 0.005),
            Objective("cold-start", "frame", "first dispatch", "p95", 1500),
            Objective("sessions", "stage", "all", "p95", 200),
            Objective("sessions", "stage", "all", "holds", 50),
        ),
    )


def searched() -> RunFolder:
    """A search for the capacity: a session cap of 40, found from 10."""
    refused = "the session cap refuses (4 of 44 were refused)"
    steps = (
        CapacityStep(10, 0.5),
        CapacityStep(20, 0.52),
        CapacityStep(40, 0.61),
        CapacityStep(80, MOST_STRAIN, 40, "the session cap refuses (40 of 80 were refused)"),
        CapacityStep(44, MOST_STRAIN, 40, refused),
        CapacityStep(44, MOST_STRAIN, 40, refused),
        CapacityStep(40, 0.6),
    )
    limits = ("p95 at most 2 times that of the smallest step", "nothing refused")
    loads = (10, 20, 40, 44, 80)
    stages = tuple(stage(load, 9.0 + load / 10, seconds=10) for load in loads)
    openings = tuple(
        opening(load, min(40, load), {"capacity": load - 40} if load > 40 else {}) for load in loads
    )
    borne = replace(
        row("sessions", "capacity", "capacity", 400, None, seconds=10), achieved_rate=40.0
    )
    return folder(
        stages,
        openings,
        (borne,),
        profile="capacity",
        scenarios=(ScenarioResult("sessions", "ok", 0),),
        knobs={"sessions": {"tool": "executeSQL", "search": "sessions", "limits": [*limits]}},
        capacity=Capacity("sessions", 40, 40, 44, refused, None, limits, "1", steps),
    )


def with_streams() -> RunFolder:
    """Sessions whose streams were refused, dropped and kept; a ladder of streams with an edge."""
    beside = (
        held("sessions", "1", 1),
        held("sessions", "10", 8, {"http_503": 2}, early=3, early_seconds=(5.02, 7.4)),
        held("sessions", "50", 50, stays=50),
        held("tools", "all", 50, quiet=50, keep_alives=0),
    )
    ladder = (
        row("streams", "stage", "10", 40, 11.0, seconds=40, offered=1),
        row("streams", "stage", "100", 40, 14.0, seconds=40, offered=1),
        row("streams", "opening", "10", 11, 12.0, seconds=40),
        row("streams", "opening", "100", 101, 12.0, seconds=40),
        held("streams", "10", 10),
        held("streams", "100", 40, {"capacity": 60}),
    )
    scenarios = (*SCENARIOS, ScenarioResult("streams", "ok", 0))
    return folder(COLD_START, LADDER, TOOLS, beside, ladder, scenarios=scenarios, streams=True)


def held(
    scenario: str, name: str, ok: int, failures: Mapping[str, int] | None = None, **figures: Any
) -> Row:
    """Return a row of streams."""
    streams = HeldStreams(**{"keep_alives": ok * 4, "silence_seconds": 12.4, **figures})
    return replace(row(scenario, "stream", name, ok, 3.2, failures=failures), streams=streams)


RUNS: Mapping[str, Callable[[], RunFolder]] = {
    "good": lambda: folder(COLD_START, LADDER, TOOLS),
    "smoke": smoke,
    "broken-ladder": broken_ladder,
    "interrupted": interrupted,
    "failed": failed,
    "failed-at-sign-in": failed_at_sign_in,
    "aborted": aborted,
    "rate-limited": rate_limited,
    "short-of-runners": short_of_runners,
    "objectives": with_objectives,
    "capacity": searched,
    "streams": with_streams,
    "hostile": hostile,
    "empty": lambda: folder(scenarios=(), ended=None),
}
