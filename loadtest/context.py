"""What the stages of one process share: the console, the running targets, the ending."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.common.console import Console, say, strip_controls
from loadtest.common.interruption import BROKEN_PIPE_EXIT_CODE, HANGUP_EXIT_CODE
from loadtest.common.redaction import redact
from loadtest.errors import K6Error, LeakError

if TYPE_CHECKING:
    from loadtest.config.settings import Settings
    from loadtest.results.run import Run

EXIT_CODES = "docs/reference/exit-codes.md"
BUG_EXIT_CODE = 70
OBJECTIVES_EXIT_CODE = 95
REGRESSED_EXIT_CODE = 96
GENERATOR_EXIT_CODE = 97
# As in k6, 99 means crossed thresholds: a result, not a crash.
RUN_EXIT_CODES = {
    "ok": 0,
    "thresholds crossed": 99,
    "aborted": 98,
    "interrupted": 130,
    "not run": K6Error.exit_code,
    "failed": K6Error.exit_code,
}
SIGNAL_EXIT_CODES = (HANGUP_EXIT_CODE, 130, BROKEN_PIPE_EXIT_CODE, 143)
# The quick start measures latency, not a quota, and signs in more often than a person does.
REFERENCE_OPTIONS = ("--no-tool-quota", "--no-account-limits")


@dataclass
class Ending:
    """How the process ends: an exit code, and one line if the code is not 0.

    `run_dir` is the folder of the run, `findings` what moved in it and `objectives` how it met its
    objectives, for `--json`.
    `is_reported` is set when the report starts: a later failure is not a failure of the run.
    """

    exit_code: int = 0
    message: str | None = None
    run_dir: Path | None = None
    findings: Sequence[Mapping[str, Any]] = ()
    objectives: Sequence[Mapping[str, Any]] = ()
    is_reported: bool = False

    def note(self, run: "Run") -> None:
        """Set the exit code and the message from a run's outcome."""
        outcome = run.outcome()
        self.exit_code = RUN_EXIT_CODES[outcome]
        # If the target shares the machine with the load generator, this is expected.
        shared = run.machine.get("shares_with_target")
        if outcome in {"ok", "thresholds crossed"} and run.is_generator_bound() and not shared:
            self.exit_code = GENERATOR_EXIT_CODE
        result = "generator-bound" if self.exit_code == GENERATOR_EXIT_CODE else str(outcome)
        count = run.count_rises()
        if count and self.exit_code == 0:
            self.exit_code = LeakError.exit_code
            result = f"{count} figure{'s' * (count != 1)} rose within the run"
        self.message = None if self.exit_code == 0 else f"loadtest: run {run.run_id}: {result}"

    def note_objectives(self, run_id: str) -> None:
        """Set exit code and message from missed objectives, unless a worse one is set."""
        count = sum(objective["standing"] == "missed" for objective in self.objectives)
        if count and self.exit_code == 0:
            self.exit_code = OBJECTIVES_EXIT_CODE
            missed = f"{count} objective{'s' * (count != 1)} missed"
            self.message = f"loadtest: run {run_id}: {missed}"

    def note_regressions(self, run_id: str) -> None:
        """Set exit code and message from confirmed findings, unless a worse one is set."""
        if self.exit_code == 0:
            self.exit_code = REGRESSED_EXIT_CODE
            count = sum(finding["status"] == "confirmed" for finding in self.findings)
            found = f"{count} confirmed regression{'s' * (count != 1)}"
            self.message = f"loadtest: run {run_id}: {found}"

    def fail(self, exit_code: int, reason: str | None) -> None:
        """Set the exit code of an error and add its reason to the message about the run, if any.

        `reason` is None if nobody can read it, as after a closed terminal.
        """
        self.exit_code = exit_code
        line = f"loadtest: {' '.join(reason.splitlines())}" if reason else None
        self.message = "\n".join(filter(None, (self.message, line))) or None

    def render(self) -> str | None:
        """Return the message, safe to print as it may quote a server, with a link to the exit code.

        A process that was stopped by a signal needs no link.
        """
        if self.message is None:
            return None
        message = strip_controls(redact(self.message))
        if self.exit_code in SIGNAL_EXIT_CODES:
            return message
        # Other projects do not have this page.
        place = f"{EXIT_CODES}#" if Path(EXIT_CODES).exists() else ""
        return f"{message} ({place}exit-{self.exit_code})"


@dataclass
class Chain:
    """State that is passed from stage to stage.

    `targets` maps environments to the origins opened so far; `held` are the environments that no
    other process may use until this one ends; `tracking_issue` is where the run was reported, for
    the links in the docs; `sign_ins` counts sign-ins with a browser.
    """

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
        """Lock the environment for this process; raise BusyError if another process has it."""
        from loadtest.state.run_lock import lock_environment

        name = settings.environment_name
        if name not in self.held:
            self.resources.enter_context(lock_environment(settings.state_dir, name))
            self.held.add(name)

    def open_target(self, settings: "Settings") -> str:
        """Return the target's origin; start the reference target once and keep it running."""
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

    def find_newest_run(self, settings: "Settings", stage: str, run_id: str | None = None) -> Path:
        """Return a run's folder, by default the newest; print the runs that cannot be read."""
        from loadtest.results.run_folder import find_run_folder

        path, skipped = find_run_folder(settings.runs_dir, run_id, settings.environment_name)
        for line in skipped:
            self.say(stage, line)
        return path
