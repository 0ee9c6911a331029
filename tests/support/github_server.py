"""A loopback GitHub: Actions secrets, issues with comments and labels, artifacts; and its moods."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from nacl.public import PrivateKey, SealedBox

REPOSITORY = "octo/loadtest"
TOKEN = "a github token canary"
API_VERSIONS = ("2022-11-28",)  # of GitHub Enterprise Server 3.20
NOW = datetime(2026, 8, 3, 12, tzinfo=UTC)
MOST_COMMENTS = 2500
BOT = "github-actions[bot]"
ACCOUNT = "octo-perf"
GHOST = "ghost"
IDS = {ACCOUNT: 7, BOT: 41898282}


class Answer(NamedTuple):
    """Status, body (or None) and headers of an answer; `content` replaces the body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}
    content: bytes = b""


class Call(NamedTuple):
    """One request and how it was answered."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    given: Mapping[str, Any]
    answer: Answer

    def __str__(self) -> str:
        return f"{self.method} {self.path.removeprefix(f'/repos/{REPOSITORY}')}"


@dataclass
class Comment:
    """A comment as it is stored."""

    id: int
    issue: int
    author: str
    body: str
    created: str


@dataclass
class Issue:
    """A stored issue; `gone` is the status if it was deleted or transferred."""

    number: int
    author: str = ACCOUNT
    title: str = "MCP load-test results history"
    body: str = ""
    labels: list[str] = field(default_factory=list)
    state: str = "open"
    locked: bool = False
    is_pull_request: bool = False
    gone: int | None = None
    comments: list[Comment] = field(default_factory=list)
    created: str = "2026-01-01T00:00:00Z"


@dataclass
class Artifact:
    """What a workflow run left behind."""

    id: int
    run_id: int
    name: str
    content: bytes
    expired: bool = False


class GithubServer:
    """A loopback GitHub: its addresses, its content, and the requests that it refuses.

    Requests are named `METHOD last`: `last` is the last part of the path (`POST comments`).
    """

    def __init__(self) -> None:
        self._key = PrivateKey.generate()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler(self.answer))
        # Artifacts are on another host, which must not get the token.
        self._store = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler(self.answer_store))
        self.api_url = f"http://127.0.0.1:{self._server.server_port}"
        self.store_url = f"http://127.0.0.1:{self._store.server_port}"
        self.forget_all()

    @property
    def variables(self) -> dict[str, str]:
        """What a workflow would have in its environment."""
        return {
            "GITHUB_API_URL": self.api_url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_TOKEN": TOKEN,
        }

    def forget_all(self) -> None:
        """Be as new."""
        self.secrets: dict[str, str] = {}
        self.issues: dict[int, Issue] = {}
        self.labels: dict[str, str] = {"bug": "d73a4a"}
        self.artifacts: list[Artifact] = []
        self.calls: list[Call] = []
        self.account = ACCOUNT
        self.may_label = True
        # What becomes of a comment's text on its way into the store.
        self.store: Callable[[str], str] = str
        self._refusals: dict[str, list[Answer]] = {}
        self._hooks: dict[str, list[Callable[[], None]]] = {}
        self._losses: dict[str, int] = {}
        self._comments_made = 0

    def refuse(
        self,
        what: str,
        status: int,
        times: int = 99,
        message: str = "Resource not accessible by personal access token",
        **headers: str,
    ) -> None:
        """Answer such requests with `status` and do nothing."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._refusals[what] = [Answer(status, {"message": message}, named)] * times

    def accept_all(self) -> None:
        """Stop refusing requests."""
        self._refusals.clear()

    def before(self, what: str, act: Callable[[], None] = lambda: None, times: int = 1) -> None:
        """Call a function at the next such requests, and neither act nor answer."""
        self._hooks[what] = [act] * times

    def lose(self, what: str, times: int = 1) -> None:
        """Carry out the next such requests, but do not answer."""
        self._losses[what] = times

    def add_issue(self, number: int, **given: Any) -> Issue:
        """Open an issue."""
        issue = self.issues[number] = Issue(number, **given)
        return issue

    def add_comment(self, number: int, body: str, author: str | None = None) -> Comment:
        """Write on an issue, an hour after the comment before."""
        self._comments_made += 1
        created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self._comments_made)
        comment = Comment(
            *(9000 + self._comments_made, number, author or self.account, body),
            created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        self.issues[number].comments.append(comment)
        return comment

    def list_calls(self) -> list[str]:
        """Return the requests so far, each as method and path within the repository."""
        return [str(call) for call in self.calls]

    def serve(self) -> list[Thread]:
        """Answer until `close`."""
        threads = [
            Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            for server in (self._server, self._store)
        ]
        for thread in threads:
            thread.start()
        return threads

    def close(self) -> None:
        """Stop answering and give the ports back."""
        for server in (self._server, self._store):
            server.shutdown()
            server.server_close()

    def answer_store(self, method: str, url: str, headers: Mapping[str, str], _: bytes) -> Answer:
        """Return an artifact's archive to anybody who has its address."""
        place = urlsplit(url).path
        found = [each for each in self.artifacts if place == f"/artifacts/{each.id}"]
        answer = self._pop_refusal(f"{method} {place.rpartition('/')[2]}")
        if answer is None and found:
            answer = Answer(200, None, {"content-type": "application/zip"}, found[0].content)
        answer = answer or Answer(404, {"message": "Not Found"})
        self.calls.append(Call(method, f"{self.store_url}{place}", {}, headers, {}, answer))
        return answer

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Return the answer to a request, and note both."""
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        last = parts.path.rpartition("/")[2]
        given = json.loads(body) if body else {}
        if headers.get("authorization") != f"Bearer {TOKEN}":
            answer = Answer(401, {"message": "Bad credentials"})
        elif headers.get("x-github-api-version") not in API_VERSIONS:
            answer = Answer(400, {"message": "The API version is missing or not supported"})
        else:
            answer = self._pop_refusal(f"{method} {last}") or self._act(
                method, parts.path, query, given
            )
        self.calls.append(Call(method, parts.path, query, headers, given, answer))
        return answer

    def _pop_refusal(self, what: str) -> Answer | None:
        refusals = self._refusals.get(what)
        return refusals.pop() if refusals else None

    def _act(
        self, method: str, path: str, query: Mapping[str, str], given: Mapping[str, Any]
    ) -> Answer:
        if path == "/user":
            if self.account == BOT:
                return Answer(403, {"message": "Resource not accessible by integration"})
            return Answer(200, self._build_account())
        base = f"/repos/{REPOSITORY}/"
        place = [unquote(part) for part in path.removeprefix(base).split("/")]
        match [method, *place] if path.startswith(base) else []:
            case [_, "actions", "secrets", *rest]:
                return self._answer_secrets(method, rest[0] if rest else "secrets", given)
            case ["GET", "actions", "runs", run_id, "artifacts"]:
                return self._list_artifacts(int(run_id), query.get("name"))
            case ["GET", "actions", "artifacts", artifact_id, "zip"]:
                return self._redirect_to(int(artifact_id))
            case ["GET", "issues"]:
                return self._list_issues(query)
            case ["POST", "issues"]:
                return self._open_issue(given)
            case ["POST", "labels"]:
                return self._make_label(given)
            case ["PATCH", "issues", "comments", comment_id]:
                return self._edit_comment(int(comment_id), given["body"])
            case [_, "issues", number, *rest]:
                return self._answer_issue(method, int(number), rest, query, given)
        return Answer(404, {"message": "Not Found"})

    def _answer_secrets(self, method: str, name: str, given: Mapping[str, Any]) -> Answer:
        match method, name:
            case "GET", "secrets":
                times = {"created_at": _stamp(NOW), "updated_at": _stamp(NOW)}
                listed = [{"name": each, **times} for each in sorted(self.secrets)]
                return Answer(200, {"total_count": len(listed), "secrets": listed})
            case "GET", "public-key":
                key = b64encode(bytes(self._key.public_key)).decode()
                return Answer(200, {"key_id": "7", "key": key})
            case "PUT", _:
                assert given["key_id"] == "7"
                sealed = b64decode(given["encrypted_value"])
                known = name in self.secrets
                self.secrets[name] = SealedBox(self._key).decrypt(sealed).decode()
                return Answer(204) if known else Answer(201, {})
            case "DELETE", _:
                if self.secrets.pop(name, None) is not None:
                    return Answer(204)
        return Answer(404, {"message": "Not Found"})

    def _list_issues(self, query: Mapping[str, str]) -> Answer:
        wanted = set(query["labels"].split(","))
        found = [
            issue
            for issue in self.issues.values()
            if wanted <= set(issue.labels) and issue.state == query["state"] and not issue.gone
        ]
        found.sort(key=lambda issue: issue.number, reverse=query["direction"] == "desc")
        return Answer(200, [self._show_issue(issue) for issue in _cut(found, query)])

    def _open_issue(self, given: Mapping[str, Any]) -> Answer:
        number = max(self.issues, default=0) + 1
        issue = self.add_issue(number, author=self.account, **given)
        if not self.may_label:
            issue.labels = []
        return Answer(201, self._show_issue(issue))

    def _make_label(self, given: Mapping[str, Any]) -> Answer:
        if given["name"] in self.labels:
            error = {"resource": "Label", "code": "already_exists", "field": "name"}
            about = "https://docs.github.com/rest/issues/labels#create-a-label"
            told = {"message": "Validation Failed", "errors": [error], "documentation_url": about}
            return Answer(422, told)
        self.labels[given["name"]] = given["color"]
        return Answer(201, self._show_label(given["name"]))

    def _edit_comment(self, comment_id: int, body: str) -> Answer:
        for issue in self.issues.values():
            for comment in issue.comments:
                if comment.id == comment_id:
                    comment.body = self.store(body)
                    return Answer(200, self._show_comment(comment))
        return Answer(404, {"message": "Not Found"})

    def _answer_issue(
        self,
        method: str,
        number: int,
        rest: list[str],
        query: Mapping[str, str],
        given: Mapping[str, Any],
    ) -> Answer:
        issue = self.issues.get(number)
        if issue is None:
            return Answer(404, {"message": "Not Found"})
        if issue.gone == 301:
            url = f"{self.api_url}/repositories/99/issues/3"
            body = {"message": "Moved Permanently", "url": url}
            return Answer(301, body, {"location": url})
        if issue.gone == 410:
            return Answer(410, {"message": "This issue was deleted"})
        match [method, *rest]:
            case ["GET"]:
                return Answer(200, self._show_issue(issue))
            case ["GET", "comments"]:
                return Answer(200, [self._show_comment(c) for c in _cut(issue.comments, query)])
            case ["POST", "comments"]:
                return self._write_comment(issue, given["body"])
            case ["POST", "labels"]:
                issue.labels += [name for name in given["labels"] if name not in issue.labels]
                return Answer(200, [self._show_label(name) for name in issue.labels])
            case ["DELETE", "labels", name] if name in issue.labels:
                issue.labels.remove(name)
                return Answer(200, [self._show_label(name) for name in issue.labels])
        return Answer(404, {"message": "Label does not exist"})

    def _write_comment(self, issue: Issue, body: str) -> Answer:
        message = None
        if issue.locked:
            message = "Unable to create comment because issue is locked."
        elif len(issue.comments) >= MOST_COMMENTS:
            message = "Commenting is disabled on issues with more than 2500 comments"
        if message:
            return Answer(403, {"message": message})
        return Answer(201, self._show_comment(self.add_comment(issue.number, self.store(body))))

    def _list_artifacts(self, run_id: int, name: str | None) -> Answer:
        found = [each for each in self.artifacts if each.run_id == run_id]
        if not found:
            return Answer(404, {"message": "Not Found"})
        listed = [self._show_artifact(each) for each in found if each.name == name]
        return Answer(200, {"total_count": len(listed), "artifacts": listed})

    def _redirect_to(self, artifact_id: int) -> Answer:
        (found,) = (each for each in self.artifacts if each.id == artifact_id)
        if found.expired:
            return Answer(410, {"message": "Artifact has expired"})
        return Answer(302, None, {"location": f"{self.store_url}/artifacts/{found.id}"})

    def _show_issue(self, issue: Issue) -> dict[str, Any]:
        url = f"{self.api_url}/repos/{REPOSITORY}/issues/{issue.number}"
        pull_request = dict.fromkeys(("url", "html_url", "diff_url", "patch_url"), url)
        return {
            "id": 5000 + issue.number,
            "node_id": f"I_{issue.number}",
            "url": url,
            "repository_url": f"{self.api_url}/repos/{REPOSITORY}",
            "labels_url": f"{url}/labels{{/name}}",
            "comments_url": f"{url}/comments",
            "events_url": f"{url}/events",
            "html_url": f"https://github.com/{REPOSITORY}/issues/{issue.number}",
            "number": issue.number,
            "state": issue.state,
            "title": issue.title,
            "body": issue.body,
            "user": self._show_author(issue.author),
            "labels": [self._show_label(name) for name in issue.labels],
            "assignee": None,
            "assignees": [],
            "milestone": None,
            "locked": issue.locked,
            "comments": len(issue.comments),
            "closed_at": None,
            "created_at": issue.created,
            "updated_at": issue.created,
            "author_association": "NONE",
        } | ({"pull_request": pull_request} if issue.is_pull_request else {})

    def _show_comment(self, comment: Comment) -> dict[str, Any]:
        page = f"https://github.com/{REPOSITORY}/issues/{comment.issue}"
        return {
            "id": comment.id,
            "node_id": f"IC_{comment.id}",
            "url": f"{self.api_url}/repos/{REPOSITORY}/issues/comments/{comment.id}",
            "html_url": f"{page}#issuecomment-{comment.id}",
            "issue_url": f"{self.api_url}/repos/{REPOSITORY}/issues/{comment.issue}",
            "body": comment.body,
            "user": self._show_author(comment.author),
            "created_at": comment.created,
            "updated_at": comment.created,
            "author_association": "NONE",
        }

    def _show_label(self, name: str) -> dict[str, Any]:
        return {
            "id": 100 + len(name),
            "node_id": f"LA_{name}",
            "url": f"{self.api_url}/repos/{REPOSITORY}/labels/{name}",
            "name": name,
            "color": self.labels.get(name, "ededed"),
            "default": False,
            "description": None,
        }

    def _show_author(self, login: str) -> dict[str, Any] | None:
        return self._show_user(login) if login != GHOST else None

    def _show_user(self, login: str) -> dict[str, Any]:
        url = f"{self.api_url}/users/{login}"
        links = "followers following gists starred subscriptions organizations repos events"
        return {
            "login": login,
            "id": IDS.get(login, 1000 + len(login)),
            "node_id": f"U_{login}",
            "avatar_url": f"{url}.png",
            "gravatar_id": "",
            "url": url,
            "html_url": f"https://github.com/{login}",
            "received_events_url": f"{url}/received_events",
            "type": "Bot" if login.endswith("[bot]") else "User",
            "site_admin": False,
        } | {f"{name}_url": f"{url}/{name}" for name in links.split()}

    def _build_account(self) -> dict[str, Any]:
        unsaid = "name company blog location email hireable bio"
        counted = "public_repos public_gists followers following"
        times = {"created_at": "2020-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
        return (
            self._show_user(self.account)
            | dict.fromkeys(unsaid.split())
            | dict.fromkeys(counted.split(), 0)
            | times
        )

    def _show_artifact(self, artifact: Artifact) -> dict[str, Any]:
        url = f"{self.api_url}/repos/{REPOSITORY}/actions/artifacts/{artifact.id}"
        return {
            "id": artifact.id,
            "node_id": f"A_{artifact.id}",
            "name": artifact.name,
            "size_in_bytes": len(artifact.content),
            "url": url,
            "archive_download_url": f"{url}/zip",
            "expired": artifact.expired,
            "created_at": _stamp(NOW),
            "updated_at": _stamp(NOW),
            "expires_at": _stamp(NOW + timedelta(days=30)),
        }

    def _build_handler(self, answer: Callable[..., Answer]) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.close_connection = True
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    return
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                what = f"{self.command} {urlsplit(self.path).path.rpartition('/')[2]}"
                hooks = server._hooks.get(what)
                if hooks:
                    hooks.pop()()
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                given = answer(self.command, self.path, headers, body)
                if server._losses.get(what):
                    server._losses[what] -= 1
                    return
                content = given.content
                if given.body is not None:
                    content = json.dumps(given.body).encode()
                named = {"content-type": "application/json", "date": format_datetime(NOW)}
                self.send_response_only(given.status)
                for name, value in {**named, **given.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _cut(listed: list[Any], query: Mapping[str, str]) -> list[Any]:
    """Return one page of a list."""
    size = int(query.get("per_page", 30))
    assert 1 <= size <= 100
    start = (int(query.get("page", 1)) - 1) * size
    return listed[start : start + size]


@contextmanager
def serve_github() -> Iterator[GithubServer]:
    """Serve for the length of the block."""
    server = GithubServer()
    threads = server.serve()
    try:
        yield server
    finally:
        server.close()
        for thread in threads:
            thread.join(10)
