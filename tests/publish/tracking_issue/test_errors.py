"""What GitHub refuses: waited out where that helps, else one line that says what to do."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from loadtest.errors import ReportError
from loadtest.github.client import LIMIT_WAITS_SECONDS, MOST_WAIT_SECONDS, OUTAGE_WAITS_SECONDS
from loadtest.publish.tracking_issue.schemas import LABEL
from loadtest.publish.tracking_issue.tracker import Tracker
from tests.publish.tracking_issue.full_run import full_run
from tests.publish.tracking_issue.posted_runs import add_reports
from tests.support.github_server import MOST_COMMENTS, NOW, TOKEN, GithubServer

NewTracker = Callable[..., Tracker]

ISSUE = "tracking issue https://github.com/octo/loadtest/issues/7"
REPOSITORY = "issues of octo/loadtest"
PERMISSION = "'Issues: read and write'"
MAY_NOT = (
    f"HTTP 403: GITHUB_TOKEN may not do this: it needs the permission {PERMISSION} (in a workflow "
    "`permissions: issues: write`)"
)
OTHER = "name another issue in LOADTEST_TRACKING_ISSUE, or remove it to find or open one"
SECONDARY = "You have exceeded a secondary rate limit."


def fail(new_tracker: NewTracker, **variables: str) -> str:
    """Return the line that a post ends in."""
    tracker = new_tracker(**variables)
    with pytest.raises(ReportError) as failure:
        tracker.post(full_run(), "Holds.")
    message = str(failure.value)
    assert "\n" not in message
    assert TOKEN not in message + repr(failure.value) + repr(tracker)
    return message


def end_limit_in(seconds: float) -> dict[str, str]:
    """Return the headers of a primary limit that starts anew then, by GitHub's clock."""
    ends = NOW + timedelta(seconds=seconds)
    return {"x_ratelimit_remaining": "0", "x_ratelimit_reset": f"{ends.timestamp():.0f}"}


@pytest.mark.parametrize("what", ["GET issues", "GET comments", "POST comments", "PATCH 9002"])
@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_outage_is_waited_out(
    github: GithubServer, new_tracker: NewTracker, pauses: list[float], what: str, status: int
) -> None:
    github.add_issue(7, labels=[LABEL])
    add_reports(github, 7, 2)
    github.refuse(what, status, times=3, message="Server Error")
    run_id = "run-2" if what.startswith("PATCH") else "17654321098-1"
    new_tracker().post(full_run(run_id), "Holds.")
    assert pauses == list(OUTAGE_WAITS_SECONDS)
    assert len(github.issues[7].comments) == (2 if run_id == "run-2" else 3)


@pytest.mark.parametrize("what", ["GET issues", "GET comments", "POST comments"])
def test_a_dropped_connection_is_waited_out(
    github: GithubServer, new_tracker: NewTracker, pauses: list[float], what: str
) -> None:
    github.add_issue(7, labels=[LABEL])
    add_reports(github, 7, 2)
    github.before(what, times=2)
    new_tracker().post(full_run(), "Holds.")
    assert pauses == list(OUTAGE_WAITS_SECONDS[:2])
    assert len(github.issues[7].comments) == 3


@pytest.mark.parametrize("what", ["GET issues", "POST comments"])
@pytest.mark.parametrize(
    ("status", "message", "headers", "wait"),
    [
        (403, "API rate limit exceeded", end_limit_in(100), 101.0),
        (429, "API rate limit exceeded", end_limit_in(100), 101.0),
        (403, "API rate limit exceeded", end_limit_in(-60), 1.0),
        (403, SECONDARY, {"retry_after": "30"}, 30.0),
        (429, SECONDARY, {"retry_after": "30"}, 30.0),
        (403, SECONDARY, {}, LIMIT_WAITS_SECONDS[0]),
        (429, SECONDARY, {"retry_after": "soon"}, LIMIT_WAITS_SECONDS[0]),
    ],
)
def test_a_rate_limit_is_waited_out_as_long_as_github_says(
    github: GithubServer,
    new_tracker: NewTracker,
    pauses: list[float],
    what: str,
    status: int,
    message: str,
    headers: dict[str, str],
    wait: float,
) -> None:
    github.add_issue(7, labels=[LABEL])
    github.refuse(what, status, times=1, message=message, **headers)
    new_tracker().post(full_run(), "Holds.")
    assert pauses == [wait]
    assert len(github.issues[7].comments) == 1


@pytest.mark.parametrize(
    ("status", "message", "headers", "waited", "told"),
    [
        (
            *(503, "No server is available", {}, list(OUTAGE_WAITS_SECONDS)),
            "HTTP 503: No server is available: GitHub has an outage, try again later",
        ),
        (
            *(403, "API rate limit exceeded", end_limit_in(MOST_WAIT_SECONDS), []),
            "GitHub's rate limit is used up (HTTP 403): try again after 12:05 UTC",
        ),
        (
            *(403, SECONDARY, {}, list(LIMIT_WAITS_SECONDS)),
            "GitHub's rate limit is used up (HTTP 403): try again later",
        ),
        (
            *(429, SECONDARY, {"retry_after": "140"}, [140.0, 140.0]),
            "GitHub's rate limit is used up (HTTP 429): try again later",
        ),
    ],
)
def test_a_longer_outage_is_reported(
    github: GithubServer,
    new_tracker: NewTracker,
    pauses: list[float],
    status: int,
    message: str,
    headers: dict[str, str],
    waited: list[float],
    told: str,
) -> None:
    github.add_issue(7, labels=[LABEL])
    github.refuse("POST comments", status, 99, message, **headers)
    assert fail(new_tracker) == f"{ISSUE}: {told}"
    assert pauses == waited


def test_a_github_that_does_not_answer_is_reported(
    github: GithubServer, new_tracker: NewTracker, pauses: list[float]
) -> None:
    github.before("GET issues", times=9)
    assert fail(new_tracker).startswith(f"{REPOSITORY}: {github.api_url} does not answer (")
    assert pauses == list(OUTAGE_WAITS_SECONDS)


def test_the_limit_of_one_request_is_not_that_of_all(
    github: GithubServer, new_tracker: NewTracker, pauses: list[float]
) -> None:
    github.add_issue(7, labels=[LABEL])
    for what in ("GET issues", "POST comments"):
        github.refuse(what, 403, times=2, message=SECONDARY, retry_after="140")
    new_tracker().post(full_run(), "Holds.")
    assert pauses == [140.0] * 4


@pytest.mark.parametrize(
    ("what", "status", "message", "told"),
    [
        ("GET issues", 401, "Bad credentials", "HTTP 401: GITHUB_TOKEN is wrong or has expired"),
        ("GET issues", 403, "Resource not accessible by personal access token", MAY_NOT),
        ("POST issues", 403, "Resource not accessible by integration", MAY_NOT),
        (
            *("GET issues", 404, "Not Found"),
            "HTTP 404: GITHUB_REPOSITORY does not exist, or GITHUB_TOKEN cannot see it or its "
            f"issues: it needs the permission {PERMISSION}",
        ),
        (
            *("POST issues", 410, "Issues has been disabled in this repository."),
            "HTTP 410: issues are disabled in this repository: enable them in its settings, "
            "or name another repository in GITHUB_REPOSITORY",
        ),
        (
            *("GET issues", 301, "Moved Permanently"),
            "HTTP 301: the repository was renamed: correct GITHUB_REPOSITORY",
        ),
        ("GET issues", 418, "I am a\nteapot", "HTTP 418: I am a teapot"),
    ],
)
def test_a_refusal_about_the_repository_is_one_line_with_its_remedy(
    github: GithubServer,
    new_tracker: NewTracker,
    pauses: list[float],
    what: str,
    status: int,
    message: str,
    told: str,
) -> None:
    github.refuse(what, status, message=message)
    assert fail(new_tracker) == f"{REPOSITORY}: {told}"
    assert len(pauses) <= 1  # between two writes


@pytest.mark.parametrize(
    ("what", "status", "message", "told"),
    [
        ("GET 7", 401, "Bad credentials", "HTTP 401: GITHUB_TOKEN is wrong or has expired"),
        ("POST comments", 403, "Resource not accessible by personal access token", MAY_NOT),
        (
            *("GET 7", 410, "Issues are disabled for this repo"),
            "HTTP 410: issues are disabled in this repository: enable them in its settings, "
            "or name another repository in GITHUB_REPOSITORY",
        ),
    ],
)
def test_a_refusal_about_the_issue_is_one_line_with_its_remedy(
    github: GithubServer,
    new_tracker: NewTracker,
    pauses: list[float],
    what: str,
    status: int,
    message: str,
    told: str,
) -> None:
    github.add_issue(7)
    github.refuse(what, status, message=message)
    assert fail(new_tracker, LOADTEST_TRACKING_ISSUE="7") == f"{ISSUE}: {told}"
    assert pauses == []


def test_a_deleted_issue_is_reported_with_its_remedy(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    assert fail(new_tracker, LOADTEST_TRACKING_ISSUE="7") == (
        f"{ISSUE}: HTTP 404: there is no such issue, or GITHUB_TOKEN cannot see it: correct "
        "LOADTEST_TRACKING_ISSUE or GITHUB_REPOSITORY, or give the token the permission "
        f"{PERMISSION}"
    )
    github.add_issue(7, gone=410)
    told = fail(new_tracker, LOADTEST_TRACKING_ISSUE="7")
    assert told == f"{ISSUE}: HTTP 410: it was deleted: {OTHER}"
    github.add_issue(7, gone=301)
    assert fail(new_tracker, LOADTEST_TRACKING_ISSUE="7") == (
        f"{ISSUE}: HTTP 301: it was transferred to another repository (its address "
        f"redirects there): {OTHER}"
    )


def test_a_locked_issue_is_reported_with_its_remedy(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(7, labels=[LABEL], locked=True)
    assert fail(new_tracker) == f"{ISSUE} is locked: unlock it, or {OTHER}"


def test_an_issue_that_became_full_is_reported_with_its_remedy(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    issue = github.add_issue(7, labels=[LABEL])
    tracker = new_tracker()
    tracker.read_recent()
    for _ in range(MOST_COMMENTS):
        github.add_comment(7, "I would like to add.", "a-stranger")
    with pytest.raises(ReportError) as failure:
        tracker.post(full_run(), "Holds.")
    assert str(failure.value) == f"{ISSUE} is full and takes no more comments: {OTHER}"
    assert len(issue.comments) == MOST_COMMENTS


def test_a_token_that_may_not_label_is_an_error_that_names_the_issue(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.may_label = False
    assert fail(new_tracker) == (
        "https://github.com/octo/loadtest/issues/1 was opened, but GITHUB_TOKEN may not label it: "
        f"set the label {LABEL} by hand, or LOADTEST_TRACKING_ISSUE to 1"
    )


def test_an_address_that_is_not_github_is_reported(
    github: GithubServer, new_tracker: NewTracker
) -> None:
    github.add_issue(7, labels=[LABEL])
    github.refuse("GET issues", 200, message="Welcome to nginx!")
    assert fail(new_tracker) == (
        f"{REPOSITORY}: {github.api_url} does not answer as GitHub does: correct GITHUB_API_URL"
    )
