"""Pages on disk: in place, as a preview, checked, and refused with one line."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from loadtest.config.loading import load_settings
from loadtest.config.settings import Settings
from loadtest.docs.pages import build_link, check_updates, render_diff, update_docs, update_pages
from loadtest.errors import DocsError
from tests.support.checkout import ROOT

LINK = "[see results history at #7](https://github.com/o/r/issues/7)"
TABLE = b"| tool | p50 |\r\n|---|---|\r\n| executeSQL | TBD |"
LINKED = TABLE.replace(b"TBD", LINK.encode())


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "docs" / "speed.mdx"
    path.parent.mkdir()
    path.write_bytes(TABLE)
    return path


def settings_for(root: Path, variables: Mapping[str, str]) -> Settings:
    (root / "loadtest.toml").write_text(
        (ROOT / "loadtest.toml").read_text().replace("docs/mcp-performance.mdx", "docs/speed.mdx")
    )
    return load_settings(root, process_env=variables)


def test_a_second_update_changes_nothing(page: Path) -> None:
    (first,) = update_pages([page], LINK)
    assert page.read_bytes() == LINKED
    assert first.describe() == f"{page}: 1 TBD cell linked to the results history"
    (second,) = update_pages([page], LINK)
    assert page.read_bytes() == LINKED
    assert second.describe() == f"{page}: no TBD cells"
    check_updates([second])


def test_check_shows_the_diff_fails_and_writes_nothing(page: Path) -> None:
    updates = update_pages([page], LINK, check=True)
    assert page.read_bytes() == TABLE
    assert f"+| executeSQL | {LINK} |\n\\ No newline at end of file\n" in updates[0].diff
    with pytest.raises(DocsError, match=r"speed\.mdx: 1 TBD cell left: run `inv docs-update`"):
        check_updates(updates)


def test_permissions_and_symbolic_links_stay(page: Path) -> None:
    page.chmod(0o755)
    link = page.with_name("link.mdx")
    link.symlink_to(page)
    update_pages([link], LINK)
    assert link.is_symlink()
    assert page.read_bytes() == LINKED
    assert page.stat().st_mode & 0o777 == 0o755


def test_without_a_tracking_issue_the_preview_is_in_the_run_folder(page: Path) -> None:
    settings = settings_for(page.parents[1], {})
    run_dir = page.parents[1] / "run"
    (update,) = update_docs(settings, run_dir)
    preview = run_dir / "docs-preview" / "speed.mdx"
    assert page.read_bytes() == TABLE
    assert update.written == preview
    assert b"| [this run's report, not published](../report.md) |" in preview.read_bytes()
    assert "not changed; preview with links:" in update.describe()


def test_with_a_tracking_issue_the_page_itself_is_updated(page: Path) -> None:
    variables = {"LOADTEST_TRACKING_ISSUE": "7", "GITHUB_REPOSITORY": "o/r"}
    update_docs(settings_for(page.parents[1], variables), page.parents[1] / "run")
    assert page.read_bytes() == LINKED
    assert not (page.parents[1] / "run").exists()


def test_without_issue_and_run_the_message_says_what_to_set(page: Path) -> None:
    with pytest.raises(DocsError, match="LOADTEST_TRACKING_ISSUE is not set"):
        update_docs(settings_for(page.parents[1], {}))


def test_previews_of_pages_with_the_same_name_differ(tmp_path: Path) -> None:
    pages = [tmp_path / "a" / "speed.mdx", tmp_path / "b" / "speed.mdx"]
    for path in pages:
        path.parent.mkdir()
        path.write_bytes(TABLE)
    update_pages(pages, LINK, preview_dir=tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / "docs-preview").iterdir())
    assert names == ["a-speed.mdx", "b-speed.mdx"]


def test_a_fault_in_one_page_changes_no_page(page: Path) -> None:
    missing = page.with_name("missing.mdx")
    with pytest.raises(DocsError, match=r"missing\.mdx does not exist: correct docs_pages"):
        update_pages([page, missing], LINK)
    assert page.read_bytes() == TABLE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe| TBD |", r"speed\.mdx is not UTF-8 \(byte 0\): convert it"),
        (b"text\n{/* open", r"speed\.mdx, line 2: this tag or brace is never closed"),
    ],
)
def test_an_unreadable_page_is_named(page: Path, content: bytes, message: str) -> None:
    page.write_bytes(content)
    with pytest.raises(DocsError, match=message):
        update_pages([page], LINK)


def test_a_directory_is_not_a_page(page: Path) -> None:
    with pytest.raises(DocsError, match="cannot be read: Is a directory"):
        update_pages([page.parent], LINK)


def test_an_unwritable_place_is_named(page: Path) -> None:
    with pytest.raises(DocsError, match=r"docs-preview/speed\.mdx cannot be written"):
        update_pages([page], LINK, preview_dir=page)


@pytest.mark.parametrize(
    ("issue", "repository", "server", "expected"),
    [
        ("7", "o/r", None, LINK),
        (" #7 ", "o/r", "https://github.com/", LINK),
        ("7", "o/r", "https://ghe.example:8443", LINK.replace("github.com", "ghe.example:8443")),
    ],
)
def test_the_link_names_issue_repository_and_server(
    issue: str, repository: str, server: str | None, expected: str
) -> None:
    assert build_link(issue, repository, server) == expected


@pytest.mark.parametrize(
    ("issue", "repository", "server", "named"),
    [
        ("seven", "o/r", None, "LOADTEST_TRACKING_ISSUE"),
        ("0", "o/r", None, "LOADTEST_TRACKING_ISSUE"),
        ("7", None, None, "GITHUB_REPOSITORY"),
        ("7", "o/r/x", None, "GITHUB_REPOSITORY"),
        ("7", "o/r)|", None, "GITHUB_REPOSITORY"),
        ("7", "o/r", "github.com", "GITHUB_SERVER_URL"),
        ("7", "o/r", "https://a|b", "GITHUB_SERVER_URL"),
    ],
)
def test_a_link_that_cannot_be_made_names_the_variable(
    issue: str, repository: str | None, server: str | None, named: str
) -> None:
    with pytest.raises(DocsError, match=f"^{named} is not"):
        build_link(issue, repository, server)


def test_equal_texts_have_no_diff() -> None:
    assert render_diff("a.mdx", "x\r\n", "x\r\n") == ""


def test_the_page_of_this_project_has_no_figure_yet_and_no_cell_is_missed() -> None:
    page = ROOT / "docs" / "mcp-performance.mdx"
    (update,) = update_pages([page], LINK, check=True)
    assert len(update.cells) == page.read_text(encoding="utf-8").count("TBD")
