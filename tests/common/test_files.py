import subprocess
from pathlib import Path

import pytest

from loadtest.common.files import ensure_private_dir, read_json, write_json, write_text
from loadtest.errors import MintError, ResultsError
from loadtest.state.bearers import read_bearers
from loadtest.state.clients import ClientStore
from tests.support.checkout import ROOT


def test_a_file_with_secrets_is_refused_if_others_can_read_it(tmp_path: Path) -> None:
    for name, read in (("bearer.json", read_bearers), ("clients.json", read_clients)):
        path = tmp_path / name
        write_json(path, 1, {}, private=True)
        path.chmod(0o640)
        with pytest.raises(MintError, match=f"{name} can be read by others: delete it"):
            read(path)


def test_git_ignores_files_with_secrets() -> None:
    names = (".env", ".loadtest/prod/bearer.json", ".loadtest/prod/credentials.env")
    command = ["git", "check-ignore", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == list(names)


def read_clients(path: Path) -> object:
    return ClientStore(path.parent).read()


def test_a_private_file_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    folder = ensure_private_dir(tmp_path / "state")
    write_text(folder / "secret", "x", private=True)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_reads_back_with_its_version(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 3, {"name": "Zoë"})
    assert read_json(tmp_path / "a.json", 3, ResultsError) == {"version": 3, "name": "Zoë"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ('{"version": 1', "cannot be read"),
        ("[]", "it has no version"),
        ('{"name": 1}', "it has no version"),
        ('{"version": 2}', "newer than 1"),
        ('{"version": 0}', "older than 1"),
    ],
)
def test_a_foreign_file_is_an_error_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=words) as caught:
        read_json(path, 1, ResultsError)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_not_an_empty_default(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="does not exist"):
        read_json(tmp_path / "a.json", 1, ResultsError)
