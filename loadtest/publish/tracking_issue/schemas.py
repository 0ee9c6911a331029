"""The parts of GitHub's answers that are read, and the result of posting a comment."""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

LABEL = "load-test-history"


@dataclass(frozen=True)
class GithubUser:
    """An account; `type` is User, Bot or Organization."""

    id: int
    login: str
    type: str


@dataclass(frozen=True)
class Label:
    """A label on an issue."""

    name: str


@dataclass(frozen=True)
class Issue:
    """An issue; `comments` is their number, `user` None for a deleted account."""

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
    """A file that GitHub keeps for a workflow run."""

    id: int
    expired: bool


@dataclass(frozen=True)
class Artifacts:
    """A page of a workflow run's artifacts."""

    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class PostedComment:
    """The address of a run's comment, its issue, and whether it is new."""

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
