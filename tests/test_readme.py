"""The README says what is there."""

import re
from pathlib import Path

import tasks
from loadtest import chain, errors

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_every_task_is_in_the_table() -> None:
    for name in tasks.ns.task_names:
        assert f"| `{name}` |" in README


def test_every_exit_code_is_explained() -> None:
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.LoadtestError)}
    results = {chain.GENERATOR_EXIT_CODE, chain.REGRESSED_EXIT_CODE, *chain.RUN_EXIT_CODES.values()}
    codes |= results | {chain.BUG_EXIT_CODE, 143}
    table = README.split("## How a run ends")[1].split("## What it installs")[0]
    explained = {
        int(code)
        for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for code in row.split(",")
    }
    assert explained == codes


def test_every_variable_it_names_is_read_somewhere() -> None:
    sources = "".join(path.read_text() for path in Path(chain.ROOT / "loadtest").rglob("*.py"))
    for name in set(re.findall(r"\bLOADTEST_[A-Z_]+\b", README)):
        assert name in sources
