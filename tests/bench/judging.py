"""False alarms and missed changes: three other rules and ours, over the same histories.

What is suspicious is measured again as in a real run: repeats share the hour and the host of their
run (`Simulation.repeat`). A one-run outlier of one tool is over before its repeats; one of all
figures lasts. The other rules have no repeats: the bare 25 % rule, a t-test, and Apache Otava; the
last two (`rivals`) see the p50 of a part of the histories, because Otava is slow.
"""

import json
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.table import Table

from loadtest.compare.comparison import WORSE_SHARE, compare_run
from loadtest.compare.series import is_measured, is_worse
from loadtest.results.history import CONTROL, Cell, Entry
from tests.bench.histories import (
    NOISES,
    Effect,
    Noise,
    Simulation,
    build_entry,
    find_repeat_share,
)
from tests.bench.measured import LARGE_MS, SMALL_MS, read_history
from tests.support.checkout import ROOT

HISTORIES, RUNS = 20, 60
CHANGED_HISTORIES = 60
RIVAL_HISTORIES = 3
MOST_REPEATS = 3
# Until then, the measured history was made on a busy machine.
BUSY_RUNS = 26
# The tools that a change slows, in turn.
TOOLS = ("executeSQL", "runMetric", "listEntities")


@dataclass(frozen=True)
class Change:
    """Runs `factor` times slower, of one tool or of everything, after `warm` usual runs.

    An outlier has `usual_after`: that many usual runs follow it, and every alarm is wrong.
    """

    name: str
    warm: int
    factor: float
    runs: int
    everything: bool = False
    usual_after: int = 0


CHANGES = (
    Change("found: +30 %\non a tool after\n4 runs, at once", 4, 1.3, 1),
    Change("found: +15 %\non a tool\nwithin 4 runs", 25, 1.15, 4),
    Change("found: +30 %\non all within\n2 runs", 25, 1.3, 2, everything=True),
    Change("red: one run\nx2 on a tool", 8, 2.0, 1, usual_after=3),
    Change("red: one run\nx3 on all", 8, 3.0, 1, everything=True, usual_after=3),
)

BARE, OURS, SUSPECTED = "bare 25 %", "ours", "suspected"
RULES = (BARE, "t-test", "Otava", OURS)


@dataclass
class Judged:
    """A history, and by rule the cells that each run that counts is alarmed for."""

    runs: list[Entry] = field(default_factory=list)
    alarms: list[dict[str, frozenset[Cell]]] = field(default_factory=list)
    repeat_shares: list[float] = field(default_factory=list)

    def add(self, run: Entry, repeat_share: float = 0.0) -> None:
        """Judge the next run by the bare rule and by ours."""
        comparison = compare_run(run, self.runs)
        found = {
            BARE: apply_bare_rule(run, self.runs[-1]) if self.runs else frozenset(),
            OURS: comparison.confirmed,
            SUSPECTED: comparison.suspected,
        }
        self.alarms.append(found)
        self.repeat_shares.append(repeat_share)
        run = replace(run, confirmed=comparison.confirmed, suspected=comparison.suspected)
        self.runs.append(replace(run, repeats=()))

    def go_on(
        self, simulation: Simulation, effect: Effect | None = None, again: Effect | None = None
    ) -> None:
        """Draw and judge the next run, with this effect; its repeats have the effect `again`."""
        run, spent = simulation.draw(effect), 0.0
        while len(run.repeats) < MOST_REPEATS:
            suspicious = compare_run(run, self.runs).remeasure
            if not suspicious:
                break
            spent += find_repeat_share(suspicious)
            rows = simulation.repeat(suspicious, again)
            run = replace(run, repeats=(*run.repeats, rows))
        self.add(run, spent)

    def skip(self, count: int) -> None:
        """Do not count the alarms of the first runs."""
        del self.alarms[:count], self.repeat_shares[:count]


def bench() -> Table:
    """Replay simulated histories, in which the truth is known, and the one that was measured."""
    table = Table("noise", "rule", box=None)
    for header in ("red in 100\nunchanged runs", *(change.name for change in CHANGES)):
        table.add_column(header, justify="right")
    table.add_column("suspected\nin 100", justify="right")
    table.add_column("time of\nrepeats", justify="right")
    with ProcessPoolExecutor() as pool:
        for noise in NOISES:
            unchanged = list(pool.map(partial(replay_noise, noise), range(HISTORIES)))
            changed = [
                list(pool.map(partial(replay_change, noise, change), range(CHANGED_HISTORIES)))
                for change in CHANGES
            ]
            ask_rivals(
                [each for judged in (unchanged, *changed) for each in judged[:RIVAL_HISTORIES]]
            )
            for rule in RULES:
                row = [f"{100 * count_runs(unchanged, rule):.1f}"]
                row += [
                    f"{100 * count_histories(judged, rule, change):.0f}"
                    for judged, change in zip(changed, CHANGES, strict=True)
                ]
                if rule == OURS:
                    row.append(f"{100 * count_runs(unchanged, SUSPECTED):.0f}")
                    row.append(f"{measure_repeats(unchanged):.1%}")
                table.add_row(noise.name if rule == BARE else "", rule, *row)
    for name, begin in (("measured", 0), ("when less busy", BUSY_RUNS)):
        for rule, row in replay_measured(begin):
            table.add_row(name if rule == BARE else "", rule, *row)
    return table


def replay_noise(noise: Noise, seed: int) -> Judged:
    """Replay a history in which nothing ever changes; its first run does not count."""
    judged, simulation = Judged(), Simulation(noise, seed)
    for _ in range(RUNS):
        judged.go_on(simulation)
    judged.skip(1)
    return judged


def replay_change(noise: Noise, change: Change, seed: int) -> Judged:
    """Replay a history that changes in the end; only the runs from the change on count."""
    name = TOOLS[seed % len(TOOLS)]

    def slow(_scenario: str, row: str) -> float:
        return change.factor if change.everything or row == name else 1.0

    judged, simulation = Judged(), Simulation(noise, HISTORIES + seed)
    for _ in range(change.warm):
        judged.go_on(simulation)
    judged.skip(change.warm)
    lasts = change.everything or not change.usual_after
    for _ in range(change.runs):
        judged.go_on(simulation, slow, slow if lasts else None)
    for _ in range(change.usual_after):
        judged.go_on(simulation)
    return judged


def replay_measured(begin: int) -> Iterable[tuple[str, list[str]]]:
    """Replay what was measured, with the steps that all its calls were given; yield rows by rule.

    It has no repeats and no control, and its changes slow all figures.
    """
    history = list(read_history())[begin:]
    added = [ms for ms, _ in history]
    judged = Judged()
    for number, (_, rows) in enumerate(history):
        judged.add(build_entry(number, rows))
    ask_rivals([judged])
    for rule in RULES:
        alarms = [each[rule] for each in judged.alarms]
        unchanged = [alarms[place] for place, ms in enumerate(added) if place and not ms]
        large, small = added.index(LARGE_MS), added.index(SMALL_MS)
        found = (alarms[small : small + 4], alarms[large : large + 2])
        red = f"{100 * sum(map(bool, unchanged)) / len(unchanged):.1f}"
        yield rule, [red, "", *("yes" if any(each) else "no" for each in found)]


def ask_rivals(histories: Sequence[Judged]) -> None:
    """Add the alarms of the other rules to some histories."""
    lines = []
    for judged in histories:
        cells = _list_p50(judged.runs[0])
        series = [[run.figures[cell] for run in judged.runs] for cell in cells]
        lines.append(json.dumps({"begin": len(judged.runs) - len(judged.alarms), "series": series}))
    command = ["uv", "run", "--quiet", "--no-project", "--with-requirements"]
    command += [str(ROOT / "requirements" / "rivals.txt"), str(Path(__file__).parent / "rivals.py")]
    done = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, check=True
    )
    for judged, line in zip(histories, done.stdout.splitlines(), strict=True):
        cells = _list_p50(judged.runs[0])
        for alarms, found in zip(judged.alarms, json.loads(line), strict=True):
            alarms |= {
                rule: frozenset(cells[place] for place in places) for rule, places in found.items()
            }


def _list_p50(run: Entry) -> list[Cell]:
    return [cell for cell in run.figures if cell.figure == "p50" and cell.kind != CONTROL]


def apply_bare_rule(run: Entry, before: Entry) -> frozenset[Cell]:
    """Return the latencies and rates more than 25 % worse than in the run before."""
    rows = {(row.scenario, str(row.kind), row.name): row for row in run.rows}
    return frozenset(
        cell
        for cell, value in run.figures.items()
        if cell.figure != "failed"
        and cell.kind != CONTROL
        and cell in before.figures
        and is_measured(rows[cell[:3]], cell.figure)
        and is_worse(cell.figure, before.figures[cell], value, WORSE_SHARE)
    )


def count_runs(histories: Iterable[Judged], rule: str) -> float:
    """Return the share of the runs that a rule alarms for, of those that it was asked about."""
    asked = [alarms[rule] for judged in histories for alarms in judged.alarms if rule in alarms]
    return sum(map(bool, asked)) / len(asked)


def count_histories(histories: Iterable[Judged], rule: str, change: Change) -> float:
    """Return the share of the histories with an alarm, of what the change slows if it lasts."""
    found = []
    for seed, judged in enumerate(histories):
        slowed = {TOOLS[seed % len(TOOLS)], "all"}
        alarms = [each[rule] for each in judged.alarms if rule in each]
        anything = change.everything or change.usual_after
        if alarms:
            cells = [cell for each in alarms for cell in each]
            found.append(any(anything or cell.name in slowed for cell in cells))
    return sum(found) / len(found)


def measure_repeats(histories: Iterable[Judged]) -> float:
    """Return the mean share of a run's time that its repeats take."""
    shares = [share for judged in histories for share in judged.repeat_shares]
    return sum(shares) / len(shares)
