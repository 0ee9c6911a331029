"""False alarms and missed changes: the bare 25 % rule and ours, over the same histories."""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from statistics import median, quantiles

from rich.table import Table

from loadtest.compare.comparison import WORSE_SHARE, compare_run
from loadtest.compare.series import is_measured, is_worse
from loadtest.results.history import Cell, Entry
from tests.bench.histories import NOISES, Noise, Simulation, build_entry
from tests.bench.measured import LARGE_MS, SMALL_MS, read_history

HISTORIES, RUNS = 50, 60
CHANGES, WARM_RUNS = 60, 25
# Until then, the measured history was made on a busy machine.
BUSY_RUNS = 26
# Of normally distributed values, in standard deviations.
QUARTILES_APART = 1.349
# How many times slower each run after the change is: a large step, a small one, a slow drift. Where
# all figures are slower, a large step has one more run: it takes a third to be confirmed.
LARGE_STEP = (1.3,) * 2
SHAPES = (
    LARGE_STEP,
    (1.15,) * 6,
    (*(1.15 ** (run / 30) for run in range(1, 31)), *(1.15,) * 10),
)
# What a change slows down, in turn: a tool, a stage, a frame, a scenario, all. None means any.
PLACES = (
    ("tools", "executeSQL"),
    ("sessions", "50"),
    ("cold-start", "initialize"),
    ("tools", None),
    (None, None),
)


@dataclass(frozen=True)
class Alarms:
    """The result of both rules for a run: the worse cells; the confirmed and suspected ones."""

    bare: frozenset[Cell]
    ours: frozenset[Cell]
    suspected: frozenset[Cell]

    def pick(self, is_slowed: Callable[[Cell], bool]) -> "Alarms":
        """Return the alarms of the cells that a change slows."""
        found = (self.bare, self.ours, self.suspected)
        return Alarms(*(frozenset(filter(is_slowed, cells)) for cells in found))


def bench() -> Table:
    """Replay simulated histories, in which the truth is known, and the one that was measured."""
    changes = ("30 % in 2", "15 % in 6", "slow 15 %")
    table = Table("bare 25 % rule\n| ours (suspected)", "noise,\np50 / p95", box=None)
    for header in ("alarms in 100\nunchanged runs", *(f"missed:\n{name}" for name in changes)):
        table.add_column(header, justify="right")
        table.add_column("")
    with ProcessPoolExecutor() as pool:
        for noise in NOISES:
            replays = pool.map(partial(replay_noise, noise), range(HISTORIES))
            alarms = list(chain.from_iterable(replayed[1:] for replayed in replays))
            missed = [
                count_missed(pool.map(partial(replay_change, noise, shape), range(CHANGES)))
                for shape in SHAPES
            ]
            simulations = (Simulation(noise, seed) for seed in range(10))
            spread = describe_spread([[each.draw() for _ in range(RUNS)] for each in simulations])
            table.add_row(noise.name, spread, *count_false(alarms), *chain.from_iterable(missed))
    for name, begin in (("measured", 0), ("when less busy", BUSY_RUNS)):
        table.add_row(name, *replay_measured(begin))
    return table


def replay_noise(noise: Noise, seed: int) -> list[Alarms]:
    """Replay a history in which nothing ever changes."""
    simulation = Simulation(noise, seed)
    return replay(simulation.draw() for _ in range(RUNS))


def replay_change(noise: Noise, shape: Sequence[float], seed: int) -> list[Alarms]:
    """Replay a history that changes in the end; return the alarms at what the change slows."""
    scenario, name = PLACES[seed % len(PLACES)]

    def is_slowed(of: str, row: str) -> bool:
        return scenario in {None, of} and name in {None, row}

    def slow(factor: float) -> Callable[[str, str], float]:
        return lambda of, row: factor if is_slowed(of, row) else 1.0

    if shape == LARGE_STEP and scenario is None:
        shape = (*shape, shape[-1])
    simulation = Simulation(noise, HISTORIES + seed)
    warm = (simulation.draw() for _ in range(WARM_RUNS))
    changed = (simulation.draw(slow(factor)) for factor in shape)
    alarms = replay(chain(warm, changed))[WARM_RUNS:]
    return [alarm.pick(lambda cell: is_slowed(cell.scenario, cell.name)) for alarm in alarms]


def replay_measured(begin: int) -> tuple[str, ...]:
    """Replay what was measured, with the steps and the drift that all its calls were given."""
    history = list(read_history())[begin:]
    added = [ms for ms, _ in history]
    runs = [build_entry(number, rows) for number, (_, rows) in enumerate(history)]
    alarms = replay(runs)
    unchanged = [place for place, ms in enumerate(added) if ms == 0]
    large, small = added.index(LARGE_MS), added.index(SMALL_MS)
    drift = next(place for place, ms in enumerate(added) if 0 < ms < SMALL_MS)
    missed = (
        count_missed([alarms[first : first + within]])
        for first, within in ((large, len(LARGE_STEP) + 1), (small, 6), (drift, len(added)))
    )
    spread = describe_spread([[runs[place] for place in unchanged]])
    false = count_false([alarms[place] for place in unchanged[1:]])
    return spread, *false, *chain.from_iterable(missed)


def replay(runs: Iterable[Entry]) -> list[Alarms]:
    """Judge runs one after the other, each with what was confirmed of those before it."""
    earlier: list[Entry] = []
    alarms = []
    for run in runs:
        comparison = compare_run(run, earlier)
        worse = apply_bare_rule(run, earlier[-1]) if earlier else frozenset()
        alarms.append(Alarms(worse, comparison.confirmed, comparison.suspected))
        earlier.append(replace(run, confirmed=comparison.confirmed, suspected=comparison.suspected))
    return alarms


def apply_bare_rule(run: Entry, before: Entry) -> frozenset[Cell]:
    """Return the latencies and rates more than 25 % worse than in the run before."""
    rows = {(row.scenario, str(row.kind), row.name): row for row in run.rows}
    return frozenset(
        cell
        for cell, value in run.figures.items()
        if cell.figure != "failed"
        and cell in before.figures
        and is_measured(rows[cell[:3]], cell.figure)
        and is_worse(cell.figure, before.figures[cell], value, WORSE_SHARE)
    )


def count_false(alarms: Sequence[Alarms]) -> tuple[str, str]:
    """Return how many of a hundred runs alarm, by either rule, and how many suspect something."""
    share = 100 / len(alarms)
    bare, ours, suspected = (
        sum(bool(getattr(each, rule)) for each in alarms) * share
        for rule in ("bare", "ours", "suspected")
    )
    return f"{bare:.1f}", f"| {ours:.1f} ({suspected:.1f})"


def count_missed(changes: Iterable[Sequence[Alarms]]) -> tuple[str, str]:
    """Return how many of the changes raise no alarm in any of their runs, by either rule."""
    changes = list(changes)
    bare = sum(not any(alarm.bare for alarm in alarms) for alarms in changes)
    ours = sum(not any(alarm.ours for alarm in alarms) for alarms in changes)
    return f"{bare} of {len(changes)}", f"| {ours}"


def describe_spread(histories: Sequence[Sequence[Entry]]) -> str:
    """Return the spread from run to run of a middling p50 and p95, in per cent, outliers apart."""
    spreads = []
    for figure in ("p50", "p95"):
        found = []
        for runs in histories:
            for cell in (cell for cell in runs[0].figures if cell.figure == figure):
                low, _, high = quantiles(math.log(run.figures[cell]) for run in runs)
                found.append((high - low) / QUARTILES_APART)
        spreads.append(f"{median(found):.1%}")
    return " / ".join(spreads)
