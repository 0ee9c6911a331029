"""Which cells are placeholders, which are not, and that nothing else changes."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadtest.docs.mdx import Placeholder
from loadtest.docs.placeholders import rewrite_page
from loadtest.errors import DocsError

LINK = "[see results history at #7](https://github.com/o/r/issues/7)"


def table(*rows: str, indent: str = "", newline: str = "\n") -> str:
    lines = ["| tool | p50 |", "| :--- | ---: |", *rows]
    return "".join(f"{indent}{line}{newline}" for line in lines)


@pytest.mark.parametrize(
    "cell",
    [
        "TBD",
        "tbd",
        "Tbd",
        "_TBD_",
        "*TBD*",
        "**TBD**",
        "__tbd__",
        "***TBD***",
        "`TBD`",
        "`` TBD ``",
        "**`TBD`**",
        "TBD ms",
        "tbd ms",
        "TBDms",
        "_TBD ms_",
        "**TBD** ms",
        "`TBD` ms",
        "TBD %",
        "`TBD ms`",
        "TBD calls/s",
        "TBD/s",
    ],
)
@pytest.mark.parametrize("mdx", [True, False])
def test_a_placeholder_becomes_the_link(cell: str, mdx: bool) -> None:
    before = table(f"| executeSQL | {cell} |")
    result = rewrite_page(before, LINK, mdx=mdx)
    assert result.text == table(f"| executeSQL | {LINK} |")
    assert result.cells == (Placeholder(3, "executeSQL", "p50", cell),)


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "12 ms",
        "TBDs",
        "not TBD",
        "TBD later",
        "TBD.",
        "TBD_FLAG",
        "`TBD_FLAG`",
        "`set TBD`",
        "[TBD](https://x.example)",
        "[TBD][1]",
        "![TBD](a.png)",
        "~~TBD~~",
        "{`TBD`}",
        '{"TBD"}',
        "{/* TBD */}",
        "<!-- TBD -->",
        '<Badge text="TBD" />',
        "<b>TBD</b>",
        "T\\|BD",
        "TBD \\| TBD",
        "T B D",
    ],
)
@pytest.mark.parametrize("mdx", [True, False])
def test_any_other_cell_stays(cell: str, mdx: bool) -> None:
    page = table(f"| executeSQL | {cell} |") + "\n[1]: https://x.example\n"
    assert rewrite_page(page, LINK, mdx=mdx).text == page


@pytest.mark.parametrize(
    "page",
    [
        "TBD\n",
        "# TBD | TBD\n",
        "- TBD\n- | TBD |\n",
        "| TBD | TBD |\n",
        "| TBD |\n---\nTBD\n",
        "| TBD | TBD |\n| --- |\n| TBD | TBD |\n",
        "| TBD | `TBD` |\n| --- | --- |\n| a | b |\n",
        "```md\n" + table("| a | TBD |") + "```\n",
        "~~~~\n" + table("| a | TBD |") + "~~~\n" + table("| a | TBD |") + "~~~~\n",
        "```\n" + table("| a | TBD |"),
        "---\ntitle: TBD\ntable: |\n" + table("| a | TBD |") + "---\n",
        "+++\n" + table("| a | TBD |") + "+++\n",
        "<!--\n\n" + table("| a | TBD |") + "\n-->\n",
        "text\n<!-- one\n" + table("| a | TBD |") + "-->\n",
        "<pre>\n" + table("| a | TBD |") + "</pre>\n",
        "> ```\n" + table("| a | TBD |", indent="> ") + "> ```\n",
        "- x\n\n  ```\n" + table("| a | TBD |", indent="  ") + "  ```\n",
    ],
)
@pytest.mark.parametrize("mdx", [True, False])
def test_cells_outside_table_bodies_stay(page: str, mdx: bool) -> None:
    assert rewrite_page(page, LINK, mdx=mdx).text == page


@pytest.mark.parametrize(
    "page",
    [
        "{/*\n\n" + table("| a | TBD |") + "\n*/}\n",
        "{/* } */ /* `\n" + table("| a | TBD |") + "*/}\n",
        "{`\n\n" + table("| a | TBD |") + "\n`}\n",
        "{`${'`'}\n" + table("| a | TBD |") + "`}\n",
        "<Raw\n  table={`\n\n" + table("| a | TBD |") + "`}\n/>\n",
        '<Raw\n  table="\n' + table("| a | TBD |") + '"\n></Raw>\n',
        "<style>{`\n" + table("| a | TBD |") + "`}</style>\n",
        "{x.replace(/[{/]/g, `\n" + table("| a | TBD |") + "`)}\n",
        "{list.map((x) => <li>it's {x}\n" + table("| a | TBD |") + "</li>)}\n",
        "export const rows = [\n\n`\n" + table("| a | TBD |") + "`,\n]\n",
        'import a from "a"\n' + table("| a | TBD |"),
        "<Note>\n\n  ```\n" + table("| a | TBD |", indent="  ") + "  ```\n\n</Note>\n",
        "<Note>\n      ```\n" + table("| a | TBD |", indent="      ") + "      ```\n</Note>\n",
    ],
)
def test_mdx_code_stays(page: str) -> None:
    assert rewrite_page(page, LINK).text == page


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<Note>\n", "</Note>\n"),
        ("<Note>\n\n", "\n</Note>\n"),
        ("<Tabs items={['a', `b`, \"{\"]}>\n<Tab>\n", "</Tab>\n</Tabs>\n"),
        ("<Tabs\n  id='a > b'\n  {...rest}\n>\n", "</Tabs>\n"),
        ("<>\n", "</>\n"),
        ("<Ui.Card xml:lang='en' data-x>\n", "</Ui.Card>\n"),
        ("{/* TBD */}\n", "{/* TBD */}\n"),
        ("<Note>{/* x */}\n", "</Note> {/* y */}\n"),
        ('import A from "a"\nexport const b = {\n\n  c: 1,\n}\n\n', ""),
        ("---\ntitle: x\n---\n", ""),
        ("Importantly, exports:\n", ""),
        ("<https://x.example>\n\n", ""),
        ("a < b, x <5\n\n", ""),
        ("### Stage {#stage}\n", ""),
    ],
)
@pytest.mark.parametrize("indent", ["", "  ", "      ", "\t"])
def test_tables_around_mdx_are_found_at_any_indent(before: str, after: str, indent: str) -> None:
    page = before + table("| a | TBD |", indent=indent) + after
    expected = before + table(f"| a | {LINK} |", indent=indent) + after
    assert rewrite_page(page, LINK).text == expected


def test_indented_text_is_code_in_markdown_but_not_in_mdx() -> None:
    page = "text\n\n" + table("| a | TBD |", indent="    ")
    assert not rewrite_page(page, LINK, mdx=False).cells
    assert rewrite_page(page, LINK, mdx=True).cells


@pytest.mark.parametrize("prefix", ["> ", ">", "> > ", ">\t"])
def test_tables_in_quotes_and_lists_are_found(prefix: str) -> None:
    assert rewrite_page(table("| a | TBD |", indent=prefix), LINK).text == table(
        f"| a | {LINK} |", indent=prefix
    )
    page = "1. text\n\n" + table("| a | TBD |", indent="   ")
    assert len(rewrite_page(page, LINK).cells) == 1


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("TBD | TBD", f"{LINK} | {LINK}"),
        ("|TBD|TBD|", f"|{LINK}|{LINK}|"),
        ("| TBD", f"| {LINK}"),
        ("|\tTBD\t|  TBD|", f"|\t{LINK}\t|  {LINK}|"),
        ("| TBD | TBD | TBD |", f"| {LINK} | {LINK} | TBD |"),
        ("| a \\| b | TBD |", f"| a \\| b | {LINK} |"),
        ("| `a \\| b` | TBD |", f"| `a \\| b` | {LINK} |"),
        ("| \\| | TBD |", f"| \\| | {LINK} |"),
        ("| a \\\\| TBD | TBD |", f"| a \\\\| {LINK} | TBD |"),
        ("| a \\\\\\| b | TBD |", f"| a \\\\\\| b | {LINK} |"),
        ("||TBD|", f"||{LINK}|"),
        ("| `a | TBD |", f"| `a | {LINK} |"),
        ("| a    | TBD          |   ", f"| a    | {LINK}          |   "),
        ("| é\u2028\x0b | TBD |", f"| é\u2028\x0b | {LINK} |"),
        ("| \0 | TBD |", f"| \0 | {LINK} |"),
    ],
)
def test_rows_are_split_as_the_parser_splits_them(row: str, expected: str) -> None:
    assert rewrite_page(table(row), LINK).text == table(expected)


@pytest.mark.parametrize(
    "before", ["p50\n|---|\n", "p50\n:-:\n", "text\np50\n---|\n", "- p50\n  |-|\n  "]
)
def test_a_header_needs_no_pipe(before: str) -> None:
    assert rewrite_page(f"{before}TBD\n", LINK).text == f"{before}{LINK}\n"


@pytest.mark.parametrize("header", ["|", "***", "# p50", "```"])
def test_no_other_block_is_a_header(header: str) -> None:
    page = f"{header}\n|---|\nTBD\n"
    assert rewrite_page(page, LINK).text == page


def test_a_tag_alone_on_its_line_ends_a_markdown_table() -> None:
    page = table("| a | TBD |") + "<br/>\n| b | TBD |\n"
    assert len(rewrite_page(page, LINK, mdx=False).cells) == 1


def test_an_export_ends_an_mdx_table_and_a_component_may_be_named_pre() -> None:
    page = (
        table("| a | TBD |") + "export const x = 1\n\n<Pre>\n" + table("| b | TBD |") + "</Pre>\n"
    )
    assert [cell.row for cell in rewrite_page(page, LINK).cells] == ["a", "b"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_stay(newline: str, bom: str) -> None:
    front = f"{bom}---{newline}title: TBD{newline}---{newline}{newline}"
    page = front + table("| a | TBD |", newline=newline).removesuffix(newline)
    expected = front + table(f"| a | {LINK} |", newline=newline).removesuffix(newline)
    result = rewrite_page(page, LINK)
    assert result.text == expected
    assert [cell.line for cell in result.cells] == [7]


@pytest.mark.parametrize(
    "page",
    ["text\n\n{/* open\n", "text\n\n<Note\n  a='b\n", "text\n\nexport const a = [\n\n1\n"],
)
def test_the_message_names_the_line_of_what_is_never_closed(page: str) -> None:
    with pytest.raises(DocsError, match=r"^line 3: .*MDX cannot read"):
        rewrite_page(page + table("| a | TBD |"), LINK)


@pytest.mark.parametrize("link", ["[a|b](c)", "[a](b)\n"])
def test_a_link_that_would_break_the_table_is_refused(link: str) -> None:
    with pytest.raises(ValueError, match="a pipe or a line break"):
        rewrite_page("", link)


LINES = st.sampled_from(
    [
        "| tool | p50 |",
        "|---|:-:|",
        "| a | TBD |",
        "| **TBD** ms | `TBD` |",
        "TBD | x",
        "a | b",
        "--|--",
        "| \\| | _TBD_ |",
        "| {`TBD`} | [TBD](x) |",
        "<Note>",
        "</Note>",
        "<Raw a={`",
        "`} />",
        "{/*",
        "*/}",
        "```",
        "> | a | b |",
        "> |---|---|",
        "> | TBD | x |",
        "- | a | b |",
        "      | a | b |",
        "      |---|---|",
        "      | TBD | x |",
        "\t| TBD | x |",
        "export const x = [",
        "]",
        "---",
        "text TBD",
        "",
    ]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])
PAGES = st.one_of(
    st.lists(st.tuples(LINES, ENDS), max_size=25).map(
        lambda pairs: "".join(a + b for a, b in pairs)
    ),
    st.lists(
        st.one_of(
            LINES, st.text(alphabet="|-: \t\\`*_{}<>/TBDtbd\r\n\ufeff\0\u2028é", max_size=30)
        ),
        max_size=15,
    ).map("\n".join),
)
MARK = "\ue000"


@given(PAGES, st.booleans())
@example("\ufeff| a | b |\r\n|---|---|\r\n| TBD | \\| |", True)
def test_rewriting_twice_is_rewriting_once(page: str, mdx: bool) -> None:
    try:
        once = rewrite_page(page, LINK, mdx=mdx)
    except DocsError:
        return
    twice = rewrite_page(once.text, LINK, mdx=mdx)
    assert twice.text == once.text
    assert twice.cells == ()


@given(PAGES, st.booleans())
def test_every_character_outside_the_changed_cells_stays(page: str, mdx: bool) -> None:
    try:
        result = rewrite_page(page, MARK, mdx=mdx)
    except DocsError:
        return
    pieces = result.text.split(MARK)
    assert len(pieces) == len(result.cells) + 1
    pattern = "".join(
        re.escape(piece) + (f"({re.escape(cell.was)})" if cell else "")
        for piece, cell in zip(pieces, [*result.cells, None], strict=True)
    )
    assert re.fullmatch(pattern, page)
    for cell in result.cells:
        assert re.fullmatch(r"[*_`\s]*tbd[*_`\s]*(ms)?[*_\s]*", cell.was, re.IGNORECASE)
