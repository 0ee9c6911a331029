"""Run read-only SQL on the NovaMart file, checked and limited by DuckDB itself."""

import asyncio
import datetime
import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb

from loadtest.reference.novamart import read_dimensions

MAX_ROWS = 1000
MAX_SQL_CHARACTERS = 20_000
QUERY_SECONDS = 10.0
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat"})
"""Table functions that read only their arguments; all others are refused."""

_WIDE = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT", "BIGNUM")
_CACHED_PLANS = 512


class ToolError(Exception):
    """The tool call is answered with `isError` and a code."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


@dataclass(frozen=True)
class Rows:
    """A result for JSON: at most 1,000 rows, with large integers and decimals as strings."""

    columns: list[str]
    rows: list[dict[str, Any]]
    truncated: bool


@dataclass
class _Job:
    """A running query; `interrupt` does nothing after its end."""

    cursor: duckdb.DuckDBPyConnection | None = None

    def interrupt(self) -> None:
        cursor = self.cursor
        if cursor is not None:
            cursor.interrupt()


class SqlEngine:
    """Run SELECT statements on worker threads, each with its own DuckDB cursor.

    The connection is read-only, without access to files and network, and its configuration is
    locked; DuckDB's parser finds out what a statement is and reads. Raises `ToolError` with
    `validation_failed` or `unknown_entity`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, query_seconds: float) -> None:
        self._connection = connection
        self._query_seconds = query_seconds
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="sql")
        self._tables: dict[str, frozenset[str] | ToolError] = {}
        self.dimensions = read_dimensions(connection)

    async def run(self, sql: str, tables: frozenset[str]) -> Rows:
        """Run one statement that may read only `tables`, for at most `query_seconds`."""
        loop = asyncio.get_running_loop()
        job = _Job()
        timer = loop.call_later(self._query_seconds, job.interrupt)
        try:
            return await loop.run_in_executor(self._pool, self._run, job, sql, tables)
        finally:
            timer.cancel()
            job.interrupt()

    def close(self) -> None:
        """Stop the workers and close the file; a running query ends within its limit."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._connection.close()
        del self._connection  # DuckDB complains on stderr of one that outlives the interpreter

    def _run(self, job: _Job, sql: str, tables: frozenset[str]) -> Rows:
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = self._connection.cursor()
        job.cursor = cursor
        try:
            unknown = sorted(self._read_tables(cursor, sql) - tables)
            if unknown and not _is_file(unknown[0]):
                raise ToolError(
                    "unknown_entity",
                    f'"{unknown[0]}" is not an entity of this workspace',
                    hint="listEntities names those that exist",
                )
            if unknown:
                raise ToolError("validation_failed", "files cannot be read")
            return _fetch_rows(cursor.execute(sql))
        except duckdb.InterruptException:
            raise ToolError(
                "validation_failed",
                f"the query took longer than {self._query_seconds:g} s",
                hint="read less, or aggregate",
            ) from None
        except duckdb.Error as failure:
            raise ToolError("validation_failed", _first_line(failure)) from None
        finally:
            job.cursor = None

    def _read_tables(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> frozenset[str]:
        """Return the tables that `sql` reads; refuse anything but one SELECT."""
        found = self._tables.get(sql)
        if found is None:
            try:
                found = _parse_tables(cursor, sql)
            except ToolError as failure:
                found = failure
            if len(self._tables) >= _CACHED_PLANS:
                self._tables.clear()
            self._tables[sql] = found
        if isinstance(found, ToolError):
            raise ToolError(found.code, found.message, **found.details)
        return found


def _parse_tables(cursor: duckdb.DuckDBPyConnection, sql: str) -> frozenset[str]:
    if len(sql) > MAX_SQL_CHARACTERS:
        raise ToolError(
            "validation_failed", f"the statement is over {MAX_SQL_CHARACTERS} characters"
        )
    try:
        statements = cursor.extract_statements(sql)
    except duckdb.Error as failure:
        raise ToolError("validation_failed", _first_line(failure)) from None
    if len(statements) != 1:
        raise ToolError("validation_failed", "exactly one statement is accepted")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise ToolError("validation_failed", "only SELECT statements are accepted")
    row = cursor.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        raise ToolError("validation_failed", "only SELECT statements are accepted")
    names: set[str] = set()
    local: set[str] = set()
    for node in _walk(tree):
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            function = node["function"]["function_name"].lower()
            if function not in TABLE_FUNCTIONS:
                raise ToolError("validation_failed", f"{function}() cannot be read from")
        elif kind == "BASE_TABLE":
            schema = node.get("schema_name") or "main"
            table = node["table_name"].lower()
            names.add(table if schema == "main" else f"{schema}.{table}")
        elif kind == "SHOW_REF" and node.get("table_name"):
            raise ToolError("validation_failed", "only SELECT statements are accepted")
        if isinstance(node.get("cte_map"), dict):
            local.update(entry["key"].lower() for entry in node["cte_map"]["map"])
    return frozenset(names - local)


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON tree, without recursion, because statements may nest deeply."""
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            yield current
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)


def _is_file(name: str) -> bool:
    """Return whether DuckDB would treat a table's name as a file or an address."""
    return "/" in name or name.endswith((".csv", ".tsv", ".parquet", ".json", ".jsonl", ".ndjson"))


def _fetch_rows(cursor: duckdb.DuckDBPyConnection) -> Rows:
    described = cursor.description or []
    columns = [str(column[0]) for column in described]
    wide = [str(column[1]) in _WIDE for column in described]
    try:
        fetched = cursor.fetchmany(MAX_ROWS + 1)
    except duckdb.InvalidInputException:
        # Values with a time zone need a library that we do not depend on.
        raise ToolError(
            "validation_failed",
            "a column cannot be read",
            hint="cast TIMESTAMP WITH TIME ZONE to TIMESTAMP",
        ) from None
    rows = [
        {
            name: str(value) if is_wide and value is not None else to_json(value)
            for name, is_wide, value in zip(columns, wide, row, strict=True)
        }
        for row in fetched[:MAX_ROWS]
    ]
    return Rows(columns, rows, truncated=len(fetched) > MAX_ROWS)


def to_json(value: Any) -> Any:
    """Return a DuckDB value for JSON; types that JSON lacks become strings."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) < 2**53 else str(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return str(value)
        case datetime.datetime():
            return value.isoformat(timespec="milliseconds") + "Z"
        case datetime.date():
            return value.isoformat()
        case bytes():
            return value.hex()
        case list() | tuple():
            return [to_json(item) for item in value]
        case dict():
            return {str(key): to_json(item) for key, item in value.items()}
    return str(value)


def _first_line(failure: duckdb.Error) -> str:
    return str(failure).partition("\n")[0][:300]
