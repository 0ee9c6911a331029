"""The log of one runner, and the faults that it shows."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtest.common.files import write_text
from loadtest.common.redaction import redact_file
from loadtest.errors import ResultsError
from loadtest.k6.distributed.protocol import RunnerState
from loadtest.k6.snapshots import Snapshots, is_snapshot
from loadtest.k6.summary import Summary, parse_summary
from loadtest.results.histogram import Histograms, build_histogram
from loadtest.results.run import RunnerFault

# A slice drains for longer, so its calls do not overlap with the next slice of another runner.
LATE_SECONDS = 2.0

_SUMMARY = b'{"loadtest":'
_REPLIES = "reply_bytes|first_byte|receiving|server_time"
_STREAMS = "stream_[a-z]+|streams"
_LADDER = re.compile(
    rf"mcp_(duration|response|failures|opening|open_failures|lost_[a-z]+|{_STREAMS}|{_REPLIES})"
    r"\{stage:"
)
# By scenario: the series of k6's summary that the snapshots contain. Each sample is in one of them.
_SERIES = {
    "cold-start": re.compile(rf"mcp_(duration|failures|{_REPLIES})\{{frame:"),
    "sessions": _LADDER,
    "streams": _LADDER,
    "tools": re.compile(
        rf"mcp_(duration|response|failures|{_REPLIES})\{{tool:"
        r"|mcp_(opening|lost_[a-z]+|stream_[a-z]+)$"
        r"|mcp_(open_failures|stream_failures|streams)\{reason:|mcp_flow(_failures)?\{flow:"
    ),
}
_SERIES["soak"] = re.compile(rf"{_SERIES['tools'].pattern}|mcp_first_dispatch")
_LATENESS = "mcp_generator_lateness"


class RunnerLog:
    """A runner's log, read as it grows: its snapshots added up, and k6's summary at its end."""

    def __init__(self, path: Path) -> None:
        self.snapshots = Snapshots()
        self.summary: bytes | None = None
        self._path = path
        self._read = 0

    @property
    def histograms(self) -> Histograms:
        """Return the sum of all snapshots so far."""
        return self.snapshots.whole

    def read_on(self) -> None:
        """Read the new lines that are complete."""
        with self._path.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                if line.startswith(_SUMMARY):
                    self.summary = line
                else:
                    self.snapshots.read_line(line)

    def parse_summary(self, path: Path, scenario: str) -> Summary:
        """Write the summary to a file and return it; ResultsError if it is missing or damaged."""
        if self.summary is None:
            raise ResultsError("its log has no summary")
        write_text(path, self.summary.decode(errors="replace"))
        redact_file(path)
        return parse_summary(path, scenario)


def is_kept_elsewhere(line: bytes) -> bool:
    """Return whether another file has this line of the log: a snapshot, or the summary."""
    return line.startswith(_SUMMARY) or is_snapshot(line)


def fill_gaps(histograms: Histograms, summary: Summary) -> None:
    """Replace each series that lacks samples by the one of the runner's own summary.

    A VU that k6 interrupts does not print its last snapshot. Counts and maxima stay exact;
    percentiles are interpolated between those of the summary's scale.
    """
    own = summary.loadtest
    series_names = _SERIES[own.scenario]
    for series, values in summary.metrics.items():
        count = summary.count(series)
        if count <= histograms.count(series) or not (
            series_names.match(series) or series == _LATENESS
        ):
            continue
        if "max" not in values:
            histograms.counts[series] = count
        elif own.scale and len(values.get("scale", ())) == len(own.scale):
            shares = (0.0, *(cent / 100 for cent in own.scale), 1.0)
            known = zip(shares, (values["min"], *values["scale"], values["max"]), strict=True)
            histograms.trends[series] = build_histogram(count, tuple(known), values["max"])


def find_faults(
    states: Sequence[RunnerState],
    measured: Sequence[Histograms],
    summaries: Sequence[Summary | None],
) -> tuple[RunnerFault, ...]:
    """Return the reasons why runners did not do their full share."""
    began = [each.loadtest.began for each in summaries if each and each.loadtest.began]
    first = min(began, default=0.0)
    return tuple(
        fault
        for state, histograms, summary in zip(states, measured, summaries, strict=True)
        for fault in _find(state, histograms, summary, first)
    )


def _find(
    state: RunnerState, histograms: Histograms, summary: Summary | None, first: float
) -> Iterator[RunnerFault]:
    if state.phase == "lost":
        yield RunnerFault(state.number, "lost", state.reason or "it ended without an exit code")
        return
    if summary is None:
        yield RunnerFault(state.number, "lost", "its log has no summary")
        return
    behind = ((summary.loadtest.began or first) - first) / 1000
    if behind > LATE_SECONDS:
        yield RunnerFault(state.number, "late", f"it began {behind:.1f} s after the first")
    series_names = _SERIES[summary.loadtest.scenario]
    expected = {name: summary.count(name) for name in summary.metrics if series_names.match(name)}
    missing = sum(max(0, count - histograms.count(series)) for series, count in expected.items())
    if missing:
        total = sum(expected.values())
        yield RunnerFault(state.number, "partial", f"{missing:,} of its {total:,} samples are lost")
