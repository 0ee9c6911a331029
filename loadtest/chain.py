"""What the stages of one process share: one console, one running target, one ending."""

import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.common.console import Console, open_redacting, say, strip_controls
from loadtest.common.interruption import (
    BROKEN_PIPE_EXIT_CODE,
    HANGUP_EXIT_CODE,
    Signals,
    Terminated,
    guard_outputs,
)
from loadtest.common.redaction import redact, redact_json
from loadtest.errors import K6Error, LoadtestError, explain_refusal

if TYPE_CHECKING:
    from loadtest.config.settings import Settings
    from loadtest.results.run import Run

ROOT = Path(__file__).parent.parent
BUG_EXIT_CODE = 70
REGRESSED_EXIT_CODE = 96
GENERATOR_EXIT_CODE = 97
# As k6: 99 is a result, crossed thresholds, and no crash.
RUN_EXIT_CODES = {
    "ok": 0,
    "thresholds crossed": 99,
    "aborted": 98,
    "interrupted": 130,
    "not run": K6Error.exit_code,
    "failed": K6Error.exit_code,
}
SIGNAL_EXIT_CODES = (HANGUP_EXIT_CODE, 130, BROKEN_PIPE_EXIT_CODE, 143)
# The quick start measures latency, not a quota, and signs in more often than a person would.
REFERENCE_OPTIONS = ("--no-tool-quota", "--no-account-limits")


@dataclass
class Ending:
    """How the process ends: an exit code, and one line where that is not 0.

    `run_dir` is the run that it was about and `regressions` its figures by status, for `--json`;
    `is_reported` once the report is under way: what fails then is no failure of the run.
    """

    exit_code: int = 0
    message: str | None = None
    run_dir: Path | None = None
    regressions: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"confirmed": (), "suspected": (), "accepted": ()}
    )
    is_reported: bool = False

    def note(self, run: "Run") -> None:
        """Let what a run's numbers say show in the exit code, once the chain is through."""
        outcome = run.outcome()
        self.exit_code = RUN_EXIT_CODES[outcome]
        # On a machine that the target shares with the generator that is no news.
        shared = run.machine.get("shares_with_target")
        if outcome in {"ok", "thresholds crossed"} and run.is_generator_bound() and not shared:
            self.exit_code = GENERATOR_EXIT_CODE
        said = "generator-bound" if self.exit_code == GENERATOR_EXIT_CODE else outcome
        self.message = None if self.exit_code == 0 else f"loadtest: run {run.run_id}: {said}"

    def note_regressions(self, run_id: str) -> None:
        """Let confirmed regressions show, where nothing worse does."""
        if self.exit_code in {0, RUN_EXIT_CODES["thresholds crossed"]}:
            self.exit_code = REGRESSED_EXIT_CODE
            count = len(self.regressions["confirmed"])
            said = f"{count} confirmed regression{'s' * (count != 1)}"
            self.message = f"loadtest: run {run_id}: {said}"

    def fail(self, exit_code: int, reason: str | None) -> None:
        """End by an error; what is known of the run by then is still said.

        Without a reason nobody is there to read one.
        """
        self.exit_code = exit_code
        line = f"loadtest: {' '.join(reason.splitlines())}" if reason else None
        self.message = "\n".join(filter(None, (self.message, line))) or None

    def point(self) -> None:
        """Name the section on the exit code; whoever stopped us by a signal needs none.

        What a server said is in the message: it is fit to be printed from here on.
        """
        if self.message:
            self.message = strip_controls(redact(self.message))
        if self.message and self.exit_code not in SIGNAL_EXIT_CODES:
            self.message += f" (docs/reference/exit-codes.md#exit-{self.exit_code})"


@dataclass
class Chain:
    """Handed from stage to stage; `targets` maps environments to the origins opened so far.

    `held` are the environments that no other process may use until this one ends;
    `tracking_issue` is where the run was reported, for the docs to lead to; `sign_ins` counts
    those by a browser.
    """

    root: Path
    console: Console
    resources: ExitStack
    ending: Ending = field(default_factory=Ending)
    targets: dict[str, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    tracking_issue: str | None = None
    sign_ins: int = 0

    def say(self, stage: str, text: str) -> None:
        """Print one line of a stage."""
        say(self.console, stage, text)

    def hold(self, settings: "Settings") -> None:
        """Keep other processes off the environment; BusyError where one is there already."""
        from loadtest.state.run_lock import lock_environment

        name = settings.environment_name
        if name not in self.held:
            self.resources.enter_context(lock_environment(settings.state_dir, name))
            self.held.add(name)

    def open_target(self, settings: "Settings") -> str:
        """Return the target's origin; the reference target is started once and kept running."""
        from loadtest.config.settings import check_hosted
        from loadtest.target.process import check_reachable, serve_reference

        name = settings.environment_name
        if name not in self.targets:
            if settings.is_reference():
                self.hold(settings)
                state_dir = settings.state_dir / "target"
                process = self.resources.enter_context(
                    serve_reference(state_dir, *REFERENCE_OPTIONS)
                )
                self.targets[name] = process.api_url
                self.say("target", f"reference target at {process.api_url}")
            else:
                check_hosted(settings, "LOADTEST_BASE_URL")
                assert settings.base_url is not None
                check_reachable(settings.base_url)
                self.targets[name] = settings.base_url
        return self.targets[name]


_current: Chain | None = None


def current() -> Chain:
    """Return the chain of this process; tasks run inside `guard`."""
    assert _current is not None, "tasks run inside chain.guard()"
    return _current


@contextmanager
def guard(root: Path = ROOT, *, as_json: bool = False) -> Iterator[Ending]:
    """Run stages: fixable errors become one line and an exit code, and all resources are closed.

    A bug keeps its traceback and ends with 70, so that no user mistakes it for their own fault.
    With `as_json` standard output gets the run as one JSON document and nothing else; what people
    read goes to standard error.
    """
    with guard_outputs(), _redact_outputs(), Signals() as signals:
        with (
            redirect_stdout(sys.stderr) if as_json else nullcontext(),
            _open_chain(root, signals) as ending,
        ):
            yield ending
        with _end_by(ending):
            if as_json and ending.run_dir is not None:
                _print_document(ending.run_dir, ending)
            sys.stdout.flush()
        ending.point()
        if ending.message:
            print(ending.message, file=sys.stderr, flush=True)


@contextmanager
def _redact_outputs() -> Iterator[None]:
    with (
        redirect_stdout(open_redacting(sys.stdout)),
        redirect_stderr(open_redacting(sys.stderr)),
    ):
        yield


@contextmanager
def _open_chain(root: Path, signals: Signals) -> Iterator[Ending]:
    global _current
    resources = ExitStack()
    _current = Chain(root, Console(), resources)
    ending = _current.ending
    try:
        with _end_by(ending):
            yield ending
    finally:
        # Whatever else is sent now, closing what was opened comes first.
        signals.ignore()
        with _end_by(ending):
            resources.close()
        _current = None


def _print_document(run_dir: Path, ending: Ending) -> None:
    from loadtest.results.run_folder import build_document, read_run_folder

    folder = read_run_folder(run_dir)
    document = redact_json(build_document(folder, ending.exit_code, ending.regressions))
    print(json.dumps(document, indent=2, ensure_ascii=False))


@contextmanager
def _end_by(ending: Ending) -> Iterator[None]:
    """Turn what a block ends by into the exit code and its line; later blocks go on."""
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
    except Exception:  # noqa: BLE001 (a bug: shown whole, then the exit code says so)
        traceback.print_exc()
        ending.fail(BUG_EXIT_CODE, "this is a bug")
