"""The texts that are drafted: what a server says never becomes more than a value in them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from loadtest.init.additions import (
    CALLED_WORKFLOW,
    add_ignored,
    add_variables,
    add_workflow,
    find_workflow,
)
from loadtest.init.drafts import (
    MORE_SECRETS,
    WORKFLOW_SECRETS,
    draft_quota,
    draft_tools,
    draft_workflow,
    suggest_name,
)
from loadtest.init.entrance import Entrance
from loadtest.init.toml_text import write_key, write_value
from loadtest.k6.preflight import DraftedTable
from loadtest.k6.summary import Server
from loadtest.target.rate_limits import RateLimits
from tests.support.checkout import ROOT

# A file has no lone surrogates: parse_json replaces them.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)
SERVER = Server(name="any", version="1", protocol="2025-11-25", era="handshake")
HOSTILE = 'x"]\n[environment.evil]\ntarget = "hosted"\x1b[2J'


def build_table(
    tools: Mapping[str, Any] | None = None,
    left_out: Mapping[str, Any] | None = None,
    policy: str | None = None,
) -> DraftedTable:
    limits = RateLimits(policy, None, None, None) if policy else None
    return DraftedTable(SERVER, tools or {}, left_out or {}, limits)


def entry(arguments: Mapping[str, Any], about: str = "It.") -> dict[str, Any]:
    return {"about": about, "weight": 1, "arguments": [arguments], "tried": "ok"}


@given(st.dictionaries(TEXTS, VALUES))
def test_every_value_of_json_is_read_again_as_it_was(value: dict[str, object]) -> None:
    line = f"x = {write_value(value)}"
    assert tomllib.loads(line)["x"] == value
    assert line.isprintable()


@given(TEXTS)
def test_every_name_is_a_key(name: str) -> None:
    assert tomllib.loads(f"[a.{write_key(name)}]\nb = 1") == {"a": {name: {"b": 1}}}


@pytest.mark.parametrize(
    ("host", "server", "name"),
    [
        ("mcp.example.com", "", "example"),
        ("staging.mcp.example.com", "", "staging"),
        ("notes.example.com", "", "notes"),
        ("example.com", "", "example"),
        ("mcp.com", "", "mcp"),
        ("taken.example.com", "", "taken-2"),
        ("127.0.0.1", "My Notes!", "my-notes"),
        ("localhost", "", "server"),
        ("203.0.113.7", "\x1b[31m", "31m"),
        ("runs.example.com", "", "runs-2"),
        ("url-a.example.com", "", "my-url-a"),
        ("127.0.0.1", "../" * 10**6, "server"),
        ("127.0.0.1", "a" * 10**6, "a" * 40),
    ],
)
def test_a_name_comes_from_the_host_or_on_this_machine_from_the_server(
    host: str, server: str, name: str
) -> None:
    assert suggest_name(host, server, {"local": 1, "taken": 1}) == name


def test_a_hostile_tool_stays_in_its_place() -> None:
    table = build_table({HOSTILE: entry({HOSTILE: HOSTILE}, HOSTILE)}, {HOSTILE + "2": entry({})})
    text = "\n".join(draft_tools("environment.a", table, comments=True))
    assert text.replace("\n", "").isprintable()
    (environment,) = tomllib.loads(text)["environment"].values()
    (tool,) = environment["tools"].values()
    assert tool["arguments"] == [{HOSTILE: HOSTILE}]


def test_arguments_that_toml_cannot_hold_are_left_out_and_named() -> None:
    table = build_table({"a": entry({"b": None}), "c": entry({})})
    lines = list(draft_tools("environment.x", table, comments=True))
    assert list(tomllib.loads("\n".join(lines))["environment"]["x"]["tools"]) == ["c"]
    assert "# a: TOML has no null: its arguments need a JSON file" in lines


def test_the_tools_that_are_left_out_are_comments_that_work_without_their_mark() -> None:
    table = build_table({}, {"send": entry({"to": "a"}) | {"tried": "not tried: it is not safe"}})
    lines = list(draft_tools("environment.x", table, comments=True))
    assert tomllib.loads("\n".join(lines)) == {}
    tables = "\n".join(line.removeprefix("# ") for line in lines[3:])
    tool = tomllib.loads(tables)["environment"]["x"]["tools"]["send"]
    assert tool == {"about": "It.", "weight": 1, "arguments": [{"to": "a"}]}


def test_many_tools_that_are_left_out_are_counted() -> None:
    table = build_table({}, {f"tool{number}": entry({}) for number in range(50)})
    lines = list(draft_tools("environment.x", table, comments=True))
    assert lines[-1] == "# and 30 more"


@pytest.mark.parametrize(
    ("policy", "units"), [("60;w=60", 60), ('"default";q=10;w=10', 60), ("9000;w=3600", None)]
)
def test_a_quota_is_what_the_headers_announce_per_minute(policy: str, units: int | None) -> None:
    text = "\n".join(draft_quota("environment.x", build_table(policy=policy)))
    found = tomllib.loads(text).get("environment", {"x": {"quota": None}})["x"]["quota"]
    assert found == (units and {"units_per_minute": units, "fit": True})


@pytest.mark.parametrize("name", ["null", "1.0", "0x1", "a-b", "yes"])
def test_the_workflow_calls_ours_with_the_name_of_the_environment(name: str) -> None:
    lines = draft_workflow(name, Entrance("none", "open"), ("example/mcp-loadtest", "0" * 40))
    job = YAML(typ="safe").load("\n".join(lines))["jobs"]["loadtest"]
    place = "example/mcp-loadtest/.github/workflows/load-test-mcp.yml"
    assert job["uses"] == f"{place}@{'0' * 40}"
    assert job["with"] == {"env": name}


def test_the_workflow_passes_only_secrets_that_ours_takes() -> None:
    yaml = YAML(typ="safe")
    called = yaml.load(ROOT / ".github" / "workflows" / CALLED_WORKFLOW)
    takes = called["on"]["workflow_call"]
    own = ("LOADTEST_API_KEY", "OWN_KEY")
    entrance = Entrance("header", "a key", own, optional=("LOADTEST_CLIENT_SECRET",))
    job = yaml.load("\n".join(draft_workflow("x", entrance, None)))["jobs"]["loadtest"]
    assert job["secrets"].keys() <= takes["secrets"].keys()
    assert job["permissions"] == called["jobs"]["loadtest"]["permissions"]
    assert job["secrets"]["LOADTEST_API_KEY"] == "${{ secrets.LOADTEST_API_KEY }}"
    assert "LOADTEST_CLIENT_SECRET" in job["secrets"]
    assert {*WORKFLOW_SECRETS, *MORE_SECRETS} <= takes["secrets"].keys()


def test_lines_are_added_after_what_is_there_with_its_line_ends(tmp_path: Path) -> None:
    path = tmp_path / ".gitignore"
    path.write_bytes(b"node_modules\r\n.env*")
    addition = add_ignored(tmp_path)
    assert addition is not None
    addition.write()
    assert path.read_bytes() == b"node_modules\r\n.env*\r\n.loadtest/\r\n"
    assert add_ignored(tmp_path) is None


def test_the_ignored_files_of_a_folder_above_count(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text(".env\n.env.*\n.loadtest\n")
    (tmp_path / "apps").mkdir()
    assert add_ignored(tmp_path / "apps") is None


def test_a_variable_that_is_there_stays_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / ".env.x"
    path.write_text("LOADTEST_EMAIL=a@example.com")
    addition = add_variables(tmp_path, "x", {"LOADTEST_EMAIL": "", "LOADTEST_PASSWORD": ""})
    assert addition is not None
    addition.write()
    assert path.read_text() == "LOADTEST_EMAIL=a@example.com\nLOADTEST_PASSWORD=\n"
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_was_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    addition = add_ignored(tmp_path)
    assert addition is not None
    (tmp_path / ".gitignore").write_text("mine\n")
    with pytest.raises(Exception, match=r"\.gitignore was changed meanwhile: run this again"):
        addition.write()
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("mine\n")
    (tmp_path / ".gitignore").symlink_to("shared")
    addition = add_ignored(tmp_path)
    assert addition is not None
    addition.write()
    assert (tmp_path / ".gitignore").is_symlink()
    assert (tmp_path / "shared").read_text().startswith("mine\n.env\n")


def test_a_workflow_of_any_name_that_calls_ours_is_enough(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    root = tmp_path / "apps" / "api"
    root.mkdir(parents=True)
    assert find_workflow(root) is None
    addition = add_workflow(root, ("a: 1",))
    assert addition is not None
    assert addition.path == tmp_path / ".github" / "workflows" / "load-test.yml"
    path = tmp_path / ".github" / "workflows" / "performance.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("    uses: a/b/.github/workflows/load-test-mcp.yml@main\n")
    assert find_workflow(root) == path
