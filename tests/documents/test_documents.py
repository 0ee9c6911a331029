"""The README and the pages in docs/ say what is there, and every link leads somewhere."""

import ast
import json
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.parser import Parser
from pydantic import BaseModel
from ruamel.yaml import YAML

import tasks
from loadtest import context, errors
from loadtest.config import flows, loading, models, refusals, tool_table, value_pools
from loadtest.config.knobs import KNOBS, name_variable
from loadtest.config.loading import load_settings
from loadtest.config.models import Environment
from loadtest.config.tool_table import parse_table
from tests.documents import task_reference
from tests.support.checkout import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
INDEX = ROOT / "docs" / "index.md"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORKFLOW = (ROOT / "docs" / "how-to" / "ci.md").read_text(encoding="utf-8")
EXIT_CODES = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\(([^()\s]+)\)|(?:src|href)="([^"]+)"')
# A process that was stopped by a signal needs no explanation.
SIGNALS = set(context.SIGNAL_EXIT_CODES)
MOST_PICTURE_BYTES = 300_000


def read_prose(document: Path) -> str:
    """Return a document without its fenced examples."""
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def list_examples(language: str) -> list[Any]:
    return [
        pytest.param(document, text, id=f"{document.stem}-{number}")
        for document in DOCUMENTS
        for number, (kind, text) in enumerate(FENCE.findall(document.read_text(encoding="utf-8")))
        if kind == language
    ]


def list_exit_codes() -> set[int]:
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.LoadtestError)}
    codes |= {context.BUG_EXIT_CODE, context.GENERATOR_EXIT_CODE, context.REGRESSED_EXIT_CODE}
    codes |= {context.OBJECTIVES_EXIT_CODE}
    return codes | {*context.RUN_EXIT_CODES.values(), *SIGNALS}


def list_anchors(document: Path) -> set[str]:
    """Return what can be linked to: anchors, and headings as GitHub names them."""
    text = read_prose(document)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return {*re.findall(r'<a id="([^"]+)">', text), *slugs}


def list_links(document: Path) -> set[str]:
    """Return the links of a document to files of this repository."""
    links = {first or second for first, second in LINK.findall(read_prose(document))}
    return {link for link in links if not re.match(r"[a-z]+:", link)}


def leads_somewhere(link: str, document: Path) -> bool:
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    return target.exists() and (not anchor or anchor in list_anchors(target))


def list_texts() -> Iterator[str]:
    """Return the strings in our sources; `…` replaces what an f-string fills in."""
    for path in (ROOT / "loadtest").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                fixed = (isinstance(part, ast.Constant) and part.value for part in node.values)
                yield "".join(str(part or "…") for part in fixed)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    yield (ROOT / ".github" / "workflows" / "load-test-mcp.yml").read_text(encoding="utf-8")


def list_keys(heading: str) -> set[str]:
    """Return the keys in the table of settings below a heading."""
    section = re.split(rf"^##+ {re.escape(heading)}$", SETTINGS, flags=re.MULTILINE)[1]
    section = re.split(r"^#", section, flags=re.MULTILINE)[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def list_commands(text: str) -> Iterator[str]:
    """Return the `inv` commands in the examples of a document."""
    for line in text.splitlines():
        if line.startswith("inv ") and not line.startswith("inv --"):
            yield line.removeprefix("inv ")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    assert {link for link in list_links(document) if not leads_somewhere(link, document)} == set()


def test_every_page_that_a_message_names_exists() -> None:
    sources = [*(ROOT / "loadtest").rglob("*.py"), ROOT / "loadtest.toml"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    named = set(re.findall(r"\b((?:docs/|README)[\w/-]*\.md\b(?!x)(?:#[\w-]+)?)", text))
    assert "docs/reference/settings.md" in named
    named = {link.removesuffix("#exit-") for link in named}
    assert {link for link in named if not leads_somewhere(link, ROOT / "README.md")} == set()


def test_every_exit_code_is_explained() -> None:
    table = EXIT_CODES.split("\n## ")[0]
    explained = {
        int(code)
        for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for code in row.split(",")
    }
    assert explained == list_exit_codes()


def test_every_exit_code_that_a_line_links_has_its_section() -> None:
    pointed = {f"exit-{code}" for code in list_exit_codes() - SIGNALS - {0}}
    anchors = list_anchors(ROOT / "docs/reference/exit-codes.md")
    assert {anchor for anchor in anchors if re.match(r"exit-\d", anchor)} == pointed


def test_every_explained_message_exists_in_the_code() -> None:
    said = "\0".join(list_texts())
    tables = re.findall(r"^\| message \|.*\n((?:\|.*\n)+)", EXIT_CODES, re.MULTILINE)
    cells = [row.split("|")[1] for table in tables for row in table.splitlines()]
    quoted = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 20
    parts = {part.strip() for message in quoted for part in message.split("…")}
    assert {part for part in parts if part not in said} == set()


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("`loadtest.toml`", loading.ConfigFile),
        ("`[environment.<name>]`", Environment),
        ("`[environment.<name>.limits]`", models.Limits),
        ("`[environment.<name>.quota]`", models.Quota),
        ("`[[environment.<name>.refusals]]`", refusals.RefusalPattern),
        ("`[environment.<name>.tools.<tool>]`", tool_table.Pool),
        ("`[environment.<name>.pools.<pool>]`", value_pools.PoolEntry),
        ("`[environment.<name>.flows.<flow>]`", flows.Flow),
        ("Steps of a flow", flows.FlowStep),
        ("`[environment.<name>.answers]`", tool_table.Answers),
        ("`[environment.<name>.pages]`", models.Pages),
        ("`[environment.<name>.kubernetes]`", models.Kubernetes),
        ("`[profile.<name>]`", models.Profile),
    ],
)
def test_the_settings_page_names_every_key_and_no_other(
    heading: str, model: type[BaseModel]
) -> None:
    fields = model.model_fields.items()
    assert list_keys(heading) == {field.alias or name for name, field in fields}


def test_every_variable_that_a_document_names_is_read_somewhere() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "loadtest").rglob("*.py"))
    knobs = [name_variable(knob) for knob in KNOBS]
    pages = "".join(page.read_text() for page in PAGES)
    # Examples of `headers` name variables of their own.
    own = re.findall(r"\$(LOADTEST_[A-Z_]*[A-Z])\b", pages)
    for document in (ROOT / "README.md", *PAGES):
        for name in set(re.findall(r"\bLOADTEST_[A-Z_]*[A-Z]\b", document.read_text())):
            assert name in sources or name in knobs or name in own


def test_the_index_links_every_page_once() -> None:
    links = [link for pair in LINK.findall(read_prose(INDEX)) for link in pair if link]
    found = [(INDEX.parent / link).resolve() for link in links]
    assert sorted(page for page in found if page in PAGES) == [
        page for page in PAGES if page != INDEX
    ]


def test_every_task_is_in_the_table() -> None:
    for name in tasks.namespace.task_names:
        assert f"| `{name}` |" in README


def test_the_reference_of_tasks_is_up_to_date() -> None:
    page = task_reference.PAGE.read_text(encoding="utf-8")
    current = task_reference.replace_reference(page) == page
    assert current, (
        f"loadtest/tasks.py has changed: `{task_reference.COMMAND}` writes the reference again"
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_example_of_a_command_has_a_task_and_options_that_exist(document: Path) -> None:
    # Import again: Invoke returns a task's help texts only once.
    collection = runpy.run_path(str(ROOT / "loadtest" / "tasks.py"))["namespace"]
    for command in list_commands(document.read_text(encoding="utf-8")):
        arguments = shlex.split(command.split(" > ")[0], comments=True)
        Parser(contexts=collection.to_contexts()).parse_argv(arguments)


@pytest.mark.parametrize(("document", "text"), list_examples("toml"))
def test_every_example_of_settings_is_valid(document: Path, text: str, tmp_path: Path) -> None:
    for table in FENCE.findall(document.read_text(encoding="utf-8")):
        if table[0] == "json":
            (tmp_path / "tools.json").write_text(table[1])
    lines = (ROOT / "loadtest.toml").read_text(encoding="utf-8")
    (name,) = tomllib.loads(text)["environment"]
    given = tomllib.loads(text)["environment"][name]
    known = tomllib.loads(lines)["environment"].get(name, {})
    assert Environment.model_validate(known | given)
    if not known:
        (tmp_path / "loadtest.toml").write_text(f"{lines}\n{text}")
        assert load_settings(tmp_path, name, process_env={}).list_calls(("tools",))


@pytest.mark.parametrize(("document", "text"), list_examples("json"))
def test_every_example_of_a_tool_table_is_valid(document: Path, text: str) -> None:
    assert parse_table(json.loads(text), document.name).tools


def test_the_documented_call_of_the_workflow_is_valid() -> None:
    yaml = YAML(typ="safe")
    called = yaml.load(ROOT / ".github" / "workflows" / "load-test-mcp.yml")
    takes = called["on"]["workflow_call"]
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    call = yaml.load(example)["jobs"]["loadtest"]
    assert call["permissions"] == called["jobs"]["loadtest"]["permissions"]
    assert call["with"].keys() <= takes["inputs"].keys()
    named = re.findall(r"`(LOADTEST_\w+)`", "\n".join(re.findall(r"^\|.*", WORKFLOW, re.MULTILINE)))
    assert set(named) == takes["secrets"].keys()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", WORKFLOW, re.MULTILINE)) == takes["outputs"].keys()


def test_the_pictures_exist_are_small_and_show_no_machine() -> None:
    pictures = [ROOT / path for path in re.findall(r'<img src="([^"]+)"', README)]
    assert len(pictures) == 3
    for picture in pictures:
        content = picture.read_bytes()
        assert 0 < len(content) < MOST_PICTURE_BYTES
        assert not [word for word in (b"/home/", b"/tmp/", bytes(Path.home())) if word in content]
