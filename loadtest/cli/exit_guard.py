"""Run stages: every error ends in one line and an exit code, and all resources are closed."""

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

from invoke.exceptions import Exit, Failure

from loadtest.common.console import Console, open_redacting
from loadtest.common.interruption import Signals, Terminated, guard_outputs
from loadtest.common.redaction import redact_json
from loadtest.common.scripts import IS_PACKAGED
from loadtest.context import BUG_EXIT_CODE, Chain, Ending
from loadtest.errors import LoadtestError, MachineError, explain_refusal


@contextmanager
def guard(*, as_json: bool = False) -> Iterator[Chain]:
    """Turn fixable errors into one line and an exit code, and close all resources.

    A bug keeps its traceback and ends with 70, so that users do not take it for their own mistake.
    With `as_json`, standard output gets only the run as one JSON document; everything else goes to
    standard error.
    """
    with guard_outputs(), _redact_outputs(), Signals() as signals:
        with (
            redirect_stdout(sys.stderr) if as_json else nullcontext(),
            _open_chain(signals) as chain,
        ):
            yield chain
        ending = chain.ending
        with _end_by(ending):
            if as_json and ending.run_dir is not None:
                _print_document(ending.run_dir, ending)
            sys.stdout.flush()
        if message := ending.render():
            print(message, file=sys.stderr, flush=True)


@contextmanager
def _redact_outputs() -> Iterator[None]:
    with (
        redirect_stdout(open_redacting(sys.stdout)),
        redirect_stderr(open_redacting(sys.stderr)),
    ):
        yield


@contextmanager
def _open_chain(signals: Signals) -> Iterator[Chain]:
    chain = Chain(Console(), ExitStack())
    try:
        with _end_by(chain.ending):
            yield chain
    finally:
        # Ignore further signals until everything is closed.
        signals.ignore()
        with _end_by(chain.ending):
            chain.resources.close()


def _print_document(run_dir: Path, ending: Ending) -> None:
    from loadtest.results.run_folder import build_document, read_run_folder

    folder = read_run_folder(run_dir)
    document = redact_json(
        build_document(folder, ending.exit_code, ending.findings, ending.objectives)
    )
    print(json.dumps(document, indent=2, ensure_ascii=False))


@contextmanager
def _end_by(ending: Ending) -> Iterator[None]:
    """Turn the exception of a block into the exit code and its line; later blocks still run."""
    try:
        yield
    except LoadtestError as failure:
        ending.fail(failure.exit_code, str(failure))
    except OSError as failure:
        refusal = explain_refusal(failure)
        ending.fail(refusal.exit_code, str(refusal))
    except Terminated as caught:
        ending.fail(caught.exit_code, caught.reason)
    except KeyboardInterrupt:
        ending.fail(130, "interrupted")
    except (Exit, Failure):  # of a user's own task, for Invoke to print
        raise
    except ModuleNotFoundError as missing:
        ending.fail(MachineError.exit_code, _explain_missing(missing))
    except Exception:  # noqa: BLE001 (a bug: print the traceback, then exit with its code)
        traceback.print_exc()
        ending.fail(BUG_EXIT_CODE, "this is a bug")


def _explain_missing(failure: ModuleNotFoundError) -> str:
    """Say what to install where an extra is missing; our own modules are never missing."""
    remedy = "install mcp-loadtest[all]" if IS_PACKAGED else "use the environment of `nox -s dev`"
    return f"this task needs the Python package {failure.name}, which is not installed: {remedy}"
