"""What is read of GitHub's answers, and what is told of a comment."""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

LABEL = "load-test-history"


@dataclass(frozen=True)
class GithubUser:
    """Who wrote something; `type` is GithubUser, Bot or Organization."""

    id: int
    login: str
    type: str


@dataclass(frozen=True)
class Label:
    """A label on an issue."""

    name: str


@dataclass(frozen=True)
class Issue:
    """An issue; `comments` is how many it has, `user` None for an account that is no more."""

    number: int
    html_url: str
    comments: int
    created_at: str
    user: GithubUser | None
    labels: tuple[Label, ...]
    body: str | None = None
    pull_request: Any = None

    @property
    def label_names(self) -> set[str]:
        """Return its labels."""
        return {label.name for label in self.labels}


@dataclass(frozen=True)
class Comment:
    """A comment on an issue."""

    id: int
    html_url: str
    created_at: str
    user: GithubUser | None
    body: str


@dataclass(frozen=True)
class Artifact:
    """What a workflow run left behind, for a time."""

    id: int
    expired: bool


@dataclass(frozen=True)
class Artifacts:
    """A page of a workflow run's artifacts."""

    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class PostedComment:
    """Where a run's comment is, on which issue, and whether it is a new one."""

    url: str
    created: bool
    issue: int


USER = TypeAdapter(GithubUser)
LABEL_MADE = TypeAdapter(Label)
LABELS = TypeAdapter(tuple[Label, ...])
ISSUE = TypeAdapter(Issue)
ISSUES = TypeAdapter(tuple[Issue, ...])
COMMENT = TypeAdapter(Comment)
COMMENTS = TypeAdapter(tuple[Comment, ...])
ARTIFACTS = TypeAdapter(Artifacts)
