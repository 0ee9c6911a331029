"""A real history: the reference target measured again and again, slowed on purpose now and then.

`python -m tests.bench.measured` measures the next run of SCHEDULE and adds it to measured.jsonl as
a line: how many ms each tool call was given on top, and what the rows came to. It was started anew
until all runs were there, on a machine of two processors that was busy with other work at times:
from run 9 to run 26 most of the time, which slowed a call by a sixth.
"""

import json
import random
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from loadtest.config.tool_table import NOVAMART, read_table
from loadtest.results.run import Percentiles, Row
from tests.bench.k6_runs import Place, serve_target
from tests.bench.plain_client import PlainClient

HISTORY = Path(__file__).parent / "measured.jsonl"
# What a call takes without any change, as the way to a hosted target would; 30 % and 15 % of it.
BASE_MS, LARGE_MS, SMALL_MS = 25.0, 9.0, 4.5
DRIFT_RUNS = 25
SCHEDULE = (
    *repeat(0.0, 40),
    *repeat(LARGE_MS, 8),
    *repeat(0.0, 22),
    *repeat(SMALL_MS, 12),
    *repeat(0.0, 22),
    *(SMALL_MS * run / DRIFT_RUNS for run in range(1, DRIFT_RUNS + 1)),
    *repeat(SMALL_MS, 11),
)
CALLS, CLIENTS = 1200, 4
QUANTILES = (50, 90, 95, 99)


def read_history() -> Iterator[tuple[float, tuple[Row, ...]]]:
    """Yield what each run added to a call in ms, and its rows."""
    for line in HISTORY.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        yield run["added_ms"], tuple(_build_row(**row) for row in run["rows"])


def _build_row(name: str, ok: int, seconds: float, ms: dict[str, float]) -> Row:
    duration = Percentiles(**ms)
    return Row("tools", "tool", name, ok, ok, {}, seconds, None, ok / seconds, duration)


def measure_run(place: Place, seed: int) -> list[dict[str, Any]]:
    """Call the mix from some sessions at a time; return a row per tool, and one of all."""
    pools = read_table(NOVAMART).tools
    names = list(chain.from_iterable(repeat(name, pool.weight) for name, pool in pools.items()))
    taken: dict[str, list[float]] = {name: [] for name in pools}

    def work(turn: int) -> None:
        rng = random.Random(f"{seed}/{turn}")  # noqa: S311
        with PlainClient(place) as client:
            for _ in range(CALLS // CLIENTS):
                name = rng.choice(names)
                params = {"name": name, "arguments": rng.choice(pools[name].arguments)}
                began = time.perf_counter()
                client.ask("tools/call", params)
                taken[name].append((time.perf_counter() - began) * 1000)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = round(time.perf_counter() - began, 2)
    rows = {**taken, "all": list(chain.from_iterable(taken.values()))}
    return [
        {"name": name, "ok": len(times), "seconds": seconds, "ms": _find_percentiles(times)}
        for name, times in rows.items()
    ]


def _find_percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    found = {f"p{q}": cuts[q - 1] for q in QUANTILES}
    values = asdict(Percentiles(**found, max=max(times)))
    return {name: round(value, 2) for name, value in values.items()}


def main() -> None:
    """Measure the next run that is not there yet."""
    HISTORY.touch()
    done = len(HISTORY.read_text(encoding="utf-8").splitlines())
    if done == len(SCHEDULE):
        raise SystemExit(f"all {done} runs are there")
    added = SCHEDULE[done]
    with serve_target("--tool-latency", f"constant:{BASE_MS + added:g}") as place:
        rows = measure_run(place, done)
    line = json.dumps({"added_ms": added, "rows": rows}, separators=(",", ":"))
    with HISTORY.open("a", encoding="utf-8") as history:
        history.write(f"{line}\n")


if __name__ == "__main__":
    main()
