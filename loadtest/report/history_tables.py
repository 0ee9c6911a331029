"""The history: a run by name, two runs side by side, all runs, a CSV."""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.common.command_name import spell
from loadtest.compare.baselines import find_fault, find_peers
from loadtest.compare.changes import Change, Status
from loadtest.compare.comparison import Comparison, compare_pair, compare_replies
from loadtest.compare.knee import find_knee, is_rate_limited
from loadtest.errors import UsageError
from loadtest.report.content.changes import describe_server
from loadtest.report.content.formatting import (
    NO_DATA,
    THIN,
    WORSE,
    format_change,
    format_figure,
    format_ms,
    format_rate,
    format_reply,
)
from loadtest.report.content.replies import TITLE, list_replies
from loadtest.report.content.wording import TITLES, clean, name_cell, name_row
from loadtest.results.history import (
    FIGURES,
    Cell,
    Entry,
    find_capacity_cell,
    is_aggregate,
    read_reply_figures,
)
from loadtest.results.run import SCENARIOS, Percentiles, Row
from loadtest.results.run_folder import RunFolder

NOTHING = "-"
SHOWN_NAMES = 10
SHOWN_RUNS = 20
SPARK_RUNS = 40
SPARK_LEAST_SPAN = 0.25
SHORTEST_SHA = 4
RUN_COLUMNS = ("run", "day", "SHA", "outcome", "most", "p95", "first", "calls/s")
FIRST_NUMBER = 4
RUNS_LEGEND = (
    "most: most sessions sustained, and their p95. first: p50 to first dispatch.",
    "calls/s: of the tool-call mix. Latency in ms. over limits: too many failures.",
    "not valid: the load generator was the bottleneck.",
)
_BARS = "▁▂▃▄▅▆▇█"
_STYLES: Mapping[Status, str] = {"worse": "bold yellow", "better": "green", "thin": "dim"}
_FIRST_DISPATCH = Cell("cold-start", "frame", "first dispatch", "p50")
_MIX_RATE = Cell("tools", "tool", "all", "rate")
_MIX_P95 = Cell("tools", "tool", "all", "p95")
_PERCENTILES = ("p50", "p90", "p95", "p99", "max")
_SPREAD = ("p50", "p95", "max")
_REPLY_TIMES = ("first_byte", "receiving", "silence")
# A line of the CSV: the run, the scenario, the row (times in ms, rates in calls/s, failures as
# reason=count), and the figures whose regression the run confirmed or only suspected.
CSV_COLUMNS = (
    *("run_id", "started", "ended", "git_sha", "environment", "profile", "clients"),
    *("host", "server_name", "server_version", "protocol_version", "era", "k6_version"),
    *("scenario", "outcome", "kind", "name", "count", "ok", "failed_share", "failures"),
    *("seconds", "offered_rate", "achieved_rate"),
    *(f"duration_{name}_ms" for name in _PERCENTILES),
    *(f"response_{name}_ms" for name in _PERCENTILES),
    *("replies", *(f"reply_{name}_bytes" for name in _SPREAD)),
    *(f"{name}_{part}_ms" for name in _REPLY_TIMES for part in _SPREAD),
    *("confirmed", "suspected", "accepted", "url"),
)
# A spreadsheet would read such a text as a formula.
_FORMULA = re.compile(r"^[=+\-@\t\r]")


def find_entry(entries: Sequence[Entry], name: str) -> Entry:
    """Return a run, of entries oldest first, by id, `last`, `previous` or the start of its SHA."""
    if name in {"last", "previous"}:
        place = -1 if name == "last" else -2
        if len(entries) < -place:
            raise UsageError(f"there is no {name} run: {_list_runs(entries)}")
        return entries[place]
    for entry in reversed(entries):
        if entry.run.run_id == name:
            return entry
    if len(name) >= SHORTEST_SHA:
        for entry in reversed(entries):
            if (entry.run.git_sha or "").startswith(name.lower()):
                return entry
    raise UsageError(f"no run '{clean(name)}': {_list_runs(entries)}")


def _list_runs(entries: Sequence[Entry]) -> str:
    if not entries:
        return "the history is empty"
    names = [clean(entry.run.run_id) for entry in reversed(entries)]
    more = f" and {len(names) - SHOWN_NAMES} older" if len(names) > SHOWN_NAMES else ""
    return (
        f"use last, previous, the start of a SHA, or one of: {', '.join(names[:SHOWN_NAMES])}{more}"
    )


def render_pair(before: Entry, after: Entry) -> Group:
    """Return two runs side by side: every figure of both, and its change."""
    if before.run.run_id == after.run.run_id:
        raise UsageError(f"both names mean run {clean(after.run.run_id)}: name two different runs")
    comparison = compare_pair(before, after)
    parts: list[RenderableType] = [
        Text(_summarize(comparison.changes.values()), style="bold"),
        _render_runs(before, after),
    ]
    if before.run.started > after.run.started:
        parts.append(Text("Reversed: the run before began after the other one.", style="yellow"))
    if server := describe_server(before.run, after.run):
        parts.append(Text(server))
    for baseline in comparison.baselines:
        parts.append(Text(f"\n{TITLES[baseline.scenario]}", style="bold"))
        if baseline.previous is None:
            parts.append(Text(f"Not comparable: {clean(str(baseline.reason))}.", style="yellow"))
            continue
        table = _build_table("figure", "before", "after", "change", numeric=(1, 2, 3))
        found = [
            each for each in comparison.changes.items() if each[0].scenario == baseline.scenario
        ]
        for cell, change in sorted(found, key=lambda item: _rank(item[1])):
            thin = THIN if change.status == "thin" else ""
            was = NO_DATA if change.before is None else format_figure(cell.figure, change.before)
            cells = (was, format_figure(cell.figure, change.value))
            style = _STYLES.get(change.status, "")
            worse = "! " if change.status == "worse" else ""
            table.add_row(
                Text(name_cell(as_folder(after), cell)),
                *(Text(thin + text if text != NO_DATA else text) for text in cells),
                Text(worse + format_change(cell.figure, change), style),
            )
        parts.append(table)
    parts += _render_reply_pair(before, after, comparison)
    legend = (
        f"!: over {WORSE} worse; failures: by at least one percentage point, and not by chance.\n"
        f"{THIN} too few calls for a steady value."
    )
    parts.append(Text(legend, style="dim"))
    return Group(*parts)


def _summarize(changes: Collection[Change]) -> str:
    """Return how many figures are worse or better: "3 worse · 1 better · 40 within 25 %"."""
    counts = Counter(change.status for change in changes)
    names: Mapping[Status, str] = {
        "worse": "worse",
        "better": "better",
        "same": f"within {WORSE}",
        "thin": "with too few calls",
        "new": "new",
    }
    parts = [f"{counts[status]} {name}" for status, name in names.items() if counts[status]]
    return " · ".join(parts) or "Nothing can be compared"


def _rank(change: Change) -> tuple[bool, float]:
    """Return the place of a change, the worst first; what is new or has no change is last."""
    if change.ratio is not None:
        return False, -math.log(change.ratio)
    if not change.points:
        return True, 0.0
    return False, -change.points / 100


def _render_reply_pair(
    before: Entry, after: Entry, comparison: Comparison
) -> Iterator[RenderableType]:
    """Yield the figures of replies that differ, where scenarios can be compared."""
    comparable = {each.scenario for each in comparison.baselines if each.previous is not None}
    earlier = {(row.scenario, row.kind, row.name): row.replies for row in before.rows}
    table = _build_table("figure", "before", "after", "change", numeric=(1, 2, 3))
    folder = as_folder(after)
    for row, replies in list_replies(folder):
        was = earlier.get((row.scenario, row.kind, row.name))
        if row.scenario not in comparable or was is None:
            continue
        name = "all tools" if is_aggregate(row) else name_row(folder, row)
        values = read_reply_figures(was)
        for figure, change in compare_replies(was, replies).items():
            texts = (
                format_reply(figure, values[figure], was),
                format_reply(figure, change.value, replies),
            )
            if texts[0] == texts[1]:
                continue
            worse = "! " if change.status == "worse" else ""
            table.add_row(
                Text(f"{name} {figure}"),
                *map(Text, texts),
                Text(worse + format_change(figure, change), _STYLES.get(change.status, "")),
            )
    if table.rows:
        yield Text(f"\n{TITLE}: what differs (bytes of the body, times in ms)", style="bold")
        yield table


def render_history(entries: Sequence[Entry]) -> Group:
    """Return a table of the runs, oldest first, and sparklines, by environment and profile."""
    parts: list[RenderableType] = []
    for title, runs in group_runs(entries):
        parts.append(Text(f"\n{title}" if parts else title, style="bold"))
        if len(runs) > SHOWN_RUNS:
            parts.append(
                Text(
                    f"{len(runs) - SHOWN_RUNS} older runs are not shown; --csv lists all",
                    style="dim",
                )
            )
        table = _build_table(*RUN_COLUMNS, numeric=range(FIRST_NUMBER, len(RUN_COLUMNS)), gap=0)
        for entry in runs[-SHOWN_RUNS:]:
            table.add_row(*(Text(text) for text in build_line(entry)))
        parts += [table, *_render_sparks(runs)]
    if not parts:
        return Group(Text(f"No run in the history yet: start with `{spell('k6')}`."))
    return Group(*parts, Text("\n".join(RUNS_LEGEND), style="dim"))


def group_runs(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """Return the runs of each environment and profile, under their title."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.run.environment, entry.run.profile), []).append(entry)
    return [
        (f"{clean(environment)}, profile {clean(profile)}", runs)
        for (environment, profile), runs in groups.items()
    ]


def render_csv(entries: Sequence[Entry]) -> str:
    """Return the history as CSV (RFC 4180), one line per run and row; columns: CSV_COLUMNS."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS)
    writer.writeheader()
    for entry in entries:
        for row in entry.rows:
            line = dict(zip(CSV_COLUMNS, _list_values(entry, row), strict=True))
            writer.writerow({name: _defuse(value) for name, value in line.items()})
    return out.getvalue()


def render_spark(values: Sequence[float]) -> str:
    """Return values as bars above the lowest; full height needs a difference of a quarter."""
    low, high = min(values), max(values)
    span = max(high - low, high * SPARK_LEAST_SPAN)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - low) / span * top) if span else 0] for value in values)


def _render_runs(before: Entry, after: Entry) -> Table:
    """Return both runs, with the whole id of each."""
    table = Table.grid(padding=(0, 2))
    for label, entry in (("before", before), ("after", after)):
        run = entry.run
        table.add_row(label, Text(clean(run.run_id), overflow="fold"))
        started = f"{run.started[:16].replace('T', ' ')} UTC"
        sha = (run.git_sha or NOTHING)[:7]
        facts = (started, sha, run.profile, _name_outcome(entry))
        table.add_row("", Text(" · ".join(map(clean, facts)), style="dim"))
    return table


def build_line(entry: Entry) -> Iterator[str]:
    """Yield the cells of a run in the table of runs, in the order of RUN_COLUMNS."""
    run = entry.run
    yield clean(run.run_id)
    yield clean(run.started[2:10])
    yield clean((run.git_sha or NOTHING)[:7])
    yield _name_outcome(entry)
    knee = _find_knee_cell(entry)
    yield knee.name if knee else NOTHING
    for cell in (knee, _FIRST_DISPATCH, _MIX_RATE):
        value = entry.figures.get(cell) if cell else None
        text = format_rate(value) if cell == _MIX_RATE else format_ms(value)
        yield NOTHING if text == NO_DATA else text


def _render_sparks(runs: Sequence[Entry]) -> Iterator[RenderableType]:
    """Yield a line per key figure over the runs that may be compared with the newest good one."""
    for cell, good in find_good_runs(runs):
        peers, *_ = find_peers(good[-1], good, cell.scenario)
        found = (entry.figures.get(cell, math.nan) for entry in (*peers, good[-1]))
        values = [value for value in found if math.isfinite(value)][-SPARK_RUNS:]
        if len(values) > 1:
            first, last = (format_figure(cell.figure, value) for value in (values[0], values[-1]))
            name = name_cell(as_folder(good[-1]), cell)
            yield Text(f"{name:<22} {render_spark(values)}  {first} → {last}")


def find_good_runs(runs: Sequence[Entry]) -> Iterator[tuple[Cell, list[Entry]]]:
    """Yield the key figures, each with the runs whose figures are valid."""
    knees = (find_capacity_cell(entry.run) or _find_knee_cell(entry) for entry in reversed(runs))
    for cell in (next(filter(None, knees), None), _MIX_P95, _MIX_RATE, _FIRST_DISPATCH):
        good = [entry for entry in runs if cell and find_fault(entry, cell.scenario) is None]
        if cell is not None and good:
            yield cell, good


def _find_knee_cell(entry: Entry) -> Cell | None:
    knee = find_knee(entry.run, entry.rows)
    if knee is None or knee.sustained is None:
        return None
    return Cell("sessions", "stage", knee.sustained.name, "p95")


def _name_outcome(entry: Entry) -> str:
    """Return the outcome of a run in a word or two, the worst first."""
    outcome = entry.run.outcome()
    if outcome not in {"ok", "thresholds crossed"}:
        return outcome
    if entry.has_regressed():
        return "regressed"
    if any(is_rate_limited(entry.rows, scenario) for scenario in SCENARIOS):
        return "rate limited"
    if entry.run.is_generator_bound():
        return "not valid"
    if outcome == "thresholds crossed":
        return "over limits"
    if entry.suspected:
        return "to watch"
    return "accepted" if entry.confirmed else "ok"


def _list_values(entry: Entry, row: Row) -> Iterator[Any]:
    run, target = entry.run, entry.run.target
    yield from (run.run_id, run.started, run.ended, run.git_sha, run.environment, run.profile)
    yield from (run.clients, target.host, target.server_name, target.server_version)
    yield from (target.protocol_version, target.era, run.k6_version, row.scenario)
    outcomes = {result.name: result.outcome for result in run.scenarios}
    yield from (outcomes.get(row.scenario), row.kind, row.name, row.count, row.ok)
    yield 1 - row.ok / row.count if row.count else None
    yield " ".join(f"{reason}={count}" for reason, count in sorted(row.failures.items()))
    yield from (row.seconds, row.offered_rate, row.achieved_rate)
    yield from _list_percentiles(row.duration)
    yield from _list_percentiles(row.response)
    yield row.replies.count if row.replies else None
    for name in ("size", *_REPLY_TIMES):
        spread = getattr(row.replies, name, None)
        yield from (getattr(spread, part, None) for part in _SPREAD)
    cells = [Cell(row.scenario, row.kind, row.name, figure) for figure in FIGURES]
    for found in (entry.confirmed, entry.suspected):
        yield " ".join(cell.figure for cell in cells if cell in found)
    yield from (entry.accepted, entry.url or run.run_url)


def _list_percentiles(found: Percentiles | None) -> Iterator[float | None]:
    values = asdict(found) if found else {}
    yield from (values.get(name) for name in _PERCENTILES)


def _defuse(value: Any) -> Any:
    if isinstance(value, str):
        value = clean(value)
        return f"'{value}" if _FORMULA.match(value) else value
    return value


def as_folder(entry: Entry) -> RunFolder:
    """Return a run as a run folder for rendering, even if it is not on this disk."""
    return RunFolder(Path(".loadtest", "runs", entry.run.run_id), entry.run, entry.rows)


def _build_table(*headers: str, numeric: Sequence[int] = (), gap: int = 1) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    for place, header in enumerate(headers):
        justify: Literal["left", "right"] = "right" if place in numeric else "left"
        table.add_column(Text(header), justify=justify, overflow="fold")
    return table
