"""k6 against servers that send too much: it never starts against them, or is ended in time."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtest.common.redaction import SecretStr
from loadtest.errors import K6Error
from loadtest.k6.binary import K6Binary
from loadtest.k6.distributed.run import run_fleet
from loadtest.k6.distributed.segments import open_segments
from loadtest.k6.health import MemoryGuard, find_memory_bytes
from loadtest.k6.plan import Runners
from loadtest.k6.preflight import check_target
from loadtest.state.bearers import Bearer, write_bearers
from tests.k6.running import build_settings, plan_run, run_alone
from tests.support.hostile_server import (
    MIB,
    Answer,
    HostileServer,
    Request,
    answer_to,
    endless_keep_alives,
    endless_pages,
    gzip_bomb,
    many_tools,
    send_json,
    speak_mcp,
)
from tests.support.waiting import HANG_SECONDS

K6_AGENT = "mcp-loadtest"
HUNGRY = """
import signal, sys
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
held = []
print("ready", flush=True)
while True:
    held.append(b"x" * 2**20)
"""


@pytest.fixture
def bearer_file(tmp_path: Path) -> Path:
    path = tmp_path / "bearer.json"
    bearer = Bearer(SecretStr("none"), time.time() + 3600, "http://127.0.0.1", "", "given")
    write_bearers(path, (bearer,))
    return path


def refuse(list_tools: Answer, bearer_file: Path, binary: K6Binary) -> tuple[str, bool]:
    """Return what the check of such a target ends with, and whether k6 asked it for anything."""
    settings = build_settings()
    with HostileServer(speak_mcp(list_tools)) as server, pytest.raises(K6Error) as caught:
        check_target(
            *(settings, f"{server.url}/mcp", bearer_file, ("tools",)), binary=binary, tell=print
        )
    asked = any(request.headers.get("user-agent") == K6_AGENT for request in server.seen)
    return str(caught.value), asked


@pytest.mark.parametrize("list_tools", [gzip_bomb(1024), many_tools(1_000_000)])
def test_k6_never_starts_against_a_list_of_tools_that_is_too_long(
    list_tools: Answer, bearer_file: Path, binary: K6Binary
) -> None:
    words, asked = refuse(list_tools, bearer_file, binary)
    assert words.startswith("preflight: http://127.0.0.1:")
    assert words.endswith("is not measured: it sends more than 16 MiB")
    assert not asked


@pytest.mark.slow
def test_k6_never_starts_against_a_list_that_never_ends(
    bearer_file: Path, binary: K6Binary
) -> None:
    words, asked = refuse(endless_keep_alives, bearer_file, binary)
    assert words.endswith("is not measured: no complete answer in time")
    assert not asked


@pytest.mark.slow
@pytest.mark.parametrize("list_tools", [endless_pages, many_tools(2001)])
def test_a_list_of_too_many_tools_or_pages_ends_the_preflight(
    list_tools: Answer, bearer_file: Path, binary: K6Binary
) -> None:
    words, _ = refuse(list_tools, bearer_file, binary)
    assert words == "preflight: the target lists more than 2000 tools, or 50 pages of them"


def unpack_too_much(request: Request) -> Iterator[bytes]:
    """Answer each call with 8 GiB of spaces, packed."""
    if request.message.get("method") == "tools/call":
        yield from gzip_bomb(8 * 1024)(request)
    else:
        empty = lambda asked: iter([send_json(answer_to(asked.message, {"tools": []}))])  # noqa: E731
        yield from speak_mcp(empty)(request)


@pytest.mark.slow
def test_k6_is_ended_with_a_reason_before_it_uses_the_memory_of_the_machine(
    bearer_file: Path, binary: K6Binary, tmp_path: Path
) -> None:
    with HostileServer(unpack_too_much) as server:
        plan = plan_run(build_settings(DURATION="60"), f"{server.url}/mcp", bearer_file)
        run = run_alone(plan, "tools", binary, tmp_path / "tools", memory_bytes=512 * MIB)
    assert run.result.outcome == "aborted"
    reason = run.result.reason or ""
    assert reason.startswith("k6 used 0.")
    assert "over half of this machine's memory (0.5 GB)" in reason


@pytest.mark.slow
def test_several_runners_are_ended_with_that_reason_too(
    bearer_file: Path, binary: K6Binary, tmp_path: Path
) -> None:
    with HostileServer(unpack_too_much) as server:
        url = f"{server.url}/mcp"
        run = run_fleet(
            plan_run(
                build_settings(DURATION="60"), url, bearer_file, runners=Runners("segments", 2)
            ),
            "tools",
            out_dir=tmp_path / "tools",
            launch=open_segments(binary, os.environ, memory_bytes=512 * MIB),
        )
    assert run.result.outcome == "failed"
    assert [fault.runner for fault in run.result.faults] == [1, 2]
    for fault in run.result.faults:
        assert fault.reason.startswith("k6 used 0.")
        assert "over half of this machine's memory (0.5 GB)" in fault.reason


@pytest.mark.parametrize("hearing", ["hears", "deaf"])
def test_processes_that_together_use_too_much_memory_are_asked_to_end_and_then_killed(
    hearing: str,
) -> None:
    command = [sys.executable, "-c", HUNGRY, hearing]
    with MemoryGuard(1024 * MIB) as guard:
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
            guard.watch(process.pid)
        for process in processes:
            process.wait(HANG_SECONDS)
            assert process.stdout is not None
            process.stdout.close()
    assert guard.reason is not None
    assert guard.reason.startswith("k6 used")


def test_the_memory_is_never_more_than_the_machine_has() -> None:
    assert 0 < find_memory_bytes() <= psutil.virtual_memory().total
