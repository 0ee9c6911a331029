"""Flows: chains of calls in which an argument is taken from an earlier answer."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loadtest.config.json_path import parse_json_path
from loadtest.config.pace import Timeout

# In arguments, `{"$step": "list", "path": "$.items[0].id"}` stands for a part of an earlier answer.
STEP = "$step"
PATH = "path"

_Name = Annotated[str, Field(min_length=1)]
_KINDS = ("tool", "resource", "prompt")


class FlowStep(BaseModel):
    """One call of a flow: a tool, a resource (its URI or URI template) or a prompt.

    Without `name`, it is called after what it calls. Calls draw evenly from `arguments`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Name | None = None
    tool: _Name | None = None
    resource: _Name | None = None
    prompt: _Name | None = None
    arguments: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = ({},)

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if [self.tool, self.resource, self.prompt].count(None) != 2:
            raise ValueError("a step has exactly one of tool, resource and prompt")
        return self

    @property
    def kind(self) -> str:
        """Return what it calls: a tool, a resource or a prompt."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def target(self) -> str:
        """Return the name or URI of what it calls."""
        return str(getattr(self, self.kind))

    @property
    def title(self) -> str:
        """Return its name within the flow."""
        return self.name or self.target


class Flow(BaseModel):
    """Steps that a session makes one after the other, with the flow's weight in the mix.

    `timeout_seconds` is the time limit of each of its calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[int, Field(ge=1, strict=True)]
    steps: Annotated[tuple[FlowStep, ...], Field(min_length=1)]
    about: str | None = None
    timeout_seconds: Timeout | None = None

    def name_steps(self, flow: str) -> list[str]:
        """Return the names of the rows of its steps; `flow` is its own."""
        return [f"{flow}/{step.title}" for step in self.steps]

    def find_faults(self) -> Iterator[str]:
        """Yield what is wrong with the steps and their references to each other."""
        titles = [step.title for step in self.steps]
        for number, step in enumerate(self.steps):
            if step.title in titles[:number]:
                yield f"two steps are called {step.title}: give one a name"
            for found in (find for each in step.arguments for find in list_references(each)):
                fault = _find_reference_fault(found, titles, number)
                if fault is not None:
                    yield f"step {step.title}: {fault}"

    def dump(self) -> dict[str, Any]:
        """Return it as k6 reads it, with paths in segments."""
        steps = [
            {
                "step": step.title,
                "kind": step.kind,
                "target": step.target,
                "arguments": [_compile(each) for each in step.arguments],
            }
            for step in self.steps
        ]
        limit = {"timeout_seconds": self.timeout_seconds} if self.timeout_seconds else {}
        return {"weight": self.weight, "steps": steps} | limit


def list_references(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the references to earlier answers in arguments."""
    if isinstance(value, dict) and STEP in value:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from list_references(inner)


def _find_reference_fault(
    reference: dict[str, Any], titles: Sequence[str], number: int
) -> str | None:
    step, path = reference[STEP], reference.get(PATH)
    if reference.keys() != {STEP, PATH} or not isinstance(path, str):
        return f'a reference is like {{"{STEP}": "{titles[0]}", "{PATH}": "$.items[0].id"}}'
    if step not in titles:
        return f"it refers to step {step!r}, which is not there: the flow has {', '.join(titles)}"
    if titles.index(step) >= number:
        return f"it refers to step {step!r}, which is not before it"
    try:
        parse_json_path(path)
    except ValueError as failure:
        return str(failure)
    return None


def _compile(value: Any) -> Any:
    if isinstance(value, dict) and STEP in value:
        return {STEP: value[STEP], PATH: parse_json_path(value[PATH]), "text": value[PATH]}
    if isinstance(value, dict):
        return {key: _compile(inner) for key, inner in value.items()}
    return [_compile(inner) for inner in value] if isinstance(value, list) else value
