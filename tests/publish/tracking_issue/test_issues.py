"""The issues that a history lies on: how they are found, followed and given successors."""

from collections.abc import Callable

import pytest

from loadtest.errors import ReportError
from loadtest.publish.tracking_issue.issues import ALMOST_FULL, ENOUGH, FULL, plan_page
from loadtest.publish.tracking_issue.payload import find_run_id
from loadtest.publish.tracking_issue.schemas import LABEL
from loadtest.publish.tracking_issue.texts import build_body, build_successor_comment
from loadtest.publish.tracking_issue.tracker import Tracker
from tests.publish.tracking_issue.full_run import full_run
from tests.publish.tracking_issue.posted_runs import add_report, add_reports, list_ids
from tests.support.github_server import ACCOUNT, BOT, GithubServer, Issue

NewTracker = Callable[..., Tracker]


def add_talk(github: GithubServer, issue: int, count: int) -> None:
    for _ in range(count):
        github.add_comment(issue, "I would like to add.", "a-stranger")


def add_chain(github: GithubServer) -> tuple[Issue, Issue]:
    """Add an issue that is nearly full, with 50 reports, and its successor with 2 more."""
    old = github.add_issue(3)
    add_talk(github, 3, ALMOST_FULL - 50)
    add_reports(github, 3, 50)
    new = github.add_issue(8, labels=[LABEL], body=build_body(3))
    github.add_comment(3, build_successor_comment(8))
    for run_id in ("run-51", "run-52"):
        add_report(github, 8, run_id)
    return old, new


@pytest.mark.parametrize("labels", [(), (LABEL,)])
@pytest.mark.parametrize("state", ["open", "closed"])
def test_an_issue_that_is_named_is_taken_as_it_is(
    github: GithubServer, new_tracker: NewTracker, labels: tuple[str, ...], state: str
) -> None:
    github.add_issue(4, labels=[LABEL])
    github.add_issue(2, labels=list(labels), state=state)
    assert new_tracker(LOADTEST_TRACKING_ISSUE="2").post(full_run(), "Holds.").issue == 2
    assert github.issues[2].labels == list(labels)


def test_a_pull_request_is_not_a_tracking_issue(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(2, labels=[LABEL], is_pull_request=True)
    with pytest.raises(ReportError) as failure:
        new_tracker(LOADTEST_TRACKING_ISSUE="2").read_recent()
    assert str(failure.value) == (
        "tracking issue https://github.com/octo/loadtest/issues/2: it is a pull request: name an "
        "issue in LOADTEST_TRACKING_ISSUE"
    )
    assert new_tracker().post(full_run(), "Holds.").issue == 3


def test_the_newest_open_issue_with_the_label_is_found(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(2, labels=[LABEL])
    github.add_issue(4, labels=["bug", LABEL])
    github.add_issue(5, labels=[LABEL], state="closed")
    github.add_issue(6, labels=["bug"])
    assert new_tracker().post(full_run(), "Holds.").issue == 4


@pytest.mark.parametrize("account", [ACCOUNT, BOT])
def test_an_issue_that_is_nearly_full_gets_a_successor_and_both_are_linked(
    github: GithubServer, new_tracker: NewTracker, account: str
) -> None:
    github.account = account
    old = github.add_issue(3, labels=[LABEL, "bug", "regressed"])
    add_reports(github, 3, 60)
    add_talk(github, 3, ALMOST_FULL - 60)
    tracker = new_tracker()
    posted = tracker.post(full_run(), "Holds.")
    new = github.issues[4]
    assert (posted.issue, posted.created) == (4, True)
    assert new.body.startswith("Earlier runs are in #3.\n")
    assert new.labels == [LABEL]
    assert [find_run_id(comment.body) for comment in new.comments] == ["17654321098-1"]
    assert old.comments[-1].body.startswith(
        "This issue is nearly full: the history continues in #4."
    )
    assert old.labels == ["bug"]
    for variables in ({}, {"LOADTEST_TRACKING_ISSUE": "3"}):
        later = new_tracker(**variables)
        assert list_ids(later.read_all().entries)[60:] == ["17654321098-1"]
        assert not later.post(full_run(), "Holds.").created
    assert later.post(full_run("next"), "Holds.").issue == 4


def test_the_previous_issue_is_read_too_if_the_successor_has_too_few_reports(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    add_chain(github)
    ids = [f"run-{place}" for place in range(1, 53)]
    assert list_ids(new_tracker().read_recent().entries) == ids
    assert list_ids(new_tracker(LOADTEST_TRACKING_ISSUE="3").read_recent().entries) == ids
    assert list_ids(new_tracker().read_all().entries) == ids


def test_a_run_on_the_issue_before_is_updated_there(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    old, new = add_chain(github)
    tracker = new_tracker()
    entry = tracker.read_recent().entries[10]
    assert tracker.post(entry, "Told anew.").issue == 3
    assert old.comments[ALMOST_FULL - 40].body.startswith("Told anew.")
    assert len(new.comments) == 2


def test_a_link_by_a_stranger_is_ignored(github: GithubServer, new_tracker: NewTracker) -> None:
    github.add_issue(2, labels=[LABEL], author="a-stranger", body=build_body(1))
    add_report(github, 2, "run-1")
    github.add_issue(9)
    github.add_comment(2, build_successor_comment(9), "a-stranger")
    tracker = new_tracker()
    assert list_ids(tracker.read_all().entries) == ["run-1"]
    assert tracker.post(full_run(), "Holds.").issue == 2


def test_links_in_a_circle_are_not_followed(github: GithubServer, new_tracker: NewTracker) -> None:
    github.add_issue(2, labels=[LABEL], body=build_body(5))
    github.add_comment(2, build_successor_comment(2))
    github.add_comment(2, build_successor_comment(1))
    assert new_tracker().read_all().entries == ()


def test_a_successor_that_was_opened_and_not_yet_linked_is_found(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(3, labels=[LABEL])
    add_talk(github, 3, ALMOST_FULL)
    github.add_issue(6, labels=[LABEL], body=build_body(2))
    github.add_issue(5, labels=[LABEL], body=build_body(3))
    assert new_tracker(LOADTEST_TRACKING_ISSUE="3").post(full_run(), "Holds.").issue == 5


@pytest.mark.parametrize("lost", ["POST issues", "POST comments", f"DELETE {LABEL}"])
def test_a_successor_is_opened_and_linked_once_if_an_answer_was_lost(
    github: GithubServer, new_tracker: NewTracker, lost: str
) -> None:
    old = github.add_issue(3, labels=[LABEL])
    add_talk(github, 3, ALMOST_FULL)
    github.lose(lost)
    assert new_tracker().post(full_run(), "Holds.").issue == 4
    assert (len(old.comments), old.labels) == (ALMOST_FULL + 1, [])
    assert [len(issue.comments) for issue in github.issues.values()] == [ALMOST_FULL + 1, 1]


def test_a_full_issue_gets_a_successor_but_no_comment(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    old = github.add_issue(3, labels=[LABEL])
    add_talk(github, 3, FULL)
    assert new_tracker().post(full_run(), "Holds.").issue == 4
    assert (len(old.comments), old.labels) == (FULL, [])
    assert new_tracker(LOADTEST_TRACKING_ISSUE="3").post(full_run("next"), "Holds.").issue == 4


def test_the_page_of_the_newest_comments_has_many_of_them_for_every_count() -> None:
    for count in range(1, FULL + 1):
        size, page = plan_page(count)
        newest = count - size * (page - 1)
        assert min(count, ENOUGH) <= newest <= size <= 100
    assert plan_page(0)[1] == 0
