"""Runs beside their history, and how they compare: one for each way in which that can go."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from loadtest.compare.changes import Change, Status
from loadtest.compare.comparison import Baseline, Comparison
from loadtest.compare.regressions import Regression
from loadtest.compare.series import orient
from loadtest.config.models import USUAL_SCENARIOS
from loadtest.results.history import Cell, Entry
from loadtest.results.run import Percentiles, Repeat, Row, SlowCall, Target
from loadtest.results.run_folder import RunFolder
from tests.report.report_runs import (
    COLD_START,
    LADDER,
    RUN,
    TOOLS,
    failed,
    folder,
    hostile,
    row,
    spread,
    stage,
    with_replies,
)

# How the runs before stood against this one: up and down, as noise goes.
NOISE = (1.0, 0.97, 1.04, 0.99, 1.06, 0.95, 1.01)


@dataclass(frozen=True)
class ComparedRun:
    """A run, the runs before it, and the comparison to be shown."""

    folder: RunFolder
    earlier: tuple[Entry, ...]
    comparison: Comparison


def scale(found: Percentiles | None, factor: float) -> Percentiles | None:
    if found is None:
        return None
    names = ("p50", "p90", "p95", "p99", "max")
    return Percentiles(*(getattr(found, name) * factor for name in names))


def entry(rows: Iterable[Row], weeks_ago: int, *, factor: float = 1.0, **changes: Any) -> Entry:
    """Return an earlier run whose latencies were this run's times `factor`, give or take noise."""
    day = (date(2026, 8, 3) - timedelta(weeks=weeks_ago)).isoformat()
    run = replace(
        RUN,
        run_id=f"{day.replace('-', '')}T120000Z-{weeks_ago:07x}",
        started=f"{day}T12:00:00Z",
        git_sha=f"{weeks_ago:07x}c4d5e6f708192a3b4c5d6e7f8091a2b3c",
        **changes,
    )
    scaled = []
    for place, each in enumerate(rows):
        by = factor * NOISE[(place + weeks_ago) % len(NOISE)]
        scaled.append(
            replace(each, duration=scale(each.duration, by), response=scale(each.response, by))
        )
    url = f"https://github.example/acme/atlas/issues/7#issuecomment-{1000 - weeks_ago}"
    return Entry(run, tuple(scaled), url=url)


def weekly(rows: Iterable[Row], runs: int, **changes: Any) -> tuple[Entry, ...]:
    """Return that many earlier runs, one a week, oldest first."""
    rows = tuple(rows)
    return tuple(entry(rows, weeks_ago, **changes) for weeks_ago in range(runs, 0, -1))


def compared(
    run: RunFolder,
    earlier: Iterable[Entry] = (),
    *,
    statuses: Mapping[Cell, Status] | None = None,
    reasons: Mapping[str, str] | None = None,
    regressions: Mapping[Cell, Regression] | None = None,
    gone: Iterable[Cell] = (),
) -> ComparedRun:
    """Compare a run by hand: every figure is the same as before, but for the `statuses` given.

    `reasons` say of scenarios why they have nothing to be compared with. What is confirmed was so
    by the run before too, unless it is among the `regressions`.
    """
    earlier = tuple(earlier)
    statuses, reasons, found = statuses or {}, reasons or {}, regressions or {}
    if not earlier:
        reasons = {**dict.fromkeys(USUAL_SCENARIOS, "first run"), **reasons}
    begins = [each.since for each in found.values() if each.since]
    if len(earlier) > 1 and any(
        statuses[each] == "confirmed" for each in statuses if each not in found
    ):
        begins.append(earlier[-1])
    # All changes are against the last run before an open regression.
    place = min((earlier.index(each) for each in begins), default=len(earlier)) - 1
    previous = earlier[place] if earlier else None
    changes = {}
    for cell, value in Entry(run.run, run.rows).figures.items():
        comparable = previous is not None and cell.scenario not in reasons
        before = previous.figures.get(cell) if previous and comparable else None
        if before is None:
            changes[cell] = Change(value, "new" if comparable else "incomparable")
            continue
        known = statuses.get(cell, "same")
        why = found.get(cell)
        if known == "confirmed" and why is None:
            why = Regression(before, value, earlier[-1], 2, "two runs in a row")
        elif known == "suspected" and why is None:
            why = Regression(before, value, None, 1, None)
        if cell.figure == "failed":
            changes[cell] = Change(value, known, before, None, (value - before) * 100, why)
        else:
            ratio = orient(cell.figure, before, value)
            changes[cell] = Change(value, known, before, ratio, None, why)
    baselines = tuple(
        Baseline(name, None, reasons[name]) if name in reasons else Baseline(name, previous)
        for name in USUAL_SCENARIOS
    )
    return ComparedRun(run, earlier, Comparison(baselines, changes, frozenset(gone)))


def good() -> ComparedRun:
    rows = (*COLD_START, *LADDER, *TOOLS)
    return compared(folder(rows), weekly(rows, 14))


def larger() -> ComparedRun:
    """The replies of the mix are larger than before, and one more client observes its streams."""
    before = (
        *with_replies(COLD_START, 900),
        *with_replies(LADDER, 700),
        *with_replies(TOOLS, 2100, factor=0.6),
    )
    rows = (
        *with_replies(COLD_START, 900),
        *with_replies(LADDER[:3], 700),
        LADDER[3],
        *with_replies(TOOLS, 64_000, silence_ms=61_300),
    )
    return compared(folder(rows), weekly(before, 3))


def regressed() -> ComparedRun:
    """Two confirmed by two runs, a drift, one suspected, a throughput that is a quarter worse."""
    rows = (*COLD_START, *LADDER, *TOOLS)
    quicker = replace(TOOLS[3], duration=scale(TOOLS[3].duration, 0.84))
    before = (*COLD_START, *LADDER, *TOOLS[:3], quicker, *TOOLS[4:])
    earlier = tuple(entry(before if week > 8 else rows, week) for week in range(14, 1, -1))
    slow = replace(TOOLS[0], duration=Percentiles(31.6, 46.0, 54.0, 104.0, 180.0))
    few = stage(100, 15.1, share=0.7, failures={"timeout": 90, "tool_error:internal_error": 12})
    failing = stage(100, 14.4, failures={"timeout": 150})
    earlier += (entry((*COLD_START, *LADDER[:-1], failing, slow, *TOOLS[1:]), 1),)
    run = folder(
        (*COLD_START[:2], replace(COLD_START[2], duration=scale(COLD_START[2].duration, 1.4))),
        COLD_START[3:],
        (*LADDER[:-1], few),
        (slow, *TOOLS[1:]),
        run_url="https://github.example/acme/atlas/actions/runs/42",
    )
    metric = Cell("tools", "tool", "runMetric", "p50")
    return compared(
        run,
        earlier,
        statuses={
            Cell("tools", "tool", "executeSQL", "p99"): "confirmed",
            Cell("sessions", "stage", "100", "failed"): "confirmed",
            Cell("sessions", "stage", "100", "rate"): "worse",
            Cell("cold-start", "frame", "tools/list", "p50"): "suspected",
            Cell("cold-start", "frame", "tools/list", "p99"): "thin",
            metric: "confirmed",
        },
        regressions={metric: Regression(1042.0, 1240.0, earlier[6], 9, "drift")},
    )


def accepted() -> ComparedRun:
    """What was confirmed is meant to stay."""
    case = regressed()
    return replace(case, comparison=case.comparison.accept(frozenset()))


def improved() -> ComparedRun:
    """A new version of the server: one tool is faster, and a regression of another is gone."""
    rows = (*COLD_START, *LADDER, *TOOLS)
    slower = (*COLD_START, *LADDER, replace(TOOLS[0], duration=scale(TOOLS[0].duration, 1.5)))
    earlier = (*weekly(rows, 4)[:-1], entry((*slower, *TOOLS[1:]), 1))
    return compared(
        folder(rows, target=replace(RUN.target, server_version="1.5.0")),
        earlier,
        statuses={Cell("tools", "tool", "executeSQL", "p50"): "better"},
        gone=[Cell("tools", "tool", "executeSQL", "p95")],
    )


def with_control(rows: Iterable[Row], p50: float = 3.1) -> tuple[Row, ...]:
    """Return the rows, and those of the control of each scenario."""
    names = [(scenario, name) for scenario in USUAL_SCENARIOS for name in ("document", "connect")]
    return (*rows, *(row(scenario, "control", name, 60, p50) for scenario, name in names))


def with_server_time(each: Row, p50: float) -> Row:
    return replace(each, server_time=scale(spread(1.0), p50))


def slower_tool() -> ComparedRun:
    """One tool is 40 % slower, and its repeats agree; another is faster; a cold start varies."""
    rows = with_control((*COLD_START, *LADDER, *TOOLS))
    before = tuple(with_server_time(each, 24.0) if each == TOOLS[0] else each for each in rows)
    slow = replace(with_server_time(TOOLS[0], 36.0), duration=scale(TOOLS[0].duration, 1.43))
    fast = replace(TOOLS[1], duration=scale(TOOLS[1].duration, 0.7))
    cold = replace(COLD_START[1], duration=scale(COLD_START[1].duration, 1.3))
    changed = {
        each.name: each for each in (slow, fast, cold, row("tools", "tool", "all", 10300, 24.0))
    }
    target = replace(RUN.target, server_version="1.5.0", repository="acme/server", commit="b" * 40)
    run = folder(
        tuple(changed.get(each.name, each) for each in rows),
        run_url="https://github.example/acme/atlas/actions/runs/42",
        target=target,
        repeats=tuple(Repeat(number, {"tools": (), "cold-start": ()}) for number in (1, 2, 3)),
    )
    sql = [Cell("tools", "tool", "executeSQL", figure) for figure in ("p50", "p95", "p99")]
    start = Cell("cold-start", "frame", "initialize", "p50")
    old = replace(RUN.target, repository="acme/server", commit="a" * 40)
    earlier = weekly(before, 8, target=old)
    found = {
        cell: Regression(31.0, 44.3, None, 1, "repeats", (44.1, 44.9, 43.8), 3) for cell in sql
    }
    rate = Cell("tools", "tool", "all", "rate")
    found[rate] = Regression(200.0, 172.0, None, 1, "repeats", (170.0, 171.0, 174.0), 3)
    found[start] = Regression(4.2, 5.5, None, 1, None, (5.4, 4.3, 4.2), 1)
    case = compared(
        run,
        earlier,
        statuses={
            **dict.fromkeys(sql, "confirmed"),
            rate: "confirmed",
            start: "suspected",
            **{
                Cell("tools", "tool", "listEntities", figure): "better" for figure in ("p50", "p95")
            },
        },
        regressions=found,
    )
    return replace(case, folder=replace(case.folder, slowest=SLOWEST))


SLOWEST = (
    SlowCall(
        *("tools", "tool", "executeSQL", 1204.2, 1180.0, "2026-08-03T12:05:07.221Z"),
        *("4bf92f3577b34da6a3ce929d0e0e4736", "req-7f2a"),
    ),
    SlowCall(
        *("tools", "tool", "executeSQL", 977.0, 951.4, "2026-08-03T12:05:41.030Z"),
        *("00f067aa0ba902b7a3ce929d0e0e4736", "req-7f31"),
    ),
    SlowCall("tools", "tool", "listEntities", 61.9, None, "2026-08-03T12:06:12.904Z", "c" * 32),
)


def _shift(factor: float, control: float, *, is_explained: bool) -> ComparedRun:
    """Return a run that is slower in everything, by this factor, and its repeats, which agree."""
    rows = (*COLD_START, *LADDER, *TOOLS)
    run = folder(with_control(rows, 3.1 * control))
    earlier = tuple(
        replace(each, rows=with_control(each.rows)) for each in weekly(rows, 5, factor=1 / factor)
    )
    cells: dict[Cell, Status] = {
        cell: "suspected"
        for cell in Entry(run.run, run.rows).figures
        if cell.figure in {"p50", "p95", "p99"} and cell.kind != "control"
    }
    figures = Entry(run.run, run.rows).figures
    found = {
        cell: Regression(
            figures[cell] / factor,
            figures[cell],
            None,
            1,
            None,
            (figures[cell] * 1.02, figures[cell] * 0.99),
            2,
            is_common=True,
            is_explained=is_explained,
        )
        for cell in cells
    }
    return compared(run, earlier, statuses=cells, regressions=found)


def slowed() -> ComparedRun:
    """Everything is twice as slow, the control is not: the next run decides."""
    return _shift(2.0, 1.0, is_explained=False)


def host_noise() -> ComparedRun:
    """Everything is slower, and the control as well."""
    return _shift(1.5, 1.6, is_explained=True)


def many_stages() -> ComparedRun:
    """A ladder of 200 stages; the upper ones are slower than before."""
    stages = [stage(count, 9.0 + count / 20) for count in range(1, 201)]
    before = weekly((*COLD_START, *stages), 6)
    slow = [
        replace(each, response=scale(each.response, 1.5)) if int(each.name) > 120 else each
        for each in stages
    ]
    run = folder((*COLD_START, *slow))
    cells = {
        Cell("sessions", "stage", each.name, "p50"): each for each in stages if int(each.name) > 120
    }
    figures = Entry(run.run, run.rows).figures
    found = {
        cell: Regression(figures[cell] / 1.5, figures[cell], None, 1, "repeats", (22.9, 23.4), 2)
        for cell in cells
    }
    statuses: dict[Cell, Status] = dict.fromkeys(cells, "confirmed")
    return compared(run, before, statuses=statuses, regressions=found)


def incomparable() -> ComparedRun:
    rows = (*COLD_START, *LADDER, *TOOLS)
    reason = "unlike run 20260727T120000Z-0000001: vus 50, was 20"
    return compared(folder(rows), weekly(rows, 3), reasons={"tools": reason})


def zeros() -> ComparedRun:
    """Figures of nothing, before and now: 0/0, x/0, 0/x, and what was not there before."""
    none = Percentiles(0.0, 0.0, 0.0, 0.0, 0.0)
    bad = {"timeout": 30}
    before = (
        replace(TOOLS[0], duration=none),
        replace(TOOLS[1], duration=none),
        TOOLS[2],
        row("tools", "tool", "gone", 1200, 5.0),
        row("tools", "tool", "never", 0, None, failures=bad),
        row("tools", "tool", "all", 12000, 20.0, failures=bad),
    )
    now = (
        TOOLS[0],
        replace(TOOLS[1], duration=none),
        row("tools", "tool", "describeEntity", 1201, 7.9, failures=bad),
        row("tools", "tool", "added", 12, 5.0),
        row("tools", "tool", "never", 0, None, failures=bad),
        row("tools", "tool", "all", 0, None, seconds=0),
    )
    return compared(folder(now), [entry(before, 1)])


def stateless() -> ComparedRun:
    target = Target("api.example.com", "atlas", "2.0.0", "2026-07-28", "stateless")
    rows = (*COLD_START, *LADDER, *TOOLS)
    status: dict[Cell, Status] = {Cell("sessions", "stage", "50", "p95"): "confirmed"}
    return compared(folder(rows, target=target), weekly(rows, 5, target=target), statuses=status)


def hostile_history() -> ComparedRun:
    run = hostile()
    alike = {"environment": run.run.environment, "knobs": run.run.knobs}
    before = weekly(run.rows, 3, factor=0.5, target=run.run.target, **alike)
    statuses: dict[Cell, Status] = {
        Cell("tools", "tool", run.rows[1].name, "p99"): "confirmed",
    }
    return compared(
        run,
        [replace(each, url="javascript:alert(1)") for each in before],
        statuses=statuses,
        reasons={"sessions": f"unlike run {run.run.git_sha}"},
    )


COMPARED: Mapping[str, Callable[[], ComparedRun]] = {
    "compared": good,
    "first-run": lambda: compared(folder(COLD_START, LADDER, TOOLS)),
    "larger": larger,
    "regressed": regressed,
    "accepted": accepted,
    "improved": improved,
    "slower-tool": slower_tool,
    "slowed": slowed,
    "host-noise": host_noise,
    "many-stages": many_stages,
    "incomparable": incomparable,
    "failed-later": lambda: compared(
        failed(),
        weekly(COLD_START, 2),
        reasons={"sessions": "this run failed", "tools": "this run failed"},
    ),
    "zeros": zeros,
    "stateless": stateless,
    "hostile-history": hostile_history,
}
