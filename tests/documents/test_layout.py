"""The map of the house is complete, and the changelog begins with the version that is here."""

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from loadtest import __version__
from loadtest.context import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def list_modules() -> Iterable[str]:
    return (
        path.stem
        for path in (ROOT / "loadtest").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    )


def list_test_folders() -> Iterable[str]:
    tests = ROOT / "tests"
    return {f"tests/{path.relative_to(tests).parts[0]}" for path in tests.glob("*/**/*.py")}


def list_sessions() -> Iterable[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return [
        function.name
        for function in functions
        if any(ast.unparse(mark).startswith("nox.session") for mark in function.decorator_list)
    ]


def read_section(title: str) -> set[str]:
    """Return what a section names in backticks."""
    section = re.split(rf"^#+ {re.escape(title)}$", GUIDE, flags=re.MULTILINE)[1]
    return set(re.findall(r"`([^`\n]+)`", re.split(r"^#", section, flags=re.MULTILINE)[0]))


@pytest.mark.parametrize(
    ("title", "list_names"),
    [
        ("`loadtest/`, from the top", list_modules),
        ("`tests/`", list_test_folders),
        ("Nox sessions", list_sessions),
    ],
)
def test_the_map_names_every_room_and_no_other(
    title: str, list_names: Callable[[], Iterable[str]]
) -> None:
    named = {
        name for name in read_section(title) if re.fullmatch(r"(tests/)?[a-z][a-z0-9_]*", name)
    }
    assert named
    assert named == set(list_names()) - {"__init__"}


def test_every_path_that_the_guide_names_is_there() -> None:
    paths = set(re.findall(r"`([\w.-]+(?:/[\w.-]*)+)`", GUIDE))
    assert {path for path in paths if not Path(ROOT, path).exists()} == set()


def test_the_changelog_begins_with_the_version_that_is_here() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\]", changes, re.MULTILINE)
    assert next(name for name in headings if name != "Unreleased") == __version__
