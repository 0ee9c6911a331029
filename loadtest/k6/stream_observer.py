"""One client beside k6 that reads replies as they arrive, because k6 shows only whole replies."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, cycle
from pathlib import Path
from typing import Any, Self

import httpx2
from pydantic import ValidationError

from loadtest.common.access import build_authorization
from loadtest.common.http import AsyncTransport, open_async_client
from loadtest.common.redaction import learn
from loadtest.config.models import STATELESS
from loadtest.errors import K6Error, LoadtestError
from loadtest.k6.plan import RunPlan
from loadtest.k6.progress import Watcher
from loadtest.k6.scenario import RunScenario, ScenarioRun
from loadtest.results.history import is_aggregate
from loadtest.results.run import Row, Spread
from loadtest.state.bearers import read_callers

MOST_BYTES = 64 * 2**20  # of one reply
MOST_ARGUMENTS = 100  # of each place of the tool table that has pools
RETRY_SECONDS = 5.0  # between two sessions, if the first one failed
DRAIN_SECONDS = 5.0  # for the last call
STOP_SECONDS = 15.0  # to close the session at the end


def observe_streams(run: RunScenario) -> RunScenario:
    """Return a function that runs a scenario, the mix beside an observer if the profile has one."""

    def run_observed(
        plan: RunPlan,
        scenario: str,
        *,
        out_dir: Path,
        watcher: Watcher | None,
        renewal_url: str | None,
    ) -> ScenarioRun:
        def measure() -> ScenarioRun:
            return run(plan, scenario, out_dir=out_dir, watcher=watcher, renewal_url=renewal_url)

        every_seconds = plan.profile.tools.observe_seconds
        if scenario != "tools" or every_seconds is None:
            return measure()
        with StreamObserver(plan, every_seconds) as observer:
            finished = measure()
        rows = add_silences(finished.rows, observer.silences_ms)
        if observer.stream_silence_ms is not None:
            rows = tuple(add_stream_silence(row, observer.stream_silence_ms) for row in rows)
        return replace(finished, rows=rows)

    return run_observed


def add_silences(
    rows: Sequence[Row], silences_ms: Mapping[str, Sequence[float]]
) -> tuple[Row, ...]:
    """Return the rows with the longest silence of each observed reply, by tool and of all tools."""
    everything = list(chain.from_iterable(silences_ms.values()))
    return tuple(
        _add(row, everything if is_aggregate(row) else silences_ms.get(row.name, ()))
        for row in rows
    )


def _add(row: Row, silences_ms: Sequence[float]) -> Row:
    if row.kind != "tool" or row.replies is None or not silences_ms:
        return row
    ordered = sorted(silences_ms)
    middle, high = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.95))
    silence = Spread(*(round(each, 3) for each in (middle, high, ordered[-1])))
    return replace(row, replies=replace(row.replies, silence=silence, streamed=len(ordered)))


def add_stream_silence(row: Row, silence_ms: float) -> Row:
    """Return the row; with the longest silence of an observed stream if it is about streams."""
    if row.streams is None or not row.ok:
        return row
    seconds = round(silence_ms / 1000, 3)
    return replace(row, streams=replace(row.streams, longest_silence_seconds=seconds))


class StreamObserver:
    """Calls the tools of the mix, but not resources, in turn, in a session of its own.

    `silences_ms` has, by tool, the longest time between two pieces of each successful reply after
    its headers. If its session fails, it opens another one; calls that fail are not counted.
    `stream_silence_ms` is the longest silence of the stream that a session of the handshake era
    holds, until its end; None without one.
    """

    def __init__(self, plan: RunPlan, every_seconds: float) -> None:
        self.silences_ms: dict[str, list[float]] = {}
        self.stream_silence_ms: float | None = None
        self._plan = plan
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        # The SDK logs what it also raises, with a traceback that holds the server's reply.
        logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
        asyncio.run(self._observe())

    async def _observe(self) -> None:
        from mcp.shared.exceptions import MCPError

        stopped = asyncio.ensure_future(asyncio.to_thread(self._stop.wait))
        listed = self._list_calls()
        calls = cycle(listed)
        failures = (OSError, httpx2.HTTPError, MCPError, ValidationError, LoadtestError)
        while listed and not stopped.done():
            try:
                await self._visit(calls, stopped)
            except (*failures, ExceptionGroup):
                await asyncio.wait({stopped}, timeout=RETRY_SECONDS)

    def _list_calls(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the calls of the tool table, the tools in turn."""
        tools = self._plan.tools
        columns = [
            [(name, arguments) for _, arguments in tools.spread_arguments(name, MOST_ARGUMENTS)]
            for name in tools.tools
        ]
        most = max(map(len, columns), default=0)
        return [column[place % len(column)] for place in range(most) for column in columns]

    async def _visit(
        self, calls: Iterator[tuple[str, dict[str, Any]]], stopped: asyncio.Future[bool]
    ) -> None:
        """Call until the end, in one session."""
        from mcp.client import Client
        from mcp.client.streamable_http import streamable_http_client

        plan = self._plan
        callers = read_callers(plan.bearer_file, plan.mcp_url)
        if not callers:
            raise K6Error("there is no bearer for the client that observes")
        transport = _ClockedTransport(MOST_BYTES, self._note_stream)
        handshake = "auto" if plan.protocol == "auto" else "legacy"
        async with (
            open_async_client(
                plan.tools.find_timeout(),
                transport=transport,
                headers=build_authorization(callers[0].access_token),
            ) as http,
            Client(
                streamable_http_client(plan.mcp_url, http_client=http),
                read_timeout_seconds=plan.tools.find_timeout(),
                mode=STATELESS if plan.protocol == STATELESS else handshake,
            ) as client,
        ):
            for tool, arguments in calls:
                transport.longest_ms = 0.0
                call = asyncio.ensure_future(client.call_tool(tool, arguments))
                both: set[asyncio.Future[Any]] = {call, stopped}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not call.done():
                    await asyncio.wait({call}, timeout=DRAIN_SECONDS)
                if not call.done():
                    call.cancel()
                    with suppress(asyncio.CancelledError):
                        await call
                    return
                if not call.result().is_error:
                    self.silences_ms.setdefault(tool, []).append(transport.longest_ms)
                await asyncio.wait({stopped}, timeout=self._every_seconds)
                if stopped.done():
                    return

    def _note_stream(self, silence_ms: float) -> None:
        self.stream_silence_ms = max(self.stream_silence_ms or 0.0, silence_ms)


class _ClockedTransport(AsyncTransport):
    """A transport that notes the longest silence within the replies of tool calls.

    `note_stream` gets the silences of streams that the server sends.
    """

    longest_ms = 0.0

    def __init__(self, most_bytes: int, note_stream: Callable[[float], None]) -> None:
        super().__init__(most_bytes)
        self._note_stream = note_stream

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        answer = await super().handle_async_request(request)
        learn(answer.headers.get("mcp-session-id"))
        if request.method == "POST" and b'"tools/call"' in request.content:
            assert isinstance(answer.stream, httpx2.AsyncByteStream)
            answer.stream = _ClockedStream(answer.stream, self._note)
        elif request.method == "GET" and answer.is_success:
            assert isinstance(answer.stream, httpx2.AsyncByteStream)
            answer.stream = _ClockedStream(answer.stream, self._note_stream, until_end=True)
        return answer

    def _note(self, silence_ms: float) -> None:
        self.longest_ms = max(self.longest_ms, silence_ms)


class _ClockedStream(httpx2.AsyncByteStream):
    def __init__(
        self,
        body: httpx2.AsyncByteStream,
        note: Callable[[float], None],
        *,
        until_end: bool = False,
    ) -> None:
        self._body = body
        self._note = note
        self._until_end = until_end
        self._heard = time.monotonic()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            now = time.monotonic()
            self._note((now - self._heard) * 1000)
            self._heard = now
            yield chunk

    async def aclose(self) -> None:
        if self._until_end:
            self._note((time.monotonic() - self._heard) * 1000)
        await self._body.aclose()
