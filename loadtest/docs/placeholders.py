"""Find the `TBD` cells of one page and replace them by links."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markdown_it.token import Token

from loadtest.docs.mdx import Placeholder, build_parser

_NEWLINE = re.compile(r"\r\n?|\n")
_UNIT = r"s|sec|µs|us|ns|min|rps|qps|(?:calls|req|requests)/(?:s|sec|min)|calls|sessions"
_PLACEHOLDER = re.compile(rf"tbd(?:\s*(?:ms|%|/(?:s|sec|min))|\s+(?:{_UNIT}))?", re.IGNORECASE)
_EMPHASIS = frozenset({"em_open", "em_close", "strong_open", "strong_close"})


@dataclass(frozen=True)
class Rewrite:
    """A page with its placeholders linked, and the cells that were placeholders."""

    text: str
    cells: tuple[Placeholder, ...]


def rewrite_page(text: str, link: str, *, mdx: bool = True) -> Rewrite:
    """Replace each placeholder in the body of a table by `link`; change no other byte.

    A placeholder is a cell with the text `TBD`, plain, emphasised or as code, and an optional unit
    after it. An expression such as {`TBD`} is the author's code and stays. Raises DocsError with
    the line of an MDX construct that is never closed: what follows could be code or prose.
    """
    if "|" in link or "\n" in link:
        raise ValueError("a link in a table cell cannot contain a pipe or a line break")
    origin = _Origin(text)
    cells: list[Placeholder] = []
    pieces: list[str] = []
    done = 0
    for start, end, cell in _find_placeholders(origin.source, mdx=mdx):
        first, last = origin(start), origin(end)
        pieces += [text[done:first], link]
        cells.append(cell)
        done = last
    return Rewrite("".join([*pieces, text[done:]]), tuple(cells))


def split_lines(text: str) -> Iterator[str]:
    """Yield lines with their line ends, which are only CR, LF and CRLF, as in Markdown."""
    start = 0
    for match in _NEWLINE.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


class _Origin:
    """Map offsets in the parser's text (LF, no byte order mark) to offsets in the page."""

    def __init__(self, text: str) -> None:
        bom = len(text) - len(text.removeprefix("\ufeff"))
        self.parsed, self.page, parts = [0], [bom], []
        for line in split_lines(text[bom:]):
            body = line.rstrip("\r\n")
            parts.append(body + "\n" * (body != line))
            self.parsed.append(self.parsed[-1] + len(parts[-1]))
            self.page.append(self.page[-1] + len(line))
        self.source = "".join(parts).replace("\0", "\ufffd")

    def __call__(self, offset: int) -> int:
        line = bisect_right(self.parsed, offset) - 1
        return self.page[line] + offset - self.parsed[line]


def _find_placeholders(source: str, *, mdx: bool) -> Iterator[tuple[int, int, Placeholder]]:
    """Yield the start, end and cell of every placeholder, in the order of the page."""
    for token in build_parser(mdx).parse(source):
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
