"""Read the history from the tracking issue, and write each run's comment exactly once."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from pydantic import TypeAdapter

from loadtest.config.settings import Settings
from loadtest.errors import ReportError
from loadtest.github.client import Github, GithubRefusal, open_github
from loadtest.publish.tracking_issue.errors import ISSUE_PERMISSION, explain_refusals
from loadtest.publish.tracking_issue.issues import ALMOST_FULL, FULL, IssueReader, TrackingIssue
from loadtest.publish.tracking_issue.payload import (
    PayloadError,
    decode_entry,
    encode_entry,
    find_run_id,
    holds_payload,
)
from loadtest.publish.tracking_issue.schemas import (
    COMMENT,
    ISSUE,
    LABEL,
    LABEL_MADE,
    LABELS,
    Comment,
    Issue,
    PostedComment,
)
from loadtest.publish.tracking_issue.texts import (
    COLOURS,
    TITLE,
    build_body,
    build_successor_comment,
    find_link,
)
from loadtest.results.history import Entry, History
from loadtest.results.run import Run

# GitHub's limit; a comment has room for notes that are added later.
MOST_BODY = 65_536
MOST_CHARS = 60_000
# With less room for its text, a comment omits the figures.
LEAST_ROOM = 5_000
# The pause that GitHub asks for between two writes.
BETWEEN_WRITES_SECONDS = 1.0
NOT_KEPT = "<sub>This run has too many figures to store: later runs are not compared with it.</sub>"

_T = TypeVar("_T")


class Tracker:
    """The tracking issue and its predecessors; each is read only once."""

    def __init__(self, github: Github, number: int | None, environment: str) -> None:
        self.repository_url = github.repository_url
        self._github = github
        self._reader = IssueReader(github, number, environment)
        self._issues: list[TrackingIssue] | None = None
        self._wrote = False

    def find_address(self) -> str | None:
        """Return the address of the issue for the next report; None if there is no issue yet."""
        issues = self._open_issues()
        return issues[0].issue.html_url if issues else None

    def read_recent(self) -> History:
        """Read the newest reports: 40 of the environment, if the newest pages have as many."""
        return self._read(self._open_issues())

    def read_all(self) -> History:
        """Read the whole history from all its issues."""
        issues = self._open_issues()
        self._read_rest(issues)
        return self._read(issues)

    def count_room(self, entry: Entry) -> int:
        """Return how many characters the text of a run's comment may have."""
        return MOST_CHARS - len(_pack(entry))

    def post(self, entry: Entry, text: str) -> PostedComment:
        """Write the comment of a run, or update it; there is never a second one."""
        body = text.rstrip() + _pack(entry)
        if len(body) > MOST_CHARS:
            raise ReportError(
                f"the comment of run {entry.run.run_id} has {len(body):,} characters, over the "
                f"limit of {MOST_CHARS:,}: read the report in the run folder instead"
            )
        found = self._find_comment(entry.run)
        if found is not None:
            return self._edit(*found, body)
        issues = self._open_issues()
        issue = self._ensure_issue(issues)
        comment = self._comment(
            issue, body, lambda each: find_run_id(each.body) == entry.run.run_id
        )
        _check_stored(comment, body)
        issue = replace(issue, comments=issue.comments + 1)
        comments = (*issues[0].comments, comment)
        issues[0] = replace(issues[0], issue=issue, comments=comments)
        return PostedComment(comment.html_url, True, issue.number)

    def add_note(self, run: Run, note: str) -> None:
        """Add a line below the headline of a run's comment, unless it is there already."""
        found = self._find_comment(run)
        if found is None or note in found[1].body:
            return
        headline, _, rest = found[1].body.partition("\n")
        body = f"{headline}\n\n{note}\n{rest}"
        if len(body) <= MOST_BODY:
            self._edit(*found, body)

    def mark(self, *, regressed: bool, failed: bool) -> None:
        """Add the labels `regressed` and `failed` to the tracking issue, or remove them."""
        issues = self._open_issues()
        if not issues:
            return
        issue = issues[0].issue
        for name, wanted in (("regressed", regressed), ("failed", failed)):
            issue = self._add_label(issue, name) if wanted else self._remove_label(issue, name)
        issues[0] = replace(issues[0], issue=issue)

    def _open_issues(self) -> list[TrackingIssue]:
        """Read the newest comments, and those of the previous issue if reports are too few."""
        if self._issues is None:
            newest = self._reader.find_newest()
            self._issues = [newest] if newest else []
            if newest and newest.whole and not self._reader.is_enough(newest.comments):
                before = next(self._reader.read_predecessors(newest), None)
                self._issues += [before] if before else []
        return self._issues

    def _read_rest(self, issues: list[TrackingIssue]) -> None:
        issues[:] = [self._reader.read_whole(tracked) for tracked in issues]
        for before in self._reader.read_predecessors(issues[-1]) if issues else ():
            issues.append(self._reader.read_whole(before))

    def _read(self, issues: list[TrackingIssue]) -> History:
        entries: dict[str, Entry] = {}
        skipped = []
        for comment in (each for tracked in reversed(issues) for each in tracked.comments):
            if not holds_payload(comment.body):
                continue
            try:
                entry = self._decode(comment)
            except PayloadError as failure:
                skipped.append(f"{comment.html_url} is skipped: {failure}")
            else:
                entries[entry.run.run_id] = entry
        newest_last = sorted(entries.values(), key=lambda entry: entry.run.started)
        return History(tuple(newest_last), tuple(skipped))

    def _decode(self, comment: Comment) -> Entry:
        if not self._reader.is_reporting_account(comment.user):
            author = comment.user.login if comment.user else "a deleted account"
            raise PayloadError(
                f"it is by {author}; only comments by the Actions bot and by this token's account "
                "are read"
            )
        entry = decode_entry(comment.body, comment.html_url)
        assert entry is not None
        return entry

    def _find_comment(self, run: Run) -> tuple[TrackingIssue, Comment] | None:
        """Find a run's comment; read back to the start of the run, which is seldom far."""
        issues = self._open_issues()
        found = self._find_on(issues, run)
        if found is None and issues:
            read = issues[-1].comments
            if not read or run.started < read[0].created_at:
                self._read_rest(issues)
                found = self._find_on(issues, run)
        return found

    def _find_on(
        self, issues: list[TrackingIssue], run: Run
    ) -> tuple[TrackingIssue, Comment] | None:
        for tracked in issues:
            for comment in reversed(tracked.comments):
                if find_run_id(comment.body) == run.run_id and self._reader.is_reporting_account(
                    comment.user
                ):
                    return tracked, comment
        return None

    def _ensure_issue(self, issues: list[TrackingIssue]) -> Issue:
        """Return the newest issue if it has room, else open one."""
        if issues and issues[0].issue.comments < ALMOST_FULL:
            return issues[0].issue
        before = issues[0].issue if issues else None
        issue = self._open_issue(before)
        if before is not None:
            self._link_next_issue(before, issue)
        issues.insert(0, TrackingIssue(issue, (), whole=True))
        return issue

    def _open_issue(self, before: Issue | None) -> Issue:
        with explain_refusals(self._github):
            self._ensure_label(LABEL)
            issue = self._write(
                ISSUE,
                "issues.create",
                find_done=lambda: self._reader.find_labelled(before),
                title=TITLE,
                body=build_body(before.number if before else None),
                labels=[LABEL],
            )
        if LABEL not in issue.label_names:
            raise ReportError(
                f"{issue.html_url} was opened, but GITHUB_TOKEN may not label it: set the label "
                f"{LABEL} by hand, or LOADTEST_TRACKING_ISSUE to {issue.number}"
            )
        return issue

    def _link_next_issue(self, before: Issue, issue: Issue) -> None:
        """Link the next issue on one that is nearly full; a full one takes no comment."""
        if before.comments < FULL:
            self._comment(
                before,
                build_successor_comment(issue.number),
                lambda comment: find_link("successor", comment.body) == issue.number,
            )
        for name in COLOURS:
            before = self._remove_label(before, name)

    def _comment(self, issue: Issue, body: str, is_it: Callable[[Comment], bool]) -> Comment:
        """Write a comment once; `is_it` recognises it if GitHub's answer was lost."""

        def find_done() -> Comment | None:
            comments = self._reader.refresh(issue).comments
            matches = (each for each in reversed(comments) if is_it(each))
            return next(
                (each for each in matches if self._reader.is_reporting_account(each.user)), None
            )

        with explain_refusals(self._github, issue.number):
            return self._write(
                COMMENT,
                "issues.create_comment",
                find_done=find_done,
                issue_number=issue.number,
                body=body,
            )

    def _edit(self, tracked: TrackingIssue, comment: Comment, body: str) -> PostedComment:
        with explain_refusals(self._github, tracked.issue.number):
            edited = self._write(COMMENT, "issues.update_comment", comment_id=comment.id, body=body)
        _check_stored(edited, body)
        issues = self._open_issues()
        place = issues.index(tracked)
        comments = tuple(edited if each.id == edited.id else each for each in tracked.comments)
        issues[place] = replace(tracked, comments=comments)
        return PostedComment(edited.html_url, False, tracked.issue.number)

    def _add_label(self, issue: Issue, name: str) -> Issue:
        if name in issue.label_names:
            return issue
        with explain_refusals(self._github, issue.number):
            self._ensure_label(name)
            labels = self._write(
                LABELS, "issues.add_labels", issue_number=issue.number, labels=[name]
            )
        return replace(issue, labels=labels)

    def _remove_label(self, issue: Issue, name: str) -> Issue:
        if name not in issue.label_names:
            return issue
        with explain_refusals(self._github, issue.number):
            try:
                labels = self._write(
                    LABELS, "issues.remove_label", issue_number=issue.number, name=name
                )
            except GithubRefusal as refusal:
                if refusal.status != 404:
                    raise
                labels = tuple(label for label in issue.labels if label.name != name)
        return replace(issue, labels=labels)

    def _ensure_label(self, name: str) -> None:
        about = "Set and removed by the load test"
        try:
            self._write(
                LABEL_MADE, "issues.create_label", name=name, color=COLOURS[name], description=about
            )
        except GithubRefusal as refusal:
            if refusal.status != 422:  # it is there
                raise

    def _write(
        self,
        shape: TypeAdapter[_T],
        operation: str,
        find_done: Callable[[], _T | None] = lambda: None,
        **given: object,
    ) -> _T:
        if self._wrote:
            self._github.pause(BETWEEN_WRITES_SECONDS)
        self._wrote = True
        return self._github.fetch(shape, operation, find_done=find_done, **given)


def find_tracker(settings: Settings, pause: Callable[[float], None] = time.sleep) -> Tracker | None:
    """Return the tracker of a hosted environment; None if no repository is named."""
    if settings.is_reference() or not (settings.repository or settings.tracking_issue):
        return None
    return open_tracker(settings, pause)


def open_tracker(settings: Settings, pause: Callable[[float], None] = time.sleep) -> Tracker:
    """Return the tracker that the variables name; raise ConfigError with all that is wrong."""
    text = settings.tracking_issue or ""
    number = re.fullmatch(r"#?([1-9]\d{0,8})", text, re.ASCII)
    faults = (
        ["LOADTEST_TRACKING_ISSUE is not the number of an issue"] if text and not number else []
    )
    github = open_github(
        settings.variables, "tracking issue", ISSUE_PERMISSION, pause, faults=faults
    )
    return Tracker(github, int(number[1]) if number else None, settings.environment_name)


def _pack(entry: Entry) -> str:
    """Return the payload that follows a comment's text; too many figures are omitted."""
    payload = encode_entry(entry)
    if len(payload) <= MOST_CHARS - LEAST_ROOM:
        return f"\n\n{payload}"
    return f"\n\n{NOT_KEPT}\n\n{encode_entry(replace(entry, rows=()))}"


def _check_stored(comment: Comment, body: str) -> None:
    """Raise ReportError unless GitHub stored the same entry."""
    try:
        stored = decode_entry(comment.body)
    except PayloadError:
        stored = None
    if stored is None or stored != decode_entry(body):
        raise ReportError(
            f"{comment.html_url} was written, but GitHub stored something else. Post it again, or "
            "later runs are not compared with it"
        )
