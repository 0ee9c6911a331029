"""Report a run, compare two runs, print the history."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from loadtest.common.command_name import spell
from loadtest.common.console import strip_controls
from loadtest.config.loading import load_settings
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import (
    ConfigError,
    LoadtestError,
    MintError,
    ReportError,
    ResultsError,
    UsageError,
)

if TYPE_CHECKING:
    from loadtest.k6.repeats import Judge
    from loadtest.publish.delivery import PreparedReport
    from loadtest.results.history import History
    from loadtest.results.run import Run
    from loadtest.results.run_folder import RunFolder


# A wait of at least this long is reported.
LEAST_REPORTED_SECONDS = 5


def report(
    chain: Chain,
    settings: Settings,
    run_id: str | None,
    *,
    dry_run: bool = False,
    as_json: bool = False,
    junit: str | None = None,
) -> None:
    """Compare a run, print it, write it beside the run, post it if a repository is set.

    A run that is named is reported as one of its own environment. With `dry_run` the comment is
    printed as Markdown, and nothing is written or posted. `junit` is where the objectives are
    written as JUnit XML.
    """
    from loadtest.publish import delivery
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.results.run_folder import read_run_folder

    chain.ending.is_reported = True
    own = chain.ending.run_dir if run_id is None else None
    folder = read_run_folder(own or _find_run(chain, settings, run_id))
    chain.ending.run_dir = folder.path
    if junit is not None and not folder.run.objectives:
        raise UsageError(
            f"--junit: run {folder.run.run_id} had no objectives: set [environment."
            f"{folder.run.environment}.slo] before a run"
        )
    if folder.run.environment != settings.environment_name:
        with suppress(ConfigError):  # one that was typed in passing is in no file
            settings = load_settings(
                settings.root, folder.run.environment, process_env=settings.variables
            )
    if dry_run:
        tracker = find_tracker(settings, _pause(chain))
        prepared = delivery.prepare_report(settings, folder, tracker)
        print(strip_controls(prepared.text))
        _note_results(chain, settings, prepared)
    else:
        _deliver(chain, settings, folder, as_json=as_json, junit=junit)
    if own is None and (folder.run.has_failed() or not folder.run.has_ended()):
        chain.ending.note(folder.run)


def _find_run(chain: Chain, settings: Settings, run_id: str | None) -> Path:
    """Return a run's folder; one that is not here is fetched from its workflow run's artifact."""
    try:
        return chain.find_newest_run(settings, "report", run_id)
    except ResultsError as missing:
        if run_id is None or settings.repository is None:
            raise
        from loadtest.publish.tracking_issue.artifact import fetch_run_artifact

        try:
            path = fetch_run_artifact(settings, run_id, settings.runs_dir, _pause(chain))
        except (ConfigError, ReportError) as failure:
            raise ReportError(f"{missing}; {failure}") from None
    chain.say("report", f"{run_id} fetched from the artifact of its workflow run")
    return path


def build_judge(chain: Chain, settings: Settings) -> "Judge":
    """Return what finds the suspicious figures of a run, so that k6 can measure them again.

    It reads the history once: from the tracking issue, else from the run folders.
    """
    from loadtest.compare.comparison import compare_run
    from loadtest.publish.delivery import read_recent_history
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.results.history import Entry, History

    @cache
    def read() -> History:
        return read_recent_history(settings, find_tracker(settings, _pause(chain)))

    def judge(folder: "RunFolder") -> Mapping[str, Sequence[str]]:
        entry = Entry(folder.run, folder.rows, repeats=folder.repeats)
        return compare_run(entry, read().list_earlier(folder.run)).remeasure

    return judge


def report_cut_off(chain: Chain, settings: Settings, step_outcome: str) -> None:
    """Report the run of this job after its step ended with this outcome and posted nothing.

    A job that was cancelled while it signed in has no run yet: one that failed is reported.
    """
    from loadtest.results.run_folder import build_run_id

    if settings.variables.get("GITHUB_ACTIONS") != "true":
        raise UsageError("--step-outcome is for a job of GitHub Actions: use --run-id")
    run_id = build_run_id(None, settings.variables)
    if (settings.runs_dir / run_id).is_dir():
        report(chain, settings, run_id)
    elif step_outcome == "cancelled":
        why = ReportError("the job was cancelled, or it reached its time limit")
        report_failed(chain, settings, None, why)
    else:
        chain.say("report", "nothing was measured: the log of the failed step says why")


def report_failed(
    chain: Chain, settings: Settings, scenarios: str | None, failure: LoadtestError
) -> None:
    """Report a run that ended before it measured anything, where reports are posted.

    Without this report, a missing comment could be taken for good news.
    """
    from loadtest.k6.options import parse_scenarios
    from loadtest.k6.plan import build_plan
    from loadtest.k6.run_facts import build_run
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.results.run import Target
    from loadtest.results.run_folder import create_run_folder, read_run_folder, write_run

    chain.ending.is_reported = True
    if find_tracker(settings) is None:
        return
    if chain.ending.run_dir is None:
        target = Target(host=urlsplit(settings.base_url or "").netloc or "unknown")
        plan = build_plan(settings, parse_scenarios(scenarios, settings.profile), "")
        run = build_run(settings, plan, target, "unknown")
        folder = create_run_folder(settings.runs_dir, run)
        chain.ending.run_dir = folder.path
    else:
        folder = read_run_folder(chain.ending.run_dir)
    if all(result.outcome == "not run" for result in folder.run.scenarios):
        folder = replace(folder, run=_mark_failed(folder.run, failure))
        write_run(folder)
    _deliver(chain, settings, folder, as_json=True)


def _mark_failed(run: "Run", failure: LoadtestError) -> "Run":
    from loadtest.common.clock import utc_now
    from loadtest.report.content.verdict import AT_SIGN_IN, AT_START
    from loadtest.results.run import ScenarioResult

    where, why = AT_START, str(failure)
    if isinstance(failure, MintError):
        where, why = AT_SIGN_IN, failure.message
    reason = f"{where}: {why}"
    failed = ScenarioResult(run.scenarios[0].name, "failed", reason=reason)
    return replace(run.note(failed), ended=utc_now())


def _deliver(
    chain: Chain,
    settings: Settings,
    folder: "RunFolder",
    *,
    as_json: bool,
    junit: str | None = None,
) -> None:
    """Compare, write, print, post and announce a run; an error of GitHub is raised at the end."""
    from loadtest.publish import delivery
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.report.junit import write_junit
    from loadtest.report.terminal import render_terminal

    run_id, failure, tracker, posted = folder.run.run_id, None, None, None
    try:
        tracker = find_tracker(settings, _pause(chain))
        prepared = delivery.prepare_report(settings, folder, tracker)
    except (ConfigError, ReportError) as refused:
        tracker, failure, prepared = None, refused, delivery.prepare_without_history(folder)
    written = delivery.write_files(prepared)
    if not as_json:
        chain.console.print(render_terminal(folder, prepared.comparison, prepared.earlier))
    names = " and ".join(path.name for path in written)
    chain.say("report", f"written to {folder.path.relative_to(settings.root)}: {names}")
    if junit is not None:
        write_junit(Path(junit), folder, prepared.judged)
        chain.say("report", f"objectives written to {junit}")
    if tracker is not None:
        try:
            posted = delivery.post(prepared, tracker)
        except ReportError as refused:
            failure = refused
        else:
            chain.tracking_issue = str(posted.issue)
            chain.say("report", f"{'posted' if posted.created else 'updated'}: {posted.url}")
    url = posted.url if posted else None
    for warning in delivery.announce(settings.variables, prepared, url):
        chain.say("report", warning)
    _note_results(chain, settings, prepared)
    if failure is not None:
        command = spell(f"report --env {settings.environment_name} --run-id {run_id}")
        raise ReportError(f"{failure}. Not posted; to post it: {command}")


def _note_results(chain: Chain, settings: Settings, prepared: "PreparedReport") -> None:
    """End the task with missed objectives, or with confirmed regressions.

    Regressions do not count on the reference target, which shares the machine.
    """
    chain.ending.objectives = prepared.list_objectives()
    chain.ending.note_objectives(prepared.folder.run.run_id)
    if not settings.is_reference():
        chain.ending.findings = prepared.list_findings()
        if prepared.entry.has_regressed():
            chain.ending.note_regressions(prepared.folder.run.run_id)


def _pause(chain: Chain) -> Callable[[float], None]:
    """Return a function that waits, and reports long waits."""

    def pause(seconds: float) -> None:
        if seconds >= LEAST_REPORTED_SECONDS:
            chain.say("report", f"GitHub is busy, or a limit is reached: waiting {seconds:.0f} s")
        time.sleep(seconds)

    return pause


def compare(chain: Chain, settings: Settings, before: str, after: str) -> None:
    """Print two runs of the environment side by side."""
    from loadtest.publish.delivery import read_history
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.report.distributions import render_distributions
    from loadtest.report.history_tables import find_entry, render_pair

    tracker = find_tracker(settings, _pause(chain))
    loaded = read_history(settings, tracker)
    _say_skipped(chain, loaded)
    entries = loaded.entries
    pair = find_entry(entries, before), find_entry(entries, after)
    chain.console.print(render_pair(*pair))
    ids = (entry.run.run_id for entry in pair)
    for table in render_distributions(settings.runs_dir, *ids):
        chain.console.print(table)


def history(
    chain: Chain,
    settings: Settings,
    *,
    check: bool = False,
    accept: str | None = None,
    as_page: bool = False,
    as_csv: bool = False,
) -> None:
    """Print the runs of the environment, or check, accept or export them."""
    from loadtest.compare.cadence import check_cadence
    from loadtest.publish import delivery
    from loadtest.publish.tracking_issue.tracker import find_tracker
    from loadtest.report.history_tables import find_entry, render_csv, render_history
    from loadtest.report.html.page import render_history_page
    from loadtest.report.markdown import write_readable

    if [check, accept is not None, as_page, as_csv].count(True) > 1:
        raise UsageError("use only one of --check, --accept, --html and --csv")
    name, cadence_days = settings.environment_name, settings.environment.cadence_days
    if check and cadence_days is None:
        raise ConfigError(f"environment {name} has no cadence_days in loadtest.toml: set it")
    tracker = find_tracker(settings, _pause(chain))
    loaded = delivery.read_history(settings, tracker)
    entries = loaded.entries
    if as_csv:
        print(render_csv(entries), end="")
        return
    _say_skipped(chain, loaded)
    if check:
        assert cadence_days is not None
        newest = check_cadence(entries, name, cadence_days, datetime.now(UTC))
        chain.say("history", f"the newest run of {name} began {newest:%Y-%m-%d %H:%M} UTC: on time")
    elif accept is not None:
        entry = find_entry(entries, accept)
        delivery.accept(settings, tracker, entry)
        figures = f"{len(entry.confirmed)} figure{'s' * (len(entry.confirmed) != 1)}"
        chain.say("history", f"{entry.run.run_id} is the new baseline of {figures}")
    elif as_page:
        path = write_readable(settings.state_dir / "history.html", render_history_page(entries))
        chain.say("history", f"written to {path.relative_to(settings.root)}")
    elif entries:
        chain.console.print(render_history(entries))
    else:
        chain.say(
            "history", f"no run of {name} yet: start with `{spell(f'loadtest --env {name}')}`"
        )


def _say_skipped(chain: Chain, loaded: "History") -> None:
    for line in loaded.skipped:
        chain.say("history", line)
