"""Parse the tables of Markdown and MDX: the start and end of each cell."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock, lheading, paragraph
from markdown_it.rules_block.html_block import HTML_SEQUENCES

from loadtest.errors import DocsError

_Rule = Callable[[StateBlock, int, int, bool], bool]
_PIPE = re.compile(r"\\[\\|]|\|")
_DELIMITERS = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_LIST_ITEM = re.compile(r"-[ \t]")
_LONE_TAG = HTML_SEQUENCES[-1][0]


@dataclass(frozen=True)
class Placeholder:
    """One placeholder: its line (from 1), the row's first cell, the column's header, its text."""

    line: int
    row: str
    column: str
    was: str


@cache
def build_parser(mdx: bool) -> MarkdownIt:
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
    """Parse a table of GitHub Flavored Markdown; each body cell becomes a token with its span.

    The parser's own rule keeps no spans and needs a pipe in the header, unlike the specification.
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
        # Cells beyond the last header are not rendered.
        for header, cell in zip(headers, cells, strict=False):
            token = state.push("inline", "", 0)
            token.map, token.children = [line, line + 1], []
            token.content = was = state.src[slice(*cell)]
            row, column = (_unescape_pipes(state, place) for place in (cells[0], header))
            token.meta = {"span": cell, "cell": Placeholder(line + 1, row, column, was)}
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
    """Return the span of each cell's trimmed text, split at the pipes that are not escaped."""
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
    """Skip `<!-- … -->`, which is not valid MDX but accepted by several site generators."""
    if not _line(state, start).startswith("<!--"):
        return False
    for line in range(start, end):
        if "-->" in _line(state, line):
            return _consume(state, start, line, silent)
    return _consume(state, start, end - 1, silent)


def _mdx_esm(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Skip `import` and `export`, up to the first blank line outside all brackets."""
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
    """Skip tags and expressions that fill whole lines, but not the Markdown between them.

    A line with text after the tag is a paragraph, unless a tag or expression spans several lines.
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
    """Let deeply indented lines end a paragraph, as MDX has no indented code."""

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
    """The text ends inside a tag, an expression or a literal."""


_TAG_NAME = re.compile(r"<(/?)(?:((?:[^\W\d]|\$)[\w$-]*(?:[.:][\w$-]+)*)|(?=\s*>))")
_ATTRIBUTE = re.compile(r"(?:[^\W\d]|\$)[\w$:.-]*")
_EQUALS = re.compile(r"\s*=\s*")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", re.DOTALL)
_REGEX = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/")
_RAW_ELEMENTS = frozenset({"pre", "script", "style", "textarea"})


def _skip_flow(text: str, *, strict: bool) -> tuple[int, bool]:
    """Return the end of the leading tags and expressions, and whether their line ends there."""
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
    """Return the end of the tag at `at`, or of a raw element with its content; None if no tag."""
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
    """Return the end of an attribute's value, `at` if it has none, None if it is not JSX."""
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
    """Return the end of the expression whose brace opens at `at`.

    If not `strict`, only braces are counted: an apostrophe in JSX text does not start a string,
    and only a JavaScript parser could distinguish the two.
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
    """Return the end of the JavaScript comment, string, template or regex at `at`, else None."""
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
