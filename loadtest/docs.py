"""Performance pages: the `TBD` cells of their tables become links to the results history."""

import difflib
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock, lheading, paragraph
from markdown_it.rules_block.html_block import HTML_SEQUENCES
from markdown_it.token import Token

from loadtest.common.files import write_text
from loadtest.config.settings import Settings
from loadtest.errors import DocsError

MDX_SUFFIXES = frozenset({".mdx"})
PREVIEW_DIR = "docs-preview"

_Rule = Callable[[StateBlock, int, int, bool], bool]

_NEWLINE = re.compile(r"\r\n?|\n")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_UNIT = r"s|sec|µs|us|ns|min|rps|qps|(?:calls|req|requests)/(?:s|sec|min)|calls|sessions"
_PLACEHOLDER = re.compile(rf"tbd(?:\s*(?:ms|%|/(?:s|sec|min))|\s+(?:{_UNIT}))?", re.IGNORECASE)
_EMPHASIS = frozenset({"em_open", "em_close", "strong_open", "strong_close"})
_PIPE = re.compile(r"\\[\\|]|\|")
_DELIMITERS = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_LIST_ITEM = re.compile(r"-[ \t]")
_LONE_TAG = HTML_SEQUENCES[-1][0]


@dataclass(frozen=True)
class Cell:
    """One placeholder: its line (from 1), its row's first cell, its column's header, its text."""

    line: int
    row: str
    column: str
    was: str


@dataclass(frozen=True)
class Rewrite:
    """A page with its placeholders linked, and which cells these were."""

    text: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class PageUpdate:
    """What became of one page; `written` is the page, its preview, or None when nothing was."""

    path: Path
    cells: tuple[Cell, ...]
    diff: str
    written: Path | None = None

    def describe(self) -> str:
        """Return one line: what was found and what was done."""
        page = _display(self.path)
        if not self.cells:
            return f"{page}: no TBD cells"
        found = f"{len(self.cells)} TBD cell{'s' if len(self.cells) > 1 else ''}"
        if self.written is None:
            return f"{page}: {found} left"
        if self.written == self.path:
            return f"{page}: {found} linked to the results history"
        return f"{page}: {found} left alone; preview with links: {_display(self.written)}"


def build_link(issue: str, repository: str | None, server_url: str | None = None) -> str:
    """Return the Markdown link to the tracking issue; raise DocsError naming a wrong variable."""
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


def rewrite_page(text: str, link: str, *, mdx: bool = True) -> Rewrite:
    """Replace each placeholder in the body of a table by `link`; leave every other byte alone.

    A placeholder is a cell that reads `TBD`, plain, emphasised or as code, perhaps with a unit
    behind it. An expression such as {`TBD`} is the author's code and stays. Raises DocsError with
    the line where an MDX construct is never closed: what follows could be code or prose.
    """
    if "|" in link or "\n" in link:
        raise ValueError("a link inside a table cell can hold neither a pipe nor a line break")
    origin = _Origin(text)
    cells: list[Cell] = []
    pieces: list[str] = []
    done = 0
    for start, end, cell in _find_placeholders(origin.source, mdx=mdx):
        first, last = origin(start), origin(end)
        pieces += [text[done:first], link]
        cells.append(cell)
        done = last
    return Rewrite("".join([*pieces, text[done:]]), tuple(cells))


def update_docs(
    settings: Settings, run_dir: Path | None = None, *, check: bool = False
) -> tuple[PageUpdate, ...]:
    """Update the configured pages, or preview them in `run_dir` without a tracking issue."""
    if not settings.docs_pages:
        raise DocsError("docs_pages in loadtest.toml names no page")
    if settings.tracking_issue is not None:
        server = settings.variables.get("GITHUB_SERVER_URL")
        link = build_link(settings.tracking_issue, settings.repository, server)
        return update_pages(settings.docs_pages, link, check=check)
    if run_dir is None and not check:
        raise DocsError(
            "LOADTEST_TRACKING_ISSUE is not set and there is no run to preview the pages in: "
            "set it, or run `inv k6` first"
        )
    link = "[this run's report, not published](../report.md)"
    return update_pages(settings.docs_pages, link, check=check, preview_dir=run_dir)


def update_pages(
    pages: Sequence[Path], link: str, *, check: bool = False, preview_dir: Path | None = None
) -> tuple[PageUpdate, ...]:
    """Rewrite every page in place, under `preview_dir`/docs-preview, or (`check`) nowhere.

    All pages are read and rewritten before the first is written: a fault in one leaves all alone.
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
    """Raise DocsError naming every page that still has placeholders.

    Without a tracking issue they can be previewed, and linked to nothing.
    """
    left = "; ".join(update.describe() for update in updates if update.cells)
    if left:
        first = "" if has_issue else "set LOADTEST_TRACKING_ISSUE and GITHUB_REPOSITORY, then "
        raise DocsError(f"{left}: {first}run `inv docs-update`")


def render_diff(name: str, before: str, after: str) -> str:
    """Return the unified diff of two texts, empty when they are equal."""
    old, new = (list(_split_lines(text)) for text in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{name.lstrip('/')}", f"b/{name.lstrip('/')}")
    return "".join(
        line if line.endswith(("\n", "\r")) else f"{line}\n\\ No newline at end of file\n"
        for line in lines
    )


def _preview_names(pages: Sequence[Path]) -> list[str]:
    """Return flat file names; pages of equal name in different folders keep theirs apart."""
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
            # A rename would also replace a write-protected file or a symbolic link.
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


def _split_lines(text: str) -> Iterator[str]:
    """Yield lines with their ends; only CR, LF and CRLF end a line, as in Markdown."""
    start = 0
    for match in _NEWLINE.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


class _Origin:
    """Maps offsets in the parser's text (LF, no byte order mark) to the page's own."""

    def __init__(self, text: str) -> None:
        bom = len(text) - len(text.removeprefix("\ufeff"))
        self.parsed, self.page, parts = [0], [bom], []
        for line in _split_lines(text[bom:]):
            body = line.rstrip("\r\n")
            parts.append(body + "\n" * (body != line))
            self.parsed.append(self.parsed[-1] + len(parts[-1]))
            self.page.append(self.page[-1] + len(line))
        self.source = "".join(parts).replace("\0", "\ufffd")

    def __call__(self, offset: int) -> int:
        line = bisect_right(self.parsed, offset) - 1
        return self.page[line] + offset - self.parsed[line]


def _find_placeholders(source: str, *, mdx: bool) -> Iterator[tuple[int, int, Cell]]:
    """Yield start, end and description of every placeholder, in the order of the page."""
    for token in _build_parser(mdx).parse(source):
        if "cell" in token.meta and _is_placeholder(token.children or []):
            yield *token.meta["span"], token.meta["cell"]


def _is_placeholder(children: Sequence[Token]) -> bool:
    text = ""
    for child in children:
        if child.type in {"text", "code_inline"}:
            text += child.content
        elif child.type not in _EMPHASIS:
            return False
    return _PLACEHOLDER.fullmatch(text.strip()) is not None


@cache
def _build_parser(mdx: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": not mdx, "maxNesting": 100})
    block = parser.block.ruler
    block.before("code", "frontmatter", _frontmatter)
    block.after("heading", "gfm_table", _table, {"alt": ["paragraph", "reference"]})
    if mdx:
        # MDX has no indented code and no <autolinks>; braces and tags mean JavaScript and JSX.
        parser.disable(["code", "html_block", "html_inline", "autolink"])
        interrupts: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote"]}
        block.at("paragraph", _let_indented_interrupt(paragraph))
        block.at("lheading", _let_indented_interrupt(lheading))
        block.before("code", "mdx_esm", _mdx_esm, {"alt": ["table"]})
        block.before("code", "html_comment", _html_comment, interrupts)
        block.before("code", "mdx_flow", _mdx_flow, interrupts)
    return parser


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Parse a table as GFM has it; each cell of its body becomes a token that knows its place.

    The package's own rule keeps no places, and wants a pipe in the header where GFM wants none.
    """
    if start + 1 == end or state.sCount[start + 1] < state.blkIndent:
        return False
    if state.is_code_block(start) or state.is_code_block(start + 1):
        return False
    delimiters = _line(state, start + 1)
    if not _DELIMITERS.fullmatch(delimiters) or _LIST_ITEM.match(delimiters):
        return False
    headers = _split_row(state, start)
    if not {"|", ":"} & set(delimiters) or _line(state, start).strip(" \t") == "|":
        return False  # dashes alone underline a heading
    if len(headers) != len(_split_row(state, start + 1)):
        return False
    if silent:
        return True
    line = start + 2
    while line < end and not _ends_table(state, line, end):
        cells = _split_row(state, line)
        # Cells beyond the header's are seen by no reader.
        for header, cell in zip(headers, cells, strict=False):
            token = state.push("inline", "", 0)
            token.map, token.children = [line, line + 1], []
            token.content = was = state.src[slice(*cell)]
            row, column = (_unescape_pipes(state, place) for place in (cells[0], header))
            token.meta = {"span": cell, "cell": Cell(line + 1, row, column, was)}
        line += 1
    state.line = line
    return True


def _ends_table(state: StateBlock, line: int, end: int) -> bool:
    if state.isEmpty(line) or state.sCount[line] < state.blkIndent or state.is_code_block(line):
        return True
    if state.md.options["html"] and _LONE_TAG.match(_line(state, line)):
        return True
    ruler = state.md.block.ruler
    rules = [*ruler.getRules("blockquote"), *ruler.getRules("table")]
    return any(rule(state, line, end, True) for rule in rules)


def _split_row(state: StateBlock, line: int) -> list[tuple[int, int]]:
    """Return where each cell's trimmed text lies, split at the pipes that no backslash escapes."""
    start, end = _trim(state.src, state.bMarks[line] + state.tShift[line], state.eMarks[line])
    pipes = [at.start() for at in _PIPE.finditer(state.src, start, end) if at[0] == "|"]
    if pipes and pipes[0] == start:
        start = pipes.pop(0) + 1
    if pipes and pipes[-1] == end - 1:
        end = pipes.pop()
    edges = [start - 1, *pipes, end]
    return [_trim(state.src, left + 1, right) for left, right in pairwise(edges)]


def _trim(source: str, start: int, end: int) -> tuple[int, int]:
    text = source[start:end]
    kept = text.strip(" \t")
    start += text.find(kept)
    return start, start + len(kept)


def _unescape_pipes(state: StateBlock, place: tuple[int, int]) -> str:
    return state.src[slice(*place)].replace("\\|", "|")


def _frontmatter(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    fence = _line(state, start).rstrip(" \t")
    if start != 0 or state.level != 0 or fence not in {"---", "+++"} or state.sCount[0]:
        return False
    for line in range(1, end):
        if _line(state, line).rstrip(" \t") == fence and not state.sCount[line]:
            return _consume(state, start, line, silent)
    return False


def _html_comment(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Skip `<!-- … -->`: not MDX proper, but several site generators accept it there."""
    if not _line(state, start).startswith("<!--"):
        return False
    for line in range(start, end):
        if "-->" in _line(state, line):
            return _consume(state, start, line, silent)
    return _consume(state, start, end - 1, silent)


def _mdx_esm(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Skip `import` and `export`: to the first blank line outside of every bracket."""
    if state.level or state.sCount[start] or state.tShift[start]:
        return False
    if not _line(state, start).startswith(("import ", "export ")):
        return False
    for line in range(start + 1, end + 1):
        if line == end or state.isEmpty(line):
            text = _join_lines(state, start, line)
            if _is_balanced(text):
                return _consume(state, start, line - 1, silent)
    raise DocsError(f"line {start + 1}: this import or export never ends; MDX cannot read the page")


def _mdx_flow(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Skip tags and expressions that have their lines to themselves; Markdown between them stays.

    A line where text follows is a paragraph, unless a tag or expression spanned lines before it.
    """
    if _line(state, start)[:1] not in {"<", "{"}:
        return False
    for strict in (True, False):
        for window in (1, 16, 256, end - start):
            text = _join_lines(state, start, min(start + window, end))
            try:
                stop, alone = _skip_flow(text, strict=strict)
            except _UnclosedError:
                continue
            lines = text.count("\n", 0, stop)
            if not alone and not lines:
                return False
            return _consume(state, start, start + lines, silent)
    raise DocsError(
        f"line {start + 1}: this tag or brace is never closed; MDX cannot read the page"
    )


def _let_indented_interrupt(rule: _Rule) -> _Rule:
    """Let deeply indented lines end a paragraph: without indented code nothing forbids it."""

    def parse(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        last = start + 1
        while last < end and not state.isEmpty(last):
            last += 1
        indents = state.sCount[start:last]
        state.sCount[start:last] = [min(indent, state.blkIndent + 3) for indent in indents]
        try:
            return rule(state, start, end, silent)
        finally:
            state.sCount[start:last] = indents

    return parse


def _consume(state: StateBlock, start: int, last: int, silent: bool) -> bool:
    if not silent:
        state.line = last + 1
        token = state.push("opaque", "", 0)
        token.map = [start, last + 1]
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _join_lines(state: StateBlock, start: int, end: int) -> str:
    return "\n".join(_line(state, line) for line in range(start, end))


class _UnclosedError(Exception):
    """The text ends inside of a tag, an expression or a literal."""


_TAG_NAME = re.compile(r"<(/?)(?:((?:[^\W\d]|\$)[\w$-]*(?:[.:][\w$-]+)*)|(?=\s*>))")
_ATTRIBUTE = re.compile(r"(?:[^\W\d]|\$)[\w$:.-]*")
_EQUALS = re.compile(r"\s*=\s*")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", re.DOTALL)
_REGEX = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/")
_RAW_ELEMENTS = frozenset({"pre", "script", "style", "textarea"})


def _skip_flow(text: str, *, strict: bool) -> tuple[int, bool]:
    """Return where the leading tags and expressions end, and whether they end their line."""
    stop = 0
    while True:
        at = stop
        while text[at : at + 1] in {" ", "\t"}:
            at += 1
        if at == len(text) or text[at] == "\n":
            return stop, True
        if text[at] == "{":
            stop = _skip_expression(text, at, strict=strict)
        else:
            end = _skip_tag(text, at, strict=strict)
            if end is None:
                return stop, False
            stop = end


def _skip_tag(text: str, at: int, *, strict: bool) -> int | None:
    """Return where the tag at `at` ends, a raw element with all it holds; None if it is none."""
    name = _TAG_NAME.match(text, at)
    if name is None:
        return None
    at = name.end()
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text.startswith("/>", at):
            return at + 2
        elif text[at] == ">":
            return _skip_raw(text, at + 1, name[2]) if not name[1] else at + 1
        elif text[at] == "{":
            at = _skip_expression(text, at, strict=strict)
        elif text.startswith(("/*", "//"), at):
            at = _skip_literal(text, at) or at
        elif attribute := _ATTRIBUTE.match(text, at):
            end = _skip_value(text, attribute.end(), strict=strict)
            if end is None:
                return None
            at = end
        else:
            return None
    raise _UnclosedError


def _skip_value(text: str, at: int, *, strict: bool) -> int | None:
    """Return where an attribute's value ends, `at` without one, None for what JSX has not."""
    equals = _EQUALS.match(text, at)
    if equals is None:
        return at
    at = equals.end()
    if text.startswith("{", at):
        return _skip_expression(text, at, strict=strict)
    quoted = _QUOTED.match(text, at)
    if quoted is None and (at == len(text) or text[at] in "\"'"):
        raise _UnclosedError
    return quoted.end() if quoted else None


def _skip_raw(text: str, at: int, name: str | None) -> int:
    if name not in _RAW_ELEMENTS:
        return at
    close = re.compile(rf"</{name}\s*>").search(text, at)
    if close is None:
        raise _UnclosedError
    return close.end()


def _skip_expression(text: str, at: int, *, strict: bool = True) -> int:
    """Return where the expression whose brace opens at `at` ends.

    Not `strict` counts braces alone: an apostrophe in JSX text is no string, and telling them
    apart for good takes a JavaScript parser.
    """
    depth = 0
    while at < len(text):
        end = _skip_literal(text, at) if strict else None
        if end is not None:
            at = end
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        at += 1
        if depth == 0:
            return at
    raise _UnclosedError


def _is_balanced(text: str) -> bool:
    depth, at = 0, 0
    try:
        while at < len(text):
            end = _skip_literal(text, at)
            if end is None:
                depth += (text[at] in "([{") - (text[at] in ")]}")
                at += 1
            else:
                at = end
    except _UnclosedError:
        return False
    return depth <= 0


def _skip_literal(text: str, at: int) -> int | None:
    """Return where the JavaScript comment, string, template or regex at `at` ends, if one is."""
    if text[at] in "\"'":
        string = _STRING.match(text, at)
        return string.end() if string else None
    if text[at] == "`":
        return _skip_template(text, at)
    if text.startswith("/*", at):
        end = text.find("*/", at + 2)
        if end < 0:
            raise _UnclosedError
        return end + 2
    if text.startswith("//", at):
        end = text.find("\n", at)
        return len(text) if end < 0 else end
    if text[at] == "/" and text[:at].rstrip()[-1:] in tuple("(,=:[!&|?{;+-*%~^"):
        regex = _REGEX.match(text, at)
        return regex.end() if regex else None
    return None


def _skip_template(text: str, at: int) -> int:
    at += 1
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == "`":
            return at + 1
        elif text.startswith("${", at):
            at = _skip_expression(text, at + 1)
        else:
            at += 1
    raise _UnclosedError
