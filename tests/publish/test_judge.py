"""What the k6 stage measures again: the judge reads the history from where the report reads it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.common.console import Console
from loadtest.config.loading import load_settings
from loadtest.context import Chain
from loadtest.errors import LoadtestError
from loadtest.k6.repeats import Judge
from loadtest.publish.stage import build_judge
from loadtest.results.history import Entry
from loadtest.results.run_folder import RunFolder, read_run_folder
from tests.compare.plain_runs import SQL, entry, put, weeks
from tests.publish.delivering import seed
from tests.support.checkout import ROOT
from tests.support.github_server import GithubServer

SLOWER = entry(6, {SQL: 2.0})
Make = Callable[..., Judge]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make the judge of an environment whose root is `tmp_path`."""
    (tmp_path / "loadtest.toml").write_bytes((ROOT / "loadtest.toml").read_bytes())
    with ExitStack() as resources, (tmp_path / "said").open("w") as said:
        chain = Chain(Console(file=said), resources)

        def build(**variables: str) -> Judge:
            settings = load_settings(tmp_path, "prod", process_env=variables)
            return build_judge(chain, settings)

        yield build


def put_run(tmp_path: Path, run: Entry) -> RunFolder:
    return read_run_folder(put(tmp_path / ".loadtest" / "runs", run))


def test_a_slower_tool_is_suspicious_until_repeats_agree_or_do_not(
    make: Make, tmp_path: Path
) -> None:
    for run in weeks(6):
        put_run(tmp_path, run)
    folder, judge = put_run(tmp_path, SLOWER), make()
    assert judge(folder) == {"tools": ()}
    mix = tuple(row for row in SLOWER.rows if row.scenario == "tools")
    assert judge(replace(folder, repeats=(mix,) * 3)) == {}
    usual = tuple(row for row in entry(5).rows if row.scenario == "tools")
    assert judge(replace(folder, repeats=(usual,))) == {}


def test_slower_stages_of_the_ladder_are_named(make: Make, tmp_path: Path) -> None:
    for run in weeks(6):
        put_run(tmp_path, run)
    folder = put_run(tmp_path, entry(6, {("sessions", "stage", "50"): 2.0}))
    assert make()(folder) == {"sessions": ("50",)}


def test_neither_an_unchanged_nor_a_first_run_is_suspicious(make: Make, tmp_path: Path) -> None:
    assert make()(put_run(tmp_path, entry(0))) == {}
    for run in weeks(6)[1:]:
        put_run(tmp_path, run)
    assert make()(put_run(tmp_path, entry(6))) == {}


def test_where_runs_are_posted_the_history_is_that_of_the_issue_and_is_read_once(
    make: Make, tmp_path: Path, github: GithubServer
) -> None:
    seed(github, *weeks(6))
    folder, judge = put_run(tmp_path, SLOWER), make(**github.variables)
    assert judge(folder) == {"tools": ()}
    calls = len(github.list_calls())
    assert calls > 0
    assert judge(folder) == {"tools": ()}
    assert len(github.list_calls()) == calls


def test_a_history_that_cannot_be_read_is_an_error_of_one_line(
    make: Make, tmp_path: Path, github: GithubServer
) -> None:
    folder = put_run(tmp_path, SLOWER)
    judge = make(**github.variables | {"GITHUB_TOKEN": "wrong"})
    with pytest.raises(LoadtestError) as failure:
        judge(folder)
    assert "\n" not in str(failure.value)
