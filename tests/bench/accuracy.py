"""What k6 measures, against what the reference target really did."""

import math
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.table import Table

from loadtest.reference.knobs import Knobs, parse_latency
from tests.bench.k6_runs import Place, serve_target
from tests.bench.plain_client import PlainClient

TOOL = "listEntities"
SESSIONS = 100  # a call a second each
SECONDS = 60
WITNESSES = 5
LATENCIES = ("constant:50", "bimodal:20,150,0.1", "heavy:30,0.7")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
OFF_MS, OFF_SHARE = 2.0, 0.03
THEORY_DRAWS = 400_000

STALL_SECONDS, STALL_AT_SECONDS = 2, 10
STAGE_SESSIONS, STAGE_SECONDS = 10, 20
LEAST_SEEN_MS, MOST_UNSEEN_MS = 1_600, 400


def bench_latency() -> Table:
    """Compare percentiles with those of the latencies drawn, each with what else a call takes.

    What else it takes is seen by plain sockets, at the same time and rate, on a second target that
    adds nothing. The latencies are the very ones that the target drew, so no sampling error is in
    them; `±` is the standard error that the law's own percentile would have with so many calls.
    """
    table = Table(
        f"{SESSIONS * SECONDS:,} calls, ms",
        *("", "law", "±", "injected", "k6", "off", "at most"),
        box=None,
    )
    for latency in LATENCIES:
        with (
            serve_target("--tool-latency", latency) as slowed,
            serve_target() as plain,
            watch(plain) as extras,
        ):
            knobs = {"STAGES": str(SESSIONS), "STAGE_SECONDS": str(SECONDS), "TOOL": TOOL}
            row = slowed.measure("sessions", "stage", str(SESSIONS), **knobs)
        assert row.duration is not None
        drawn = draw(latency, Knobs().seed, row.count)
        injected = add(drawn, sorted(extras))
        law = sorted(draw(latency, 0, THEORY_DRAWS))
        for name, q in QUANTILES.items():
            truth, found = find_quantile(injected, q), getattr(row.duration, name)
            spread = math.sqrt(q * (1 - q) / row.count)
            error = (find_quantile(law, q + spread) - find_quantile(law, q - spread)) / 2
            table.add_row(
                latency if name == "p50" else "",
                name,
                *(f"{value:.1f}" for value in (find_quantile(law, q), error, truth, found)),
                f"{found - truth:+.1f}",
                f"{max(OFF_MS, OFF_SHARE * truth):.1f}",
            )
    return table


def bench_stall() -> Table:
    """A stall of the server, as a schedule sees it and as a closed loop does."""
    table = Table(
        f"{STALL_SECONDS} s of stall in {STAGE_SECONDS} s, ms",
        *("calls", "call p50", "call p99", "due p99", "wanted"),
        box=None,
    )
    options = ("--stall-seconds", str(STALL_SECONDS), "--stall-at-seconds", str(STALL_AT_SECONDS))
    clients = str(STAGE_SESSIONS)
    with serve_target(*options) as place:
        knobs = {"STAGES": clients, "STAGE_SECONDS": str(STAGE_SECONDS)}
        row = place.measure("sessions", "stage", clients, **knobs)
    assert row.duration is not None
    assert row.response is not None
    due = f"{row.response.p99:,.0f}"
    wanted = f"due p99 at least {LEAST_SEEN_MS:,}"
    figures = (f"{row.count:,}", f"{row.duration.p50:.1f}", f"{row.duration.p99:,.0f}")
    table.add_row(f"by schedule, {clients} calls/s", *figures, due, wanted)
    with serve_target(*options) as place:
        knobs = {"VUS": clients, "DURATION": str(STAGE_SECONDS)}
        row = place.measure("tools", "tool", "all", **knobs)
    assert row.duration is not None
    wanted = f"call p99 at most {MOST_UNSEEN_MS}: it hides {row.duration.max:,.0f}"
    figures = (f"{row.count:,}", f"{row.duration.p50:.1f}", f"{row.duration.p99:,.0f}")
    table.add_row(f"closed loop, {clients} clients", *figures, "", wanted)
    return table


def draw(latency: str, seed: int, count: int) -> list[float]:
    """Return the first latencies, in ms, that a target with this knob and seed adds."""
    sample = parse_latency(latency)
    assert sample is not None
    rng = random.Random(seed)  # noqa: S311 (as the target draws)
    return [sample(rng) * 1000 for _ in range(count)]


def add(drawn: Sequence[float], extras: Sequence[float]) -> list[float]:
    """Return the sums, in order, of each latency with each of a hundred of the sorted extras."""
    steps = [find_quantile(extras, (step + 0.5) / 100) for step in range(100)]
    return sorted(latency + extra for latency in drawn for extra in steps)


def find_quantile(ordered: Sequence[float], q: float) -> float:
    """Return a quantile of sorted values, between the closest ranks as k6 does."""
    rank = q * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


@contextmanager
def watch(place: Place) -> Iterator[list[float]]:
    """Call the tool by plain sockets while the block lasts; the list fills with ms per call."""
    ended = threading.Event()
    found: list[float] = []
    threads = [
        threading.Thread(target=_call_steadily, args=(place, turn, ended, found))
        for turn in range(WITNESSES)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _call_steadily(place: Place, turn: int, ended: threading.Event, found: list[float]) -> None:
    """Call at this witness's share of the rate until it is stopped."""
    gap = WITNESSES / SESSIONS
    with PlainClient(place) as client:
        due = time.perf_counter() + gap * turn / WITNESSES
        while not ended.wait(max(0.0, due - time.perf_counter())):
            began = time.perf_counter()
            client.call(TOOL)
            found.append((time.perf_counter() - began) * 1000)
            due += gap
