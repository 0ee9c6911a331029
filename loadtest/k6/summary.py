"""`summary.json`, which the scripts write: read it, check it, turn it into rows."""

from collections.abc import Iterator, Mapping
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from loadtest.common.files import read_whole
from loadtest.common.parsing import parse_json
from loadtest.errors import ResultsError
from loadtest.results.run import (
    HeldStreams,
    LostSessions,
    Percentiles,
    Replies,
    Row,
    RowKind,
    ServerName,
    Spread,
)

SUMMARY_VERSION = 1
K6_PERCENTILES = ("p(50)", "p(90)", "p(95)", "p(99)", "max")  # as k6 names them
# By era: the request that opens a client.
OPENINGS = {"handshake": "initialize", "stateless": "server/discover"}
# By kind of row: the counter of failures, where it is not that of calls.
FAILURES = {
    "opening": "mcp_open_failures",
    "flow": "mcp_flow_failures",
    "first_dispatch": "mcp_first_dispatch_failures",
    "control": "mcp_control_failures",
    "control_connect": None,
}
HELD_SHARE = 0.01  # if more calls than this waited for the rate limit, the rate is the limit's


class Server(BaseModel):
    """The name and version that the target reports, and the revision and era that were used."""

    model_config = ConfigDict(frozen=True)

    name: ServerName | None = None
    version: ServerName | None = None
    protocol: ServerName
    era: Literal["handshake", "stateless"]


class _Slice(BaseModel):
    name: str
    vus: int
    seconds: float
    rate: float | None
    begins: float


class _Own(BaseModel):
    version: int
    scenario: str
    slices: tuple[_Slice, ...]
    tools: tuple[str, ...]
    kinds: tuple[RowKind, ...] = ()  # of the tools; without it, they are tools
    server: Server | None
    clients: int
    elapsed_ms: float | None
    began: float | None = None  # in ms since the epoch
    most_rate: float | None = None  # calls/s that the environment allows
    scale: tuple[float, ...] = ()  # percentages; the trends of a runner have these percentiles


class Summary(BaseModel):
    """`summary.json`: metrics as in `--summary-export`, and a part of the scripts' own."""

    loadtest: _Own
    metrics: dict[str, dict[str, Any]]

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, values in metrics.items():
            figures = [value for key, value in values.items() if key not in {"thresholds", "scale"}]
            if not (
                all(isinstance(figure, int | float) for figure in figures)
                and isinstance(values.get("thresholds", {}), dict)
                and isinstance(values.get("scale", []), list)
            ):
                raise ValueError(f"the figures of {name} are not numbers")
        return metrics

    def count(self, name: str) -> int:
        """Return a counter's count; one that was never added to is 0."""
        return int(self.metrics.get(name, {}).get("count", 0))

    def counts(self, counter: str, selector: str) -> dict[str, int]:
        """Return a counter's counts by reason, in the series that `selector` picks."""
        start = f"{counter}{{{selector},reason:" if selector else f"{counter}{{reason:"
        found = {
            name.removeprefix(start).removesuffix("}"): self.count(name)
            for name in self.metrics
            if name.startswith(start)
        }
        return {reason: count for reason, count in found.items() if count}


def parse_summary(path: Path, scenario: str) -> Summary:
    """Read `summary.json`; raise ResultsError, with its path, unless it is complete."""
    try:
        summary = Summary.model_validate(parse_json(read_whole(path)))
    except FileNotFoundError:
        raise ResultsError(f"{path} does not exist: k6 ended before it wrote its summary") from None
    except OSError as failure:
        raise ResultsError(f"{path} cannot be read: {failure.strerror}") from None
    except ValueError as failure:
        found = failure.errors() if isinstance(failure, ValidationError) else ()
        fault = found[0]["msg"] if found else failure
        raise ResultsError(
            f"{path} is not a complete summary ({fault}): run the scenario again"
        ) from None
    own = summary.loadtest
    if own.version != SUMMARY_VERSION or own.scenario != scenario:
        raise ResultsError(
            f"{path} is of scenario {own.scenario}, version {own.version}; "
            f"expected {scenario}, version {SUMMARY_VERSION}"
        )
    return summary


def build_rows(summary: Summary) -> tuple[Row, ...]:
    """Turn the metrics of k6 into rows; a slice that never began has none."""
    own = summary.loadtest
    if own.elapsed_ms is None or own.server is None:
        return ()
    if own.scenario == "cold-start":
        frames = ("connect", OPENINGS[own.server.era], "tools/list", "first dispatch")
        ended = summary.metrics.get("mcp_ended", {})
        elapsed_ms = ended["max"] if ended.get("count") else own.elapsed_ms
        clients = min(own.clients, int(ended.get("count", 0)) or 1)
        return (
            *(
                _build_row(summary, "frame", frame, f"frame:{frame}", elapsed_ms / 1000, clients)
                for frame in frames
            ),
            *_build_control_rows(summary, elapsed_ms / 1000),
        )
    rows: list[Row] = []
    for piece in own.slices:
        seconds = min(piece.seconds, own.elapsed_ms / 1000 - piece.begins)
        if seconds <= 0:
            continue
        is_ladder = own.scenario in {"sessions", "streams"}
        selector = f"stage:{piece.name}" if is_ladder else ""
        kind: RowKind = "stage" if is_ladder else "tool"
        clients = min(own.clients, piece.vus)
        build = partial(_build_row, summary, seconds=seconds, clients=clients)
        rows.append(build(kind, piece.name, selector, rate=piece.rate))
        if kind == "tool":
            kinds = own.kinds or (kind,) * len(own.tools)
            for kind, tool in zip(kinds, own.tools, strict=True):
                of = "flow" if kind == "flow" else ""
                rows.append(build(kind, tool, f"{of or 'tool'}:{tool}", metric=of))
        if own.scenario == "soak":
            rows.append(build("frame", "first dispatch", "", metric="first_dispatch"))
        rows.append(build("opening", piece.name, selector, metric="opening"))
        rows += _build_stream_rows(summary, piece.name, selector, seconds, clients)
    ends = max((piece.begins + piece.seconds for piece in own.slices), default=0.0)
    rows += _build_control_rows(summary, min(ends, own.elapsed_ms / 1000))
    return tuple(rows)


def _build_control_rows(summary: Summary, seconds: float) -> Iterator[Row]:
    """Yield the rows of the control: its document, and the connections that it opened."""
    for name, metric in (("document", "control"), ("connect", "control_connect")):
        row = _build_row(summary, "control", name, "", seconds, 1, metric=metric)
        if row.count:
            yield row


def find_crossed(summary: Summary) -> tuple[str, ...]:
    """Return the thresholds that were crossed, as `metric{tags}: rule`."""
    return tuple(
        f"{name}: {rule}"
        for name, metric in summary.metrics.items()
        for rule, crossed in metric.get("thresholds", {}).items()
        if crossed
    )


def _build_row(
    summary: Summary,
    kind: RowKind,
    name: str,
    selector: str,
    seconds: float,
    clients: int,
    *,
    metric: str = "",
    rate: float | None = None,
) -> Row:
    braced = f"{{{selector}}}" if selector else ""
    durations = summary.metrics.get(f"mcp_{metric or 'duration'}{braced}", {})
    counter = FAILURES.get(metric, "mcp_failures")
    failures = summary.counts(counter, selector) if counter else {}
    ok = int(durations.get("count", 0))
    count = ok + sum(failures.values())
    aggregates = selector in {"", "frame:first dispatch"} and not metric and rate is None
    is_held = aggregates and summary.count("mcp_held") > HELD_SHARE * count
    responses = {} if metric else summary.metrics.get(f"mcp_response{braced}", {})
    return Row(
        scenario=summary.loadtest.scenario,
        kind=kind,
        name=name,
        count=count,
        ok=ok,
        failures=failures,
        seconds=seconds,
        offered_rate=rate,
        achieved_rate=count / seconds if seconds > 0 else 0.0,
        duration=_build_percentiles(durations),
        response=_build_percentiles(responses),
        clients=clients,
        held_rate=summary.loadtest.most_rate if is_held else None,
        replies=None if metric else _build_replies(summary, braced),
        beyond={} if metric else summary.counts("mcp_beyond", selector),
        server_time=None if metric else _build_server_time(summary, braced),
        lost=_build_lost(summary, braced) if metric == "opening" else None,
    )


def _build_replies(summary: Summary, braced: str) -> Replies | None:
    """Return what was measured of the replies; None without one."""
    names = ("mcp_reply_bytes", "mcp_first_byte", "mcp_receiving")
    found = [summary.metrics.get(f"{name}{braced}", {}) for name in names]
    size, first_byte, receiving = map(_build_percentiles, found)
    if size is None or first_byte is None or receiving is None:
        return None
    return Replies(
        count=int(found[0]["count"]),
        size=_build_spread(size, 0),
        first_byte=_build_spread(first_byte, 3),
        receiving=_build_spread(receiving, 3),
    )


def _build_server_time(summary: Summary, braced: str) -> Percentiles | None:
    """Return how long the server says it worked, rounded; None if it does not say so."""
    found = _build_percentiles(summary.metrics.get(f"mcp_server_time{braced}", {}))
    return found and Percentiles(*(round(ms, 3) for ms in astuple(found)))


def _build_spread(values: Percentiles, digits: int) -> Spread:
    """Return rounded values, which take less room in the payload of a comment."""
    return Spread(*(round(each, digits) for each in (values.p50, values.p95, values.max)))


def _build_lost(summary: Summary, braced: str) -> LostSessions | None:
    """Return how long the sessions lived that were lost; None if none was."""
    names = ("mcp_lost_calls", "mcp_lost_age", "mcp_lost_at")
    calls, age, moment = (summary.metrics.get(name + braced, {}) for name in names)
    count = int(calls.get("count", 0))
    if not count:
        return None
    try:
        return LostSessions(
            count,
            calls=float(calls["p(50)"]),
            least_calls=float(calls["min"]),
            ages_seconds=(age["min"] / 1000, age["max"] / 1000),
            moments_seconds=(moment["min"] / 1000, moment["max"] / 1000),
        )
    except KeyError:
        raise ResultsError(
            "summary.json lacks figures of a series: run the scenario again"
        ) from None


def _build_stream_rows(
    summary: Summary, name: str, selector: str, seconds: float, clients: int
) -> Iterator[Row]:
    """Yield the row of the streams that sessions asked for; none if they asked for none."""
    braced = f"{{{selector}}}" if selector else ""
    held, opened, dropped, silence = (
        summary.metrics.get(f"mcp_stream_{part}{braced}", {})
        for part in ("held", "open", "dropped", "silence")
    )
    failures = summary.counts("mcp_stream_failures", selector)
    notes = summary.counts("mcp_streams", selector)
    ok = int(held.get("count", 0))
    count = ok + sum(failures.values())
    if not count and not notes:
        return
    early = int(dropped.get("count", 0))
    yield Row(
        scenario=summary.loadtest.scenario,
        kind="stream",
        name=name,
        count=count,
        ok=ok,
        failures=failures,
        seconds=seconds,
        offered_rate=None,
        achieved_rate=count / seconds,
        duration=_build_percentiles(opened),
        clients=clients,
        streams=HeldStreams(
            none=notes.get("none", 0),
            early=early,
            early_seconds=_read_range(dropped) if early else None,
            stays=notes.get("stays", 0),
            quiet=ok - int(opened.get("count", 0)),
            keep_alives=notes.get("keep_alive", 0),
            silence_seconds=_read_range(silence)[1] if ok else None,
        ),
    )


def _read_range(values: Mapping[str, Any]) -> tuple[float, float]:
    """Return the shortest and the longest time of a trend, in seconds."""
    try:
        return round(values["min"] / 1000, 3), round(values["max"] / 1000, 3)
    except KeyError:
        raise ResultsError(
            "summary.json lacks figures of a series: run the scenario again"
        ) from None


def _build_percentiles(values: Mapping[str, Any]) -> Percentiles | None:
    """Return the percentiles of k6; None without a sample, where k6 writes 0."""
    if not values.get("count"):
        return None
    if not set(K6_PERCENTILES) <= values.keys():
        raise ResultsError("summary.json lacks percentiles of a series: run the scenario again")
    return Percentiles(*(float(values[key]) for key in K6_PERCENTILES))
