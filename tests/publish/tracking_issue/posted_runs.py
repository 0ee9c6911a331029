"""Runs that were posted before, hour by hour, as the loopback GitHub stores them."""

from loadtest.publish.tracking_issue.payload import encode_entry
from loadtest.results.history import Entry
from tests.publish.tracking_issue.full_run import full_run
from tests.support.github_server import Comment, GithubServer


def add_report(github: GithubServer, issue: int, run_id: str, author: str | None = None) -> Comment:
    """Write the comment of a run, started when it was written."""
    comment = github.add_comment(issue, "", author)
    comment.body = f"Holds.\n\n{encode_entry(full_run(run_id, started=comment.created))}"
    return comment


def add_reports(github: GithubServer, issue: int, count: int, author: str | None = None) -> None:
    """Write the comments of so many runs: `run-1`, `run-2`, …"""
    for place in range(count):
        add_report(github, issue, f"run-{place + 1}", author)


def list_ids(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.run.run_id for entry in entries]
