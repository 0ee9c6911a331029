"""Pools of values: what they give, and what is refused with one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.config.tool_table import ToolTable, parse_table, read_table
from loadtest.errors import ConfigError

ROWS = 'id,name\n1,Ann\n2,"Bob, B."\n'


def build(pools: Any, *arguments: Any, folder: Path = Path()) -> ToolTable:
    """Return a table of one tool with these pools and arguments."""
    tools = {"find": {"weight": 1, "arguments": list(arguments) or [{}]}}
    return parse_table({"pools": pools, "tools": tools}, "t", folder)


def fill(table: ToolTable, most: int = 3) -> list[dict[str, Any]]:
    """Return some arguments with the values of pools in them."""
    return [arguments for _, arguments in table.spread_arguments("find", most)]


@pytest.mark.parametrize(
    ("pool", "values"),
    [
        ({"range": [1, 5]}, [1, 3, 5]),
        ({"range": [-10, 21], "step": 10}, [-10, 0, 20]),
        ({"range": [4, 4]}, [4]),
        ({"range": ["2026-02-27", "2026-03-01"]}, ["2026-02-27", "2026-02-28", "2026-03-01"]),
        ({"list": ["a", None, {"b": [1.5]}], "about": "x"}, ["a", None, {"b": [1.5]}]),
        ({"template": "{ item(id: ${n}) ${w} }"}, ["{ item(id: 1) a }", "{ item(id: 2) a }"]),
    ],
)
def test_a_pool_gives_its_values(pool: dict[str, Any], values: list[Any]) -> None:
    pools = {"n": {"range": [1, 2]}, "w": {"list": ["a"]}, "p": pool}
    assert [found["x"] for found in fill(build(pools, {"x": {"$pool": "p"}}))] == values


@pytest.mark.parametrize(
    ("name", "content", "values"),
    [
        ("rows.csv", ROWS, [{"id": "1", "name": "Ann"}, {"id": "2", "name": "Bob, B."}]),
        ("rows.csv", "\ufeffid\n\n1\n", [{"id": "1"}]),
        ("rows.json", '[1, "b"]', [1, "b"]),
        ("rows.jsonl", '{"a": 1}\n\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        ("rows.NDJSON", "1\r\n2\r\n", [1, 2]),
        ("rows.txt", "how many orders?\n\nwho?\n", ["how many orders?", "who?"]),
    ],
)
def test_a_file_beside_the_table_gives_its_values(
    name: str, content: str, values: list[Any], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    tools = {"find": {"weight": 1, "arguments": [{"x": {"$pool": "p"}}]}}
    body = {"pools": {"p": {"file": name}}, "tools": tools}
    (tmp_path / "tools.json").write_text(json.dumps(body), encoding="utf-8")
    table = read_table(tmp_path / "tools.json")
    assert [found["x"] for found in fill(table)] == values


def test_fields_of_one_value_belong_together(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS, encoding="utf-8")
    pools = {
        "rows": {"file": "rows.csv", "numbers": ["id"]},
        "text": {"template": "${rows.id}: ${rows.name}"},
    }
    arguments = {"id": {"$pool": "rows.id"}, "in": [{"$pool": "text"}]}
    table = build(pools, arguments, {"$pool": "rows"}, folder=tmp_path)
    assert fill(table) == [
        {"id": 1, "in": ["1: Ann"]},
        {"id": 2, "in": ["2: Bob, B."]},
        {"id": 1, "name": "Ann"},
        {"id": 2, "name": "Bob, B."},
    ]


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({}, "a pool has exactly one of range, list, file and template"),
        ({"range": [1, 2], "list": [1]}, "a pool has exactly one of"),
        ({"range": [1, 2], "rnage": 1}, "rnage: "),
        ({"range": [5, 1]}, "range: 5 to 1 has no values"),
        ({"range": ["2026-02-02", "2026-02-01"]}, "range: 2026-02-02 to 2026-02-01 has no values"),
        ({"range": [1, "2026-02-01"]}, "range: expected two whole numbers, or two days"),
        ({"range": [1.5, 2]}, "range: expected two whole numbers, or two days"),
        ({"range": ["2026-02-30", "2026-03-01"]}, "range: expected two whole numbers, or two days"),
        ({"range": [0, 2**32]}, "range: at most 4294967296 numbers"),
        ({"range": [2**60, 2**60]}, "none beyond 9007199254740991"),
        ({"range": [1, 9], "step": 0}, "step: "),
        ({"list": [1], "step": 2}, "step is only for range"),
        ({"list": []}, "the list is empty"),
        ({"list": [float("nan")]}, "JSON has no nan"),
        ({"template": "SELECT 1"}, "template: nothing in it varies"),
        ({"template": "${nobody}"}, "there is no pool 'nobody'; the table has p, rows"),
        ({"template": "${p}"}, "a template cannot contain pool p, another template"),
        ({"template": "${rows}"}, "pool rows has values that cannot be part of a text"),
        ({"template": "${rows.id}${rows.no}"}, "value 0 of pool rows has no field no"),
        ({"file": "none.csv"}, "none.csv does not exist"),
        ({"file": "empty.csv"}, "empty.csv is empty"),
        ({"file": "empty.json"}, "empty.json is empty"),
        ({"file": "empty.txt"}, "empty.txt is empty"),
        ({"file": "head.csv"}, "head.csv is empty"),
        ({"file": "binary.txt"}, "binary.txt cannot be read: UnicodeDecodeError"),
        ({"file": "folder.json"}, "folder.json cannot be read: IsADirectoryError"),
        (
            {"file": "rows.xlsx"},
            "rows.xlsx must end with one of .csv, .json, .jsonl, .ndjson, .txt",
        ),
        ({"file": "object.json"}, "object.json: expected a JSON list of values"),
        ({"file": "cut.json"}, "cut.json: "),
        ({"file": "cut.jsonl"}, "cut.jsonl: line 2 is not valid JSON"),
        ({"file": "ragged.csv"}, "ragged.csv: line 3 has 1 cells, but the first line names 2"),
        ({"file": "quote.csv"}, "quote.csv: "),
        ({"file": "twice.csv"}, "twice.csv: its first line names a column twice"),
        ({"file": "ragged.csv", "numbers": ["c"]}, "it has no column 'c', only a, b"),
        ({"file": "words.csv", "numbers": ["a"]}, "line 2, column a: 'x' is not a number"),
        ({"file": "cut.json", "numbers": ["a"]}, "numbers is only for a CSV file"),
        (7, "pool p"),
    ],
)
def test_a_wrong_pool_is_one_line_with_its_name(
    pool: dict[str, Any], words: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.json").mkdir()
    for name, content in {
        "empty.csv": "",
        "empty.json": "[]",
        "empty.txt": " \n",
        "head.csv": "a,b\n",
        "binary.txt": "\udcff",
        "rows.xlsx": "",
        "object.json": "{}",
        "cut.json": '["a',
        "cut.jsonl": '{"a": 1}\n{"a',
        "ragged.csv": "a,b\n1,2\n3\n",
        "quote.csv": 'a,b\n1,"2\n',
        "twice.csv": "a,a\n1,2\n",
        "words.csv": "a\nx\n",
    }.items():
        (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        build({"p": pool, "rows": {"list": [{"id": 1}]}}, folder=tmp_path)
    assert str(caught.value).startswith("t: pool p")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": {"$pool": "nobody"}}, "there is no pool 'nobody'; the table has n, rows"),
        ({"x": [{"$pool": "rows.no"}]}, "value 0 of pool rows has no field no"),
        ({"x": {"$pool": "n.id"}}, "pool n has no field id"),
        ({"$pool": "n"}, "the values of pool n are not objects, but arguments must be"),
        ({"$pool": "rows.id"}, "value 0 of pool rows.id is not an object"),
    ],
)
def test_a_wrong_reference_names_its_place(arguments: dict[str, Any], words: str) -> None:
    pools = {"n": {"range": [1, 2]}, "rows": {"list": [{"id": 1}]}}
    with pytest.raises(ConfigError, match=r"^t: tool find, arguments\[1\]: ") as caught:
        build(pools, {}, arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("pools", [[], 1, {"a.b": {"list": [1]}}, {"": {"list": [1]}}])
def test_pools_have_names(pools: Any) -> None:
    with pytest.raises(ConfigError, match=r"^t: pool"):
        build(pools)


def test_a_table_says_whether_its_arguments_vary() -> None:
    pools = {"n": {"range": [1, 100]}, "w": {"list": ["a", "b"]}, "one": {"list": ["a"]}}
    varied = {"x": {"$pool": "n"}, "y": {"$pool": "w"}}
    cases: tuple[tuple[tuple[dict[str, Any], ...], str, int], ...] = (
        (({}, {"x": 1}), "fixed", 2),
        (({"x": {"$pool": "one"}},), "fixed", 1),
        ((varied,), "varied", 200),
        (({}, varied), "varied", 201),
    )
    for arguments, words, count in cases:
        table = build(pools, *arguments)
        assert (table.describe_arguments(), table.count_calls()) == (words, count)
    tools = {
        "a": {"weight": 1, "arguments": [varied]},
        "b": {"weight": 1, "arguments": [{}]},
        "c": {"weight": 1, "arguments": [{}]},
    }
    table = parse_table({"tools": tools, "pools": pools}, "t")
    assert table.describe_arguments() == "varied, but fixed for b, c"


def test_two_contents_of_a_file_are_different_tables(tmp_path: Path) -> None:
    described = set()
    for content in ("a\nb\n", "a\nc\n"):
        (tmp_path / "words.txt").write_text(content, encoding="utf-8")
        pools = {"w": {"file": "words.txt"}}
        described.add(build(pools, {"x": {"$pool": "w"}}, folder=tmp_path).describe())
    assert len(described) == 2


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 60))
def test_spread_arguments_begin_and_end_with_the_pool(first: int, second: int, most: int) -> None:
    pools = {"a": {"range": [1, first]}, "b": {"range": [1, second]}}
    found = fill(build(pools, {"a": {"$pool": "a"}, "b": {"$pool": "b"}}), most)
    assert len(found) == min(most, max(first, second))
    assert found[0] == {"a": 1, "b": 1}
    if most > 1:
        assert found[-1] == {"a": first, "b": second}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pools")


@given(
    st.sampled_from(["p.csv", "p.json", "p.jsonl", "p.txt"]),
    st.binary(max_size=40) | st.text('a,"[]{}1\n\r\x00\u2028 ', max_size=40).map(str.encode),
    st.sampled_from(["rows", "rows.a", "rows.a\nb", "rows.", "", "\n"]),
)
def test_whatever_is_in_a_file_it_is_a_pool_or_a_fault_of_one_line(
    place: Path, name: str, content: bytes, reference: str
) -> None:
    (place / name).write_bytes(content)
    numbers = ["a"] if name == "p.csv" else []
    pools = {"rows": {"file": name, "numbers": numbers}, "text": {"template": f"${{{reference}}}"}}
    said = ""
    try:
        table = build(pools, {"x": {"$pool": reference}, "y": {"$pool": "text"}}, folder=place)
        assert json.dumps(fill(table))
    except ConfigError as refusal:
        said = str(refusal)
    assert said.isprintable()
