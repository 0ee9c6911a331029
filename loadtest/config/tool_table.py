"""The table of what a load test calls, with weights and arguments: read or drafted."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtest.common.files import read_whole
from loadtest.common.parsing import parse_json, tidy_text
from loadtest.common.scripts import SCRIPTS
from loadtest.config.flows import Flow, FlowStep
from loadtest.config.pace import DEFAULT_TIMEOUT_SECONDS, PaceText, Timeout
from loadtest.config.value_pools import (
    POOL_NAME,
    Template,
    ValuePool,
    ValuePools,
    Values,
    parse_pool,
)
from loadtest.errors import ConfigError

NOVAMART = SCRIPTS / "fixtures" / "novamart.json"
# What a draft contains where a person must fill in a value.
BLANK = "<fill in: "
# k6 cannot quote these in the name of a series.
UNFIT_NAME = re.compile(r"""[,{}"'\x00-\x1f\x7f]|^\s|\s$|^$|^all$""")
# A virtual user draws from a list that has one entry per unit of weight.
MOST_WEIGHT = 1000
# What k6 does not read of an entry.
_LEFT_OUT = {"about", "tried", "pace_seconds"}
# The expressions of a URI template (RFC 6570) that k6/lib/uri_template.js expands.
EXPRESSION = re.compile(r"\{([+#./;?&]?)([A-Za-z0-9_.,%]+)\}")
SHOWN_FAULTS = 3
SHOWN_NAMES = 20
MOST_FAULT_CHARS = 300


class Pool(BaseModel):
    """One tool: its weight in the mix, and the arguments from which calls draw evenly.

    `timeout_seconds` is the time limit of its calls. `pace_seconds` is how often a session of the
    ladder calls it. Without them, those of the profile or environment hold. `about` and `tried`,
    the answer to a drafted call, are for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[int, Field(ge=1, strict=True)]
    arguments: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    about: str | None = None
    tried: str | None = None
    timeout_seconds: Timeout | None = None
    pace_seconds: PaceText | None = None


class Resource(Pool):
    """A resource, by its URI or URI template; the arguments fill in the template.

    Without `uri`, the name of the entry is the URI.
    """

    arguments: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = ({},)
    uri: Annotated[str, Field(min_length=1)] | None = None


class Prompt(Pool):
    """A prompt; without `prompt`, the name of the entry is the name of the prompt."""

    arguments: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = ({},)
    prompt: Annotated[str, Field(min_length=1)] | None = None


class Completion(Pool):
    """A completion for an argument of a prompt or of a resource template.

    The last argument of an object is completed; those before it are the context.
    """

    prompt: Annotated[str, Field(min_length=1)] | None = None
    resource: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _check_reference(self) -> Self:
        if (self.prompt is None) == (self.resource is None):
            raise ValueError("a completion has either a prompt or a resource")
        return self


class Answers(BaseModel):
    """What to answer a server that asks for input while a call runs.

    `elicitation` has values by name of the field, of which each form gets its own; or how to refuse
    a form. `sampling` is the text of a model, `roots` are URIs. What is None is not declared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    elicitation: dict[str, Any] | Literal["decline", "cancel"] | None = None
    sampling: Annotated[str, Field(min_length=1)] | None = None
    roots: tuple[str, ...] | None = None


class Mirrored(BaseModel):
    """An argument, by its path of names, that a header repeats (MCP `x-mcp-header`)."""

    model_config = ConfigDict(frozen=True)

    path: tuple[str, ...]
    header: str


_Called = TypeVar("_Called", Pool, FlowStep)

# The sections of a table: what their entries are called, and how they are read.
SECTIONS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "tools": ("tool", Pool),
    "resources": ("resource", Resource),
    "prompts": ("prompt", Prompt),
    "completions": ("completion", Completion),
    "flows": ("flow", Flow),
}
# What else a file may have; a draft has the last three.
BESIDE_SECTIONS = ("pools", "answers", "version", "about", "left_out")


class ToolTable(BaseModel):
    """What a run calls, by name, in the order of its table; `source` names the table.

    `mirrored` lists, by tool, the arguments that headers repeat, as the target's schemas require.
    `pools` are the values that arguments refer to.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    tools: Mapping[str, Pool] = {}
    resources: Mapping[str, Resource] = {}
    prompts: Mapping[str, Prompt] = {}
    completions: Mapping[str, Completion] = {}
    flows: Mapping[str, Flow] = {}
    answers: Answers = Answers()
    mirrored: Mapping[str, tuple[Mirrored, ...]] = {}
    pools: ValuePools = ValuePools()

    @property
    def entries(self) -> Mapping[str, Pool]:
        """Return everything that is called by itself, by the name of its row."""
        return {**self.tools, **self.resources, **self.prompts, **self.completions}

    @property
    def steps(self) -> Mapping[str, FlowStep]:
        """Return the steps of all flows, by the name of their row."""
        return {
            name: step
            for title, flow in self.flows.items()
            for name, step in zip(flow.name_steps(title), flow.steps, strict=True)
        }

    def list_names(self) -> tuple[str, ...]:
        """Return the names of everything that has a weight."""
        return (*self.entries, *self.flows)

    def list_tools(self) -> tuple[str, ...]:
        """Return the tools that the table calls."""
        in_steps = (step.tool for step in self.steps.values() if step.tool is not None)
        return tuple(dict.fromkeys((*self.tools, *in_steps)))

    def list_weights(self) -> Iterator[tuple[str, str, int]]:
        """Yield each call that the mix makes: its row, its name for a quota, and its weight."""
        yield from ((name, name, entry.weight) for name, entry in self.entries.items())
        for title, flow in self.flows.items():
            for name, step in zip(flow.name_steps(title), flow.steps, strict=True):
                yield name, step.target, flow.weight

    def find_section(self, name: str) -> str:
        """Return the section of an entry."""
        return next(section for section in SECTIONS if name in getattr(self, section))

    def find_kind(self, name: str) -> str:
        """Return what a row is about: a tool, a resource, a step, …"""
        return "step" if name in self.steps else SECTIONS[self.find_section(name)][0]

    def describe(self) -> str:
        """Return the source and a hash of its content, with the content of its pools."""
        body = self._dump()
        # A table of tools alone keeps the hash that it had when there were only tools.
        content = body if len(body) > 1 else body["tools"]
        text = json.dumps([content, self.pools.dump()] if self.pools else content, sort_keys=True)
        return f"{self.source} ({hashlib.sha256(text.encode()).hexdigest()[:8]})"

    def describe_arguments(self) -> str:
        """Return whether arguments vary or are fixed: a fixed call may be answered by a cache."""
        names = (*self.entries, *self.steps)
        fixed = [name for name in names if not self._varies(name)]
        if len(fixed) == len(names):
            return "fixed"
        return f"varied, but fixed for {list_names(fixed)}" if fixed else "varied"

    def count_calls(self) -> int:
        """Return how many different calls the table can make."""
        return sum(
            self.pools.count(arguments)
            for name in (*self.entries, *self.steps)
            for arguments in self._find(name).arguments
        )

    def spread_arguments(self, name: str, most: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield arguments of an entry or a step, each with its place in the table, pools filled in.

        From pools come at most `most` of each place, evenly distributed.
        """
        for index, arguments in enumerate(self._find(name).arguments):
            yield from ((index, filled) for filled in self.pools.spread(arguments, most))

    def render(self) -> str:
        """Return the table as k6 reads it."""
        body = self._dump()
        steps = [step for flow in body.get("flows", {}).values() for step in flow["steps"]]
        for name, mirrored in self.mirrored.items():
            calls = [step for step in steps if (step["kind"], step["target"]) == ("tool", name)]
            calls += [body["tools"][name]] if name in body["tools"] else []
            for call in calls:
                call["mirrored"] = [each.model_dump() for each in mirrored]
        pools = self.pools.dump() if self.pools else {}
        return json.dumps(body | pools, ensure_ascii=False)

    def pick_first(self, names: Iterable[str]) -> "ToolTable":
        """Return a table of only these entries, each with one fixed call."""
        sections: dict[str, Any] = {section: {} for section in SECTIONS}
        for name in names:
            section = self.find_section(name)
            entry = getattr(self, section)[name]
            if isinstance(entry, Flow):
                steps = map(self._fix, entry.name_steps(name), entry.steps)
                sections[section][name] = entry.model_copy(update={"steps": tuple(steps)})
            else:
                sections[section][name] = self._fix(name, entry)
        return self.model_copy(update=sections | {"pools": ValuePools()})

    def _fix(self, name: str, entry: _Called) -> _Called:
        _, arguments = next(self.spread_arguments(name, 1))
        return entry.model_copy(update={"arguments": (arguments,)})

    def _varies(self, name: str) -> bool:
        return any(self.pools.count(arguments) > 1 for arguments in self._find(name).arguments)

    def _find(self, name: str) -> Pool | FlowStep:
        return self.entries[name] if name in self.entries else self.steps[name]

    def find_timeout(
        self, names: Iterable[str] = (), least: float = DEFAULT_TIMEOUT_SECONDS
    ) -> float:
        """Return the longest time limit of these entries, or all; one without any has `least`."""
        entries: Mapping[str, Pool | Flow] = {**self.entries, **self.flows}
        pools = [entries[name] for name in names] or entries.values()
        return max(pool.timeout_seconds or least for pool in pools)

    def limit_calls(self, timeout_seconds: float, *, over: bool = False) -> "ToolTable":
        """Return the table with this time limit for the entries that have none, or over all."""
        limit = {"timeout_seconds": timeout_seconds}
        sections = {
            section: {
                name: pool if pool.timeout_seconds and not over else pool.model_copy(update=limit)
                for name, pool in getattr(self, section).items()
            }
            for section in SECTIONS
        }
        return self.model_copy(update=sections)

    def _dump(self) -> dict[str, Any]:
        """Return the sections that have entries, and always `tools`; paces are not part of them."""
        answers = self.answers.model_dump(exclude_none=True)
        sections = {
            section: {
                name: entry.dump()
                if isinstance(entry, Flow)
                else entry.model_dump(exclude=_LEFT_OUT, exclude_none=True)
                for name, entry in getattr(self, section).items()
            }
            for section in SECTIONS
            if section == "tools" or getattr(self, section)
        }
        return sections | ({"answers": answers} if answers else {})


class ListedTool(BaseModel):
    """A tool from `tools/list`; what the server writes in it is not trusted."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: Any = None
    input_schema: Any = Field(default=None, alias="inputSchema")
    annotations: Any = None
    mirrored: tuple[Mirrored, ...] = ()


def read_table(
    path: Path, source: str | None = None, beside: Mapping[str, Any] | None = None
) -> ToolTable:
    """Read a table from a JSON file; raise ConfigError of one line.

    `beside` are sections that are configured elsewhere.
    """
    source = source or str(path)
    try:
        text = read_whole(path).decode()
    except FileNotFoundError:
        raise ConfigError(f"{source}, the tool table, does not exist") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError(f"{source} cannot be read: {failure.__class__.__name__}") from None
    try:
        body = parse_json(text, object_pairs_hook=_build_object)
    except ValueError as failure:
        raise ConfigError(f"{source} is not valid JSON: {failure}") from None
    if beside and isinstance(body, dict):
        if twice := [section for section in beside if section in body]:
            text = f"{list_names(twice)} are in the environment of loadtest.toml, too"
            raise ConfigError(f"{source}: {text}: keep them in one place")
        body |= beside
    return parse_table(body, source, path.parent)


def parse_table(body: object, source: str, folder: Path = Path()) -> ToolTable:
    """Check a tool table and more; raise ConfigError of one line.

    With `pools: {name: {…}}`, arguments may refer to values; their files are in `folder`.
    """
    given = body if isinstance(body, dict) else {}
    for section in SECTIONS:
        if not isinstance(given.get(section, {}), dict):
            raise ConfigError(f"{source}: {section} must be a table of entries by name")
    if not any(given.get(section) for section in SECTIONS):
        raise ConfigError(
            f'{source} has no tools: expected {{"tools": {{"<name>": {{"weight": 1, "arguments": '
            "[{…}]}}}"
        )
    sections: dict[str, dict[str, Any]] = {}
    values, faults = _parse_pools(given.get("pools", {}), folder)
    if unknown := given.keys() - SECTIONS.keys() - set(BESIDE_SECTIONS):
        known = ", ".join((*SECTIONS, *BESIDE_SECTIONS))
        faults.append(f"unknown key {list_names(sorted(unknown))}: a table has only {known}")
    for section, (kind, model) in SECTIONS.items():
        entries = sections[section] = {}
        for name, entry in given.get(section, {}).items():
            if UNFIT_NAME.search(name):
                hint = "; name it, and give its address as uri" if kind == "resource" else ""
                faults.append(f"{kind} {name!r}: this cannot be the name of a row{hint}")
                continue
            if others := [SECTIONS[other][0] for other in sections if name in sections[other]]:
                faults.append(f"{kind} {name}: a {others[0]} has this name: choose another one")
                continue
            try:
                entries[name] = model.model_validate(entry)
            except ValidationError as failure:
                faults += (f"{kind} {name}, {fault}" for fault in _describe(failure))
            else:
                found = _find_faults(name, entries[name], values)
                faults += (f"{kind} {name}, {fault}" for fault in found)
    weight = sum(entry.weight for entries in sections.values() for entry in entries.values())
    if weight > MOST_WEIGHT:
        faults.append(f"the sum of the weights is {weight}, but at most {MOST_WEIGHT} is allowed")
    try:
        answers = Answers.model_validate(given.get("answers", {}))
    except ValidationError as failure:
        answers = Answers()
        faults += (f"answers, {fault}" for fault in _describe(failure))
    faults += (
        f"answers, {fault}"
        for place, value in _walk(answers.elicitation, "elicitation")
        for fault in _find_value_faults(place, value)
    )
    table = ToolTable(source=source, **sections, pools=values, answers=answers)
    faults += (f"{name} is a step of a flow, too" for name in table.steps if name in table.entries)
    if faults:
        more = f"; and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        raise ConfigError(f"{source}: {'; '.join(faults[:SHOWN_FAULTS])}{more}")
    return table


def _parse_pools(given: object, folder: Path) -> tuple[ValuePools, list[str]]:
    """Return the pools of a table, and what is wrong with them."""
    if not isinstance(given, dict):
        return ValuePools(), ["pools: expected an object of pools by name"]
    found: dict[str, ValuePool] = {}
    faults: list[str] = []
    for name, entry in given.items():
        if not POOL_NAME.fullmatch(name):
            faults.append(f"pool {name!r}: a name has only letters, digits, '-' and '_'")
            continue
        try:
            found[name] = parse_pool(entry, folder)
        except ValidationError as failure:
            faults += (f"pool {name}, {fault}" for fault in _describe(failure))
        except ValueError as failure:
            faults.append(f"pool {name}: {tidy_text(str(failure), MOST_FAULT_CHARS)}")
    pools = ValuePools(found)
    for name, pool in found.items():
        try:
            if isinstance(pool, Template):
                pools.check_template(pool)
        except ValueError as failure:
            faults.append(f"pool {name}: {tidy_text(str(failure), MOST_FAULT_CHARS)}")
    faults += (
        f"pool {name}, {fault}"
        for name, pool in found.items()
        if isinstance(pool, Values)
        for place, value in _walk(list(pool.values), "values")
        for fault in _find_value_faults(place, value)
    )
    return pools, faults


def list_names(names: Iterable[str]) -> str:
    """Return names on one line for a message; they may come from a server."""
    clean = [re.sub(r"[^\x20-\x7e]", "?", name)[:80] for name in names]
    more = f" and {len(clean) - SHOWN_NAMES} more" if len(clean) > SHOWN_NAMES else ""
    return (", ".join(clean[:SHOWN_NAMES]) or "none") + more


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; raise ValueError for a duplicate key, which would lose a value."""
    built: dict[str, Any] = {}
    for key, value in pairs:
        if key in built:
            raise ValueError(f"duplicate key {key!r} in one object")
        built[key] = value
    return built


def _describe(failure: ValidationError) -> Iterator[str]:
    for error in failure.errors(include_url=False, include_input=False):
        first, *rest = error["loc"] or ("entry",)
        place = str(first) + "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest
        )
        text = error["msg"].removeprefix("Value error, ")
        yield f"{place}: {text[:1].lower()}{text[1:]}"


def _find_faults(name: str, pool: Pool | Flow, values: ValuePools) -> Iterator[str]:
    """Yield what an entry lacks, the values that JSON-RPC cannot carry, and wrong references."""
    if isinstance(pool, Flow):
        yield from pool.find_faults()
        for title, step in zip(pool.name_steps(name), pool.steps, strict=True):
            if UNFIT_NAME.search(title):
                yield f"step {step.title!r}: this cannot be the name of a row; give it a name"
            found = _find_faults(title, _build_entry(step), values)
            yield from (f"step {step.title}, {fault}" for fault in found)
        return
    for index, arguments in enumerate(pool.arguments):
        here = f"arguments[{index}]"
        if isinstance(pool, Resource) and "$pool" not in arguments:
            yield from _find_template_faults(pool.uri or name, arguments, here)
        if isinstance(pool, Completion) and not arguments:
            yield f"{here} is empty: nothing can be completed"
        if isinstance(pool, Prompt | Completion):
            for key, value in arguments.items():
                if not isinstance(value, str | dict):
                    yield f"{here}.{key} must be a string"
        for place, value in _walk(arguments, here):
            yield from _find_value_faults(place, value)
        for fault in values.find_faults(arguments):
            yield f"{here}: {tidy_text(fault, MOST_FAULT_CHARS)}"


def _build_entry(step: FlowStep) -> Pool:
    """Return a step as an entry of the table, to be checked like one."""
    if step.resource is not None:
        return Resource(weight=1, uri=step.resource, arguments=step.arguments)
    return (Pool if step.prompt is None else Prompt)(weight=1, arguments=step.arguments)


def _find_value_faults(place: str, value: object) -> Iterator[str]:
    if isinstance(value, str) and value.startswith(BLANK):
        yield f"{place} is not filled in"
    elif isinstance(value, float) and value - value != 0:
        yield f"{place}: JSON has no {value}"
    elif not isinstance(value, str | int | float | None):
        yield f"{place}: JSON has no {type(value).__name__}, write it as a string"


def _find_template_faults(uri: str, arguments: dict[str, Any], place: str) -> Iterator[str]:
    """Yield what prevents a URI template from being filled in."""
    names = [name for match in EXPRESSION.finditer(uri) for name in match[2].split(",")]
    if re.search(r"[{}]", EXPRESSION.sub("", uri)):
        yield f"uri {uri}: this is not a URI template"
    if missing := [name for name in names if name not in arguments]:
        yield f"{place} lacks {list_names(missing)}, which {uri} needs"
    if unused := [name for name in arguments if name not in names]:
        yield f"{place}: {uri} has no place for {list_names(unused)}"


def _walk(value: object, place: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _walk(inner, f"{place}[{index}]")
    else:
        yield place, value
