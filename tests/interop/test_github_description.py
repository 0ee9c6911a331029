"""The loopback GitHub against GitHub's published description of its API (npm: @octokit/openapi)."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator, ValidationError  # type: ignore[import-untyped,unused-ignore]
from pydantic import TypeAdapter
from referencing import Registry
from referencing.jsonschema import DRAFT4

from loadtest.common.redaction import SecretStr
from loadtest.config.settings import Settings
from loadtest.errors import ReportError
from loadtest.github.client import API_VERSION
from loadtest.github.secrets import open_secrets
from loadtest.publish.tracking_issue import schemas
from loadtest.publish.tracking_issue.artifact import fetch_run_artifact
from loadtest.publish.tracking_issue.tracker import Tracker
from loadtest.results.history import Entry
from tests.report.report_runs import RUN
from tests.support.github_server import (
    ACCOUNT,
    BOT,
    GHOST,
    REPOSITORY,
    TOKEN,
    Artifact,
    Call,
    GithubServer,
)

FILE = Path(__file__).with_name("node_modules") / "@octokit/openapi/generated/api.github.com.json"
SOURCES = Path(__file__).parents[2] / "loadtest"
NAME = "urn:github"
ENTRY = Entry(RUN, ())
AUTHORIZED = {"authorization": f"Bearer {TOKEN}", "x-github-api-version": API_VERSION}
# What we read from an answer, checked with GitHub's own examples.
READ: dict[str, TypeAdapter[Any]] = {
    "users.get_authenticated": schemas.USER,
    "issues.list_for_repo": schemas.ISSUES,
    "issues.get": schemas.ISSUE,
    "issues.create": schemas.ISSUE,
    "issues.list_comments": schemas.COMMENTS,
    "issues.create_comment": schemas.COMMENT,
    "issues.update_comment": schemas.COMMENT,
    "issues.create_label": schemas.LABEL_MADE,
    "issues.add_labels": schemas.LABELS,
    "issues.remove_label": schemas.LABELS,
    "actions.list_workflow_run_artifacts": schemas.ARTIFACTS,
}

NewTracker = Callable[..., Tracker]


class Description:
    """GitHub's description of the requests and answers of each operation."""

    def __init__(self, text: str) -> None:
        found = json.loads(text, object_hook=_translate)
        self._registry: Any = Registry().with_resource(NAME, DRAFT4.create_resource(found))
        # Paths without parameters first: `public-key` could also be the name of a secret.
        paths = sorted(found["paths"].items(), key=lambda each: each[0].count("{"))
        self._paths = [
            (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), methods)
            for path, methods in paths
        ]
        self.operations = {
            _name(operation): operation
            for _, methods in self._paths
            for operation in methods.values()
        }

    def check(self, call: Call) -> str:
        """Check a call and its answer against the description; return the operation."""
        operation = self._find(call)
        parameters = [self.resolve(each) for each in operation.get("parameters", ())]
        assert call.query.keys() <= {each["name"] for each in parameters if each["in"] == "query"}
        if call.given:
            self._validate(call.given, _pick_schema(self.resolve(operation["requestBody"])))
        status, body = call.answer.status, call.answer.body
        answers = operation["responses"]
        if str(status) in answers:
            schema = _pick_schema(self.resolve(answers[str(status)]))
        else:  # an error that every operation may return
            assert status in {401, 403, 404}
            schema = {"$ref": f"{NAME}#/components/schemas/basic-error"}
        if schema is None:
            assert body is None
        else:
            self._validate(body, schema)
        return _name(operation)

    def list_examples(self, name: str) -> list[Any]:
        """Return GitHub's examples of an operation's answers."""
        answers = self.operations[name]["responses"]
        (answer,) = (each for status, each in answers.items() if status in {"200", "201"})
        examples = self.resolve(answer)["content"]["application/json"]["examples"].values()
        values = [self.resolve(self.resolve(each)["value"]) for each in examples]
        # An example may itself be a reference.
        return [each.get("value", each) if isinstance(each, dict) else each for each in values]

    def resolve(self, found: dict[str, Any]) -> Any:
        """Return an object, or what its reference points to."""
        if "$ref" not in found:
            return found
        return self._registry.resolver(NAME).lookup(found["$ref"]).contents

    def _find(self, call: Call) -> dict[str, Any]:
        fitting = [methods for pattern, methods in self._paths if pattern.fullmatch(call.path)]
        operation: dict[str, Any] = fitting[0][call.method.lower()]
        return operation

    def _validate(self, body: Any, schema: Any) -> None:
        Draft4Validator(schema, registry=self._registry).validate(body)


def _translate(found: dict[str, Any]) -> dict[str, Any]:
    """Translate a schema of OpenAPI 3.0 to JSON Schema; undescribed fields are wrong."""
    if isinstance(found.get("$ref"), str):
        found["$ref"] = NAME + found["$ref"]
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return {"anyOf": [{"type": "null"}, found]} if found.pop("nullable", False) is True else found


def _name(operation: dict[str, Any]) -> str:
    """Return the name of an operation in ghapi."""
    return str(operation["operationId"]).replace("/", ".").replace("-", "_")


def _pick_schema(body: dict[str, Any]) -> Any:
    return body["content"]["application/json"]["schema"] if "content" in body else None


@pytest.fixture(scope="module")
def description() -> Description:
    """Read the description once."""
    return Description(FILE.read_text(encoding="utf-8"))


def report(github: GithubServer, new_tracker: NewTracker) -> None:
    """Report for the first time, again as the bot, again by hand, with labels on and off."""
    github.labels["failed"] = "b60205"
    new_tracker().post(ENTRY, "Holds.")
    github.add_comment(1, "I would like to add.", GHOST)
    github.account = BOT
    tracker = new_tracker()
    tracker.post(ENTRY, "Fails.")
    tracker.mark(regressed=True, failed=True)
    github.account = ACCOUNT
    tracker = new_tracker(LOADTEST_TRACKING_ISSUE="1")
    tracker.post(ENTRY, "Holds.")
    tracker.mark(regressed=False, failed=True)
    github.issues[1].labels.remove("failed")
    tracker.mark(regressed=False, failed=False)


def report_in_vain(github: GithubServer, new_tracker: NewTracker) -> None:
    """Report to a missing issue, to an impossible one, and with a wrong token."""
    for changes in ({"is_pull_request": True}, {"locked": True}, {"gone": 301}, {"gone": 410}):
        github.add_issue(2, **changes)
        with pytest.raises(ReportError):
            new_tracker(LOADTEST_TRACKING_ISSUE="2").post(ENTRY, "Holds.")
    for variables in ({"LOADTEST_TRACKING_ISSUE": "3"}, {"GITHUB_TOKEN": "wrong"}):
        with pytest.raises(ReportError):
            new_tracker(**variables).post(ENTRY, "Holds.")


def keep_secrets(github: GithubServer) -> None:
    """Create a secret, replace it, delete it, and delete it again."""
    secrets = open_secrets(github.variables)
    for value in ("first", "second"):
        secrets.put({"LOADTEST_PASSWORD": SecretStr(value)})
    assert secrets.fetch_names() == {"LOADTEST_PASSWORD"}
    secrets.delete("LOADTEST_PASSWORD", "LOADTEST_PASSWORD")


def fetch_artifacts(github: GithubServer, settings: Settings) -> None:
    """Fetch a damaged artifact, one that expires meanwhile, and one of no run."""
    github.artifacts = [Artifact(1, 7, "loadtest-7-1", b"no zip")]
    for run_id in ("7-1", "8-1"):
        with pytest.raises(ReportError):
            fetch_run_artifact(settings, run_id, settings.runs_dir)
    github.refuse("GET zip", 410, message="Artifact has expired")
    with pytest.raises(ReportError):
        fetch_run_artifact(settings, "7-1", settings.runs_dir)


def test_our_requests_and_the_answers_of_the_loopback_github_are_as_described(
    github: GithubServer,
    new_tracker: NewTracker,
    github_settings: Callable[..., Settings],
    description: Description,
) -> None:
    report(github, new_tracker)
    report_in_vain(github, new_tracker)
    keep_secrets(github)
    fetch_artifacts(github, github_settings())
    calls = [call for call in github.calls if github.store_url not in call.path]
    operations = {description.check(call) for call in calls}
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    assert operations == description.operations.keys() & re.findall(r'"(\w+\.\w+)"', sources)
    assert {call.answer.status for call in calls} == {
        *(200, 201, 204, 301, 302, 401, 403, 404, 410, 422),
    }


@pytest.mark.parametrize(
    "change",
    [{"number": "1"}, {"user": {"login": ACCOUNT}}, {"comment_count": 3}, {"labels": None}],
)
def test_an_answer_that_github_would_not_give_is_detected(
    github: GithubServer, description: Description, change: dict[str, Any]
) -> None:
    github.add_issue(1)
    good = github.answer("GET", f"/repos/{REPOSITORY}/issues/1", AUTHORIZED, b"")
    call = github.calls[0]
    assert description.check(call) == "issues.get"
    with pytest.raises(ValidationError):
        description.check(call._replace(answer=good._replace(body=good.body | change)))


def test_a_request_that_is_unknown_to_github_is_detected(
    github: GithubServer, description: Description
) -> None:
    path = f"/repos/{REPOSITORY}/issues"
    github.answer("POST", path, AUTHORIZED, b'{"title": "A title"}')
    (call,) = github.calls
    assert description.check(call) == "issues.create"
    with pytest.raises(ValidationError):
        description.check(call._replace(given={"body": "A text"}))
    for change in ({"query": {"pages": "2"}}, {"method": "PUT"}, {"path": f"{path}/1/2/3"}):
        with pytest.raises((AssertionError, LookupError)):
            description.check(call._replace(**change))


@pytest.mark.parametrize("name", READ)
def test_the_examples_of_github_can_be_read(description: Description, name: str) -> None:
    for example in description.list_examples(name):
        READ[name].validate_json(json.dumps(example))
