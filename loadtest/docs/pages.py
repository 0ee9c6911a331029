"""Read, check, rewrite or preview the performance pages on disk."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.common.command_name import spell
from loadtest.common.files import write_text
from loadtest.config.settings import Settings
from loadtest.docs.mdx import Placeholder
from loadtest.docs.placeholders import Rewrite, rewrite_page, split_lines
from loadtest.errors import DocsError

MDX_SUFFIXES = frozenset({".mdx"})
PREVIEW_DIR = "docs-preview"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class PageUpdate:
    """The result for one page; `written` is the page, its preview, or None if not written."""

    path: Path
    cells: tuple[Placeholder, ...]
    diff: str
    written: Path | None = None

    def describe(self) -> str:
        """Return one line about what was found and what was done."""
        page = _display(self.path)
        if not self.cells:
            return f"{page}: no TBD cells"
        found = f"{len(self.cells)} TBD cell{'s' if len(self.cells) > 1 else ''}"
        if self.written is None:
            return f"{page}: {found} left"
        if self.written == self.path:
            return f"{page}: {found} linked to the results history"
        return f"{page}: {found} not changed; preview with links: {_display(self.written)}"


def build_link(issue: str, repository: str | None, server_url: str | None = None) -> str:
    """Return the Markdown link to the tracking issue; a DocsError names a wrong variable."""
    number = issue.strip().removeprefix("#")
    if not re.fullmatch(r"[1-9][0-9]*", number):
        raise DocsError("LOADTEST_TRACKING_ISSUE is not an issue number such as 12")
    if not repository:
        raise DocsError("GITHUB_REPOSITORY is not set: the link needs it, as OWNER/REPO")
    if not _REPOSITORY.fullmatch(repository):
        raise DocsError("GITHUB_REPOSITORY is not of the form OWNER/REPO")
    server = (server_url or "https://github.com").rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in {"http", "https"} or not re.fullmatch(r"[\w.:-]+", parts.netloc):
        raise DocsError("GITHUB_SERVER_URL is not an http(s) address such as https://github.com")
    return f"[see results history at #{number}]({server}/{repository}/issues/{number})"


def update_docs(
    settings: Settings, run_dir: Path | None = None, *, check: bool = False
) -> tuple[PageUpdate, ...]:
    """Update the configured pages, or preview them in `run_dir` without a tracking issue."""
    if settings.tracking_issue is not None:
        server = settings.variables.get("GITHUB_SERVER_URL")
        link = build_link(settings.tracking_issue, settings.repository, server)
        return update_pages(settings.docs_pages, link, check=check)
    if run_dir is None and not check:
        raise DocsError(
            "LOADTEST_TRACKING_ISSUE is not set, and there is no run whose folder could hold a "
            f"preview: set it, or run `{spell('k6')}` first"
        )
    link = "[this run's report, not published](../report.md)"
    return update_pages(settings.docs_pages, link, check=check, preview_dir=run_dir)


def update_pages(
    pages: Sequence[Path], link: str, *, check: bool = False, preview_dir: Path | None = None
) -> tuple[PageUpdate, ...]:
    """Rewrite every page in place or in `preview_dir`/docs-preview; with `check`, write nothing.

    All pages are rewritten in memory before the first is written: if one fails, none is changed.
    """
    texts = [_read_page(page) for page in pages]
    rewrites = [_rewrite(page, text, link) for page, text in zip(pages, texts, strict=True)]
    updates = []
    for page, name, text, rewrite in zip(
        pages, _preview_names(pages), texts, rewrites, strict=True
    ):
        written = None
        if rewrite.cells and not check:
            written = page if preview_dir is None else preview_dir / PREVIEW_DIR / name
            _write_page(page, written, rewrite.text)
        diff = render_diff(_display(page), text, rewrite.text)
        updates.append(PageUpdate(page, rewrite.cells, diff, written))
    return tuple(updates)


def check_updates(updates: Iterable[PageUpdate], *, has_issue: bool = True) -> None:
    """Raise DocsError that names every page with placeholders.

    Without a tracking issue there is nothing to link them to, so the message asks for one.
    """
    left = "; ".join(update.describe() for update in updates if update.cells)
    if left:
        first = "" if has_issue else "set LOADTEST_TRACKING_ISSUE and GITHUB_REPOSITORY, then "
        raise DocsError(f"{left}: {first}run `{spell('docs-update')}`")


def render_diff(name: str, before: str, after: str) -> str:
    """Return the unified diff of two texts, empty if they are equal."""
    old, new = (list(split_lines(text)) for text in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{name.lstrip('/')}", f"b/{name.lstrip('/')}")
    return "".join(
        line if line.endswith(("\n", "\r")) else f"{line}\n\\ No newline at end of file\n"
        for line in lines
    )


def _preview_names(pages: Sequence[Path]) -> list[str]:
    """Return flat file names; the folders are part of the name, so that each is unique."""
    if not pages:
        return []
    common = os.path.commonpath([page.parent for page in pages])
    return ["-".join(page.relative_to(common).parts) for page in pages]


def _display(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _read_page(page: Path) -> str:
    try:
        return page.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise DocsError(f"{page} does not exist: correct docs_pages in loadtest.toml") from None
    except OSError as failure:
        raise DocsError(f"{page} cannot be read: {failure.strerror}") from None
    except UnicodeDecodeError as failure:
        raise DocsError(f"{page} is not UTF-8 (byte {failure.start}): convert it") from None


def _rewrite(page: Path, text: str, link: str) -> Rewrite:
    try:
        return rewrite_page(text, link, mdx=page.suffix.lower() in MDX_SUFFIXES)
    except DocsError as failure:
        raise DocsError(f"{page}, {failure}") from None


def _write_page(page: Path, destination: Path, text: str) -> None:
    try:
        if destination == page:
            # An atomic write would also replace a write-protected file or a symbolic link.
            if not os.access(page, os.W_OK):
                raise DocsError(f"{page} is write-protected")
            destination = page.resolve()
            mode = destination.stat().st_mode
            write_text(destination, text)
            destination.chmod(mode)
        else:
            write_text(destination, text)
    except OSError as failure:
        raise DocsError(f"{destination} cannot be written: {failure.strerror}") from None
