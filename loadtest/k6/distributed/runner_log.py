"""What one runner of a fleet says in its log, and what became of it."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtest.common.files import write_text
from loadtest.common.redaction import redact_file
from loadtest.errors import ResultsError
from loadtest.k6.distributed.histogram import Tally, build_histogram, is_tally
from loadtest.k6.distributed.protocol import RunnerState
from loadtest.k6.summary import Summary, parse_summary
from loadtest.results.run import RunnerFault

LATE_SECONDS = 2.0  # a slice drains for longer: its calls reach into no other runner's next slice

_SUMMARY = b'{"loadtest":'
# By scenario: the series of k6's summary that a runner's tallies add up to, each sample in one.
_TOLD = {
    "cold-start": re.compile(r"mcp_(duration|failures)\{frame:"),
    "sessions": re.compile(r"mcp_(duration|response|failures|opening|open_failures)\{stage:"),
    "tools": re.compile(
        r"mcp_(duration|response|failures)\{tool:|mcp_opening$|mcp_open_failures\{reason:"
    ),
}
_LATENESS = "mcp_generator_lateness"


class RunnerLog:
    """A runner's log, read on as it grows: the tallies added up, and k6's summary at its end."""

    def __init__(self, path: Path) -> None:
        self.tally = Tally()
        self.summary: bytes | None = None
        self._path = path
        self._read = 0

    def read_on(self) -> None:
        """Take the lines that are whole and new."""
        with self._path.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                if line.startswith(_SUMMARY):
                    self.summary = line
                else:
                    self.tally.read_line(line)

    def parse_summary(self, path: Path, scenario: str) -> Summary:
        """Keep the summary in a file and return it; ResultsError where none is whole."""
        if self.summary is None:
            raise ResultsError("it told no summary")
        write_text(path, self.summary.decode(errors="replace"))
        redact_file(path)
        return parse_summary(path, scenario)


def is_told(line: bytes) -> bool:
    """Return whether a line of the log is kept elsewhere: a tally, or the summary."""
    return line.startswith(_SUMMARY) or is_tally(line)


def fill_gaps(tally: Tally, summary: Summary) -> None:
    """Take each series of which the tally lacks samples from the runner's own summary.

    VUs that k6 interrupts print no last histogram. Counts and maxima are exact then, too;
    percentiles lie between those of the summary's scale.
    """
    own = summary.loadtest
    told = _TOLD[own.scenario]
    for series, values in summary.metrics.items():
        count = summary.count(series)
        if count <= tally.count(series) or not (told.match(series) or series == _LATENESS):
            continue
        if "max" not in values:
            tally.counts[series] = count
        elif own.scale and len(values.get("scale", ())) == len(own.scale):
            shares = (0.0, *(cent / 100 for cent in own.scale), 1.0)
            known = zip(shares, (values["min"], *values["scale"], values["max"]), strict=True)
            tally.trends[series] = build_histogram(count, tuple(known), values["max"])


def find_faults(
    states: Sequence[RunnerState], tallies: Sequence[Tally], summaries: Sequence[Summary | None]
) -> tuple[RunnerFault, ...]:
    """Return what keeps runners from having done their whole share."""
    began = [each.loadtest.began for each in summaries if each and each.loadtest.began]
    first = min(began, default=0.0)
    return tuple(
        fault
        for state, tally, summary in zip(states, tallies, summaries, strict=True)
        for fault in _find(state, tally, summary, first)
    )


def _find(
    state: RunnerState, tally: Tally, summary: Summary | None, first: float
) -> Iterator[RunnerFault]:
    if state.phase == "lost":
        yield RunnerFault(state.number, "lost", state.reason or "it ended without an exit code")
        return
    if summary is None:
        yield RunnerFault(state.number, "lost", "it told no summary of its figures")
        return
    behind = ((summary.loadtest.began or first) - first) / 1000
    if behind > LATE_SECONDS:
        yield RunnerFault(state.number, "late", f"it began {behind:.1f} s after the first")
    told = _TOLD[summary.loadtest.scenario]
    expected = {name: summary.count(name) for name in summary.metrics if told.match(name)}
    missing = sum(max(0, count - tally.count(series)) for series, count in expected.items())
    if missing:
        whole = sum(expected.values())
        yield RunnerFault(state.number, "partial", f"{missing:,} of its {whole:,} samples are lost")
