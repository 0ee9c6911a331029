"""Start the embedded reference target as a child process, or reach a hosted server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.common.access import find_access
from loadtest.common.files import ensure_private_dir
from loadtest.common.processes import build_child_environment, has_ended, kill
from loadtest.common.redaction import redact_file
from loadtest.common.tls import Certificate, find_verify_error, read_certificate
from loadtest.errors import CertificateError, TargetError

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
REACH_SECONDS = 15.0
# The variables by which Python finds its modules.
PYTHON_VARIABLES = ("PYTHONPATH", "PYTHONHOME")


@dataclass(frozen=True)
class ReferenceProcess:
    """A running reference target; `api_url` is its origin."""

    api_url: str
    process: "subprocess.Popen[str]"


@contextmanager
def serve_reference(state_dir: Path, *options: str) -> Iterator[ReferenceProcess]:
    """Run the reference target as a child process while the block runs.

    The child ends when its standard input closes, so it never outlives its parent, even after a
    kill -9. It has its own process group: Ctrl-C reaches only the parent, which stops it last.
    Raises TargetError with the child's own message if it does not start.
    """
    ensure_private_dir(state_dir)
    log = state_dir / "target.log"
    command = [sys.executable, "-m", "loadtest.reference", "--state-dir", str(state_dir)]
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(  # noqa: S603 (a fixed argument list)
            [*command, "--exit-with-stdin", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=Path(__file__).parents[2],
            env=build_child_environment(os.environ, PYTHON_VARIABLES),
            process_group=0 if os.name == "posix" else None,
        )
    try:
        yield ReferenceProcess(_read_ready(process, log)["api_url"], process)
    finally:
        _stop(process)
        redact_file(log)


def check_reachable(base_url: str) -> Certificate | None:
    """Return the target's certificate, None over http; any answer counts.

    Raises CertificateError if the certificate does not verify, TargetError if nothing answers.
    """
    import httpx2

    from loadtest.common.http import open_client

    try:
        with (
            open_client(REACH_SECONDS) as client,
            client.stream("GET", base_url) as answer,
        ):
            return read_certificate(answer.extensions["network_stream"])
    except httpx2.HTTPError as failure:
        reason = find_verify_error(failure)
        if reason is not None:
            raise CertificateError(f"the certificate of {base_url} is refused: {reason}") from None
        hint = "check the address and that the server is up"
        # In TLS 1.3 a server refuses a missing certificate only after the handshake.
        hung_up = isinstance(failure, httpx2.RemoteProtocolError | httpx2.ReadError)
        if hung_up and base_url.startswith("https:") and find_access(base_url).certificate is None:
            hint += "; if it demands a client certificate, set tls_certificate"
        raise TargetError(
            f"{base_url} does not answer ({failure or type(failure).__name__}): {hint}"
        ) from None


def _read_ready(process: "subprocess.Popen[str]", log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    with ThreadPoolExecutor(1) as pool:
        line = pool.submit(process.stdout.readline)
        try:
            ready = json.loads(line.result(timeout=READY_SECONDS) or "null")
        except (FutureTimeout, ValueError):
            ready = None
        finally:
            if not line.done():
                process.kill()
    if not isinstance(ready, dict) or "api_url" not in ready:
        lines = log.read_text(encoding="utf-8").strip().splitlines()
        raise TargetError(f"the reference target did not start: {lines[-1] if lines else log}")
    return ready


def _stop(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    if not has_ended(process, STOP_SECONDS):
        kill(process)
    process.stdout.close()
