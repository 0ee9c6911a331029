"""Watches the command lines of all processes, and the environment of k6, while a test runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

PROC = Path("/proc")
EVERY_SECONDS = 0.05
# A process shows its arguments from its first moments, and seldom changes them.
FIRST_ROUNDS = 5
LATER_ROUNDS = 20


class Watch:
    """What was seen: every command line, and every environment of a process called k6."""

    def __init__(self) -> None:
        self.command_lines: set[bytes] = set()
        self.k6_environments: set[bytes] = set()
        self._rounds: dict[Path, int] = {}

    def look(self) -> None:
        """Look once at every process that is ours to read, less often at those that stay."""
        present = {found for found in PROC.iterdir() if found.name.isdigit()}
        present.discard(PROC / str(os.getpid()))
        self._rounds = {process: self._rounds.get(process, 0) + 1 for process in present}
        for process, rounds in self._rounds.items():
            if rounds <= FIRST_ROUNDS or rounds % LATER_ROUNDS == 0:
                self._look_at(process)

    def _look_at(self, process: Path) -> None:
        try:
            command = (process / "cmdline").read_bytes()
            self.command_lines.add(command)
            if Path(os.fsdecode(command.split(b"\0", 1)[0])).name == "k6":
                self.k6_environments.add((process / "environ").read_bytes())
        except OSError:
            return  # it has ended, or belongs to somebody else


@contextmanager
def watch_processes() -> Iterator[Watch]:
    """Watch for the length of the block."""
    watch, over = Watch(), Event()

    def run() -> None:
        while not over.wait(EVERY_SECONDS):
            watch.look()

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
