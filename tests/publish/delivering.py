"""What the tests of a delivery share: a typed task, an issue with a history, a webhook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from loadtest.publish.tracking_issue.payload import encode_entry
from loadtest.results.history import Entry
from tests.support.github_server import GithubServer, Issue
from tests.support.loopback import serve_loopback

Inv = Callable[..., tuple[int, str]]


def seed(github: GithubServer, *entries: Entry) -> Issue:
    """Make a tracking issue with a comment per run."""
    issue = github.add_issue(12, labels=["load-test-history"])
    for each in entries:
        github.add_comment(12, f"as usual\n\n{encode_entry(each)}")
    return issue


@contextmanager
def listen(status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """Serve a webhook; give its secret address, and what it was sent."""
    heard: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

    with serve_loopback(Hook) as origin:
        yield f"{origin}/hook-canary", heard
