"""Pools of values from which the arguments of calls are drawn: ranges, lists, files, templates."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from loadtest.common.files import read_whole
from loadtest.common.parsing import parse_json

# In arguments, `{"$pool": "customers.id"}` stands for a value of a pool, or a field of it.
REFERENCE = "$pool"
# In a template, `${customers.id}` does.
PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
POOL_NAME = re.compile(r"[A-Za-z_][\w-]*")
# k6 draws from 2^32 random numbers, so a larger range would have values that are never drawn.
MOST_VALUES = 2**32
# JavaScript rounds larger whole numbers.
MOST_INT = 2**53 - 1


@dataclass(frozen=True)
class Reference:
    """A reference to a pool, or to one field of its values: `path` has the names of that field."""

    pool: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.pool, *self.path))

    def follow(self, value: Any) -> Any:
        """Return the field of a value; raise KeyError if the value does not have it."""
        for name in self.path:
            if not isinstance(value, dict):
                raise KeyError(name)
            value = value[name]
        return value


@dataclass(frozen=True)
class Range:
    """Whole numbers at even distances."""

    first: int
    step: int
    size: int

    def pick(self, index: int) -> int:
        """Return the value at this place."""
        return self.first + index * self.step

    def dump(self) -> dict[str, Any]:
        """Return the pool as k6 reads it."""
        return {"first": self.first, "step": self.step, "size": self.size}


@dataclass(frozen=True)
class Values:
    """The values of a list or a file."""

    values: Sequence[Any]

    @property
    def size(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def pick(self, index: int) -> Any:
        """Return the value at this place."""
        return self.values[index]

    def dump(self) -> dict[str, Any]:
        """Return the pool as k6 reads it; its values are a part of their own."""
        return {"size": self.size}


@dataclass(frozen=True)
class Template:
    """A text with values of other pools in it."""

    parts: tuple[str | Reference, ...]

    def dump(self) -> dict[str, Any]:
        """Return the pool as k6 reads it."""
        parts = (part if isinstance(part, str) else {REFERENCE: str(part)} for part in self.parts)
        return {"parts": list(parts)}


ValuePool = Range | Values | Template


@dataclass(frozen=True)
class ValuePools:
    """The pools of a table by name. One call draws one value of each pool that it needs."""

    pools: Mapping[str, ValuePool] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.pools)

    def dump(self) -> dict[str, Any]:
        """Return the pools as k6 reads them, and the values of lists and files apart."""
        values = {
            name: list(pool.values) for name, pool in self.pools.items() if isinstance(pool, Values)
        }
        return {
            "pools": {name: pool.dump() for name, pool in self.pools.items()},
            "values": values,
        }

    def find_faults(self, arguments: Any) -> Iterator[str]:
        """Yield what is wrong with the references in the arguments of a call."""
        for reference in list_references(arguments):
            try:
                self._check_reference(reference)
            except ValueError as failure:
                yield str(failure)
        whole = _read_reference(arguments)
        pool = self.pools.get(whole.pool) if whole else None
        if isinstance(pool, Range | Template):
            yield f"the values of pool {whole} are not objects, but arguments must be"
        elif whole and isinstance(pool, Values):
            values = enumerate(pool.values)
            wrong = (n for n, value in values if not isinstance(_try_follow(whole, value), dict))
            if (index := next(wrong, None)) is not None:
                yield f"value {index} of pool {whole} is not an object, but arguments must be"

    def count(self, arguments: Any) -> int:
        """Return how many different arguments can be drawn: 1 if no pool is in them."""
        return math.prod(pool.size for pool in self._find_drawn(arguments).values())

    def spread(self, arguments: Any, most: int) -> Iterator[Any]:
        """Yield at most this many of the arguments that can be drawn, evenly from all pools."""
        drawn = self._find_drawn(arguments)
        count = min(most, max((pool.size for pool in drawn.values()), default=1))
        for number in range(count):
            picked = {
                name: pool.pick(number * (pool.size - 1) // max(1, count - 1))
                for name, pool in drawn.items()
            }
            yield self._fill(arguments, picked)

    def _find_drawn(self, value: Any) -> dict[str, Range | Values]:
        """Return the pools from which values are drawn, also those inside of templates."""
        found: dict[str, Range | Values] = {}
        for reference in list_references(value):
            pool = self.pools[reference.pool]
            if isinstance(pool, Template):
                found |= self._find_drawn(pool.dump()["parts"])
            else:
                found[reference.pool] = pool
        return found

    def _fill(self, value: Any, picked: Mapping[str, Any]) -> Any:
        if reference := _read_reference(value):
            pool = self.pools[reference.pool]
            if not isinstance(pool, Template):
                return reference.follow(picked[reference.pool])
            parts = (
                part if isinstance(part, str) else part.follow(picked[part.pool])
                for part in pool.parts
            )
            return "".join(part if isinstance(part, str) else json.dumps(part) for part in parts)
        if isinstance(value, dict):
            return {key: self._fill(inner, picked) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._fill(inner, picked) for inner in value]
        return value

    def check_template(self, template: Template) -> None:
        """Raise ValueError if a template does not refer to values that can be part of a text."""
        for reference in template.parts:
            if isinstance(reference, str):
                continue
            pool = self._check_reference(reference)
            if isinstance(pool, Template):
                raise ValueError(f"a template cannot contain pool {reference}, another template")
            values = pool.values if isinstance(pool, Values) else ()
            if any(isinstance(reference.follow(value), dict | list | None) for value in values):
                raise ValueError(f"pool {reference} has values that cannot be part of a text")

    def _check_reference(self, reference: Reference) -> ValuePool:
        """Return the pool of a reference; raise ValueError if it lacks the pool or the field."""
        pool = self.pools.get(reference.pool)
        if pool is None:
            known = ", ".join(self.pools) or "none"
            raise ValueError(f"there is no pool {reference.pool!r}; the table has {known}")
        if reference.path and not isinstance(pool, Values):
            raise ValueError(f"pool {reference.pool} has no field {'.'.join(reference.path)}")
        for index, value in enumerate(pool.values if isinstance(pool, Values) else ()):
            try:
                reference.follow(value)
            except KeyError as failure:
                missing = f"has no field {failure.args[0]}"
                raise ValueError(f"value {index} of pool {reference.pool} {missing}") from None
        return pool


def list_references(value: Any) -> Iterator[Reference]:
    """Yield the references to pools in the arguments of a call."""
    if reference := _read_reference(value):
        yield reference
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from list_references(inner)


def _read_reference(value: Any) -> Reference | None:
    text = value.get(REFERENCE) if isinstance(value, dict) and len(value) == 1 else None
    return _parse_reference(text) if isinstance(text, str) else None


def _parse_reference(text: str) -> Reference:
    pool, *path = text.split(".")
    return Reference(pool, tuple(path))


def _try_follow(reference: Reference, value: Any) -> Any:
    try:
        return reference.follow(value)
    except KeyError:
        return None


class PoolEntry(BaseModel):
    """A pool in a table: one of `range`, `list`, `file` and `template`."""

    model_config = ConfigDict(extra="forbid")

    span: tuple[Any, Any] | None = Field(default=None, alias="range")
    step: int = Field(default=1, ge=1, le=MOST_INT, strict=True)
    values: tuple[Any, ...] | None = Field(default=None, alias="list")
    file: str | None = None
    numbers: tuple[str, ...] = ()
    template: str | None = None
    about: str | None = None


def parse_pool(given: object, folder: Path) -> ValuePool:
    """Return the pool that a table describes; raise ValueError of one line.

    `folder` is where its file is looked for. What a template refers to is not yet checked.
    """
    entry = PoolEntry.model_validate(given)
    kinds = [entry.span, entry.values, entry.file, entry.template]
    if kinds.count(None) != len(kinds) - 1:
        raise ValueError("a pool has exactly one of range, list, file and template")
    if entry.span is None and entry.step != 1:
        raise ValueError("step is only for range")
    if entry.numbers and Path(entry.file or "").suffix.lower() != ".csv":
        raise ValueError("numbers is only for a CSV file: it names the columns that are numbers")
    if entry.span is not None:
        return _parse_range(*entry.span, entry.step)
    if entry.file is not None:
        return Values(_read_values(folder / entry.file, entry.file, entry.numbers))
    if entry.template is not None:
        return _parse_template(entry.template)
    if not entry.values:
        raise ValueError("the list is empty")
    return Values(entry.values)


def _parse_range(first: object, last: object, step: int) -> ValuePool:
    days = [_parse_day(bound) for bound in (first, last)]
    numbers = [bound for bound in (first, last) if type(bound) is int]
    bounds = [day.toordinal() for day in days if day is not None] or numbers
    if len(bounds) != 2:
        raise ValueError("range: expected two whole numbers, or two days such as 2026-01-31")
    size = (bounds[1] - bounds[0]) // step + 1
    if size < 1:
        raise ValueError(f"range: {first} to {last} has no values")
    if size > MOST_VALUES or max(map(abs, bounds)) > MOST_INT:
        raise ValueError(f"range: at most {MOST_VALUES} numbers, none beyond {MOST_INT}")
    if days[0] is None:
        return Range(bounds[0], step, size)
    every = timedelta(days=step)
    return Values(tuple(str(days[0] + number * every) for number in range(size)))


def _parse_day(bound: object) -> date | None:
    if type(bound) is date:
        return bound
    try:
        return date.fromisoformat(bound) if isinstance(bound, str) else None
    except ValueError:
        return None


def _parse_template(text: str) -> Template:
    parts = PLACEHOLDER.split(text)
    if len(parts) == 1:
        raise ValueError("template: nothing in it varies; it needs a pool such as ${name}")
    pairs = enumerate(parts)
    read = (_parse_reference(part) if index % 2 else part for index, part in pairs)
    return Template(tuple(part for part in read if part != ""))


def _read_values(path: Path, name: str, numbers: Sequence[str]) -> tuple[Any, ...]:
    readers: Mapping[str, Callable[[str], Iterable[Any]]] = {
        ".csv": partial(_read_csv, numbers=numbers),
        ".json": _read_json,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".txt": _list_lines,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{name} must end with one of {', '.join(readers)}")
    try:
        values = tuple(reader(read_whole(path).decode("utf-8-sig")))
    except FileNotFoundError:
        raise ValueError(f"{name} does not exist") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise ValueError(f"{name} cannot be read: {failure.__class__.__name__}") from None
    except (ValueError, csv.Error) as failure:
        raise ValueError(f"{name}: {failure}") from None
    if not values:
        raise ValueError(f"{name} is empty")
    return values


def _list_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _read_json(text: str) -> list[Any]:
    if not text.strip():
        return []
    values = parse_json(text)
    if not isinstance(values, list):
        raise ValueError("expected a JSON list of values")
    return values


def _read_json_lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield parse_json(line)
        except ValueError as failure:
            raise ValueError(f"line {number} is not valid JSON: {failure}") from None


def _read_csv(text: str, numbers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield each row as an object of texts; the columns of `numbers` become numbers."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = next(rows, [])
    if len(set(names)) != len(names):
        raise ValueError("its first line names a column twice")
    if unknown := [name for name in numbers if name not in names]:
        raise ValueError(f"it has no column {unknown[0]!r}, only {', '.join(names)}")
    for row in rows:
        if not row:
            continue
        if len(row) != len(names):
            where = f"line {rows.line_num} has {len(row)} cells"
            raise ValueError(f"{where}, but the first line names {len(names)} columns")
        entry: dict[str, Any] = dict(zip(names, row, strict=True))
        for name in numbers:
            entry[name] = _parse_number(entry[name], f"line {rows.line_num}, column {name}")
        yield entry


def _parse_number(text: str, where: str) -> int | float:
    try:
        number = parse_json(text)
    except ValueError:
        number = None
    if type(number) not in {int, float}:
        raise ValueError(f"{where}: {text[:40]!r} is not a number")
    return number  # type: ignore[no-any-return]
