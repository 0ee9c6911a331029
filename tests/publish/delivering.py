"""What the tests of a delivery share: a typed task, and a tracking issue with a history."""

from collections.abc import Callable

from loadtest.publish.tracking_issue.payload import encode_entry
from loadtest.results.history import Entry
from tests.support.github_server import GithubServer, Issue

Inv = Callable[..., tuple[int, str]]


def seed(github: GithubServer, *entries: Entry) -> Issue:
    """Make a tracking issue with a comment per run."""
    issue = github.add_issue(12, labels=["load-test-history"])
    for each in entries:
        github.add_comment(12, f"as usual\n\n{encode_entry(each)}")
    return issue
