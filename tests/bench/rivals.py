"""Judge histories with Apache Otava and with a t-test, in the environment of the group `rivals`.

Each line of the input is a history: `{"begin": 4, "series": [[30.1, 30.9, …], …]}`, a series of p50
per row. Each line of the output has, for every run from `begin` on, the places of the series that
Otava and the t-test alarm for: `[{"Otava": [0], "t-test": []}, …]`.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from otava.analysis import compute_change_points
from scipy.stats import ttest_ind

# A smaller change is not worth an alarm.
LEAST_SHARE = 0.1
# Otava alarms for a change point that is at most this many runs old; it sees the last WINDOW runs.
FRESH_RUNS, WINDOW = 4, 50
# The t-test compares the last runs with those before them.
LAST_RUNS, EARLIER_RUNS, P_VALUE = 2, 20, 0.001


def ask_otava(values: Sequence[float]) -> bool:
    """Return whether the last runs are above a fresh change point."""
    recent = values[-WINDOW:]
    points, _ = compute_change_points(recent, max_pvalue=P_VALUE, min_magnitude=LEAST_SHARE)
    return any(
        point.index >= len(recent) - FRESH_RUNS and point.stats.mean_2 > point.stats.mean_1
        for point in points
    )


def ask_t_test(values: Sequence[float]) -> bool:
    """Return whether the last runs are significantly above those before them."""
    last, earlier = values[-LAST_RUNS:], values[-LAST_RUNS - EARLIER_RUNS : -LAST_RUNS]
    if len(earlier) < LAST_RUNS:
        return False
    found = ttest_ind(last, earlier, alternative="greater")
    is_large = sum(last) / len(last) > (1 + LEAST_SHARE) * sum(earlier) / len(earlier)
    return is_large and bool(found.pvalue < P_VALUE)


def judge(line: str) -> str:
    """Judge a history."""
    history = json.loads(line)
    runs = range(history["begin"], len(history["series"][0]))
    return json.dumps([dict(_judge_run(history["series"], run)) for run in runs])


def _judge_run(series: Sequence[Sequence[float]], run: int) -> Iterator[tuple[str, list[int]]]:
    for name, ask in (("Otava", ask_otava), ("t-test", ask_t_test)):
        yield name, [place for place, values in enumerate(series) if ask(values[: run + 1])]


if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        for judged in pool.map(judge, sys.stdin):
            print(judged)
