"""A run's comment on the tracking issue: written once, found again, read back, never a second."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtest.config.settings import Settings
from loadtest.errors import ConfigError, ReportError
from loadtest.publish.tracking_issue.issues import ENOUGH
from loadtest.publish.tracking_issue.payload import decode_entry, encode_entry
from loadtest.publish.tracking_issue.schemas import LABEL
from loadtest.publish.tracking_issue.tracker import (
    BETWEEN_WRITES_SECONDS,
    MOST_CHARS,
    NOT_KEPT,
    Tracker,
    open_tracker,
)
from tests.publish.tracking_issue.full_run import full_run
from tests.publish.tracking_issue.posted_runs import add_report, add_reports, list_ids
from tests.support.github_server import BOT, GHOST, GithubServer

NewTracker = Callable[..., Tracker]


def test_the_first_post_opens_the_issue_with_its_label_and_text(
    github: GithubServer, new_tracker: NewTracker, pauses: list[float]
) -> None:
    posted = new_tracker().post(full_run(), "Holds 100 sessions.\n")
    assert github.list_calls() == [
        "GET /issues",
        "POST /labels",
        "POST /issues",
        "POST /issues/1/comments",
    ]
    issue = github.issues[1]
    assert issue.title == "MCP load-test results history"
    assert issue.labels == [LABEL]
    assert "Each run of the load test is one comment on this issue" in issue.body
    (comment,) = issue.comments
    assert comment.body == f"Holds 100 sessions.\n\n{encode_entry(full_run())}"
    assert {call.headers["x-github-api-version"] for call in github.calls} == {"2022-11-28"}
    assert posted.url.endswith(f"/octo/loadtest/issues/1#issuecomment-{comment.id}")
    assert (posted.created, posted.issue) == (True, 1)
    assert pauses == [BETWEEN_WRITES_SECONDS] * 2


def test_the_next_run_is_posted_on_the_same_issue(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    new_tracker().post(full_run("run-1"), "Holds.")
    tracker = new_tracker()
    assert list_ids(tracker.read_recent().entries) == ["run-1"]
    assert tracker.post(full_run("run-2"), "Holds.").created
    assert list_ids(tracker.read_recent().entries) == ["run-1", "run-2"]
    assert [len(issue.comments) for issue in github.issues.values()] == [2]


def test_a_run_that_is_posted_again_updates_its_comment(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    first = new_tracker().post(full_run(), "Holds.")
    tracker = new_tracker()
    tracker.read_recent()
    for text in ("Fails.", "Fails, since the target was down."):
        again = tracker.post(full_run(git_sha=None), text)
        assert (again.created, again.url) == (False, first.url)
        (comment,) = github.issues[1].comments
        assert comment.body == f"{text}\n\n{encode_entry(full_run(git_sha=None))}"
    (entry,) = tracker.read_recent().entries
    assert entry == replace(full_run(git_sha=None), url=first.url)


def test_an_old_run_is_searched_back_to_its_start(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(1, labels=[LABEL])
    add_reports(github, 1, 320)
    old = github.issues[1].comments[2]
    entry = decode_entry(old.body)
    assert entry is not None
    posted = new_tracker().post(entry, "Told anew.")
    assert (posted.created, len(github.issues[1].comments)) == (False, 320)
    assert old.body == f"Told anew.\n\n{encode_entry(entry)}"


def test_labels_are_added_and_removed_and_cost_nothing_if_they_are_right(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(1, labels=[LABEL, "bug"])
    tracker = new_tracker()
    tracker.mark(regressed=True, failed=True)
    assert github.issues[1].labels == [LABEL, "bug", "regressed", "failed"]
    assert github.labels.keys() == {"bug", "regressed", "failed"}
    tracker.mark(regressed=True, failed=False)
    assert github.issues[1].labels == [LABEL, "bug", "regressed"]
    before = github.list_calls()
    tracker.mark(regressed=True, failed=False)
    assert github.list_calls() == before
    later = new_tracker()
    later.mark(regressed=False, failed=False)
    assert github.issues[1].labels == [LABEL, "bug"]


def test_a_label_that_somebody_else_removed_counts_as_removed(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    issue = github.add_issue(1, labels=[LABEL, "failed"])
    tracker = new_tracker()
    tracker.read_recent()
    issue.labels.remove("failed")
    tracker.mark(regressed=False, failed=False)
    assert issue.labels == [LABEL]


def test_without_an_issue_there_is_nothing_to_mark(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    new_tracker().mark(regressed=True, failed=True)
    assert not github.issues


def test_a_comment_over_the_limit_of_github_is_not_sent(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    tracker = new_tracker()
    room = tracker.count_room(full_run())
    with pytest.raises(ReportError, match=f"has {MOST_CHARS + 1:,} characters.* {MOST_CHARS:,}:"):
        tracker.post(full_run(), "x" * (room + 1))
    assert not github.calls
    assert tracker.post(full_run(), "x" * room).created
    assert len(github.issues[1].comments[0].body) == MOST_CHARS


def test_a_run_with_too_many_figures_is_posted_without_them_and_says_so(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    few = full_run()
    many = replace(
        few, rows=tuple(replace(few.rows[0], name=f"{place**9:x}") for place in range(5_000))
    )
    tracker = new_tracker()
    assert tracker.count_room(many) > tracker.count_room(few) - 200
    tracker.post(many, "Holds.")
    assert NOT_KEPT in github.issues[1].comments[0].body
    (entry,) = new_tracker().read_recent().entries
    assert entry == replace(few, rows=(), url=entry.url)


@pytest.mark.parametrize(
    "store",
    [
        lambda body: body[:-9],
        lambda body: body.partition("<!--")[0],
        lambda _: encode_entry(full_run("run-9")),
    ],
    ids=["cut", "stripped", "another"],
)
def test_what_github_stored_is_compared_with_what_was_sent(
    github: GithubServer, new_tracker: NewTracker, store: Callable[[str], str]
) -> None:
    github.store = store
    with pytest.raises(ReportError, match="#issuecomment-9001 was written, but GitHub stored some"):
        new_tracker().post(full_run(), "Holds.")
    github.store = str
    github.issues[1].comments[0].body = encode_entry(full_run())
    github.store = store
    with pytest.raises(ReportError, match="#issuecomment-9001 was written, but GitHub stored some"):
        new_tracker().post(full_run(git_sha=None), "Holds.")


@pytest.mark.parametrize("account", [BOT, "octo-perf"])
@pytest.mark.parametrize(
    "variables", [{}, {"LOADTEST_TRACKING_ISSUE": "#7"}], ids=["label", "number"]
)
def test_a_report_on_a_history_of_500_runs_takes_four_calls_at_most(
    github: GithubServer, new_tracker: NewTracker, account: str, variables: dict[str, str]
) -> None:
    github.account = account
    github.add_issue(7, labels=[LABEL])
    add_reports(github, 7, 500)
    tracker = new_tracker(**variables)
    entries = tracker.read_recent().entries
    tracker.post(full_run(), "Holds.")
    tracker.mark(regressed=False, failed=False)
    assert list_ids(entries) == [f"run-{place}" for place in range(401, 501)]
    looked = [] if account == BOT else ["GET /user"]
    found = "GET /issues/7" if variables else "GET /issues"
    assert github.list_calls() == [
        *(found, "GET /issues/7/comments", *looked, "POST /issues/7/comments"),
    ]


def test_other_comments_on_the_issue_are_ignored(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(7, labels=[LABEL])
    add_reports(github, 7, 60)
    for _ in range(150):
        github.add_comment(7, "I would like to add.", "a-stranger")
    assert len(new_tracker().read_recent().entries) == 60


def test_runs_of_other_environments_are_ignored(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(7, labels=[LABEL])
    add_reports(github, 7, 60)
    for place in range(150):
        staging = full_run(f"staging-{place}", environment="staging")
        github.add_comment(7, f"Holds.\n\n{encode_entry(staging)}")
    entries = new_tracker().read_recent().entries
    assert sum(entry.run.environment == "prod" for entry in entries) >= ENOUGH


def test_the_whole_history_is_read_on_request(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(7, labels=[LABEL])
    add_reports(github, 7, 250)
    tracker = new_tracker()
    assert len(tracker.read_recent().entries) < 250
    assert list_ids(tracker.read_all().entries) == [f"run-{place}" for place in range(1, 251)]


def test_a_payload_by_a_stranger_a_damaged_and_a_newer_one_are_skipped_by_a_line_each(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(7, labels=[LABEL])
    add_report(github, 7, "run-1", BOT)
    add_report(github, 7, "forged", "a-stranger")
    damaged = add_report(github, 7, "damaged")
    damaged.body = damaged.body[:-40] + damaged.body[-39:]
    newer = add_report(github, 7, "newer")
    newer.body = newer.body.replace(" version=1 ", " version=2 ")
    add_report(github, 7, "orphan", GHOST)
    github.add_comment(7, "Which machine was that?", "a-stranger")
    history = new_tracker().read_recent()
    assert list_ids(history.entries) == ["run-1"]
    assert [line.partition("#issuecomment-")[2] for line in history.skipped] == [
        "9002 is skipped: it is by a-stranger; only comments by the Actions bot and by this "
        "token's account are read",
        "9003 is skipped: its payload is damaged",
        "9004 is skipped: its payload has version 2, newer than 1: update mcp-loadtest",
        "9005 is skipped: it is by a deleted account; only comments by the Actions bot and by this "
        "token's account are read",
    ]


def test_a_comment_by_a_stranger_is_never_updated(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(7, labels=[LABEL])
    forged = add_report(github, 7, "17654321098-1", "a-stranger").body
    assert new_tracker().post(full_run(), "Holds.").created
    assert github.issues[7].comments[0].body == forged


def test_posting_again_repairs_a_damaged_comment(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    new_tracker().post(full_run(), "Holds.")
    (comment,) = github.issues[1].comments
    comment.body = comment.body.replace("sha256=", "sha256=0")
    assert not new_tracker().post(full_run(), "Holds.").created
    assert new_tracker().read_recent().skipped == ()


@pytest.mark.parametrize("lost", ["POST comments", "POST issues", "POST labels"])
def test_a_write_whose_answer_was_lost_is_not_repeated(
    github: GithubServer, new_tracker: NewTracker, pauses: list[float], lost: str
) -> None:
    github.lose(lost)
    posted = new_tracker().post(full_run(), "Holds.")
    assert posted.created
    (issue,) = github.issues.values()
    assert [comment.id for comment in issue.comments] == [9001]
    assert posted.url.endswith("/issues/1#issuecomment-9001")
    assert 1.0 in pauses


def test_a_wrong_number_and_a_missing_token_are_reported_together(
    github_settings: Callable[..., Settings],
) -> None:
    settings = github_settings(LOADTEST_TRACKING_ISSUE="the first", GITHUB_TOKEN="")
    with pytest.raises(ConfigError) as failure:
        open_tracker(settings)
    assert str(failure.value) == (
        "tracking issue: GITHUB_TOKEN is missing (permission 'Issues: read and write'); "
        "LOADTEST_TRACKING_ISSUE is not the number of an issue"
    )
