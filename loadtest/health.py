"""Whether a run may go on, and whether its load generator kept up."""

import os
import time
from collections import deque
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped,unused-ignore]

from loadtest.progress import Live
from loadtest.results import Generator

ABORT_SHARE = 0.5
ABORT_SECONDS = 30.0
# Refusals that say where a limit lies, not that the target is down.
LIMITS = ("capacity", "rate_limited")


@dataclass(frozen=True)
class _Moment:
    at: float
    requests: int
    down: int


class AbortRule:
    """Ends a run when more than half of what was answered in the last 30 s failed.

    Refusals at a cap or a quota do not count.
    """

    def __init__(self) -> None:
        self._moments: deque[_Moment] = deque()

    def judge(self, live: Live, now: float) -> str | None:
        """Return why to stop, by the counts at `now` (monotonic seconds); None to go on."""
        down = live.failures - sum(live.reasons.get(reason, 0) for reason in LIMITS)
        self._moments.append(_Moment(now, live.requests, down))
        # The window reaches back to the last moment that lies at least that long ago.
        while len(self._moments) > 1 and now - self._moments[1].at >= ABORT_SECONDS:
            self._moments.popleft()
        first = self._moments[0]
        requests, failed = live.requests - first.requests, down - first.down
        if now - first.at < ABORT_SECONDS or not requests or failed <= ABORT_SHARE * requests:
            return None
        share = min(1.0, failed / requests)
        return f"{share:.0%} of the requests of the last {now - first.at:.0f} s failed"


class Vitals:
    """What the k6 process takes of this machine, looked at while it runs."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began = time.monotonic()
        self._cpu_seconds = 0.0
        self._seconds = 0.0
        self._peak_bytes = 0

    def look(self) -> None:
        """Take the figures of this moment; those of a process that just ended stay as they were."""
        try:
            times, memory = self._process.cpu_times(), self._process.memory_info()
        except psutil.Error:
            return
        self._seconds = time.monotonic() - self._began
        self._cpu_seconds = times.user + times.system
        self._peak_bytes = max(self._peak_bytes, memory.rss)

    def describe(self, lateness_p95_ms: float | None) -> Generator:
        """Return the figures of the whole run."""
        share = self._cpu_seconds / self._seconds / count_cpus() if self._seconds else 0.0
        return Generator(
            cpu_share=round(share, 3),
            peak_memory_mb=round(self._peak_bytes / 1e6, 1),
            lateness_p95_ms=lateness_p95_ms,
        )


def count_cpus() -> int:
    """Return how many processors k6 may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
