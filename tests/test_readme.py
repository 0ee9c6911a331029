"""The README says what is there, and what is said to be in the README is."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import readme
from ruamel.yaml import YAML

import tasks
from loadtest import chain, errors
from loadtest.config import Environment, load_settings
from loadtest.tools import parse_table

README = readme.README.read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = FENCE.findall(README)
# What a signal ends is explained by whoever sent it.
SIGNALS = set(chain.SIGNAL_EXIT_CODES)
MOST_PICTURE_BYTES = 300_000


def list_examples(language: str) -> list[str]:
    return [text for kind, text in EXAMPLES if kind == language]


def list_exit_codes() -> set[int]:
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.LoadtestError)}
    codes |= {chain.BUG_EXIT_CODE, chain.GENERATOR_EXIT_CODE, chain.REGRESSED_EXIT_CODE}
    return codes | {*chain.RUN_EXIT_CODES.values(), *SIGNALS}


def list_anchors() -> set[str]:
    """Return what can be linked to: anchors, and headings as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return {*re.findall(r'<a id="([^"]+)">', README), *slugs}


def test_every_task_is_in_the_table() -> None:
    for name in tasks.ns.task_names:
        assert f"| `{name}` |" in README


def test_the_reference_of_tasks_is_up_to_date() -> None:
    current = readme.replace_reference(README) == README
    assert current, f"tasks.py has changed: `{readme.COMMAND}` writes the README's reference anew"


def test_every_exit_code_is_explained() -> None:
    table = README.split("## How a run ends")[1].split("\n## ")[0]
    explained = {
        int(code)
        for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for code in row.split(",")
    }
    assert explained == list_exit_codes()


def test_every_exit_code_that_a_line_points_from_has_its_paragraph() -> None:
    pointed = {f"exit-{code}" for code in list_exit_codes() - SIGNALS - {0}}
    assert {anchor for anchor in list_anchors() if anchor.startswith("exit-")} == pointed


def test_every_link_within_leads_somewhere() -> None:
    links = set(re.findall(r"\]\(#([^)]+)\)", README))
    sources = [*(chain.ROOT / "loadtest").rglob("*.py"), chain.ROOT / "loadtest.toml"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    links |= set(re.findall(r"README\.md#([\w-]+)", text)) - {"exit-"}
    assert "settings" in links
    assert links <= list_anchors()


def test_every_file_that_it_links_to_is_there() -> None:
    paths = set(re.findall(r"\]\(([\w./-]+)\)", README))
    assert {path for path in paths if not (chain.ROOT / path).exists()} == set()


def test_every_variable_it_names_is_read_somewhere() -> None:
    sources = "".join(path.read_text() for path in Path(chain.ROOT / "loadtest").rglob("*.py"))
    for name in set(re.findall(r"\bLOADTEST_[A-Z_]+\b", README)):
        assert name in sources


def test_the_workflow_is_called_as_it_wants_to_be() -> None:
    yaml = YAML(typ="safe")
    called = yaml.load(chain.ROOT / ".github" / "workflows" / "load-test-mcp.yml")
    takes, (example,) = called["on"]["workflow_call"], list_examples("yaml")
    call = yaml.load(example)["jobs"]["loadtest"]
    assert call["permissions"] == called["jobs"]["loadtest"]["permissions"]
    assert call["with"].keys() <= takes["inputs"].keys()
    section = README.split("## Every Monday")[1].split("\n## ")[0]
    assert set(re.findall(r"`(LOADTEST_\w+)`", section)) == takes["secrets"].keys()
    assert takes["outputs"].keys() <= set(re.findall(r"`([a-z-]+)`", section))


@pytest.mark.parametrize("text", list_examples("toml"))
def test_every_example_of_settings_is_one_that_the_settings_take(text: str, tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text(list_examples("json")[0])
    lines = (chain.ROOT / "loadtest.toml").read_text(encoding="utf-8")
    (name,) = tomllib.loads(text)["environment"]
    given = tomllib.loads(text)["environment"][name]
    known = tomllib.loads(lines)["environment"].get(name, {})
    assert Environment.model_validate(known | given)
    if not known:
        (tmp_path / "loadtest.toml").write_text(f"{lines}\n{text}")
        assert load_settings(tmp_path, name, process_env={}).list_tools(("tools",))


@pytest.mark.parametrize("text", list_examples("json"))
def test_every_example_of_a_tool_table_is_one(text: str) -> None:
    assert parse_table(json.loads(text), "README").tools


def test_the_pictures_are_there_small_and_of_no_machine() -> None:
    pictures = [chain.ROOT / path for path in re.findall(r'<img src="([^"]+)"', README)]
    assert len(pictures) == 3
    for picture in pictures:
        content = picture.read_bytes()
        assert 0 < len(content) < MOST_PICTURE_BYTES
        assert not [word for word in (b"/home/", b"/tmp/", bytes(Path.home())) if word in content]
