"""End a task from outside: by a signal, or because nothing reads its output any more.

Each raises a KeyboardInterrupt: k6 stops, its sessions are closed, and the results are kept.
"""

import _thread
import atexit
import errno
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from loadtest.errors import MachineError

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

HANGUP: int = getattr(signal, "SIGHUP", 1)
# As in a shell, the exit code of a signal is 128 plus its number.
HANGUP_EXIT_CODE = 129
BROKEN_PIPE_EXIT_CODE = 141
# After this time a held signal cancels a coroutine, and one that a callback swallowed comes again.
LOOK_SECONDS = 0.1


class Terminated(KeyboardInterrupt):
    """Stop as for Ctrl-C, with another exit code; without `reason`, print nothing."""

    def __init__(self, exit_code: int, reason: str | None) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.reason = reason


class Signals:
    """Handle the signals of a process while its stages run.

    SIGTERM and SIGHUP interrupt only once: Nox sends SIGTERM after Ctrl-C, and a shell repeats the
    SIGHUP of its terminal; neither must interrupt the closing. A second Ctrl-C does.
    """

    current: ClassVar[Self | None] = None

    def __init__(self) -> None:
        self._seen = False
        self._before: dict[int, Any] = {}
        self._lost: KeyboardInterrupt | None = None
        self._show_unraisable = sys.unraisablehook
        self.holding = False
        self.held: KeyboardInterrupt | None = None

    def __enter__(self) -> Self:
        """Handle the signals, except those that are ignored, as with nohup."""
        type(self).current = self
        sys.unraisablehook = self._repeat
        for number, handler in (
            (signal.SIGINT, self._interrupt),
            (signal.SIGTERM, self._terminate),
            (HANGUP, self._hang_up),
        ):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, handler)
        return self

    def ignore(self) -> None:
        """From now on, let only Ctrl-C interrupt the closing."""
        for number in self._before.keys() - {signal.SIGINT}:
            signal.signal(number, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._show_unraisable
        type(self).current = None

    def raise_held(self) -> None:
        """Raise the interruption that came while signals were held."""
        if self.held is not None and not self.holding:
            held, self.held = self.held, None
            raise held

    def _raise(self, interruption: KeyboardInterrupt) -> None:
        self.held = interruption
        self.raise_held()

    def _repeat(self, lost: "sys.UnraisableHookArgs") -> None:
        """Interrupt again where Python could not raise: in a destructor, or a callback of one."""
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            self._show_unraisable(lost)
            return
        self._lost = lost.exc_value
        timer = threading.Timer(LOOK_SECONDS, _interrupt_main)
        timer.daemon = True
        timer.start()

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._seen = True
        lost, self._lost = self._lost, None
        self._raise(lost or KeyboardInterrupt())

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._end(143, "terminated")

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        for descriptor in (1, 2):
            _leave_dead_terminal(descriptor)
        self._end(HANGUP_EXIT_CODE, "the terminal was closed")

    def _end(self, exit_code: int, reason: str) -> None:
        if not self._seen:
            self._seen = True
            self._raise(Terminated(exit_code, reason))


@contextmanager
def hold_signals() -> Iterator[Signals | None]:
    """Interrupt the block only at its end; yield the signals, None where none can interrupt it.

    A signal handler raises anywhere: also in the standard library, just when it has taken a lock.
    Only the main thread is ever interrupted.
    """
    signals = Signals.current
    if threading.current_thread() is not threading.main_thread():
        signals = None
    if signals is None or signals.holding:
        yield signals
        return
    signals.holding = True
    try:
        yield signals
    finally:
        signals.holding = False
        signals.raise_held()


def run_coroutine(
    main: Coroutine[Any, Any, T],
    loop_factory: "Callable[[], asyncio.AbstractEventLoop] | None" = None,
) -> T:
    """Run a coroutine as `asyncio.run` does; a signal cancels it, and is raised when it has ended.

    A second signal cancels it once more, so that it does not wait for its closing.
    """
    import asyncio

    async def run(signals: Signals | None) -> T:
        if signals is None:
            return await main
        task = asyncio.ensure_future(main)
        watching = asyncio.ensure_future(watch(task, signals))
        try:
            return await task
        finally:
            watching.cancel()

    async def watch(task: "asyncio.Future[T]", signals: Signals) -> None:
        seen = None
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if signals.held is not seen:
                seen = signals.held
                task.cancel()

    with hold_signals() as signals, asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run(signals))


def _interrupt_main() -> None:
    """Send Ctrl-C to the main thread; on Windows, what it waits for ends first."""
    if os.name == "posix":
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


class Output:
    """A stream that accepts every character, and ends the task when it cannot be written.

    What is written after that is discarded, so that resources can still be closed. A standard
    error that fails does not end the task: the reason could not be printed.
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
                _discard(self._stream.fileno())
        # Rich's own threads write too, but cannot end the task.
        if self._failure and self._ends and threading.current_thread() is threading.main_thread():
            lost, self._failure = self._failure, None
            raise _describe(lost) from None
        return written


@contextmanager
def guard_outputs() -> Iterator[None]:
    """Replace standard output and standard error by such streams."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Output(before[0], ends=True), Output(before[1], ends=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def end_unread_listings() -> None:
    """End silently with 141 if nobody reads the lists and help texts that Invoke prints itself.

    Invoke prints them outside every guard; Python writes the rest when the process ends.
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
    if failure.errno == errno.EPIPE:  # such as `| head`
        return Terminated(BROKEN_PIPE_EXIT_CODE, None)
    if failure.errno == errno.EIO:
        return Terminated(HANGUP_EXIT_CODE, None)
    reason = f"standard output cannot be written: {failure.strerror}"
    return Terminated(MachineError.exit_code, f"{reason}; the results so far are kept")


def _leave_dead_terminal(descriptor: int) -> None:
    """Discard what is written to a closed terminal, where every write would fail."""
    with suppress(OSError):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
            _discard(descriptor)


def _discard(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
