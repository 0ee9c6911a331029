"""Pages before and after an update, parsed by MDX and GFM (npm: @mdx-js/mdx, remark-gfm)."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from loadtest.docs.placeholders import rewrite_page

HERE = Path(__file__).parent
URL = "https://github.com/o/r/issues/7"
WORDS = "see results history at #7"
LINK = {
    "type": "link",
    "title": None,
    "url": URL,
    "children": [{"type": "text", "value": WORDS}],
}
OPEN = re.compile(r"tbd( ?(ms|%|calls/s))?", re.IGNORECASE)
STOP_SECONDS = 10.0

Tree = dict[str, Any]
Read = Callable[[str, str], Tree]

TABLE = "| a | b |\n|:--|--:|\n| x | TBD |\n"


def indent(by: str, text: str = TABLE) -> str:
    return "".join(by + line for line in text.splitlines(keepends=True))


PAGES = {
    "every dress": "|a|b|c|d|e|f|\n|-|-|-|-|-|-|\n|TBD|_tbd_|**TBD**|`TBD`|TBD ms|`TBD ms`|\n"
    "| *TBD* | __TBD__ | ***Tbd*** | **`TBD`** | **TBD** ms | TBD calls/s |\n",
    "escapes": "| a \\| b | c |\n|---|---|\n| `x \\| y` | TBD |\n| x\\\\| TBD |\n"
    "| TBD \\| | \\TBD |\n",
    "ragged": "a | b\n-|-\nTBD\n||TBD\nTBD|TBD|TBD\n\nTBD | TBD\n",
    "no pipe in the header": "a\n:-:\nTBD\n\n# a\n|-|\nTBD\n",
    "byte order mark": f"\ufeff---\ntitle: TBD\n---\n{TABLE}",
    "line ends": TABLE.replace("\n", "\r\n").rstrip(),
    "astral": "| 😀 | b |\n|---|---|\n| 😀\u2028 | TBD |\n",
    "other cells": f"{TABLE}| [TBD](y) | [TBD] |\n| ![TBD](y) | ~~TBD~~ |\n\n[TBD]: z\n",
    "around": f"TBD\n\n{TABLE}TBD\n# TBD | TBD\n> TBD | TBD\n\n- TBD | TBD\n",
    "fences": f"```md\n{TABLE}```\n~~~~\n{TABLE}~~~\n~~~~\n> ```\n{indent('> ')}> ```\n",
    "containers": f"> - x\n>\n{indent('>   ')}\n1. y\n\n{indent('   ')}\n> x\n{TABLE}",
    "tabs": f"- x\n\n{indent(chr(9))}\n>\t{TABLE.replace(chr(10), chr(10) + '>' + chr(9))}\n",
}
MDX_PAGES = {
    "components": f"<Tabs a={{'}}'}} b=\"{{\">\n  <Tab>\n{indent('      ')}  </Tab>\n</Tabs>\n",
    "blank lines": f"<Note>\n\n{TABLE}\n</Note>\n\n<Pre>\n{TABLE}</Pre>\n",
    "a component in a list": f"- <Note>\n\n{indent('  ')}\n  </Note>\n",
    "deep": f"text\n{indent('        ')}\n{indent(chr(9) * 2)}",
    "code in a component": f"<A>\n      ```\n{indent('      ')}      ```\n</A>\n",
    "comments": f"{{/* it's\n\n{TABLE}\n*/}}\n{TABLE}{{/* TBD */}}\n| {{/* TBD */}} | TBD |\n",
    "expressions": f"{{`\n\n{TABLE}`}}\n{{[1].map((y) => <i>don't {{y}}</i>)}}\n{TABLE}",
    "attributes": f"<Raw a={{`\n{TABLE}`}}\n  b='\n{TABLE}' />\n{TABLE}",
    "exports": f"export const a = [\n\n`\n{TABLE}`, /[{{'\"]/]\n\n{TABLE}export const b = 1\n",
    "imports": f"import A from 'a'\nexport {{ A as b }} // it's\n\n{TABLE}",
    "cells": "| {`TBD`} | {'|'} |\n|---|---|\n| <b>TBD</b> | TBD |\n".replace("|'", "\\|'"),
}


@pytest.fixture(scope="module")
def read(node: str) -> Iterator[Read]:
    """Parse pages in one Node process; a page that does not compile has an empty tree."""
    with subprocess.Popen(
        [node, HERE / "mdx.mjs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(form: str, page: str) -> Tree:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps({"format": form, "page": page}) + "\n")
            process.stdin.flush()
            tree: Tree = json.loads(process.stdout.readline())["tree"]
            return tree

        try:
            yield ask
            process.stdin.close()
            assert process.wait(STOP_SECONDS) == 0
        finally:
            process.kill()


def link_cells(tree: Tree) -> Tree:
    """Return the tree with the open cells of its tables' bodies linked."""
    children = [link_cells(child) for child in tree.get("children", [])]
    if tree["type"] == "table":
        head, *body = children
        for row in body:
            for cell in row["children"][: len(head["children"])]:
                if OPEN.fullmatch("".join(map(read_words, cell["children"]))):
                    cell["children"] = [LINK]
    return {**tree, "children": children} if children else tree


def read_words(node: Tree) -> str:
    if node["type"] in {"emphasis", "strong"}:
        return "".join(map(read_words, node["children"]))
    return str(node["value"]) if node["type"] in {"text", "inlineCode"} else "\0"


def update(form: str, page: str) -> str:
    return rewrite_page(page, f"[{WORDS}]({URL})", mdx=form == "mdx").text


@pytest.mark.parametrize(
    ("form", "name"),
    [*(("md", name) for name in PAGES), *(("mdx", name) for name in PAGES | MDX_PAGES)],
)
def test_the_cells_that_a_reader_sees_are_linked_and_nothing_else(
    read: Read, form: str, name: str
) -> None:
    page = (PAGES | MDX_PAGES)[name]
    before, after = read(form, page), read(form, update(form, page))
    assert before
    assert after == link_cells(before)
    assert (after == before) == (name in {"fences", "code in a component"})


def test_the_page_of_this_project_still_compiles(read: Read) -> None:
    page = (HERE.parents[1] / "docs" / "mcp-performance.mdx").read_text(encoding="utf-8")
    assert read("mdx", update("mdx", page)) == link_cells(read("mdx", page))


BLOCKS = st.sampled_from(
    [
        TABLE,
        "a | b\n-|-\nTBD | `TBD`\n",
        "p50\n|:-:|\n**TBD** ms\n",
        "| a \\| b | c |\n| - | - |\n| x\\\\| TBD | TBD |\n",
        "| a |\n|---|---|\n| TBD |\n",
        "| TBD |\n| --- |\n",
        "| _TBD_ | [TBD](x) |\n",
        "TBD\n",
        "text\n",
        "# TBD\n",
        "***\n",
        "- x\n\n",
        "> | a | b |\n> |---|---|\n> | TBD | x |\n\n",
        "\n",
        "\n",
        f"```\n{TABLE}```\n",
        f"{indent('    ')}\n",
        "<b>x</b> | TBD\n",
        "<br/>\n",
        "<Note>\n",
        "</Note>\n",
        f"{{/*\n{TABLE}*/}}\n",
        f"<Raw a={{`\n{TABLE}`}} />\n",
        f"export const a = `\n\n{TABLE}`\n\n",
    ]
)
INDENTS = st.sampled_from(["", "", "", "  ", "    ", "\t", "> ", "- "])


def put_in(by: str, block: str) -> str:
    """Return the block indented, with a blank line after it: parsers differ on lazy lines."""
    text = by + indent(by.replace("-", " "), block)[len(by) :]
    return text + "\n" if by else text


GENERATED = st.lists(st.builds(put_in, INDENTS, BLOCKS), max_size=6).map("".join)


@settings(
    max_examples=300,
    suppress_health_check=[
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)
@given(st.sampled_from(["md", "mdx"]), GENERATED)
def test_generated_pages_are_parsed_alike(read: Read, form: str, page: str) -> None:
    before = read(form, page)
    assume(before)
    assert read(form, update(form, page)) == link_cells(before)
