"""Signals end a task wherever they come: once held, in a coroutine, and in a destructor."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from loadtest.common.interruption import Signals, Terminated, hold_signals, run_coroutine
from loadtest.common.processes import has_ended, kill


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as signals:
        yield signals


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.usefixtures("signals")
def test_a_held_signal_interrupts_at_the_end_of_the_block() -> None:
    steps = []

    @hold_signals()
    def work() -> None:
        send(signal.SIGTERM)
        with hold_signals():
            steps.append("inside")
        steps.append("outside")

    with pytest.raises(Terminated):
        work()
    assert steps == ["inside", "outside"]


def test_a_signal_that_a_destructor_swallowed_comes_again(signals: Signals) -> None:
    class Destroyed:
        def __del__(self) -> None:
            send(signal.SIGTERM)

    def destroy_and_wait() -> None:
        Destroyed()
        time.sleep(60)

    with pytest.raises(Terminated, match="terminated"):
        destroy_and_wait()
    assert signals.held is None


@pytest.mark.usefixtures("signals")
def test_a_signal_cancels_a_coroutine_and_waits_for_its_closing() -> None:
    steps = []

    async def work() -> None:
        try:
            send(signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            steps.append("closed")

    with pytest.raises(Terminated):
        run_coroutine(work())
    assert steps == ["closed"]


@pytest.mark.usefixtures("signals")
def test_a_second_ctrl_c_cancels_the_closing() -> None:
    async def work() -> None:
        try:
            send(signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            send(signal.SIGINT)
            await asyncio.sleep(60)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        run_coroutine(work())
    assert type(caught.value) is KeyboardInterrupt
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("signals")
def test_a_coroutine_that_swallows_its_cancelling_is_interrupted_at_its_end() -> None:
    async def work() -> str:
        send(signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "ignored"
        return "slept"

    with pytest.raises(Terminated):
        run_coroutine(work())


@pytest.mark.usefixtures("signals")
def test_a_signal_does_not_cancel_the_coroutine_of_another_thread() -> None:
    with ThreadPoolExecutor(1) as pool:

        @hold_signals()
        def wait_for_the_other() -> None:
            other = pool.submit(lambda: run_coroutine(asyncio.sleep(0.5, "finished")))
            send(signal.SIGTERM)
            done.append(other.result())

        done: list[str] = []
        with pytest.raises(Terminated):
            wait_for_the_other()
    assert done == ["finished"]


def test_a_coroutine_returns_its_value_and_raises_its_error() -> None:
    async def divide(by: int) -> float:
        return 1 / by

    assert run_coroutine(divide(2)) == 0.5
    with pytest.raises(ZeroDivisionError):
        run_coroutine(divide(0))


@pytest.mark.usefixtures("signals")
def test_a_program_whose_wait_was_interrupted_can_still_be_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        for _ in range(20):
            send_soon = subprocess.Popen(
                [sys.executable, "-c", f"import os; os.kill({os.getpid()}, {signal.SIGINT:d})"]
            )
            with pytest.raises(KeyboardInterrupt):
                has_ended(process, 60)
            send_soon.wait()
        assert not has_ended(process)
    finally:
        kill(process)
    assert has_ended(process)
