"""A draft of a tool table, made from what a server lists; each of its calls is tried once."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from loadtest.config.tool_table import UNFIT_NAME, ListedTool, Pool, ToolTable
from loadtest.k6.input_schema import build_arguments, has_blank

# More would take long to read and to try, and no load test needs them.
MOST_LISTED = 200
MOST_TRIED = 30
MOST_ABOUT_CHARS = 200

ABOUT = (
    "Read what each tool does, set the weights, and add arguments. The tools of left_out are not "
    "called: `tried` says why. Move those into tools that a load test may call."
)


@dataclass(frozen=True)
class Drafted:
    """A tool with arguments; `refusal` is why it is not called without being named."""

    about: str
    arguments: tuple[dict[str, Any], ...]
    refusal: str | None = None

    def dump(self, tried: str, arguments: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Return the entry of a table, with the answer to its calls."""
        kept = self.arguments if arguments is None else arguments
        return {"about": self.about, "weight": 1, "arguments": list(kept), "tried": tried}


@dataclass(frozen=True)
class Answer:
    """The answer to a drafted call, by its place among the arguments of its tool."""

    tool: str
    index: int
    fine: bool
    words: str


def draft_tools(listed: Iterable[ListedTool], named: Collection[str]) -> dict[str, Drafted]:
    """Return the tools that can be in a table, with arguments made from their schemas.

    A tool is called if it is named, or if the server declares it read-only. MCP's defaults count
    for a tool without annotations: it may change data (2025-11-25, Tools, ToolAnnotations).
    """
    drafted: dict[str, Drafted] = {}
    called = 0
    fit = (tool for tool in listed if not UNFIT_NAME.search(tool.name))
    for tool in islice(sorted(fit, key=lambda tool: tool.name not in named), MOST_LISTED):
        arguments = tuple(build_arguments(tool.input_schema))
        refusal = _find_refusal(tool, arguments, named)
        if refusal is None and called >= MOST_TRIED:
            refusal = f"not tried: the draft has {MOST_TRIED} tools already"
        called += refusal is None
        drafted[tool.name] = Drafted(_describe(tool), arguments, refusal)
    return drafted


def build_trial(drafted: Mapping[str, Drafted], source: str) -> ToolTable | None:
    """Return a table of the calls to try; None if there are none."""
    tools = {
        name: Pool(weight=1, arguments=tool.arguments)
        for name, tool in drafted.items()
        if tool.refusal is None
    }
    return ToolTable(source=source, tools=tools) if tools else None


def render_draft(drafted: Mapping[str, Drafted], answers: Iterable[Answer]) -> dict[str, Any]:
    """Return the draft: the calls that were answered, and apart from them the other tools."""
    by_tool: dict[str, list[Answer]] = {}
    for answer in answers:
        by_tool.setdefault(answer.tool, []).append(answer)
    tools: dict[str, Any] = {}
    left_out: dict[str, Any] = {}
    for name, tool in drafted.items():
        said = by_tool.get(name, [])
        fine = [answer for answer in said if answer.fine]
        if fine:
            arguments = [tool.arguments[answer.index] for answer in fine]
            tools[name] = tool.dump(fine[0].words, arguments)
        else:
            words = said[0].words if said else "not tried: the server did not answer"
            left_out[name] = tool.dump(tool.refusal or words)
    return {"about": ABOUT, "tools": tools, "left_out": left_out}


def _find_refusal(tool: ListedTool, arguments: Sequence[Any], named: Collection[str]) -> str | None:
    notes = tool.annotations if isinstance(tool.annotations, dict) else {}
    if tool.name not in named:
        if notes.get("readOnlyHint") is not True:
            return "not tried: the server does not declare it read-only"
        if notes.get("destructiveHint") is True:
            return "not tried: the server declares it destructive"
    return "not tried: fill in its arguments" if any(map(has_blank, arguments)) else None


def _describe(tool: ListedTool) -> str:
    text = tool.description.strip() if isinstance(tool.description, str) else ""
    return text.splitlines()[0][:MOST_ABOUT_CHARS] if text else "no description"
