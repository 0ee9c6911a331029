"""`python -m loadtest.k6 inspect SCRIPT...`: k6 loads each script and its options."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtest.common.files import write_text
from loadtest.common.redaction import SecretStr
from loadtest.config.tool_table import NOVAMART
from loadtest.errors import K6Error, UsageError
from loadtest.k6.binary import K6Binary, find_k6
from loadtest.k6.command import build_environment
from loadtest.k6.process import find_error
from loadtest.state.bearers import Bearer, bearer_path, write_bearers

# The variables of all scripts, for the smallest run.
SMALLEST_RUN = {
    "CALL_TIMEOUT_SECONDS": "1",
    "CLOSE_SECONDS": "1",
    "DRAIN_SECONDS": "1",
    "DURATION": "1",
    "ITERATIONS": "1",
    "MAX_FAILURE_SHARE": "0.01",
    "MAX_SECONDS": "1",
    "MCP_PROTOCOL": "auto",
    "OPEN_SECONDS": "1",
    "PACE": "1",
    "SESSION_SECONDS": "1",
    "SLOT_SECONDS": "4",
    "STAGES": "1",
    "STAGE_SECONDS": "1",
    "TOOL": "executeSQL",
    "VUS": "1",
}


def inspect(binary: K6Binary, script: Path) -> None:
    """Have k6 load a script and its options; raise K6Error with its complaint."""
    mcp_url = "http://127.0.0.1/mcp"
    with tempfile.TemporaryDirectory() as name:
        bearer_file = bearer_path(Path(name))
        write_bearers(bearer_file, [Bearer(SecretStr("none"), 0, mcp_url, scope="", via="given")])
        write_text(Path(name) / "tools.json", NOVAMART.read_text(encoding="utf-8"))
        environment = build_environment(
            os.environ,
            SMALLEST_RUN,
            mcp_url=mcp_url,
            bearer_file=bearer_file,
            out_dir=Path(name),
        )
        command = [str(binary.path), "inspect", "--include-system-env-vars", str(script)]
        done = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    if done.returncode != 0:
        raise K6Error(f"{script}: {find_error(done.stderr) or f'k6 ended with {done.returncode}'}")


def main(arguments: Sequence[str]) -> int:
    """Run `inspect SCRIPT...`: k6 loads each script and its options."""
    if len(arguments) < 2 or arguments[0] != "inspect":
        print("usage: python -m loadtest.k6 inspect SCRIPT...", file=sys.stderr)
        return UsageError.exit_code
    try:
        binary = find_k6(os.environ)
        for script in arguments[1:]:
            inspect(binary, Path(script))
    except K6Error as failure:
        print(failure, file=sys.stderr)
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
