"""The installed package, run in folders that are not a checkout of this project."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest import __version__
from loadtest.reference.server import ReferenceTarget
from loadtest.results.run_folder import read_run_folder
from tests.cli.test_exit_guard import SMALL
from tests.package.conftest import SCRIPT, Run
from tests.support.checkout import ROOT

Serve = Callable[..., ReferenceTarget]
MONOREPO = Path(__file__).parent / "monorepo"


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    """Give a repository of a Bun workspace with Fumadocs pages, and its first commit."""
    root = tmp_path / "a shop"
    shutil.copytree(MONOREPO, root)
    git = ("git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@example.com")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
        subprocess.run([*git, *command], check=True)
    return root


def list_changes(root: Path) -> str:
    command = ["git", "-C", str(root), "status", "--porcelain"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_version_and_tasks_are_those_of_the_checkout(script: Run, tmp_path: Path) -> None:
    assert script(tmp_path, "--version").stdout == f"mcp-loadtest {__version__}\n"
    listed = script(tmp_path, "--list").stdout
    assert "  docs-update  " in listed
    help_text = script(tmp_path, "--help", "k6").stdout
    assert "mcp-loadtest k6 --engine segments" in help_text
    assert "inv " not in help_text


@pytest.mark.slow
def test_an_empty_folder_is_enough_for_the_reference_target(script: Run, tmp_path: Path) -> None:
    folder = tmp_path / "an empty folder"
    folder.mkdir()
    done = script(folder, "loadtest", *SMALL)
    assert done.returncode == 0, done.stderr
    (run,) = (folder / ".loadtest" / "runs").iterdir()
    assert [each.outcome for each in read_run_folder(run).run.scenarios] == ["ok"] * 4
    assert {path.name for path in folder.iterdir()} == {".loadtest"}
    assert "no page to update" in done.stdout


@pytest.mark.slow
def test_a_subfolder_of_a_monorepo_uses_the_configuration_at_its_root(
    script: Run, monorepo: Path
) -> None:
    done = script(monorepo / "apps" / "api" / "src")
    assert done.returncode == 0, done.stderr
    (run,) = (monorepo / ".loadtest" / "runs").iterdir()
    folder = read_run_folder(run)
    assert {row.name for row in folder.rows if row.kind == "tool"} == {"listEntities", "all"}
    assert folder.run.git_sha
    preview = (run / "docs-preview" / "performance.mdx").read_text()
    assert "TBD" not in preview
    assert "<Callout>Measured every week.</Callout>" in preview
    assert list_changes(monorepo) == ""


@pytest.mark.slow
def test_each_environment_of_a_monorepo_has_its_own_address_and_user(
    script: Run, monorepo: Path, serve: Serve
) -> None:
    target = serve(tool_quota=False, account_limits=False)
    variables = f"LOADTEST_BASE_URL={target.api_url}\nLOADTEST_EMAIL=shop@example.com\n"
    (monorepo / ".env.prod").write_text(variables)
    done = script(monorepo / "apps", "loadtest", "--env", "prod")
    assert done.returncode == 0, done.stderr
    assert (monorepo / ".loadtest" / "prod" / "bearer.json").exists()
    assert target.open_sessions == 0
    assert list_changes(monorepo) == "?? .env.prod\n"


def test_the_tasks_can_be_a_part_of_the_user_s_collection(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        """from invoke import Collection, task
from loadtest.tasks import namespace as loadtest

@task
def greet(context, name="nobody"):
    print(f"hello {name}")

@task(pre=[loadtest["history"]])
def nightly(context):
    print("good night")

namespace = Collection(greet, nightly, loadtest=loadtest)
"""
    )
    inv = ("-m", "invoke")
    listed = run(tmp_path, *inv, "--list").stdout
    assert "  greet\n" in listed
    assert "  loadtest.docs-update  " in listed
    assert run(tmp_path, *inv, "greet", "--name", "you").stdout == "hello you\n"
    mixed = run(tmp_path, *inv, "greet", "loadtest.history", "greet", "--name", "us")
    assert mixed.returncode == 0, mixed.stderr
    assert mixed.stdout.startswith("hello nobody\nhistory")
    assert "start with `inv loadtest.loadtest --env local`" in mixed.stdout
    assert mixed.stdout.endswith("hello us\n")
    nightly = run(tmp_path, *inv, "nightly")
    assert nightly.returncode == 0, nightly.stderr
    assert nightly.stdout.endswith("good night\n")


def test_the_tasks_can_be_the_user_s_collection(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("from loadtest.tasks import namespace\n")
    done = run(tmp_path, "-m", "invoke", "history")
    assert done.returncode == 0, done.stderr
    assert "start with `inv loadtest --env local`" in done.stdout


def test_a_task_of_the_user_that_fails_is_no_bug_of_ours(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        """from invoke import Collection, task
from loadtest.tasks import namespace as loadtest

@task(pre=[loadtest["history"]])
def fail(context):
    context.run("exit 7")

namespace = Collection(fail, loadtest=loadtest)
"""
    )
    done = run(tmp_path, "-m", "invoke", "fail")
    assert done.returncode == 7
    assert "bug" not in done.stderr


def test_a_noxfile_gets_the_sessions_by_one_import(run: Run, tmp_path: Path) -> None:
    (tmp_path / "noxfile.py").write_text(
        'import nox\n\nimport loadtest.nox\n\nnox.options.sessions = ["loadtest"]\n'
    )
    listed = run(tmp_path, "-m", "nox", "--list").stdout
    assert "* loadtest -> Run the whole chain" in listed
    assert "- docs_update -> Turn the TBD cells" in listed


def test_an_extra_that_is_not_installed_is_named(run: Run, tmp_path: Path) -> None:
    code = f"import sys; sys.modules['markdown_it'] = None; {SCRIPT}"
    shutil.copytree(MONOREPO, tmp_path, dirs_exist_ok=True)
    done = run(tmp_path, "-c", code, "docs-update", "--check")
    assert done.returncode == 74, done.stderr
    assert "mcp-loadtest[all]" in done.stderr
    assert "markdown_it" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_configuration_another_environment_is_one_clear_line(
    script: Run, tmp_path: Path
) -> None:
    done = script(tmp_path, "mint", "--env", "prod")
    assert done.returncode == 10
    assert done.stderr == (
        "loadtest: unknown environment 'prod': without a loadtest.toml here or in a folder above, "
        "there is only local (--env) (exit-10)\n"
    )


def test_the_checkout_itself_goes_on_as_before() -> None:
    lines = (ROOT / "tasks.py").read_text().splitlines()
    assert "from loadtest.tasks import namespace" in lines
