"""What ends a task from outside: a signal, or an output that nobody reads any more.

All of it is a KeyboardInterrupt: k6 is stopped, its sessions are closed, what was measured is kept.
"""

import atexit
import errno
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

from loadtest.errors import MachineError

HANGUP: int = getattr(signal, "SIGHUP", 1)
# As a shell names the end by a signal: 128 and its number.
HANGUP_EXIT_CODE = 129
BROKEN_PIPE_EXIT_CODE = 141


class Terminated(KeyboardInterrupt):
    """Stop as for Ctrl-C, with an exit code of its own; without `reason` nothing is said."""

    def __init__(self, exit_code: int, reason: str | None) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.reason = reason


class Signals:
    """The signals of a process while its stages run.

    SIGTERM and SIGHUP interrupt once: Nox sends SIGTERM after Ctrl-C, a shell SIGHUP after the
    terminal has sent it, and neither shall hurry what is being closed. Ctrl-C twice does.
    """

    def __init__(self) -> None:
        self._seen = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take the signals; those that are ignored, as by nohup, stay so."""
        for number, handler in (
            (signal.SIGINT, self._interrupt),
            (signal.SIGTERM, self._terminate),
            (HANGUP, self._hang_up),
        ):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, handler)
        return self

    def ignore(self) -> None:
        """From now on nothing interrupts what is being closed, but Ctrl-C."""
        for number in self._before.keys() - {signal.SIGINT}:
            signal.signal(number, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        """Give the signals back to those who had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._seen = True
        raise KeyboardInterrupt

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._end(143, "terminated")

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        for descriptor in (1, 2):
            _leave_dead_terminal(descriptor)
        self._end(HANGUP_EXIT_CODE, "the terminal was closed")

    def _end(self, exit_code: int, reason: str) -> None:
        if not self._seen:
            self._seen = True
            raise Terminated(exit_code, reason)


class Output:
    """A stream that takes every character, and ends the task where it takes no more.

    Whatever comes after that is thrown away, so that what is open can still be closed. An error
    stream ends nothing: there is nowhere left to say why.
    """

    def __init__(self, stream: Any, *, ends: bool) -> None:
        self._stream = stream
        self._ends = ends
        self._failure: OSError | None = None
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write, as a stream does."""
        return int(self._attempt(self._stream.write, text) or 0)

    def flush(self) -> None:
        """Flush, as a stream does."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, act: Any, *arguments: Any) -> Any:
        written = None
        try:
            written = act(*arguments)
        except OSError as failure:
            self._failure = failure
            with suppress(OSError, ValueError):
                _throw_away(self._stream.fileno())
        # Rich's own threads draw too, and cannot end anything.
        if self._failure and self._ends and threading.current_thread() is threading.main_thread():
            lost, self._failure = self._failure, None
            raise _describe(lost) from None
        return written


@contextmanager
def guard_outputs() -> Iterator[None]:
    """Make standard output and standard error such streams."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Output(before[0], ends=True), Output(before[1], ends=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def end_unread_listings() -> None:
    """End with 141, without a word, where nobody reads what Invoke prints itself: lists and helps.

    That is outside of every guard: Python writes some of it at once, the rest as the process ends.
    """
    show = sys.excepthook

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError):
            os._exit(BROKEN_PIPE_EXIT_CODE)
        show(kind, error, trace)

    def flush() -> None:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os._exit(BROKEN_PIPE_EXIT_CODE)

    sys.excepthook = end
    atexit.register(flush)


def _describe(failure: OSError) -> Terminated:
    if failure.errno == errno.EPIPE:  # `| head` has read enough
        return Terminated(BROKEN_PIPE_EXIT_CODE, None)
    if failure.errno == errno.EIO:
        return Terminated(HANGUP_EXIT_CODE, None)
    words = f"standard output cannot be written: {failure.strerror}"
    return Terminated(MachineError.exit_code, f"{words}; what was measured is kept")


def _leave_dead_terminal(descriptor: int) -> None:
    """Throw away what is written to a terminal that is gone: every write to it would fail."""
    with suppress(OSError):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
            _throw_away(descriptor)


def _throw_away(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
