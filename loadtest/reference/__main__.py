"""Serve the reference target as its own process: `python -m loadtest.reference`."""

import argparse
import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path

from loadtest.errors import LoadtestError
from loadtest.reference import knobs


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line: ports, state directory, and one flag per knob."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.reference", description="Serve the reference target."
    )
    parser.add_argument(
        "--state-dir", type=Path, help="folder for state between runs (default: temporary)"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="API port (0: the last one, or a free one)"
    )
    parser.add_argument(
        "--web-port", type=int, default=0, help="port of the pages (0: as for --port)"
    )
    parser.add_argument(
        "--prefer-port", type=int, default=0, help="API port, or a free one if it is busy"
    )
    parser.add_argument(
        "--exit-with-stdin", action="store_true", help="stop when standard input ends"
    )
    knobs.add_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the end of standard input; return the exit code.

    Prints one JSON line when it accepts connections, and one at the end.
    """
    arguments = build_parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if arguments.exit_with_stdin:
        threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    try:
        _serve(arguments, stop)
    except LoadtestError as failure:
        print(failure, file=sys.stderr)
        return failure.exit_code
    return 0


def _serve(arguments: argparse.Namespace, stop: threading.Event) -> None:
    chosen = knobs.read_arguments(arguments)
    # Imported modules are never freed: not scanning them saves a fifth of the start-up time.
    gc.disable()
    from loadtest.reference.server import ReferenceTarget  # slow to import

    target = ReferenceTarget(
        chosen,
        state_dir=arguments.state_dir,
        port=arguments.port,
        web_port=arguments.web_port,
        preferred_port=arguments.prefer_port,
    )
    with target:
        _say(api_url=target.api_url, web_url=target.web_url, pid=os.getpid())
        gc.freeze()
        gc.enable()
        stop.wait()
        # Frozen modules would outlive the interpreter, and DuckDB reports an error then.
        gc.unfreeze()
    _say(
        open_sessions=target.open_sessions,
        requests=target.requests,
        tool_calls=target.tool_calls,
        scans=target.scans,
        quota_refusals=target.quota_refusals,
        registrations=target.registrations,
        refreshes=target.refreshes,
        refresh_reuses=target.refresh_reuses,
        revocations=target.revocations,
    )


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def _say(**facts: object) -> None:
    print(json.dumps({"version": 1, **facts}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
