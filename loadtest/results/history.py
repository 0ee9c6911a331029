"""What the history stores of every run: its facts, its rows and its regressions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from loadtest.results.run import Percentiles, Replies, Row, Run

# The kind of the rows of a control: requests for a static document, beside the calls.
CONTROL = "control"
Figure = Literal["p50", "p95", "p99", "rate", "failed"]
FIGURES: tuple[Figure, ...] = ("p50", "p95", "p99", "rate", "failed")
# Of the replies: bytes of the body, ms from sending to the first byte, ms of silence after it.
ReplyFigure = Literal[
    "bytes p50", "bytes p95", "bytes max", "first byte p50", "first byte p95", "longest silence"
]
REPLY_FIGURES: tuple[ReplyFigure, ...] = get_args(ReplyFigure)


class Cell(NamedTuple):
    """One figure of one row: the unit that is compared from run to run.

    p50, p95, p99 in ms, `rate` in ok calls/s, `failed` the share (0 to 1) of calls that failed.
    """

    scenario: str
    kind: str
    name: str
    figure: Figure

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(frozen=True)
class Entry:
    """One run as the history keeps it.

    `confirmed` are the cells whose regression this run confirmed; the run is not a baseline for
    them until it is `accepted`. `suspected` are those that were worse in this run, without
    confirmation. `url` is the comment that it was read from, None for a run that is not posted.
    `repeats` are the rows of what was measured again; the history does not keep them.
    """

    run: Run
    rows: tuple[Row, ...]
    confirmed: frozenset[Cell] = frozenset()
    accepted: bool = False
    url: str | None = None
    suspected: frozenset[Cell] = frozenset()
    repeats: tuple[tuple[Row, ...], ...] = ()
    figures: Mapping[Cell, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The steps of a search differ from run to run; what it found can be compared.
        kept = (row for row in self.rows if self.run.capacity is None or row.kind == "capacity")
        figures = {cell: value for row in kept for cell, value in read_figures(row).items()}
        object.__setattr__(self, "figures", figures)

    def has_regressed(self) -> bool:
        """Return whether it has a confirmed regression that nobody has accepted."""
        return bool(self.confirmed) and not self.accepted


@dataclass(frozen=True)
class History:
    """The runs that could be read, oldest first; `skipped` names the others, with the reason."""

    entries: tuple[Entry, ...] = ()
    skipped: tuple[str, ...] = ()

    def list_earlier(self, run: Run) -> tuple[Entry, ...]:
        """Return the other runs that did not begin later than this one."""
        others = (entry for entry in self.entries if entry.run.run_id != run.run_id)
        return tuple(entry for entry in others if entry.run.started <= run.started)


def is_aggregate(row: Row | Cell) -> bool:
    """Return whether a row, or that of a cell, is the sum of all tools."""
    return row.kind == "tool" and row.name == "all"


def find_capacity_cell(run: Run) -> Cell | None:
    """Return the figure that a search for the capacity found; None for another run."""
    if run.capacity is None:
        return None
    scenario = "sessions" if run.capacity.unit == "sessions" else "tools"
    return Cell(scenario, "capacity", "capacity", "rate")


def pick_latency(row: Row) -> Percentiles | None:
    """Return the response time from the schedule, else the duration; None without an ok call."""
    return (row.response or row.duration) if row.ok else None


def read_figures(row: Row) -> dict[Cell, float]:
    """Return the figures of a row that has data; an opening of sessions has only failures.

    Those of streams are not compared.
    A single tool of the mix has no rate, because one slow tool lowers the rates of all tools in a
    closed loop.
    """
    if not row.count or row.kind == "stream":
        return {}
    if row.kind == "capacity":
        return {Cell(row.scenario, row.kind, row.name, "rate"): row.ok_rate}
    latency = pick_latency(row) if row.kind != "opening" else None
    figures: dict[Figure, float] = {"failed": 1 - row.ok / row.count}
    if latency is not None:
        figures |= {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99}
    if row.ok and (row.kind == "stage" or is_aggregate(row)):
        figures["rate"] = row.ok_rate
    return {
        Cell(row.scenario, row.kind, row.name, figure): value for figure, value in figures.items()
    }


def read_reply_figures(replies: Replies) -> dict[ReplyFigure, float]:
    """Return the figures of replies; without a measured silence, its upper bound."""
    size, first_byte = replies.size, replies.first_byte
    silence = replies.silence or replies.receiving
    values = (size.p50, size.p95, size.max, first_byte.p50, first_byte.p95, silence.max)
    return dict(zip(REPLY_FIGURES, values, strict=True))
