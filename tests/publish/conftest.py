"""Tasks as they are typed in a checkout of its own, and where its runs lie."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.publish.delivering import Inv
from tests.support.github_server import TOKEN
from tests.support.task_process import TaskProcess, open_task_process


@pytest.fixture(scope="session")
def task_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskProcess]:
    """Run all tasks of these tests in one process."""
    with open_task_process(tmp_path_factory.mktemp("tasks")) as process:
        yield process


@pytest.fixture
def inv(checkout: Path, task_process: TaskProcess) -> Inv:
    """Run a task of the checkout; return its exit code and all that it said."""

    def run(*arguments: str, **variables: str) -> tuple[int, str]:
        code, said = task_process.run(checkout, *arguments, **variables)
        assert TOKEN not in said
        return code, said

    return run


@pytest.fixture
def runs_dir(checkout: Path) -> Path:
    return checkout / ".loadtest" / "runs"
