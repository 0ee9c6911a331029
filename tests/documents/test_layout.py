"""The layout of the guide, the folders on disk, the import layers and the tests agree."""

import ast
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from loadtest import __version__
from loadtest.nox import SESSIONS
from tests.support.checkout import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LAYOUT = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)[0]


def list_packages(root: Path) -> set[str]:
    """Return the packages below a folder, as paths relative to it."""
    found = {str(path.parent.relative_to(root)) for path in root.glob("**/__init__.py")}
    return found - {"."}


def read_layout() -> set[str]:
    """Return the paths that the layout names."""
    paths, parents = set(), [""]
    for line in LAYOUT.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        path = parents[depth] + name
        parents[depth + 1 :] = [path]
        paths.add(path)
    return paths


def list_sessions() -> Iterable[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return [
        *SESSIONS,
        *(
            function.name
            for function in functions
            if any(ast.unparse(mark).startswith("nox.session") for mark in function.decorator_list)
        ),
    ]


def read_names(title: str) -> set[str]:
    """Return what a section names in backticks."""
    section = re.split(rf"^#+ {re.escape(title)}$", GUIDE, flags=re.MULTILINE)[1]
    return set(re.findall(r"`([^`\n]+)`", re.split(r"^#", section, flags=re.MULTILINE)[0]))


def test_the_layout_names_every_folder_and_module_at_the_top_and_no_other() -> None:
    named = {
        path.removeprefix("loadtest/").removesuffix("/")
        for path in read_layout()
        if path.startswith("loadtest/") and path != "loadtest/"
    }
    modules = {path.name for path in (ROOT / "loadtest").glob("*.py")} - {"__init__.py"}
    assert named == list_packages(ROOT / "loadtest") | modules


def test_every_path_of_the_layout_exists() -> None:
    assert {path for path in read_layout() if not (ROOT / path).exists()} == set()


def test_the_import_layers_are_the_folders() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    layers = {name for layer in contract["layers"] for name in layer.split(" | ")}
    top = {path.split("/")[0] for path in list_packages(ROOT / "loadtest")}
    assert layers == top | {"__main__", "context", "errors", "nox", "tasks"}


def test_no_class_of_the_tool_has_the_name_of_another() -> None:
    # The reference target is a program of its own.
    modules = [
        path
        for path in (ROOT / "loadtest").rglob("*.py")
        if "reference" not in path.relative_to(ROOT).parts
    ]
    names = [
        node.name
        for path in modules
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    assert len(names) > 100
    assert {name for name in names if names.count(name) > 1} == set()


def test_the_tests_have_the_folders_of_the_package_and_those_that_the_guide_names() -> None:
    others = {
        name.removeprefix("tests/")
        for name in read_names("Layout")
        if re.fullmatch(r"tests/\w+", name)
    }
    ours = list_packages(ROOT / "tests")
    assert others <= ours
    assert ours - others <= list_packages(ROOT / "loadtest")


def test_the_guide_names_every_nox_session_and_no_other() -> None:
    named = {name for name in read_names("Nox sessions") if re.fullmatch(r"[a-z]\w*", name)}
    assert named == set(list_sessions())


def test_every_path_that_the_guide_names_exists() -> None:
    paths = set(re.findall(r"`([\w.-]+(?:/[\w.-]*)+)`", GUIDE))
    assert {path for path in paths if not Path(ROOT, path).exists()} == set()


def test_the_changelog_begins_with_the_current_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\]", changes, re.MULTILINE)
    assert next(name for name in headings if name != "Unreleased") == __version__
