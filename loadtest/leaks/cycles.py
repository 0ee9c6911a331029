"""Fill the server with sessions and streams, leave, and measure what comes back; then again."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from loadtest.common.interruption import run_coroutine
from loadtest.errors import TargetError
from loadtest.k6.open_sessions import (
    close_sessions,
    note_closed,
    note_opened,
    open_log,
    settle_log,
)
from loadtest.leaks.client import LeavingClient, Pacer, RefusedError
from loadtest.leaks.load import CALLS, PROBES, Load
from loadtest.state.bearers import Bearer

HTTP_NOT_FOUND = 404
PARALLEL = 8  # clients that open or leave at the same time
ASKED = 20  # deleted sessions of each cycle that are tried again
STREAM_SETTLES = 3  # in which a stream must have ended after the DELETE of its session
ALIVE_SECONDS = 10.0  # for a server that was full to answer a new client


@dataclass(frozen=True)
class Cycle:
    """What one cycle found; times are in milliseconds, medians of new clients after all had left.

    `opened` clients and `streams` were open at the same time when the server refused the next one
    (`refusal`, `stream_refusal`; None: it refused none). Of `asked` deleted sessions `still_known`
    answered. `streams_left` streams were open some seconds after their session's DELETE, which
    `deletes` sessions had got. `abandoned` counts from the first cycle.
    """

    opened: int
    refusal: str | None
    streams: int
    stream_refusal: str | None
    deletes: int
    asked: int
    still_known: int
    streams_left: int
    abandoned: int
    first_dispatch_ms: float
    latency_ms: float


@dataclass(frozen=True)
class Life:
    """Whether a session that was abandoned this long ago still answered."""

    age_seconds: float
    is_alive: bool


@dataclass
class Observation:
    """Everything that was seen; `ended` says why there are fewer cycles than asked for.

    `undeletable` is the HTTP status with which the server refuses DELETE; `left` sessions stay
    there, the last of which was used at `last_use` (seconds since the epoch).
    """

    cycles: list[Cycle] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    has_sessions: bool = True
    has_streams: bool = True
    undeletable: int | None = None
    is_down: bool = False
    left: int = 0
    last_use: float = 0.0
    ended: str | None = None


class Watch:
    """Runs the cycles against one endpoint.

    `opened` and `closed` get each client at once, for the journal of open sessions; `tell` gets a
    line after each cycle.
    """

    def __init__(
        self,
        callers: Sequence[Bearer],
        protocol: str,
        load: Load,
        *,
        opened: Callable[[LeavingClient], None],
        closed: Callable[[LeavingClient], None],
        tell: Callable[[str], None],
    ) -> None:
        self.seen = Observation()
        self._callers = callers
        self._protocol = protocol
        self._load = load
        self._note_opened = opened
        self._note_closed = closed
        self._tell = tell
        self._pacer = Pacer(load.most_rate)
        self._began = time.monotonic()
        self._made = 0
        self._abandoned: list[tuple[LeavingClient, float]] = []

    async def run(self) -> None:
        """Run all cycles and follow what was abandoned; `seen` grows, also if this is cancelled.

        Raises RefusedError if not even the first client is let in.
        """
        try:
            await self._probe()
            for number in range(1, self._load.cycles + 1):
                if time.monotonic() - self._began > self._load.most_seconds:
                    self.seen.ended = "the longest duration that the limits allow is over"
                    return
                cycle = await self._cycle()
                if cycle is None:
                    return
                self.seen.cycles.append(cycle)
                self._tell(f"{number}/{self._load.cycles}: {_describe(cycle)}")
                if self.seen.undeletable is not None:
                    self.seen.ended = "the next ones would fill the server with sessions"
                    break
            await self._follow()
        finally:
            await self._clean_up()

    def _opened(self, client: LeavingClient) -> None:
        self.seen.left += 1
        self.seen.last_use = time.time()
        self._note_opened(client)

    def _closed(self, client: LeavingClient) -> None:
        self.seen.left -= 1
        self._note_closed(client)

    def _make(self) -> LeavingClient:
        number = self._made % len(self._callers)
        self._made += 1
        return LeavingClient(self._callers[number], number, self._protocol, self._pacer)

    async def _cycle(self) -> Cycle | None:
        """Return what one cycle found; None if the server answers nobody after it."""
        clients: list[LeavingClient] = []
        try:
            refusal = await self._fill(clients)
            stream_refusal = await self._open_streams(clients)
            streams = sum(client.holds_stream for client in clients)
            staying = clients[: len(clients) - self._count_crashes(len(clients))]
            crashing = clients[len(staying) :]
            holding = {one for one in staying if one.holds_stream}
            gone = await self._delete(staying)
            patience = STREAM_SETTLES * self._load.settle_seconds
            waits = (one.await_stream_end(patience) for one in gone if one in holding)
            ended = await asyncio.gather(*waits)
            asked = gone[:ASKED]
            known = await asyncio.gather(*(client.is_known() for client in asked))
            now = time.monotonic()
            self._abandoned += [(one, now) for one in crashing if one.session_id is not None]
        finally:
            await asyncio.gather(*(client.leave() for client in clients))
        await asyncio.sleep(self._load.settle_seconds)
        speed = await self._probe_patiently()
        if speed is None:
            self.seen.is_down = True
            return None
        first_dispatch_ms, latency_ms = speed
        return Cycle(
            opened=len(clients),
            refusal=refusal,
            streams=streams,
            stream_refusal=stream_refusal,
            deletes=len(gone),
            asked=len(asked),
            still_known=sum(known),
            streams_left=ended.count(False),
            abandoned=len(self._abandoned),
            first_dispatch_ms=first_dispatch_ms,
            latency_ms=latency_ms,
        )

    def _count_crashes(self, opened: int) -> int:
        """Return how many clients leave without DELETE: together at most half of the room."""
        if not self.seen.has_sessions:
            return 0
        room = self.seen.cycles[0].opened if self.seen.cycles else opened
        return max(0, min(self._load.abandoned, room // 2 - len(self._abandoned)))

    async def _fill(self, clients: list[LeavingClient]) -> str | None:
        """Open clients until one is refused; return how, or None if none was."""
        refusals: list[str] = []

        async def open_some() -> None:
            while not refusals and len(clients) < self._load.sessions:
                client = self._make()
                clients.append(client)
                try:
                    await client.open(self._opened)
                except RefusedError as refusal:
                    refusals.append(str(refusal))
                    clients.remove(client)
                    await client.leave()

        await asyncio.gather(*(open_some() for _ in range(PARALLEL)))
        if clients:
            self.seen.has_sessions = clients[0].session_id is not None
        return refusals[0] if refusals else None

    async def _open_streams(self, clients: Sequence[LeavingClient]) -> str | None:
        """Have every client hold a stream; return how the first one was refused, if one was."""
        if not self.seen.has_streams:
            return None
        for client in clients:
            await self._pacer.wait()
            client.begin_stream()
        await asyncio.sleep(self._load.settle_seconds)
        refusals = list(filter(None, (client.find_stream_refusal() for client in clients)))
        if clients and len(refusals) == len(clients):
            self.seen.has_streams = False
            return None
        return refusals[0] if refusals else None

    async def _delete(self, clients: Sequence[LeavingClient]) -> list[LeavingClient]:
        """DELETE the sessions of these clients; return those whose session the server has ended."""
        slots = asyncio.Semaphore(PARALLEL)
        gone = []

        async def delete(client: LeavingClient) -> None:
            async with slots:
                status = await client.delete()
            if status is not None and (200 <= status < 300 or status == HTTP_NOT_FOUND):
                self._closed(client)
                gone.append(client)
            elif status is not None:
                self.seen.undeletable = status

        await asyncio.gather(*(delete(client) for client in clients))
        return gone

    async def _probe_patiently(self) -> tuple[float, float] | None:
        """Measure new clients; a server that was full gets some seconds to let one in again."""
        deadline = time.monotonic() + ALIVE_SECONDS
        while True:
            try:
                return await self._probe()
            except RefusedError:
                if time.monotonic() > deadline:
                    return None
                await asyncio.sleep(self._load.settle_seconds)

    async def _probe(self) -> tuple[float, float]:
        """Return the first dispatch of a new client and the latency of its calls: medians in ms."""
        dispatches, latencies = [], []
        for _ in range(PROBES):
            client = self._make()
            try:
                dispatches.append(await _time(self._dispatch(client)))
                latencies += [await _time(client.call_cheaply()) for _ in range(CALLS)]
            finally:
                await self._delete((client,))
                await client.leave()
        return median(dispatches), median(latencies)

    async def _dispatch(self, client: LeavingClient) -> None:
        await client.open(self._opened)
        await client.list_tools()

    async def _follow(self) -> None:
        """Ask each abandoned session once, the oldest first, within the time to wait."""
        began = time.monotonic()
        every_seconds = self._load.wait_seconds / max(1, len(self._abandoned))
        for number, (client, since) in enumerate(self._abandoned, 1):
            left = began + every_seconds * number - time.monotonic()
            await asyncio.sleep(max(0.0, left))
            age_seconds = time.monotonic() - since
            revived = self._revive(client)
            self.seen.lives.append(Life(age_seconds, await revived.is_known()))
            await revived.leave()

    def _revive(self, crashed: LeavingClient) -> LeavingClient:
        """Return a client with new connections in the session of one that crashed."""
        caller = self._callers[crashed.number]
        client = LeavingClient(caller, crashed.number, self._protocol, self._pacer)
        assert crashed.session_id is not None
        client.resume(crashed.session_id)
        return client

    async def _clean_up(self) -> None:
        """Close what was abandoned and is still there."""
        revived = [self._revive(client) for client, _ in self._abandoned]
        await self._delete(revived)
        await asyncio.gather(*(client.leave() for client in revived))


async def _time(request: Coroutine[None, None, None]) -> float:
    began = time.perf_counter()
    await request
    return (time.perf_counter() - began) * 1000


def _describe(cycle: Cycle) -> str:
    return (
        f"{cycle.opened} sessions, {cycle.streams} streams; then first dispatch "
        f"{cycle.first_dispatch_ms:.0f} ms, latency {cycle.latency_ms:.1f} ms"
    )


def observe(
    state_dir: Path,
    bearers: Sequence[Bearer],
    protocol: str,
    load: Load,
    tell: Callable[[str], None],
) -> Observation:
    """Run the cycles and close every session that they opened, also after an interruption.

    Raises TargetError if not even the first client is let in.
    """
    with open_log(state_dir, bearers[0].mcp_url) as log:
        watch = Watch(
            bearers,
            protocol,
            load,
            opened=lambda one: note_opened(log, str(one.session_id), one.number, protocol),
            closed=lambda one: note_closed(log, str(one.session_id)),
            tell=tell,
        )
        try:
            run_coroutine(watch.run())
        except RefusedError as refusal:
            raise TargetError(f"no client is let in: {refusal}") from None
        finally:
            close_sessions(state_dir, settle_log(state_dir), bearers)
    return watch.seen
