"""GitHub's refusals on a tracking issue, each as one line with what to do next."""

from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.errors import ReportError
from loadtest.github.client import Github, GithubRefusal

ISSUE_PERMISSION = "Issues: read and write"

_MAY_NOT = (
    f"GITHUB_TOKEN may not do this: it needs the permission '{ISSUE_PERMISSION}' (in a workflow "
    "`permissions: issues: write`)"
)
_OTHER = "name another issue in LOADTEST_TRACKING_ISSUE, or remove it to find or open one"
_OF_ISSUE = {
    301: f"it was transferred to another repository (its address redirects there): {_OTHER}",
    403: _MAY_NOT,
    404: "there is no such issue, or GITHUB_TOKEN cannot see it: correct LOADTEST_TRACKING_ISSUE "
    f"or GITHUB_REPOSITORY, or give the token the permission '{ISSUE_PERMISSION}'",
    410: f"it was deleted: {_OTHER}",
}
_OF_REPOSITORY = {
    301: "the repository was renamed: correct GITHUB_REPOSITORY",
    403: _MAY_NOT,
    404: "GITHUB_REPOSITORY does not exist, or GITHUB_TOKEN cannot see it or its issues: it needs "
    f"the permission '{ISSUE_PERMISSION}'",
    410: "issues are disabled in this repository: enable them in its settings, or name "
    "another repository in GITHUB_REPOSITORY",
}


@contextmanager
def explain_refusals(github: Github, number: int | None = None) -> Iterator[None]:
    """Raise GitHub's refusals as ReportError, about one issue or about the repository's issues."""
    try:
        yield
    except GithubRefusal as refusal:
        raise ReportError(_explain(github, number, refusal)) from None


def _explain(github: Github, number: int | None, refusal: GithubRefusal) -> str:
    where = f"issues of {github.repository}"
    if number is None:
        return refusal.explain(where, _OF_REPOSITORY)
    where = f"tracking issue {github.repository_url}/issues/{number}"
    message = refusal.message.lower()
    if refusal.status == 403 and "locked" in message:
        return f"{where} is locked: unlock it, or {_OTHER}"
    if refusal.status == 403 and "comments" in message:
        return f"{where} is full and takes no more comments: {_OTHER}"
    if refusal.status == 410 and "disabled" in message:
        return refusal.explain(where, _OF_REPOSITORY)
    return refusal.explain(where, _OF_ISSUE)
