from pathlib import Path

import pytest

from loadtest.errors import ResultsError
from loadtest.files import ensure_private_dir, read_json, write_json, write_text


def test_a_private_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    folder = ensure_private_dir(tmp_path / "state")
    write_text(folder / "secret", "x", private=True)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
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


def test_a_missing_file_is_an_error_and_no_empty_default(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="does not exist"):
        read_json(tmp_path / "a.json", 1, ResultsError)
