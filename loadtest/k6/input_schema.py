"""The JSON Schema of a tool's arguments: check arguments, or make some that fit."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadtest.config.tool_table import BLANK
from loadtest.config.value_pools import MOST_INT, list_references

# A schema of a server may be endless: by references to itself, or by numbers.
MOST_DEPTH = 8
MOST_BUILT = 300
MOST_ITEMS = 100
MOST_CHARS = 10_000
# A pattern may take exponential time on a longer text.
MOST_PATTERN_CHARS = 20
MOST_ARGUMENTS = 3

# Texts by format, as in JSON Schema 2020-12, or by the name of a property, as people call them.
_TEXTS: Mapping[str, str] = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T12:00:00Z",
    "duration": "P1D",
    "email": "loadtest@example.com",
    "hostname": "example.com",
    "idn-email": "loadtest@example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "iri": "https://example.com/",
    "json-pointer": "/a",
    "regex": "a",
    "time": "12:00:00Z",
    "timezone": "UTC",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
# Texts to try where a pattern says what is expected.
_PATTERN_TEXTS = (
    "a",
    "A",
    "1",
    "test",
    "TEST",
    "test-1",
    "A1",
    "AA",
    "0001",
    "12:00",
    "1.0.0",
    "/a",
)
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")


def find_fault(schema: Any, arguments: Mapping[str, Any]) -> str | None:
    """Return what a JSON Schema finds wrong with arguments; an invalid schema finds nothing."""
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped,unused-ignore]

    validator = _open_validator(schema)
    if validator is None:
        return None
    try:
        fault = best_match(validator.iter_errors(arguments))
    except _list_failures():
        return None
    return None if fault is None else f"{fault.json_path}: {fault.message}"


def build_arguments(schema: Any) -> list[dict[str, Any]]:
    """Return arguments that fit a schema: what it requires, from its examples, enums and so on.

    There are several where examples or enums allow it. Where no value fits, there is a blank, which
    a person must fill in.
    """
    validator = _open_validator(schema)
    if validator is None or not isinstance(schema, dict):
        return [{}]
    found: list[dict[str, Any]] = []
    for turn in range(MOST_ARGUMENTS):
        made = _Builder(validator, schema, turn).build_object(schema)
        if made not in found:
            found.append(made)
        if has_blank(made):
            break
    return found


def has_blank(value: Any) -> bool:
    """Return whether a person must fill in a value."""
    if isinstance(value, dict | list):
        return any(map(has_blank, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and value.startswith(BLANK)


def _open_validator(schema: Any) -> Any:
    """Return a validator; None if the schema is invalid."""
    from jsonschema.validators import Draft202012Validator, validator_for  # type: ignore[import-untyped,unused-ignore]
    from referencing import Registry

    if not isinstance(schema, dict):
        return None
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except _list_failures():
        return None
    # With an empty registry, a reference to another server is never fetched.
    return kind(schema, registry=Registry())


def _list_failures() -> tuple[type[Exception], ...]:
    """Return what a schema of a server may cause in the validator."""
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    return SchemaError, Unresolvable, RecursionError


class _Builder:
    """Makes a value for a schema; `turn` chooses among examples and enums."""

    def __init__(self, validator: Any, root: Mapping[str, Any], turn: int) -> None:
        self._validator = validator
        self._root = root
        self._turn = turn
        self._built = 0

    def build_object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments; if none fit the whole schema, those that it requires."""
        first: dict[str, Any] = {}
        for candidate in self._list_candidates(schema, "", 0):
            if isinstance(candidate, dict):
                if self._fits(candidate, schema):
                    return candidate
                first = first or candidate
        return first if has_blank(first) else first | {"arguments": _write_blank(schema)}

    def _build(self, schema: Any, name: str, depth: int) -> Any:
        """Return the first candidate that the schema accepts, else one with blanks, or a blank."""
        self._built += 1
        partly = None
        if depth <= MOST_DEPTH and self._built <= MOST_BUILT:
            for candidate in self._list_candidates(schema, name, depth):
                if self._fits(candidate, schema):
                    return candidate
                if partly is None and isinstance(candidate, dict) and has_blank(candidate):
                    partly = candidate
        return _write_blank(self._flatten(schema)) if partly is None else partly

    def _fits(self, value: Any, schema: Any) -> bool:
        if has_blank(value) or any(list_references(value)):
            return False
        try:
            return bool(self._validator.evolve(schema=schema).is_valid(value))
        except _list_failures():
            return False

    def _list_candidates(self, schema: Any, name: str, depth: int) -> Iterator[Any]:
        """Yield values to try, the best first."""
        flat = self._flatten(schema)
        yield from self._list_known(flat)
        for variants in (flat.get("anyOf"), flat.get("oneOf")):
            if isinstance(variants, list) and depth < MOST_DEPTH:
                rest = {k: v for k, v in flat.items() if k not in {"anyOf", "oneOf"}}
                ordered = sorted(variants, key=lambda each: _is_null(self._flatten(each)))
                for variant in ordered:
                    self._built += 1
                    if self._built > MOST_BUILT:
                        return
                    merged = _merge(rest, self._flatten(variant))
                    yield from self._list_candidates(merged, name, depth + 1)
        for kind in _list_types(flat):
            yield from self._list_typed(kind, flat, name, depth)

    def _list_known(self, flat: Mapping[str, Any]) -> Iterator[Any]:
        if "const" in flat:
            yield flat["const"]
        for key in ("examples", "default", "example", "enum"):
            if key not in flat:
                continue
            values = flat[key]
            if key in {"examples", "enum"} and isinstance(values, list) and values:
                start = self._turn % len(values)
                yield from values[start:] + values[:start]
            elif key in {"default", "example"} and values is not None:
                yield values

    def _list_typed(
        self, kind: str, flat: Mapping[str, Any], name: str, depth: int
    ) -> Iterator[Any]:
        if kind == "object":
            yield from self._list_objects(flat, depth)
        elif kind == "array":
            yield from self._list_arrays(flat, name, depth)
        elif kind == "string":
            yield from _list_texts(flat, name)
        elif kind in {"integer", "number"}:
            yield from _list_numbers(flat, whole=kind == "integer")
        elif kind == "boolean":
            yield from (False, True)
        elif kind == "null":
            yield None

    def _list_objects(self, flat: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
        """Yield an object with what is required, then one with every property."""
        properties = _read_object(flat.get("properties"))
        required = [key for key in _read_list(flat.get("required")) if isinstance(key, str)]
        for names in (required, [*required, *(key for key in properties if key not in required)]):
            yield {key: self._build(properties.get(key, {}), key, depth + 1) for key in names}

    def _list_arrays(self, flat: Mapping[str, Any], name: str, depth: int) -> Iterator[list[Any]]:
        """Yield the shortest list that is not empty, then the empty one."""
        prefix = _read_list(flat.get("prefixItems"))
        least = flat.get("minItems", 0)
        size = max(1, len(prefix), least if isinstance(least, int | float) else 0)
        if size <= MOST_ITEMS:
            item = flat.get("items", {})
            items: list[Any] = []
            for index in range(int(size)):
                schema = prefix[index] if index < len(prefix) else item
                items.append(self._build_item(schema, name, depth, items, flat))
            yield items
        yield []

    def _build_item(
        self, schema: Any, name: str, depth: int, others: Sequence[Any], flat: Mapping[str, Any]
    ) -> Any:
        if flat.get("uniqueItems") is True and depth < MOST_DEPTH:
            for candidate in self._list_candidates(schema, name, depth + 1):
                if candidate not in others and self._fits(candidate, schema):
                    return candidate
        return self._build(schema, name, depth + 1)

    def _flatten(self, schema: Any, depth: int = 0) -> dict[str, Any]:
        """Return a schema with its references and `allOf` merged into it."""
        if not isinstance(schema, dict) or depth > MOST_DEPTH:
            return {}
        flat = {key: value for key, value in schema.items() if key not in {"$ref", "allOf"}}
        parts = [self._find(schema["$ref"])] if "$ref" in schema else []
        for part in [*parts, *_read_list(schema.get("allOf"))]:
            flat = _merge(flat, self._flatten(part, depth + 1))
        return flat

    def _find(self, reference: Any) -> Any:
        """Return what a reference within the schema points to (RFC 6901)."""
        path = str(reference)
        if not path.startswith("#"):
            return {}
        found: Any = self._root
        for part in path.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return found


def _merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that asks for what both do, as far as a draft needs it."""
    merged = {**other, **one}
    for key in ("properties", "$defs"):
        if key in one and key in other:
            merged[key] = {**_read_object(other[key]), **_read_object(one[key])}
    if "required" in one and "required" in other:
        merged["required"] = [*_read_list(one["required"]), *_read_list(other["required"])]
    return merged


def _list_types(flat: Mapping[str, Any]) -> list[str]:
    """Return the types that a schema allows, null last; guess them from its keywords."""
    given = flat.get("type")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list):
        return [kind for kind in _TYPES if kind in given]
    if "properties" in flat or "required" in flat:
        return ["object"]
    if "items" in flat or "prefixItems" in flat:
        return ["array"]
    if "minimum" in flat or "maximum" in flat or "multipleOf" in flat:
        return ["number"]
    return ["string", "integer", "boolean", "object", "array", "null"]


def _is_null(flat: Mapping[str, Any]) -> bool:
    return flat.get("type") == "null" or ("const" in flat and flat["const"] is None)


def _list_texts(flat: Mapping[str, Any], name: str) -> Iterator[str]:
    given = flat.get("format")
    word = name.lower().replace("_", "-").rsplit("-", 1)[-1]
    known = [_TEXTS[key] for key in (given, word) if isinstance(key, str) and key in _TEXTS]
    texts = [*known, "test", *(_PATTERN_TEXTS if "pattern" in flat else ())]
    least, most = flat.get("minLength", 0), flat.get("maxLength", MOST_CHARS)
    allowed = MOST_PATTERN_CHARS if "pattern" in flat else MOST_CHARS
    if least > allowed:
        return
    for text in texts:
        yield text.ljust(int(least), text[-1])[: int(most)]


def _list_numbers(flat: Mapping[str, Any], *, whole: bool) -> Iterator[int | float]:
    """Yield one, then numbers at and between the bounds."""
    step = flat.get("multipleOf", 1 if whole else 0.5)
    lows = [flat[key] for key in ("minimum", "exclusiveMinimum") if key in flat]
    highs = [flat[key] for key in ("maximum", "exclusiveMaximum") if key in flat]
    numbers: list[int | float] = [1, *lows, *highs]
    for bound, sign, toward in [
        *((low, 1, math.ceil) for low in lows),
        *((high, -1, math.floor) for high in highs),
    ]:
        if abs(bound) <= MOST_INT:
            steps = toward(bound / step)
            numbers += [steps * step, (steps + sign) * step]
    numbers += [(low + high) / 2 for low in lows for high in highs if abs(low + high) <= MOST_INT]
    for number in (*numbers, step, 0):
        if abs(number) <= MOST_INT:
            yield int(number) if whole else number


def _write_blank(flat: Mapping[str, Any]) -> str:
    kind = flat.get("type")
    hints = [kind if isinstance(kind, str) else "any value"]
    if isinstance(flat.get("description"), str) and flat["description"].strip():
        hints.append(flat["description"].strip().splitlines()[0])
    return f"{BLANK}{', '.join(hints)}>"


def _read_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
