"""What the virtual users measured, read from k6's log.

k6/lib/histograms.js prints a snapshot per VU and interval:
`histograms {"vu": 3, "serial": 1, "interval": 0, "trends": {SERIES: [MOST, STEP, COUNT, …]}, …}`
A histogram is listed as by `Histogram.export`; `counts` has a number for each series.
"""

import json
import re
from typing import Annotated

from pydantic import BaseModel, Field, NonNegativeInt

from loadtest.results.histogram import Histograms
from loadtest.results.intervals import MOST_INTERVALS, ListedHistogram

_LINE = re.compile(rb'^time="[^"]*" level=info msg="histograms ((?:[^"\\]|\\.)*)"')


class _Snapshot(BaseModel):
    vu: int
    serial: int
    interval: Annotated[int, Field(ge=0, lt=MOST_INTERVALS)] = 0
    trends: dict[str, ListedHistogram]
    counts: dict[str, NonNegativeInt]


class Snapshots:
    """The snapshots of one k6 added up: `whole`, and by interval, of which 0 is the first."""

    def __init__(self) -> None:
        self.whole = Histograms()
        self.intervals: dict[int, Histograms] = {}
        self._serials: dict[int, int] = {}

    def read_line(self, line: bytes) -> bool:
        """Add a line of the log; return whether it is a snapshot, even a damaged one.

        A snapshot that is read twice counts once; a damaged one does not count.
        """
        match = _LINE.match(line)
        if match is None:
            return False
        try:
            snapshot = _Snapshot.model_validate_json(json.loads(b'"' + match[1] + b'"'))
        except ValueError:
            return True
        if snapshot.serial > self._serials.get(snapshot.vu, 0):
            self._serials[snapshot.vu] = snapshot.serial
            part = self.intervals.setdefault(snapshot.interval, Histograms())
            for each in (self.whole, part):
                for series, listed in snapshot.trends.items():
                    each.trend(series).add_listed(listed)
                each.counts.update(snapshot.counts)
        return True


def is_snapshot(line: bytes) -> bool:
    """Return whether a line of a log is a snapshot, even a damaged one."""
    return _LINE.match(line) is not None
