"""Arguments that are made from the schema of a tool fit that schema, or have blanks."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.k6.input_schema import build_arguments, find_fault, has_blank

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
# Whatever a server may write, valid or not.
ANY_SCHEMA = st.recursive(
    JSON,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                ["object", "string", "integer", "array", ["string", "null"], 7]
            ),
            "properties": st.dictionaries(st.sampled_from("abc"), inner) | JSON,
            "required": st.lists(st.sampled_from("abcd"), unique=True) | JSON,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "allOf": st.lists(inner, min_size=1, max_size=3),
            "$ref": st.sampled_from(["#", "#/properties/a", "#/x", "http://127.0.0.1:9/s", "7"]),
            "enum": st.lists(JSON, max_size=2) | JSON,
            "examples": st.lists(JSON, max_size=2) | JSON,
            "default": JSON,
            "const": JSON,
            "pattern": st.sampled_from(["^a+$", "(", "^x{3}$"]),
            "minLength": st.integers(-1, 10**12),
            "minItems": st.integers(0, 10**12),
            "minimum": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
            "multipleOf": st.integers(1, 9) | st.floats(0.001, 9),
            "description": JSON,
        },
    ),
    max_leaves=10,
)


@st.composite
def satisfiable(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    """Return a schema as the SDKs write them; a value exists for it."""
    kinds = ["integer", "number", "string", "format", "boolean", "enum", "const", "optional"]
    kind = draw(st.sampled_from(kinds + (["array", "object", "union"] if depth < 3 else [])))
    low = draw(st.integers(-50, 50))
    if kind in {"integer", "number"}:
        given: dict[str, Any] = {"type": kind}
        if draw(st.booleans()):
            step = draw(st.integers(1, 9))
            given |= {"multipleOf": step, "minimum": low, "exclusiveMaximum": low + 2 * step + 1}
        elif draw(st.booleans()):
            given |= {"exclusiveMinimum": low, "maximum": low + 1}
        return given
    if kind == "string":
        least = draw(st.integers(0, 40))
        return {"type": "string", "minLength": least, "maxLength": least + draw(st.integers(0, 9))}
    if kind == "format":
        return {"type": "string", "format": draw(st.sampled_from(["date", "uri", "uuid", "odd"]))}
    if kind == "boolean":
        return {"type": "boolean"}
    if kind == "enum":
        return {"enum": draw(st.lists(st.text(max_size=3) | st.integers(), min_size=1, max_size=4))}
    if kind == "const":
        return {"const": draw(st.text(max_size=3))}
    if kind == "optional":
        return {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": low}]}
    if kind == "union":
        return {draw(st.sampled_from(["anyOf", "allOf"])): [draw(satisfiable(depth + 1))]}
    if kind == "array":
        least = draw(st.integers(0, 3))
        return {"type": "array", "items": draw(satisfiable(depth + 1)), "minItems": least}
    return draw(objects(depth + 1))


@st.composite
def objects(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    """Return the schema of an object, with references as pydantic writes them."""
    inner = satisfiable(depth + 1)
    properties = draw(st.dictionaries(st.sampled_from("abcdef"), inner, max_size=3))
    required = draw(st.permutations(list(properties)))
    schema = {
        "type": "object",
        "properties": properties,
        "required": required[: draw(st.integers(0, len(required)))],
        "additionalProperties": False,
    }
    if depth == 0:
        name = draw(st.sampled_from(["Filter", "a/b", "a~b"]))
        pointer = name.replace("~", "~0").replace("/", "~1")
        schema["$defs"] = {name: draw(inner)}
        properties["ref"] = {"$ref": f"#/$defs/{pointer}", "description": "a filter"}
        schema["required"] = [*required, "ref"]
    return schema


@given(objects())
def test_a_schema_that_can_be_met_is_met(schema: dict[str, Any]) -> None:
    for arguments in build_arguments(schema):
        assert not has_blank(arguments)
        assert find_fault(schema, arguments) is None


@settings(deadline=None)
@given(ANY_SCHEMA)
def test_whatever_the_schema_arguments_fit_it_or_have_blanks(schema: Any) -> None:
    for arguments in build_arguments(schema):
        assert json.loads(json.dumps(arguments, allow_nan=False)) == arguments
        assert has_blank(arguments) or find_fault(schema, arguments) is None


def build_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        # @modelcontextprotocol/server-everything, by zod
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "properties": {"message": {"type": "string", "description": "Message to echo"}},
                "required": ["message"],
                "additionalProperties": False,
            },
            [{"message": "test"}],
        ),
        (build_object(a={"type": "number"}, b={"type": "number"}), [{"a": 1, "b": 1}]),
        (
            build_object(messageType={"type": "string", "enum": ["error", "success", "debug"]}),
            [{"messageType": "error"}, {"messageType": "success"}, {"messageType": "debug"}],
        ),
        (
            build_object(resourceId={"type": "number", "minimum": 5, "maximum": 100}),
            [{"resourceId": 5}],
        ),
        ({"type": "object", "properties": {"duration": {"type": "number", "default": 10}}}, [{}]),
        # FastMCP and the Python SDK, by pydantic
        (
            {
                "$defs": {
                    "Order": {"enum": ["newest", "best"], "title": "Order", "type": "string"},
                    "Filter": {
                        "properties": {
                            "order": {"$ref": "#/$defs/Order"},
                            "since": {"format": "date", "type": "string"},
                            "depth": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                        },
                        "required": ["order", "since", "depth"],
                        "type": "object",
                    },
                },
                "properties": {
                    "filter": {"$ref": "#/$defs/Filter"},
                    "tags": {"items": {"type": "string", "minLength": 6}, "type": "array"},
                    "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
                },
                "required": ["filter", "tags"],
                "type": "object",
            },
            [
                {
                    "filter": {"order": order, "since": "2026-01-15", "depth": 1},
                    "tags": ["testtt"],
                }
                for order in ("newest", "best")
            ],
        ),
        (
            build_object(query={"type": "string", "examples": ["invoices", "orders"]}),
            [{"query": "invoices"}, {"query": "orders"}],
        ),
        # The Go SDK, by jsonschema-go: a slice may be null
        (
            build_object(names={"type": ["null", "array"], "items": {"type": "string"}}),
            [{"names": ["test"]}],
        ),
        # mcp-server-time, mcp-server-fetch
        (build_object(timezone={"type": "string"}), [{"timezone": "UTC"}]),
        (
            build_object(url={"type": "string", "format": "uri", "minLength": 1}),
            [{"url": "https://example.com/"}],
        ),
        # What is required only together with something else
        (
            {
                "type": "object",
                "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
                "anyOf": [{"required": ["name"]}, {"required": ["id"]}],
            },
            [{"name": "test"}],
        ),
        (
            {
                "type": "object",
                "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
                "minProperties": 2,
            },
            [{"id": 1, "name": "test"}],
        ),
        (
            build_object(
                where={
                    "oneOf": [
                        {"properties": {"kind": {"const": "id"}}, "required": ["kind"]},
                        {"properties": {"kind": {"const": "name"}}, "required": ["kind"]},
                    ]
                }
            ),
            [{"where": {"kind": "id"}}],
        ),
        (
            build_object(pair={"prefixItems": [{"type": "integer"}, {"type": "boolean"}]}),
            [{"pair": [1, False]}],
        ),
        (
            build_object(
                two={"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "uniqueItems": True}
            ),
            [{"two": [1, 2]}, {"two": [2, 1]}],
        ),
        (build_object(code={"type": "string", "pattern": "^[A-Z]{2}$"}), [{"code": "AA"}]),
        (None, [{}]),
        ({"type": "nonsense"}, [{}]),
    ],
)
def test_arguments_are_made_from_the_schemas_that_servers_write(
    schema: Any, found: list[dict[str, Any]]
) -> None:
    assert build_arguments(schema) == found


@pytest.mark.parametrize(
    ("schema", "blank"),
    [
        ({"type": "string", "pattern": "^ORD-[0-9]{9}$"}, "string"),
        ({"type": "string", "minLength": 10**9, "description": "long\nvery"}, "string, long"),
        ({"type": "integer", "minimum": 10**400}, "integer"),
        ({"type": "array", "minItems": 10**9}, "array"),
        ({"not": {}}, "any value"),
        ({"$ref": "http://127.0.0.1:9/schema"}, "any value"),
        ({"const": {"$pool": "x"}}, "any value"),
    ],
)
def test_what_no_value_fits_is_a_blank(schema: dict[str, Any], blank: str) -> None:
    assert build_arguments(build_object(x=schema)) == [{"x": f"<fill in: {blank}>"}]


def test_a_schema_without_end_is_cut_off() -> None:
    endless = build_object(a={"$ref": "#"}, b={"$ref": "#"}, c={"anyOf": [{"$ref": "#"}] * 9})
    (arguments,) = build_arguments(endless)
    assert has_blank(arguments)
    assert len(json.dumps(arguments)) < 200_000


def test_a_schema_that_is_too_deep_to_check_asks_for_nothing() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        deep = build_object(a=deep)
    assert build_arguments(deep) == [{}]
