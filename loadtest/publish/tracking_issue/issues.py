"""Read the issues that contain the history, each with as many of its comments as needed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from loadtest.github.client import Github, GithubRefusal
from loadtest.publish.tracking_issue.errors import explain_refusals
from loadtest.publish.tracking_issue.payload import PayloadError, decode_entry, holds_payload
from loadtest.publish.tracking_issue.schemas import (
    COMMENTS,
    ISSUE,
    ISSUES,
    LABEL,
    USER,
    Comment,
    GithubUser,
    Issue,
)
from loadtest.publish.tracking_issue.texts import find_link

# This many reports are enough; at most this many pages are read to find them.
ENOUGH = 40
MOST_PAGES = 5
LEAST_PAGE = 50
PAGE = 100
# An issue takes no more comments than this; the history continues on another one before that.
FULL = 2500
ALMOST_FULL = 2000


@dataclass(frozen=True)
class TrackingIssue:
    """An issue with its newest comments, oldest first; `whole` if these are all."""

    issue: Issue
    comments: tuple[Comment, ...]
    whole: bool


class IssueReader:
    """Reads tracking issues; asks for the token's account only once."""

    def __init__(self, github: Github, number: int | None, environment: str) -> None:
        self._github = github
        self._number = number
        self._environment = environment
        self._own: GithubUser | None = None
        self._asked = False

    def find_newest(self) -> TrackingIssue | None:
        """Return the issue that the history continues on; None if no issue was opened yet."""
        issue = self._fetch(self._number) if self._number else self.find_labelled()
        while issue is not None:
            tracked = self.read_newest(issue)
            successor = self._find_successor(tracked)
            if successor is None:
                return tracked
            issue = successor
        return None

    def find_labelled(self, predecessor: Issue | None = None) -> Issue | None:
        """Return the newest open issue with our label; with `predecessor`, its successor."""
        with explain_refusals(self._github):
            found = self._github.fetch(
                ISSUES,
                "issues.list_for_repo",
                labels=LABEL,
                state="open",
                sort="created",
                direction="desc",
                per_page=PAGE,
            )
        for issue in found:
            if not issue.pull_request and (
                predecessor is None or self._find_predecessor(issue) == predecessor.number
            ):
                return issue
        return None

    def refresh(self, issue: Issue) -> TrackingIssue:
        """Read an issue and its newest comments again."""
        return self.read_newest(self._fetch(issue.number))

    def read_newest(self, issue: Issue) -> TrackingIssue:
        """Read the newest comments of an issue: one page, unless it has too few reports."""
        size, page = plan_page(issue.comments)
        last = max(page - MOST_PAGES, 0)
        comments: tuple[Comment, ...] = ()
        while page > last and not self.is_enough(comments):
            comments = (*self._list(issue, size, page), *comments)
            page -= 1
        return TrackingIssue(issue, comments, whole=page == 0)

    def is_enough(self, comments: Iterable[Comment]) -> bool:
        """Return whether these contain enough reports of the environment to compare with."""
        return sum(self.is_report(comment) for comment in comments) >= ENOUGH

    def is_report(self, comment: Comment) -> bool:
        """Return whether a comment contains a run of the environment and is by our account."""
        if not (holds_payload(comment.body) and self.is_reporting_account(comment.user)):
            return False
        try:
            entry = decode_entry(comment.body)
        except PayloadError:
            return False
        return entry is not None and entry.run.environment == self._environment

    def read_whole(self, tracked: TrackingIssue) -> TrackingIssue:
        """Read all comments of an issue."""
        if tracked.whole:
            return tracked
        comments: list[Comment] = []
        for page in range(1, FULL // PAGE + 1):
            comments += (found := self._list(tracked.issue, PAGE, page))
            if len(found) < PAGE:
                break
        return replace(tracked, comments=tuple(comments), whole=True)

    def read_predecessors(self, tracked: TrackingIssue) -> Iterator[TrackingIssue]:
        """Yield the newest comments of the issue before, of the one before that, and so on."""
        while (number := self._find_predecessor(tracked.issue)) is not None:
            tracked = self.read_newest(self._fetch(number))
            yield tracked

    def is_reporting_account(self, user: GithubUser | None) -> bool:
        """Return whether this is the Actions bot or the token's own account.

        The token of a workflow run may not ask for its own account, which is the bot.
        """
        if user is None:
            return False
        if (user.login, user.type) == ("github-actions[bot]", "Bot"):
            return True
        if not self._asked:
            with explain_refusals(self._github):
                self._own = self._ask_own()
            self._asked = True
        return self._own is not None and user.id == self._own.id

    def _ask_own(self) -> GithubUser | None:
        try:
            return self._github.fetch(USER, "users.get_authenticated")
        except GithubRefusal as refusal:
            if refusal.status == 403 and not refusal.is_limit:
                return None
            raise

    def _fetch(self, number: int) -> Issue:
        with explain_refusals(self._github, number):
            issue = self._github.fetch(ISSUE, "issues.get", issue_number=number)
            if issue.pull_request:
                raise GithubRefusal(
                    "it is a pull request: name an issue in LOADTEST_TRACKING_ISSUE"
                )
        return issue

    def _list(self, issue: Issue, size: int, page: int) -> tuple[Comment, ...]:
        with explain_refusals(self._github, issue.number):
            return self._github.fetch(
                COMMENTS,
                "issues.list_comments",
                issue_number=issue.number,
                per_page=size,
                page=page,
            )

    def _find_successor(self, tracked: TrackingIssue) -> Issue | None:
        for comment in reversed(tracked.comments):
            number = find_link("successor", comment.body)
            if (
                number is not None
                and number > tracked.issue.number
                and self.is_reporting_account(comment.user)
            ):
                return self._fetch(number)
        return self.find_labelled(tracked.issue) if tracked.issue.comments >= ALMOST_FULL else None

    def _find_predecessor(self, issue: Issue) -> int | None:
        number = find_link("predecessor", issue.body)
        fits = (
            number is not None and number < issue.number and self.is_reporting_account(issue.user)
        )
        return number if fits else None


def plan_page(count: int) -> tuple[int, int]:
    """Return size and number of the page that contains the most of the newest comments.

    GitHub lists the oldest first, and the last page may be nearly empty: choose the size from 50 to
    100 that fills it best.
    """
    if count <= PAGE:
        return PAGE, min(count, 1)
    size = max(range(LEAST_PAGE, PAGE + 1), key=lambda size: ((count - 1) % size, size))
    return size, (count - 1) // size + 1
