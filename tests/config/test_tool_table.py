"""Tables of tools: what is refused, and with which message."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.config.tool_table import (
    BLANK,
    NOVAMART,
    Mirrored,
    parse_table,
    read_table,
)
from loadtest.errors import ConfigError

POOL = {"weight": 1, "arguments": [{}]}


def test_the_table_of_novamart_is_read_and_written_as_k6_reads_it() -> None:
    table = read_table(NOVAMART)
    kept = json.loads(NOVAMART.read_text(encoding="utf-8"))["tools"]
    assert json.loads(table.render()) == {"tools": kept}
    assert list(table.tools) == ["executeSQL", "listEntities", "describeEntity", "runMetric"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("", "is not valid JSON"),
        ("[]", "no tools"),
        ('{"tools": []}', "tools must be a table"),
        ('{"tools": {}}', "no tools"),
        ('{"tools": {"a": {"weight": 1, "weight": 2}}}', "duplicate key 'weight'"),
        ('{"tools": {"a": {"weight": 1, "arguments": [{}]}, "a": {}}}', "duplicate key 'a'"),
        ('{"tools": {"a": 1}}', "tool a, entry: "),
        ('{"tools": {"a": {"arguments": [{}]}}}', "tool a, weight: field required"),
        ('{"tools": {"a": {"weight": 0, "arguments": [{}]}}}', "tool a, weight: input should be g"),
        ('{"tools": {"a": {"weight": 1.5, "arguments": [{}]}}}', "tool a, weight: "),
        ('{"tools": {"a": {"weight": "1", "arguments": [{}]}}}', "tool a, weight: "),
        ('{"tools": {"a": {"weight": 1}}}', "tool a, arguments: field required"),
        ('{"tools": {"a": {"weight": 1, "arguments": []}}}', "tool a, arguments: "),
        ('{"tools": {"a": {"weight": 1, "arguments": [{}, 7]}}}', "tool a, arguments[1]: "),
        ('{"tools": {"a": {"weight": 1, "arguments": [{"b": NaN}]}}}', "JSON has no NaN"),
        ('{"tools": {"a": {"weight": 1, "arguments": [{}], "pool": 1}}}', "tool a, pool: "),
        ('{"tools": {"a": {"weight": 900, "arguments": [{}]}, "b": '
         '{"weight": 101, "arguments": [{}]}}}', "the sum of the weights is 1001"),
        ('{"tools": {"a,b": {"weight": 1, "arguments": [{}]}}}', "tool 'a,b': this cannot"),
        ('{"tools": {"all": {"weight": 1, "arguments": [{}]}}}', "tool 'all': this cannot"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_one_line_with_file_tool_and_fault(
    content: str | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "tools.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_table(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"resources": []}, "t: resources must be a table"),
        ({"tools": {"a": POOL}, "prompt": {}}, "t: unknown key prompt: a table has only tools, "),
        ({"resources": {"x://{id}": {"weight": 1}}}, "name it, and give its address as uri"),
        ({"resources": {"x": {"weight": 1, "uri": "x://{id}"}}}, "arguments[0] lacks id, which x:"),
        ({"resources": {"x": {"weight": 1, "uri": "x://{i d}"}}}, "x://{i d}: this is not a URI t"),
        ({"resources": {"x://y": {"weight": 1, "arguments": [{"id": 1}]}}}, "has no place for id"),
        ({"prompts": {"p": {"weight": 0}}}, "prompt p, weight: "),
        ({"prompts": {"p": {"weight": 1, "arguments": [{"a": 1}]}}}, "[0].a must be a string"),
        ({"completions": {"c": {"weight": 1, "arguments": [{"a": ""}]}}}, "either a prompt or a r"),
        (
            {"completions": {"c": {"weight": 1, "prompt": "p", "arguments": [{}]}}},
            "completion c, arguments[0] is empty",
        ),
        (
            {"tools": {"a": POOL}, "prompts": {"a": {"weight": 1}}},
            "prompt a: a tool has this name: choose another one",
        ),
    ],
)
def test_a_damaged_entry_of_another_kind_is_one_line(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_table(sections, "t")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def build_flow(*arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Build a table of one flow of two steps; the second has these arguments."""
    steps = [{"name": "find", "tool": "search"}, {"tool": "open", "arguments": list(arguments)}]
    return {"flows": {"look": {"weight": 2, "steps": steps, **more}}}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (
            {"$step": "fnd", "path": "$"},
            "it refers to step 'fnd', which is not there: the flow has",
        ),
        ({"$step": "open", "path": "$"}, "it refers to step 'open', which is not before it"),
        ({"$step": "find"}, 'a reference is like {"$step": "find", "path": "$.items[0].id"}'),
        ({"$step": "find", "path": "$", "x": 1}, "a reference is like"),
        ({"$step": "find", "path": "ids[0]"}, "'ids[0]' is not a JSONPath: it begins with $"),
        ({"$step": "find", "path": "$.ids[?@.x]"}, "is not a JSONPath of .name, ['name'], [0], "),
    ],
)
def test_a_wrong_reference_to_an_earlier_answer_is_one_line(
    reference: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_table(build_flow({"id": [reference]}), "t")
    assert "t: flow look, step open: " in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "flow look, steps: "),
        ([{"tool": "a", "prompt": "b"}], "steps[0]: a step has exactly one of tool, resource and"),
        ([{"tool": "a"}, {"tool": "a"}], "two steps are called a: give one a name"),
        ([{"resource": "x://{id}"}], "step 'x://{id}': this cannot be the name of a row"),
        ([{"name": "x", "resource": "x://{id}"}], "step x, arguments[0] lacks id"),
        ([{"prompt": "p", "arguments": [{"a": 1}]}], "step p, arguments[0].a must be a string"),
    ],
)
def test_a_damaged_flow_is_one_line(steps: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_table({"flows": {"look": {"weight": 1, "steps": steps}}}, "t")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([], "answers, entry: "),
        ({"elicitations": {}}, "answers, elicitations: "),
        ({"elicitation": "accept"}, "answers, elicitation"),
        ({"elicitation": {"x": float("inf")}}, "answers, elicitation.x: JSON has no inf"),
        ({"sampling": ""}, "answers, sampling: "),
        ({"roots": "file:///"}, "answers, roots: "),
    ],
)
def test_damaged_answers_are_one_line(answers: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_table({"tools": {"a": POOL}, "answers": answers}, "t")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_answers_are_part_of_the_table_that_a_run_is_compared_by() -> None:
    plain = parse_table({"tools": {"a": POOL}}, "t")
    table = parse_table({"tools": {"a": POOL}, "answers": {"elicitation": {"x": None}}}, "t")
    assert json.loads(table.render())["answers"] == {"elicitation": {"x": None}}
    assert table.describe() != plain.describe()
    assert "answers" not in json.loads(plain.render())


def test_the_steps_of_a_flow_count_as_calls_of_the_mix() -> None:
    table = parse_table(
        {"tools": {"a": POOL}, **build_flow({"id": {"$step": "find", "path": "$.ids[0]"}})}, "t"
    )
    assert list(table.list_weights()) == [
        ("a", "a", 1),
        ("look/find", "search", 2),
        ("look/open", "open", 2),
    ]
    assert table.list_tools() == ("a", "search", "open")
    assert table.list_names() == ("a", "look")
    mirrored = {"open": (Mirrored(path=("id",), header="Id"),)}
    rendered = json.loads(table.model_copy(update={"mirrored": mirrored}).render())
    assert rendered["flows"]["look"]["steps"][1] == {
        "step": "open",
        "kind": "tool",
        "target": "open",
        "arguments": [
            {
                "id": {
                    "$step": "find",
                    "path": [{"name": "ids"}, {"index": 0}],
                    "text": "$.ids[0]",
                }
            }
        ],
        "mirrored": [{"path": ["id"], "header": "Id"}],
    }


def test_a_flow_draws_from_pools_too() -> None:
    pools = {"words": {"list": ["a", "b"]}}
    table = parse_table({**build_flow({"at": {"$pool": "words"}}), "pools": pools}, "t")
    assert table.describe_arguments() == "varied, but fixed for look/find"
    assert table.pick_first(["look"]).flows["look"].steps[1].arguments == ({"at": "a"},)


def test_a_prompt_and_a_tool_of_one_name_get_two_names() -> None:
    prompts = {"ask": {"weight": 1, "prompt": "a", "arguments": [{}]}}
    table = parse_table({"tools": {"a": POOL}, "prompts": prompts}, "t")
    assert json.loads(table.render())["prompts"] == prompts
    assert list(table.entries) == ["a", "ask"]
    assert table.describe() != parse_table({"tools": {"a": POOL}}, "t").describe()


def test_a_date_of_a_toml_table_must_be_a_string() -> None:
    import tomllib

    tools = tomllib.loads("[a]\nweight = 1\narguments = [{ since = [2026-01-01] }]\n")
    with pytest.raises(ConfigError, match=r"arguments\[0\].since\[0\]: JSON has no date, write"):
        parse_table({"tools": tools}, "loadtest.toml")


def test_every_blank_is_named() -> None:
    blank = {"a": [{"b": f"{BLANK}string>"}]}
    tools = {"x": {"weight": 1, "arguments": [{}, blank]}}
    with pytest.raises(ConfigError, match=r"tool x, arguments\[1\]\.a\[0\]\.b is not filled in"):
        parse_table({"tools": tools}, "tools.json")


def test_many_faults_are_counted_rather_than_listed() -> None:
    with pytest.raises(ConfigError, match=r"and 2 more$"):
        parse_table({"tools": {str(index): {**POOL, "weight": 0} for index in range(5)}}, "t")


def test_two_contents_of_one_file_are_distinguished() -> None:
    one = parse_table({"tools": {"a": POOL}}, "t")
    assert one.describe() == parse_table({"tools": {"a": {**POOL, "about": "x"}}}, "t").describe()
    assert one.describe() != parse_table({"tools": {"a": {**POOL, "weight": 2}}}, "t").describe()
