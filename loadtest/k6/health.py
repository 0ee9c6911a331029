"""Whether a run may continue, and whether its load generator was fast enough."""

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped,unused-ignore]

from loadtest.k6.progress import Live
from loadtest.results.run import ALIVE, Generator

ABORT_SHARE = 0.5
ABORT_SECONDS = 30.0
# Shares of the memory: above the first, k6 is asked to end; above the second, it is killed.
MEMORY_SHARE = 0.5
MOST_MEMORY_SHARE = 0.75
MEMORY_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class _Moment:
    at: float
    requests: int
    down: int


class AbortRule:
    """Ends a run if more than half of the answers of the last 30 s were failures.

    Refusals at a cap or a quota do not count, and lost sessions do not: the target is up. The time
    is longer, `seconds`, where calls are slow.
    """

    def __init__(self, seconds: float = ABORT_SECONDS) -> None:
        self._seconds = seconds
        self._moments: deque[_Moment] = deque()

    def find_reason(self, live: Live, now: float) -> str | None:
        """Return why to stop, by the counts at `now` (monotonic seconds); None to continue."""
        down = live.failures - sum(live.reasons.get(reason, 0) for reason in ALIVE)
        self._moments.append(_Moment(now, live.requests, down))
        # The window begins at the last moment that is at least that long ago.
        while len(self._moments) > 1 and now - self._moments[1].at >= self._seconds:
            self._moments.popleft()
        first = self._moments[0]
        requests, failed = live.requests - first.requests, down - first.down
        if now - first.at < self._seconds or not requests or failed <= ABORT_SHARE * requests:
            return None
        share = min(1.0, failed / requests)
        return f"{share:.0%} of the requests of the last {now - first.at:.0f} s failed"


class Vitals:
    """The CPU and memory that a k6 process uses, read while it runs."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began = time.monotonic()
        self._cpu_seconds = 0.0
        self._seconds = 0.0
        self._peak_bytes = 0

    def look(self) -> None:
        """Read the figures of this moment; those of a process that has ended stay unchanged."""
        try:
            times, memory = self._process.cpu_times(), self._process.memory_info()
        except psutil.Error:
            return
        self._seconds = time.monotonic() - self._began
        self._cpu_seconds = times.user + times.system
        self._peak_bytes = max(self._peak_bytes, memory.rss)

    def describe(self) -> Generator:
        """Return the figures of the run so far."""
        share = self._cpu_seconds / self._seconds / count_cpus() if self._seconds else 0.0
        return Generator(
            cpu_share=round(share, 3),
            peak_memory_mb=round(self._peak_bytes / 1e6, 1),
        )


class MemoryGuard:
    """Ends k6 processes before they use the memory that the rest of the machine needs.

    k6 keeps every response unpacked in memory, and has no limit of its own. `reason` is one line
    that explains why the processes were ended; None while they use less than their share of
    `total_bytes`.
    """

    def __init__(self, total_bytes: int | None = None) -> None:
        self.reason: str | None = None
        self._total_bytes = total_bytes or find_memory_bytes()
        self._processes: list[psutil.Process] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def watch(self, pid: int) -> None:
        """Add a process."""
        with contextlib.suppress(psutil.Error):  # it has ended already
            self._processes.append(psutil.Process(pid))

    def _keep_looking(self) -> None:
        while not self._ended.wait(MEMORY_LOOK_SECONDS):
            used = sum(self._measure())
            if used > MOST_MEMORY_SHARE * self._total_bytes:
                self._end(used, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
            elif used > MEMORY_SHARE * self._total_bytes and self.reason is None:
                self._end(used, signal.SIGTERM if os.name == "nt" else signal.SIGINT)

    def _measure(self) -> Iterator[int]:
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                yield process.memory_info().rss

    def _end(self, used: int, by: signal.Signals) -> None:
        self.reason = self.reason or (
            f"k6 used {used / 1e9:.1f} GB, over half of this machine's memory "
            f"({self._total_bytes / 1e9:.1f} GB): check how much the target "
            "sends, or use a smaller profile"
        )
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(by)


def find_memory_bytes() -> int:
    """Return the memory of this machine, or less if a cgroup limits it."""
    limits = [int(psutil.virtual_memory().total)]
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, kinds, place = line.split(":", 2)
            if kinds in {"", "memory"}:
                limits += _read_cgroups(Path("/sys/fs/cgroup", kinds), place)
    return min(limits)


def _read_cgroups(root: Path, place: str) -> Iterator[int]:
    """Yield the limits of a control group and its parents; a container sees its own as the root."""
    group = root / place.lstrip("/")
    for folder in (group, *group.parents):
        for name in ("memory.max", "memory.limit_in_bytes"):  # version 2, version 1
            with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
                yield int((folder / name).read_text(encoding="ascii"))
        if folder == root:
            return


def count_cpus() -> int:
    """Return how many processors k6 may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
