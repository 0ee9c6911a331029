"""Ways to merge what runners measured, over the same simulated samples: their cost, their error.

Five runners, each farther from the target than the one before, call four tools in turn, whose
latencies follow a law each. Every way reads what it would find after such a run.
"""
# ruff: noqa: S608

import math
import multiprocessing
import resource
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import duckdb
from rich.table import Table

from loadtest.k6.distributed.runner_log import RunnerLog
from loadtest.results.histogram import Histograms
from tests.bench.k6_runs import find_peak_mb

_T = TypeVar("_T")
COUNTS = (1_000_000, 10_000_000, 100_000_000)
RUNNERS, VUS = 5, 200
SHARES = (0.5, 0.95, 0.99)
# In ms at a scale of 1 ms, of a normal `z` and uniform `u` and `v`.
LAWS = {
    "lognormal": "exp(0.5 * z)",
    "bimodal": "exp(0.1 * z) * if(v < 0.01, 10, 1)",
    "heavy": "pow(u, -0.6)",
    "steady": "exp(0.002 * z)",
}
NEAREST_MS, FARTHER, LONGEST_MS = 10, 2, 30_000
# Calls of a VU in the 30 s between two snapshots: at once, in 100 ms each; and once a second.
CALLS = (300, 30)
# Native histograms have 2^schema buckets to a power of 2; k6 makes those of schema 3.
SCHEMAS = (3, 5, 7)
OURS = 0.005  # half a bucket
MOST_OFF, MOST_MB = 0.01, 1074

Percentiles = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Cost:
    """The time and memory of an action in its own process."""

    seconds: float
    peak_mb: float


def bench() -> Table:
    """Merge a million samples, and 10 and 100 times as many; errors are the worst of all laws.

    The most take 12 GB of temporary files; all take a quarter of an hour.
    """
    table = Table(f"{RUNNERS} runners", box=None)
    for header in ("samples", "MB", "seconds", "peak\nMB", *(f"p{q * 100:g}\noff" for q in SHARES)):
        table.add_column(header, justify="right")
    for header in ("bound", "at most"):
        table.add_column(header, justify="right")
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as name:
            for row in measure(Path(name), count):
                table.add_row(*row)
    return table


def measure(folder: Path, count: int) -> Iterator[Sequence[str]]:
    """Yield a row for each method of merging this many samples."""
    run_alone(simulate, folder, count // RUNNERS)
    exact, by_parquet = run_alone(read_parquet, folder)
    samples, limits = f"{count / 1e6:g} M", f"{MOST_OFF:.0%}, {MOST_MB:,} MB"
    for calls in CALLS:
        run_alone(write_logs, folder, calls)
        found, cost = run_alone(add_histograms, folder)
        figures = (*describe(folder.glob("*.log"), cost), *compare(found, exact))
        yield f"snapshots of {calls} calls", samples, *figures, f"{OURS:.2%}", limits
    run_alone(write_csv, folder)
    found, cost = run_alone(read_csv, folder)
    figures = (*describe(folder.glob("*.csv"), cost), *compare(found, exact))
    yield "CSV, a line of ten", samples, *figures, "exact"
    figures = (*describe(folder.glob("*.parquet"), by_parquet), *compare(exact, exact))
    yield "Parquet", samples, *figures, "exact"
    for schema in SCHEMAS:
        found, _ = run_alone(read_native, folder, schema)
        figures = ("", "", "", *compare(found, exact))
        bound = math.exp2(1 / 2**schema) - 1
        yield f"native, schema {schema}", samples, *figures, f"{bound:.2%}"
    found, _ = run_alone(average, folder)
    yield "averaged", samples, "", "", "", *compare(found, exact), "none"


def describe(files: Iterable[Path], cost: Cost) -> tuple[str, ...]:
    """Return how large the files are, and what reading them took."""
    size = sum(path.stat().st_size for path in files) / 1e6
    return f"{size:,.0f}", f"{cost.seconds:,.1f}", f"{cost.peak_mb:,.0f}"


def compare(found: Percentiles, exact: Percentiles) -> Iterator[str]:
    """Yield how far off each percentile is where it is worst."""
    for place in range(len(SHARES)):
        yield f"{max(abs(found[law][place] / exact[law][place] - 1) for law in LAWS):.2%}"


def run_alone(action: Callable[..., _T], *arguments: object) -> tuple[_T, Cost]:
    """Call a function of this module in a fresh process; return what that took as well."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_run_here, action, arguments).result()


def _run_here(action: Callable[..., _T], arguments: tuple[object, ...]) -> tuple[_T, Cost]:
    duckdb.execute("SET enable_progress_bar = false")
    began = time.perf_counter()
    found = action(*arguments)
    seconds = time.perf_counter() - began
    return found, Cost(seconds, find_peak_mb(resource.RUSAGE_SELF))


def simulate(folder: Path, count: int) -> None:
    """Write each runner's samples; the same for the same count, independent of the threads."""
    duckdb.execute(
        """CREATE MACRO uniform(runner, place, turn) AS
        ((hash((runner * 4 + turn) * 1_000_000_000::BIGINT + place) >> 11) + 0.5) / 2^53"""
    )
    laws = " ".join(f"WHEN {turn} THEN {law}" for turn, law in enumerate(LAWS.values()))
    names = ", ".join(f"'{name}'" for name in LAWS)
    for runner in range(RUNNERS):
        scale = NEAREST_MS * FARTHER**runner
        duckdb.execute(
            f"""COPY (
            WITH chance AS (
                SELECT place, uniform({runner}, place, 0) AS u, uniform({runner}, place, 1) AS v,
                    sqrt(-2 * ln(uniform({runner}, place, 2)))
                    * cos(2 * pi() * uniform({runner}, place, 3)) AS z
                FROM range({count}) AS drawn(place))
            SELECT [{names}][place % {len(LAWS)} + 1] AS law,
                least({scale} * CASE place % {len(LAWS)} {laws} END, {LONGEST_MS}) AS ms
            FROM chance) TO '{folder}/{runner}.parquet'"""
        )


def write_logs(folder: Path, calls: int) -> None:
    """Write what each runner's VUs would print, with N calls in a snapshot."""
    for runner in range(RUNNERS):
        duckdb.execute(
            rf"""COPY (
            WITH buckets AS (
                SELECT file_row_number // {calls} AS turn, law, max(ms) AS most,
                    floor(ln(ms) / ln(1.01))::INTEGER AS bucket, count(*) AS samples
                FROM read_parquet('{folder}/{runner}.parquet', file_row_number = true)
                GROUP BY ALL),
            steps AS (
                SELECT *, bucket - lag(bucket, 1, 0) OVER (
                    PARTITION BY turn, law ORDER BY bucket) AS step
                FROM buckets),
            trends AS (
                SELECT turn, law, max(most) AS most,
                    string_agg(step || ',' || samples, ',' ORDER BY bucket) AS listed
                FROM steps GROUP BY turn, law)
            SELECT 'time="2026-11-26T16:00:00Z" level=info msg="histograms {{\"vu\":'
                || turn % {VUS} + 1 || ',\"serial\":' || turn // {VUS} + 1 || ',\"trends\":{{'
                || string_agg('\"mcp_duration{{tool:' || law || '}}\":[' || most || ',' || listed
                    || ']', ',')
                || '}},\"counts\":{{}}}}" source=console'
            FROM trends GROUP BY turn ORDER BY turn)
            TO '{folder}/{runner}.log'
            (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\t')"""
        )


def add_histograms(folder: Path) -> Percentiles:
    """Read the logs as the engines do."""
    whole = Histograms()
    for path in folder.glob("*.log"):
        log = RunnerLog(path)
        log.read_on()
        whole.add(log.histograms)
    return {law: whole.trends[f"mcp_duration{{tool:{law}}}"].percentiles(SHARES) for law in LAWS}


def write_csv(folder: Path) -> None:
    """Write the samples as k6 does: of the ten lines that each call has there, ours."""
    for runner in range(RUNNERS):
        duckdb.execute(
            f"""COPY (
            SELECT 'mcp_duration' AS metric_name, 1_795_712_396 AS timestamp,
                format('{{:.6f}}', ms) AS metric_value, NULL AS error_code,
                NULL AS expected_response, NULL AS method, NULL AS name, 'tools' AS scenario,
                NULL AS status, 'instance_id={runner}&tool=' || law || '&rpc=tools/call'
                AS extra_tags, NULL AS metadata
            FROM '{folder}/{runner}.parquet') TO '{folder}/{runner}.csv'"""
        )


def read_csv(folder: Path) -> Percentiles:
    """Read the samples out of k6's lines."""
    tool = "regexp_extract(extra_tags, 'tool=([^&]*)', 1)"
    return read_points(
        f"SELECT {tool} AS law, metric_value AS ms FROM '{folder}/*.csv' "
        "WHERE metric_name = 'mcp_duration'"
    )


def read_parquet(folder: Path) -> Percentiles:
    """Read the samples, and nothing else."""
    return read_points(f"SELECT law, ms FROM '{folder}/*.parquet'")


def read_points(points: str) -> Percentiles:
    """Return exact percentiles, between two samples by their distance as k6 does."""
    found = duckdb.execute(
        f"SELECT law, quantile_cont(ms, {list(SHARES)}) FROM ({points}) GROUP BY law"
    )
    return dict(found.fetchall())


def read_native(folder: Path, schema: int) -> Percentiles:
    """Return the `histogram_quantile` of the sum of all runners' native histograms."""
    counted = duckdb.execute(
        f"""SELECT law, ceil(log2(ms / 1000) * 2^{schema})::INTEGER AS bucket, count(*) AS samples
        FROM '{folder}/*.parquet' GROUP BY law, bucket ORDER BY bucket"""
    ).fetchall()
    buckets = {law: [(b, n) for of, b, n in counted if of == law] for law in LAWS}
    return {law: [_find_native(buckets[law], schema, q) for q in SHARES] for law in LAWS}


def _find_native(buckets: Sequence[tuple[int, int]], schema: int, share: float) -> float:
    """Return a quantile in ms, as far into its bucket as its rank is among the bucket's samples."""
    ends = list(accumulate(samples for _, samples in buckets))
    rank = share * ends[-1]
    place = bisect_left(ends, rank)
    bucket, samples = buckets[place]
    low, high = (1000 * math.exp2(edge / 2**schema) for edge in (bucket - 1, bucket))
    return low + (high - low) * (rank - ends[place] + samples) / samples


def average(folder: Path) -> Percentiles:
    """Return the means of the runners' own percentiles."""
    paths = folder.glob("*.parquet")
    each = [read_points(f"SELECT law, ms FROM '{path}'") for path in paths]
    return {
        law: [sum(found[law][place] for found in each) / RUNNERS for place in range(len(SHARES))]
        for law in LAWS
    }
