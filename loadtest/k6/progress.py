"""Live progress of a k6 run: bars on a terminal, a few plain lines elsewhere."""

import contextlib
import http.client
import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self
from urllib.parse import quote

import psutil  # type: ignore[import-untyped,unused-ignore]
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from loadtest.common.console import Console, say
from loadtest.results.run import REASONS, REFUSALS, ScenarioResult

PLAIN_EVERY_SECONDS = 10.0
POLL_EVERY_SECONDS = 1.0
POLL_SHARE = 0.02  # of the time, at most: k6 sorts all samples to read percentiles
POLL_TIMEOUT_SECONDS = 2.0
RATE_WINDOW_SECONDS = 5.0
# Calls and openings that failed, and the reasons that are shown while k6 runs.
COUNTERS = ("mcp_failures", "mcp_open_failures")
SHOWN_REASONS = (*REASONS, "tool_error:internal_error")


@dataclass(frozen=True)
class Phase:
    """A part of a scenario; `seconds` is None if it has no fixed length."""

    name: str
    seconds: float | None


@dataclass(frozen=True)
class Live:
    """What k6 has counted so far, without the control.

    `p95_ms` is of successful calls, `reasons` are of `failures`.
    """

    requests: int
    failures: int
    p95_ms: float | None
    reasons: Mapping[str, int] = field(default_factory=dict)


class Feed(Protocol):
    """The source of live numbers; None if there are none at the moment."""

    def read(self) -> Live | None:
        """Return the numbers of this moment."""


class Watcher(Protocol):
    """Is informed about a scenario; `tick` is called a few times a second."""

    def begin(self, scenario: str, phases: tuple[Phase, ...]) -> None:
        """A scenario starts."""

    def tick(self, live: Live | None) -> None:
        """Some time has passed; `live` is given about once a second."""

    def end(self, result: ScenarioResult) -> None:
        """The scenario has ended."""


class NoWatcher:
    """Shows nothing."""

    def begin(self, scenario: str, phases: tuple[Phase, ...]) -> None:
        """Ignore it."""

    def tick(self, live: Live | None) -> None:
        """Ignore it."""

    def end(self, result: ScenarioResult) -> None:
        """Ignore it."""


class K6Feed:
    """Reads the REST API of k6 on its loopback port; never raises."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._port: int | None = None
        self._not_before = 0.0

    def read(self) -> Live | None:
        """Return the numbers, or None: k6 does not listen yet, or was asked a moment ago."""
        began = time.monotonic()
        if began < self._not_before:
            return None
        try:
            return self._fetch()
        except (OSError, ValueError, LookupError, http.client.HTTPException, psutil.Error):
            return None
        finally:
            took = time.monotonic() - began
            self._not_before = began + max(POLL_EVERY_SECONDS, took / POLL_SHARE)

    def _fetch(self) -> Live | None:
        if self._port is None:
            self._port = _find_port(self._pid)
        if self._port is None:
            return None
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=POLL_TIMEOUT_SECONDS
        )
        with contextlib.closing(connection):
            requests = _fetch_count(connection, "http_reqs")
            controls = _fetch_count(connection, "http_reqs{rpc:control}")
            failures = sum(_fetch_count(connection, counter) for counter in COUNTERS)
            reasons = _fetch_reasons(connection) if failures else {}
            durations = _fetch_sample(connection, "mcp_duration")
        return Live(
            requests=requests - controls,
            failures=failures,
            p95_ms=float(durations["p(95)"]) if durations.get("max") else None,
            reasons=reasons,
        )


def find_feed(pid: int) -> Feed:
    """Return the live numbers of the k6 process `pid`."""
    return K6Feed(pid)


def _find_port(pid: int) -> int | None:
    """Return the port of k6's REST API; its dashboard may have another one."""
    for connection in psutil.Process(pid).net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and _is_api(connection.laddr.port):
            return int(connection.laddr.port)
    return None


def _is_api(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=POLL_TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/status")
        return connection.getresponse().status == http.HTTPStatus.OK


def _fetch_reasons(connection: http.client.HTTPConnection) -> dict[str, int]:
    found = {
        reason: sum(_fetch_count(connection, f"{name}{{reason:{reason}}}") for name in COUNTERS)
        for reason in SHOWN_REASONS
    }
    return {reason: count for reason, count in found.items() if count}


def _fetch_count(connection: http.client.HTTPConnection, counter: str) -> int:
    return int(_fetch_sample(connection, quote(counter)).get("count", 0))


def _fetch_sample(connection: http.client.HTTPConnection, metric: str) -> dict[str, Any]:
    """Return the values of a metric; none if k6 has no sample of it yet."""
    connection.request("GET", f"/v1/metrics/{metric}")
    response = connection.getresponse()
    body = response.read()
    if response.status != http.HTTPStatus.OK:
        return {}
    sample = json.loads(body)["data"]["attributes"]["sample"]
    if not isinstance(sample, dict):
        raise ValueError("not a sample")
    return sample


class ProgressDisplay:
    """Shows the progress of a run: bars on a terminal, else a line per phase and every ten seconds.

    A context manager. Errors of the terminal do not end the run.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._scenario = ""
        self._phases: tuple[Phase, ...] = ()
        self._began = 0.0
        self._seen: deque[tuple[float, int]] = deque()
        self._note = ""
        self._said: tuple[int, float] = (-1, 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_bars()

    def begin(self, scenario: str, phases: tuple[Phase, ...]) -> None:
        """Start to show a scenario."""
        self._scenario, self._phases = scenario, phases
        self._began = time.monotonic()
        self._seen.clear()
        self._note, self._said = "", (-1, 0.0)
        with contextlib.suppress(OSError, ValueError):
            if self._console.is_terminal:
                self._bars = Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(bar_width=20),
                    TextColumn("{task.fields[note]}", markup=False),
                    console=self._console,
                    refresh_per_second=4,
                    transient=True,
                )
                self._task = self._bars.add_task(scenario, total=self._total(), note="")
                self._bars.start()
        self.tick(None)

    def tick(self, live: Live | None) -> None:
        """Show this moment."""
        elapsed = time.monotonic() - self._began
        if live is not None:
            self._take(live)
        index = self._find_phase(elapsed)
        stage = f" {index + 1}/{len(self._phases)}" if len(self._phases) > 1 else ""
        title = f"{self._scenario}{stage}: {self._phases[index].name}"
        total = self._total()
        left = "" if total is None else f"{max(0.0, total - elapsed):.0f} s left"
        note = ", ".join(part for part in (left, self._note) if part)
        with contextlib.suppress(OSError, ValueError):
            if self._bars is not None and self._task is not None:
                done = elapsed if total is None else min(elapsed, total)
                self._bars.update(self._task, description=title, note=note, completed=done)
            elif index != self._said[0] or elapsed - self._said[1] >= PLAIN_EVERY_SECONDS:
                self._said = (index, elapsed)
                self._print(f"{title}{', ' if note else ''}{note}")

    def end(self, result: ScenarioResult) -> None:
        """Remove the bar and print the outcome."""
        self._close_bars()
        reason = f" ({result.reason})" if result.reason else ""
        with contextlib.suppress(OSError, ValueError):
            self._print(f"{result.name}: {result.outcome}{reason}")

    def _print(self, text: str) -> None:
        say(self._console, "k6", text)

    def _close_bars(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._bars is not None:
                self._bars.stop()
        self._bars = None

    def _total(self) -> float | None:
        seconds = [phase.seconds for phase in self._phases]
        return None if None in seconds else sum(second or 0.0 for second in seconds)

    def _find_phase(self, elapsed: float) -> int:
        ends = 0.0
        for index, phase in enumerate(self._phases):
            ends += phase.seconds or 0.0
            if phase.seconds is None or elapsed < ends:
                return index
        return len(self._phases) - 1

    def _take(self, live: Live) -> None:
        now = time.monotonic()
        self._seen.append((now, live.requests))
        while now - self._seen[0][0] > RATE_WINDOW_SECONDS:
            self._seen.popleft()
        parts = []
        if now > self._seen[0][0]:
            rate = (live.requests - self._seen[0][1]) / (now - self._seen[0][0])
            parts.append(f"{rate:.1f} requests/s")
        if live.p95_ms is not None:
            parts.append(f"p95 {live.p95_ms:.0f} ms")
        parts.append(_describe_failures(live))
        self._note = ", ".join(parts)


def _describe_failures(live: Live) -> str:
    """Return how many calls failed and how many were refused, by reason."""
    refused: dict[str, int] = {name: live.reasons.get(name, 0) for name in REFUSALS}
    failed = {name: count for name, count in live.reasons.items() if name not in refused}
    if live.reasons:
        failed["other"] = live.failures - sum(live.reasons.values())
    refusals = sum(refused.values())
    text = _count_reasons(live.failures - refusals, "failed", failed)
    return f"{text}, {_count_reasons(refusals, 'refused', refused)}" if refusals else text


def _count_reasons(count: int, what: str, reasons: Mapping[str, int]) -> str:
    named = ", ".join(f"{number} {reason}" for reason, number in reasons.items() if number > 0)
    return f"{count} {what}" + (f": {named}" if named else "")
