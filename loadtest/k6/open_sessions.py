"""Ids of the sessions that k6 opened, so that those left by an abort or a crash can be closed.

k6 cannot write files, but its log has a line when a session opens or closes. The log is private
while k6 runs: session ids must not be in an artifact.
"""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter

from loadtest.common.access import build_authorization
from loadtest.common.clock import utc_now
from loadtest.common.files import ensure_private_dir, read_valid, write_json
from loadtest.common.interruption import run_coroutine
from loadtest.errors import K6Error
from loadtest.results.run import SCENARIOS
from loadtest.state.bearers import Bearer

LEFT_VERSION = 1
CLOSE_ALL_SECONDS = 10.0  # for all sessions together
DELETE_SECONDS = 5.0
PARALLEL = 16
ORPHAN_SECONDS = 30.0

_ENTRY = re.compile(rb'^time="[^"]*" level=info msg="session (opened|closed) ((?:[^"\\]|\\.)*)"')
_FACT = re.compile(rb"^session (endpoint|writer) (\S+)$")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class OpenSession:
    """A session that is open on a server; `client` is the number of the bearer that opened it."""

    id: str = field(repr=False)
    client: int
    protocol: str
    mcp_url: str


@dataclass(frozen=True)
class Closing:
    """How many of the sessions that were left were closed, and which were not."""

    closed: int = 0
    left: tuple[OpenSession, ...] = ()

    def describe(self, left_file: Path) -> list[str]:
        """Return lines about the sessions that an earlier run left, at most two."""
        lines = []
        if self.closed:
            lines.append(f"closed {_count(self.closed)} that an earlier run left")
        if self.left:
            left = _count(len(self.left))
            lines.append(f"{left} that an earlier run left could not be closed: see {left_file}")
        return lines


def left_file(state_dir: Path) -> Path:
    """Return the file of the sessions that are known to be open (0600)."""
    return state_dir / "sessions.json"


def log_file(state_dir: Path, runner: int | None = None) -> Path:
    """Return the private log of k6, or of one of several runners."""
    return state_dir / ("k6.log" if runner is None else f"k6-{runner}.log")


def open_log(state_dir: Path, mcp_url: str, runner: int | None = None) -> IO[bytes]:
    """Return a new private log for k6 to append to; sessions of the last log are kept."""
    settle_log(state_dir, runner=runner)
    ensure_private_dir(state_dir)
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND
    log = os.fdopen(os.open(log_file(state_dir, runner), flags, 0o600), "wb", buffering=0)
    log.write(f"session endpoint {mcp_url}\n".encode())
    return log


def note_writer(log: IO[bytes], pid: int) -> None:
    """Write into the log which process writes it."""
    log.write(f"session writer {pid}\n".encode())


def note_opened(log: IO[bytes], session_id: str, client: int, protocol: str) -> None:
    """Write into the log, in k6's words, that a session was opened by other code."""
    _note(log, f"opened {session_id} {client} {protocol}")


def note_closed(log: IO[bytes], session_id: str) -> None:
    """Write into the log that it was closed."""
    _note(log, f"closed {session_id}")


def _note(log: IO[bytes], entry: str) -> None:
    # As k6 does: a string of JSON, so that no id can end the line.
    log.write(f'time="{utc_now()}" level=info msg={json.dumps(f"session {entry}")}\n'.encode())


def settle_log(
    state_dir: Path,
    rest: Path | None = None,
    runner: int | None = None,
    is_known: Callable[[bytes], bool] | None = None,
) -> tuple[OpenSession, ...]:
    """Remove the private log: open sessions go into `left_file`, all else into `rest`.

    Lines for which `is_known` is true are dropped. Returns the sessions that the log left open;
    none if there is no log.
    """
    return _settle(state_dir, log_file(state_dir, runner), rest, is_known)


def _settle(
    state_dir: Path, log: Path, rest: Path | None, is_known: Callable[[bytes], bool] | None
) -> tuple[OpenSession, ...]:
    if not log.exists():
        return ()
    with contextlib.ExitStack() as files:
        lines = files.enter_context(log.open("rb"))
        other = files.enter_context(rest.open("wb")) if rest is not None else None
        fresh = (line for line in lines if is_known is None or not is_known(line))
        found, _ = _read_log(fresh, other)
    if found:
        _write_left(state_dir, (*_read_left(state_dir), *found))
    log.unlink()
    return found


def find_left(state_dir: Path) -> tuple[OpenSession, ...]:
    """Return every session that is known to be open, without a change."""
    found = _read_left(state_dir)
    for log in _list_logs(state_dir):
        with log.open("rb") as lines:
            found += _read_log(lines)[0]
    return found


def close_earlier(state_dir: Path, bearers: Sequence[Bearer], *, lasting: bool = True) -> Closing:
    """Close the sessions that earlier runs left; stop a k6 that still runs without its run.

    A target that is not `lasting` ends with its run: sessions at other addresses are forgotten.
    """
    for log in _list_logs(state_dir):
        with log.open("rb") as lines:
            _stop_orphan(_read_log(lines)[1])
        _settle(state_dir, log, None, None)
    left = _read_left(state_dir)
    if not lasting:
        here = {bearer.mcp_url for bearer in bearers}
        left = tuple(session for session in left if session.mcp_url in here)
        _write_left(state_dir, left)
    return close_sessions(state_dir, left, bearers)


def close_sessions(
    state_dir: Path, sessions: Sequence[OpenSession], bearers: Sequence[Bearer]
) -> Closing:
    """DELETE sessions with the bearers of their clients, within `CLOSE_ALL_SECONDS`.

    A session counts as closed if its server does not know it (404) or does not delete any (405).
    After an interruption, which is raised, `left_file` has the sessions that are left.
    """
    closed: set[OpenSession] = set()
    try:
        if sessions:
            run_coroutine(_delete_all(sessions, bearers, closed))
    finally:
        if closed:
            _write_left(state_dir, (one for one in _read_left(state_dir) if one not in closed))
    return Closing(len(closed), tuple(one for one in sessions if one not in closed))


async def _delete_all(
    sessions: Sequence[OpenSession], bearers: Sequence[Bearer], closed: set[OpenSession]
) -> None:
    import httpx2

    from loadtest.common.http import open_async_client

    slots = asyncio.Semaphore(PARALLEL)

    async def delete(client: httpx2.AsyncClient, session: OpenSession, bearer: Bearer) -> None:
        headers = build_authorization(bearer.access_token) | {
            "Mcp-Session-Id": session.id,
            "MCP-Protocol-Version": session.protocol,
        }
        async with slots:
            with contextlib.suppress(httpx2.HTTPError):
                response = await client.delete(session.mcp_url, headers=headers)
                if response.is_success or response.status_code in {404, 405}:
                    closed.add(session)

    owned = [(one, bearers[one.client % len(bearers)]) for one in sessions if bearers]
    # A bearer is sent only to the endpoint that accepted it.
    fitting = [(one, bearer) for one, bearer in owned if one.mcp_url == bearer.mcp_url]
    if not fitting:
        return
    with contextlib.suppress(TimeoutError):
        async with (
            open_async_client(DELETE_SECONDS) as client,
            asyncio.timeout(CLOSE_ALL_SECONDS),
        ):
            await asyncio.gather(*(delete(client, one, bearer) for one, bearer in fitting))


def _list_logs(state_dir: Path) -> list[Path]:
    return sorted(state_dir.glob("k6*.log"))


def _read_log(
    lines: Iterable[bytes], other: IO[bytes] | None = None
) -> tuple[tuple[OpenSession, ...], int | None]:
    """Return the open sessions and the process that wrote; other lines go to `other`."""
    opened: dict[str, OpenSession] = {}
    head = {b"endpoint": b"", b"writer": b""}
    for line in lines:
        entry = _ENTRY.match(line)
        if entry is not None:
            _follow(opened, entry[1], entry[2])
        elif (fact := _FACT.match(line)) is not None:
            head[fact[1]] = fact[2]
        elif other is not None:
            other.write(line)
    mcp_url = head[b"endpoint"].decode()
    writer = int(head[b"writer"]) if head[b"writer"].isdigit() else None
    return tuple(replace(session, mcp_url=mcp_url) for session in opened.values()), writer


def _follow(opened: dict[str, OpenSession], verb: bytes, quoted: bytes) -> None:
    """Apply one entry; an entry that no server can have caused is ignored."""
    try:
        words = str(json.loads(b'"' + quoted + b'"')).split(" ")
    except ValueError:
        return
    if not _VISIBLE.fullmatch(words[0]):
        return
    if verb == b"closed":
        opened.pop(words[0], None)
    elif len(words) == 3 and words[1].isdecimal():
        opened[words[0]] = OpenSession(words[0], int(words[1]), words[2], "")


def _read_left(state_dir: Path) -> tuple[OpenSession, ...]:
    path = left_file(state_dir)
    if not path.exists():
        return ()
    shape = TypeAdapter(tuple[OpenSession, ...])
    return read_valid(path, LEFT_VERSION, shape, K6Error, "sessions")


def _write_left(state_dir: Path, sessions: Iterable[OpenSession]) -> None:
    entries = [asdict(session) for session in dict.fromkeys(sessions)]
    if entries:
        write_json(left_file(state_dir), LEFT_VERSION, {"sessions": entries}, private=True)
    else:
        left_file(state_dir).unlink(missing_ok=True)


def _stop_orphan(pid: int | None) -> None:
    """Stop a k6 whose run was killed: it would continue to open sessions."""
    import psutil

    if pid is None:
        return
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        command = process.cmdline()
        if "run" in command and Path(command[-1]).stem in SCENARIOS:
            process.terminate()
            try:
                process.wait(ORPHAN_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()


def _count(number: int) -> str:
    return f"{number} session{'s' * (number != 1)}"
