"""The engine `segments`: several k6 on this machine, each with a share of every scenario."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from loadtest.common.files import write_text
from loadtest.common.processes import has_ended, kill
from loadtest.k6.binary import K6Binary
from loadtest.k6.command import build_command, build_environment
from loadtest.k6.distributed.protocol import Launch, RunnerState, ScenarioRequest
from loadtest.k6.health import MemoryGuard, Vitals
from loadtest.k6.open_sessions import note_writer
from loadtest.k6.process import start, stop

# The dashboard of one share is of no use.
NO_DASHBOARD = {"K6_WEB_DASHBOARD": "false"}


class Segments:
    """The k6 processes of one scenario."""

    def __init__(
        self,
        request: ScenarioRequest,
        binary: K6Binary,
        variables: Mapping[str, str],
        memory_bytes: int | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="loadtest-")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._vitals: list[Vitals] = []
        self._guard = MemoryGuard(memory_bytes).__enter__()
        try:
            for number in range(1, request.parallelism + 1):
                self._begin(request, number, binary, variables)
        except BaseException:
            self.close()
            raise

    def _begin(
        self, request: ScenarioRequest, number: int, binary: K6Binary, variables: Mapping[str, str]
    ) -> None:
        out_dir = Path(self._folder.name, str(number))
        write_text(out_dir / "tools.json", request.tools)
        environment = build_environment(
            variables,
            request.variables,
            mcp_url=request.mcp_url,
            bearer_file=request.bearer_file,
            out_dir=out_dir,
            private_variables=request.private_variables,
            processes=request.parallelism,
        )
        if request.renewal_url is not None:
            environment["RENEWAL_URL"] = request.renewal_url
        share = build_flags(number, request.parallelism)
        command = build_command(
            binary, request.scenario, request.outputs, runner=number, more=share
        )
        with request.logs[number - 1].open("ab", buffering=0) as log:
            process = start(command, environment | NO_DASHBOARD, log)
            self._processes.append(process)
            self._vitals.append(Vitals(process.pid))
            self._guard.watch(process.pid)
            note_writer(log, process.pid)

    def look(self) -> tuple[RunnerState, ...]:
        """Return the state of each process, with its use of this machine so far."""
        return tuple(
            self._describe(number, process, vitals)
            for number, (process, vitals) in enumerate(
                zip(self._processes, self._vitals, strict=True), 1
            )
        )

    def _describe(
        self, number: int, process: subprocess.Popen[bytes], vitals: Vitals
    ) -> RunnerState:
        vitals.look()
        taken = vitals.describe()
        state = partial(
            RunnerState, number, cpu_share=taken.cpu_share, peak_memory_mb=taken.peak_memory_mb
        )
        if not has_ended(process):
            return state("running")
        if self._guard.reason is not None:
            return state("lost", reason=self._guard.reason)
        code = process.returncode
        if code < 0 and os.name == "posix":
            return state("lost", reason=f"killed by signal {-code}")
        return state("ended", exit_code=code)

    def stop(self) -> None:
        """Ask all processes at once to stop; kill those that do not."""
        stop(*self._processes)

    def close(self) -> None:
        """Kill the processes that still run, and remove their files."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                kill(process)
        self._guard.__exit__(None, None, None)
        self._folder.cleanup()


def build_flags(number: int, parallelism: int) -> list[str]:
    """Return the flags that give runner `number` its share, as in the k6-operator."""
    if parallelism == 1:
        return ["--tag=instance_id=1"]
    marks = ["0", *(f"{part}/{parallelism}" for part in range(1, parallelism)), "1"]
    return [
        f"--execution-segment={marks[number - 1]}:{marks[number]}",
        f"--execution-segment-sequence={','.join(marks)}",
        f"--tag=instance_id={number}",
    ]


def open_segments(
    binary: K6Binary, variables: Mapping[str, str], memory_bytes: int | None = None
) -> Launch:
    """Return the launcher that runs a scenario as several processes of this k6.

    `memory_bytes` is the memory of the machine, or a smaller number for a test.
    """
    return partial(Segments, binary=binary, variables=variables, memory_bytes=memory_bytes)
