"""Draft what a server needs, show it, and write it if the user agrees."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from loadtest.common.command_name import spell
from loadtest.common.distribution import find_commit
from loadtest.common.parsing import parse_url, tidy_text
from loadtest.common.tls import is_secure
from loadtest.config.env_file import name_env_file, parse_env_file
from loadtest.config.loading import (
    check_environment_name,
    check_project,
    load_settings,
    parse_base_url,
)
from loadtest.config.models import Environment
from loadtest.config.project import (
    CONFIG_FILE,
    PYPROJECT,
    TOOL,
    Project,
    parse_project,
    read_project,
)
from loadtest.config.settings import Settings
from loadtest.config.tool_table import list_names
from loadtest.context import Chain
from loadtest.errors import ConfigError, K6Error, LoadtestError, UsageError
from loadtest.init import additions, drafts
from loadtest.init.additions import Addition
from loadtest.init.entrance import (
    KEY_HEADERS,
    Entrance,
    build_key_entrance,
    find_entrance,
    read_entrance,
)
from loadtest.init.toml_text import write_key
from loadtest.target.process import check_reachable

if TYPE_CHECKING:
    from loadtest.k6.preflight import DraftedTable

# A bearer for the draft must be valid for longer than its calls take.
LEAST_LIFE_SECONDS = 60
MOST_CHARS = 200
MOST_NAMED = 5  # tools, in a command that is only an example
YES = frozenset({"y", "Y", "yes"})


@dataclass(frozen=True)
class InitOptions:
    """How to draft: `header` carries a key, `call_tools` may be called in a load test.

    With `yes`, nobody is asked; with `check`, nothing is written, and nobody signs in.
    """

    env: str | None = None
    header: str | None = None
    call_tools: tuple[str, ...] = ()
    yes: bool = False
    check: bool = False

    @property
    def asks(self) -> bool:
        """Return whether there is a person to ask."""
        return not (self.yes or self.check) and sys.stdin.isatty() and sys.stdout.isatty()


@dataclass
class _Draft:
    """What is drafted for one server.

    `again` is the command as it was typed, `lines` are those of the environment, `notes` what the
    user has to know. `first_step` is what to do before a run; None if nothing is.
    """

    chain: Chain
    root: Path
    project: Project
    options: InitOptions
    origin: str
    mcp_path: str
    again: str
    name: str = ""
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    first_step: str | None = None

    @property
    def environments(self) -> Mapping[str, Environment]:
        """Return the environments that are there already."""
        return check_project(self.project).environment

    @property
    def place(self) -> str:
        """Return the key of the environment in its file."""
        prefix = f"tool.{TOOL}." if self.config_path.name == PYPROJECT else ""
        return f"{prefix}environment.{write_key(self.name)}"

    @property
    def config_path(self) -> Path:
        return self.project.path or self.root / CONFIG_FILE

    def say(self, text: str) -> None:
        self.chain.say("init", text)

    def give_up(self, reason: str) -> None:
        """Note why there are no tools, and what to do then."""
        self.notes.append(f"the tools are not drafted: {reason}")
        self.first_step = f"correct that, then run `{self.again}` again: it drafts the tools"

    def build_config(self, what: str = "") -> Addition:
        """Return the lines as an addition to the configuration."""
        before = additions.read_text(self.config_path)
        return Addition(self.config_path, what, tuple(self.lines), before)

    def load(self) -> Settings:
        """Return the settings as they will be; raise ConfigError if the lines do not fit there."""
        config = self.build_config()
        project = self.project
        if self.lines:
            try:
                project = parse_project(config.path, config.text)
            except ConfigError as failure:
                self.chain.console.print("\n".join(self.lines), markup=False, highlight=False)
                raise ConfigError(
                    f"with these lines at its end, {failure}: add them yourself, where they fit"
                ) from None
        variables = {**os.environ, "LOADTEST_BASE_URL": self.origin}
        return load_settings(self.root, self.name, process_env=variables, project=project)


def init(chain: Chain, root: Path, url: str, options: InitOptions) -> None:
    """Draft environment, tools, variables and workflow for a server, and write what is missing."""
    origin, mcp_path = parse_endpoint(url)
    again = spell(f"init {shlex.quote(url)}")
    project = read_project(root)
    if project.path is None:  # a workflow of the repository finds it only at the top
        root = additions.find_repository(root)
    draft = _Draft(chain, root, project, options, origin, mcp_path, again)
    check_reachable(origin)
    known = _find_environment(draft)
    settings = None
    if known is None:
        entrances = _find_entrances(draft)
    else:
        draft.name = known
        draft.say(f"environment {known} exists already: it is not changed")
        settings = draft.load()
        entrances = (read_entrance(settings.environment),)
    entrance, settings = _let_in(draft, entrances, settings)
    what = [] if known else [f"environment {draft.name}"]
    what += _draft_tools(draft, settings)
    lacking = _list_additions(draft, entrance, ", ".join(what))
    _finish(draft, lacking)


def parse_endpoint(url: str) -> tuple[str, str]:
    """Return origin and path of an MCP endpoint; raise ConfigError if nothing may be sent there."""
    try:
        parts = parse_url(url)
    except ValueError as failure:
        raise ConfigError(
            f"the address of the MCP endpoint cannot be used: {failure}; it looks like "
            "https://mcp.example.com/mcp"
        ) from None
    if parts.query or parts.fragment:
        raise ConfigError("the address of the MCP endpoint has a query or a fragment: remove it")
    if not is_secure(url):
        raise ConfigError("the MCP endpoint must be https, so that no bearer is sent unencrypted")
    return f"{parts.scheme}://{parts.netloc}", parts.path or "/"


def _find_environment(draft: _Draft) -> str | None:
    """Return the environment that is there for this address, None if there is none.

    Raises ConfigError if the name was given, and the environment is for another address.
    """
    named, environments = draft.options.env, draft.environments
    if named is not None:
        try:
            check_environment_name(named)
        except ValueError as failure:
            raise UsageError(f"--env: {failure}") from None
        if named not in environments:
            return None
    for name in environments if named is None else (named,):
        table = environments[name]
        origin = _read_origin(draft.root, name)
        if origin is None and named is not None:  # its file is still to be filled in
            origin = draft.origin
        is_here = table.target == "hosted" and table.mcp_path == draft.mcp_path
        if is_here and origin == draft.origin:
            return name
    if named is not None:
        raise ConfigError(
            f"environment {named} is for another address: choose another name with --env"
        )
    return None


def _read_origin(root: Path, name: str) -> str | None:
    """Return the origin in the file of an environment, None without a valid one."""
    given = parse_env_file(name_env_file(root, name)).get("LOADTEST_BASE_URL")
    try:
        return parse_base_url(given or "")
    except ConfigError:
        return None


def _find_entrances(draft: _Draft) -> tuple[Entrance, ...]:
    """Ask the server how one gets in, and the user for a name; return the ways to try in turn."""
    options = draft.options
    headers = KEY_HEADERS if options.header is None else (options.header,)
    entrances = tuple(map(build_key_entrance, headers))
    if options.header is None:
        found = find_entrance(draft.origin + draft.mcp_path, _read_variables(draft))
        entrances = entrances if found.auth == "header" else (found,)
    greeting = entrances[0].greeting
    server = tidy_text(greeting.server, MOST_CHARS) if greeting else "the server"
    speaks = f", revision {tidy_text(greeting.protocol, MOST_CHARS)}" if greeting else ""
    how = tidy_text(entrances[0].how, MOST_CHARS)
    draft.say(f"{server} at {draft.origin}{draft.mcp_path}{speaks}: {how}")
    draft.name = options.env or _choose_name(draft, greeting.name if greeting else "")
    return entrances


def _read_variables(draft: _Draft) -> Mapping[str, str]:
    """Return the variables that are there before the environment has a name."""
    named = draft.options.env
    own = parse_env_file(name_env_file(draft.root, named)) if named else {}
    return parse_env_file(draft.root / ".env") | own | dict(os.environ)


def _choose_name(draft: _Draft, server: str) -> str:
    taken = draft.environments
    host = urlsplit(draft.origin).hostname or ""
    name = drafts.suggest_name(host, server, taken)
    if not draft.options.asks:
        return name
    name = _ask(draft.chain, f"Name of the environment [{name}]: ") or name
    if name in taken:
        raise ConfigError(f"environment {name} exists already: choose another name")
    try:
        return check_environment_name(name)
    except ValueError as failure:
        raise ConfigError(str(failure)) from None


def _draft_environment(draft: _Draft, entrance: Entrance) -> Settings:
    head = [] if draft.project.path else drafts.HEAD
    draft.lines = [*head, *drafts.draft_environment(draft.place, entrance, draft.mcp_path)]
    return draft.load()


def _let_in(
    draft: _Draft, entrances: Sequence[Entrance], known: Settings | None
) -> tuple[Entrance, Settings]:
    """Sign in, where all variables are there; return the first way in, else the first of all.

    `known` are the settings of an environment that is there already. `first_step` says what to do
    if nobody is in.
    """
    from loadtest.mint.options import MintOptions
    from loadtest.mint.stage import ensure_bearers

    reasons = []
    for entrance in entrances:
        settings = known or _draft_environment(draft, entrance)
        lacking = [name for name in entrance.variables if not settings.variables.get(name)]
        if draft.options.check:
            return entrance, settings
        if lacking:
            place = name_env_file(draft.root, draft.name).name
            draft.first_step = (
                f"fill in {', '.join(lacking)} in {place}, then run `{draft.again}` again: it "
                "signs in and drafts the tools"
            )
            return entrance, settings
        try:
            ensure_bearers(draft.chain, settings, MintOptions(min_ttl_seconds=LEAST_LIFE_SECONDS))
        except LoadtestError as failure:
            reasons.append(str(failure))
            continue
        return entrance, settings
    draft.give_up(reasons[0])
    return entrances[0], known or _draft_environment(draft, entrances[0])


def _draft_tools(draft: _Draft, settings: Settings) -> list[str]:
    """Add the tools that a run may call to the lines; return what was added."""
    if not settings.tools_assumed:
        if draft.options.call_tools:
            draft.notes.append("--call-tools adds nothing: the environment has its tools already")
        return []
    if draft.options.check:
        return ["its tools"]
    if draft.first_step is not None:
        return []
    try:
        drafted = _try_tools(draft, settings, draft.options.call_tools)
    except K6Error as failure:
        draft.give_up(str(failure))
        return []
    if not drafted.tools and drafted.left_out and draft.options.asks:
        draft.say(f"none of the tools is declared read-only: {list_names(drafted.left_out)}")
        answer = _ask(draft.chain, "Which of them may a load test call, as in a,b? [none]: ")
        if named := tuple(filter(None, (part.strip() for part in answer.split(",")))):
            drafted = _try_tools(draft, settings, named)
    if not drafted.tools and drafted.left_out:
        names = tidy_text(",".join(list(drafted.left_out)[:MOST_NAMED]), MOST_CHARS)
        command = f"{draft.again} --call-tools {shlex.quote(names)}"
        draft.first_step = f"name the tools that a load test may call, as in `{command}`"
    elif not drafted.tools:
        draft.notes.append("the server lists no tool: only --scenarios cold-start can run")
    # A file that has the comments about the other tools gets nothing but tools.
    before = additions.read_text(draft.config_path) or ""
    has_comments = f"# [{draft.place}.tools." in before
    if drafted.tools or not has_comments:
        draft.lines += drafts.draft_tools(draft.place, drafted, comments=not has_comments)
    if settings.environment.quota is None:
        draft.lines += drafts.draft_quota(draft.place, drafted)
    count = len(drafted.tools)
    return [f"{count} tool{'s' * (count > 1)}"] if count else []


def _try_tools(draft: _Draft, settings: Settings, named: Sequence[str]) -> "DraftedTable":
    from loadtest.k6.binary import find_k6
    from loadtest.k6.plan import find_bearer_file
    from loadtest.k6.preflight import draft_table

    mcp_url = draft.origin + draft.mcp_path
    binary = find_k6(settings.variables)
    drafted = draft_table(settings, mcp_url, find_bearer_file(settings), named, binary=binary)
    listed = (*drafted.tools, *drafted.left_out)
    if unknown := [name for name in named if name not in listed]:
        raise ConfigError(
            f"--call-tools: the target has no tool {list_names(unknown)}, only {list_names(listed)}"
        )
    draft.say(f"{len(drafted.tools)} of {len(listed)} tools are in the draft, each tried once")
    return drafted


def _list_additions(draft: _Draft, entrance: Entrance, what: str) -> list[Addition]:
    """Return all that is missing, in the order in which it is to be written."""
    values = {"LOADTEST_BASE_URL": draft.origin}
    values |= dict.fromkeys((*entrance.variables, *entrance.optional), "")
    found = [
        additions.add_ignored(draft.root),
        additions.add_variables(draft.root, draft.name, values),
    ]
    if draft.lines or (what and draft.options.check):
        draft.load()  # raises if the file cannot hold them
        found.append(draft.build_config(what))
    found.append(_add_workflow(draft, entrance))
    return [addition for addition in found if addition is not None]


def _add_workflow(draft: _Draft, entrance: Entrance) -> Addition | None:
    present = additions.find_workflow(draft.root)
    if present is None:
        commit = find_commit()
        addition = additions.add_workflow(
            draft.root, drafts.draft_workflow(draft.name, entrance, commit)
        )
        passed = {*drafts.WORKFLOW_SECRETS, *drafts.MORE_SECRETS}
        if foreign := [name for name in entrance.variables if name not in passed]:
            draft.notes.append(f"the workflow does not pass {', '.join(foreign)} on")
        if addition is not None and commit is None:
            draft.notes.append("replace OWNER and COMMIT in the workflow before you push it")
        elif addition is None:
            draft.notes.append(
                f"{additions.OWN_WORKFLOW} is there already, but runs no load test: rename it, "
                "then run this again"
            )
        return addition
    if present.name != additions.CALLED_WORKFLOW and draft.name not in present.read_text("utf-8"):
        draft.notes.append(
            f"{_name(present)} is left as it is: add a job for environment {draft.name}"
        )
    return None


def _finish(draft: _Draft, lacking: Sequence[Addition]) -> None:
    """Show what is missing, write it if the user agrees, and say what comes next."""
    options = draft.options
    for addition in lacking:
        _show(draft, addition)
    if options.check and lacking:
        what = ", ".join(f"{_name(each.path)} ({each.what})" for each in lacking)
        raise ConfigError(f"missing: {what}; `{draft.again}` drafts it")
    agreed = options.yes
    if lacking and options.asks:
        agreed = _ask(draft.chain, "Write this? [y/N]: ") in YES
    if lacking and agreed:
        for addition in lacking:
            addition.write()
        draft.say(f"wrote {', '.join(_name(each.path) for each in lacking)}")
    elif lacking:
        draft.say("nothing was written: --yes writes it")
    else:
        draft.say("nothing is missing")
    if os.environ.get("LOADTEST_BASE_URL") not in {None, "", draft.origin}:
        draft.notes.append("unset LOADTEST_BASE_URL: it wins over the address in the file")
    for note in draft.notes:
        draft.say(note)
    if draft.first_step is not None:
        draft.say(f"next: {draft.first_step}")
    elif agreed or not lacking:
        commands = (spell(f"{task} --env {draft.name}") for task in ("doctor", "loadtest"))
        draft.say(f"next: {', then '.join(commands)}")


def _show(draft: _Draft, addition: Addition) -> None:
    """Print the lines that are added to a file."""
    state = "new" if addition.before is None else "added at its end"
    console = draft.chain.console
    console.print(f"{_name(addition.path)} ({state})", style="bold", markup=False)
    for line in addition.lines:
        console.print(f"  + {line}", style="green", markup=False, highlight=False, soft_wrap=True)


def _name(path: Path) -> str:
    return os.path.relpath(path)


def _ask(chain: Chain, question: str) -> str:
    """Return what a person types; nothing at the end of the input."""
    try:
        return chain.console.input(question, markup=False).strip()
    except EOFError:
        return ""
