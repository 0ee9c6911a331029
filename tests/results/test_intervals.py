"""The intervals of a scenario: what is written is read, and nothing else."""

import gzip
import json
from pathlib import Path

import pytest

from loadtest.errors import ResultsError
from loadtest.results.histogram import Histograms
from loadtest.results.intervals import (
    INTERVALS_FILE,
    Intervals,
    read_intervals,
    write_intervals,
)

SERIES = "mcp_duration{tool:look}"
FAILURES = "mcp_failures{tool:look,reason:timeout}"


def build(*numbers: int, failures: int = 0) -> Intervals:
    """Return intervals with a call each, which takes longer from interval to interval."""
    intervals = Intervals(2.0)
    for number in numbers:
        part = intervals.parts.setdefault(number, Histograms())
        part.trend(SERIES).add(10.0 + number, [(230 + number, 3), (240, 1)])
        part.counts[FAILURES] += failures
    return intervals


def describe(intervals: Intervals | None) -> dict[int, tuple[list[float], int]]:
    assert intervals is not None
    return {
        number: (part.trends[SERIES].export(), part.counts[FAILURES])
        for number, part in intervals.parts.items()
    }


def test_intervals_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = build(0, 1, 5, failures=2)
    write_intervals(tmp_path, written)
    found = read_intervals(tmp_path)
    assert describe(found) == describe(written)
    assert found is not None
    assert (found.seconds, found.count()) == (2.0, 6)


def test_the_same_intervals_make_the_same_file(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        write_intervals(tmp_path, build(3, 4))
        contents.append((tmp_path / INTERVALS_FILE).read_bytes())
    assert contents[0] == contents[1]


def test_a_scenario_of_an_earlier_version_has_no_intervals(tmp_path: Path) -> None:
    write_intervals(tmp_path, Intervals(1.0))
    assert not (tmp_path / INTERVALS_FILE).exists()
    assert read_intervals(tmp_path) is None


def test_many_intervals_are_merged_with_their_neighbours() -> None:
    merged = build(*range(250), failures=1).merge(120)
    assert (merged.seconds, merged.count()) == (6.0, 84)
    assert merged.parts[1].count(SERIES) == 12
    assert merged.parts[1].trends[SERIES].most == 15.0
    assert merged.total().counts == {FAILURES: 250}
    assert describe(build(1, 2).merge(120)) == describe(build(1, 2))


def pack(content: bytes) -> bytes:
    """Pack without the time, so that a test has one name."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "is damaged"),
        (pack(b"{}")[:-9], "is damaged"),
        (pack(b"nonsense"), "is damaged"),
        (pack(b"[]"), "is damaged"),
        (pack(b"{}"), "is damaged"),
        (pack(json.dumps({"version": 9}).encode()), "newer than 1: update"),
        (
            pack(b'{"version":1,"seconds":1,"trends":{"a":{"0":[1,2]}},"counts":{}}'),
            "steps and counts must be in pairs",
        ),
        (
            pack(b'{"version":1,"seconds":1,"trends":{},"counts":{"a":{"0":-1}}}'),
            "greater than or equal to 0",
        ),
        (
            pack(b'{"version":1,"seconds":1,"trends":{},"counts":{"a":{"99999999":1}}}'),
            "less than 100000",
        ),
        (
            pack(b'{"version":1,"seconds":0,"trends":{},"counts":{}}'),
            "greater than 0",
        ),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / INTERVALS_FILE).write_bytes(content)
    with pytest.raises(ResultsError, match=message) as caught:
        read_intervals(tmp_path)
    assert INTERVALS_FILE in str(caught.value)


def test_a_file_that_unpacks_to_far_too_much_is_an_error(tmp_path: Path) -> None:
    (tmp_path / INTERVALS_FILE).write_bytes(gzip.compress(b" " * (65 * 2**20)))
    with pytest.raises(ResultsError, match="larger than 64 MB"):
        read_intervals(tmp_path)
