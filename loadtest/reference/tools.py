"""The four tools for a workspace's NovaMart data, with their failures and their quota."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtest.reference import novamart
from loadtest.reference.accounts import Client
from loadtest.reference.deployment import Deployment
from loadtest.reference.knobs import parse_crowd, parse_latency
from loadtest.reference.rate_limits import Minute
from loadtest.reference.responses import iso_time, new_id
from loadtest.reference.sql import Rows, SqlEngine, ToolError

_KEPT_RESULTS = 1000

Result = dict[str, Any]


@dataclass(frozen=True)
class Principal:
    """The caller, from a verified bearer."""

    workspace_id: str | None
    client_id: str
    scopes: frozenset[str]
    expires_at: int


class _Arguments(BaseModel):
    model_config = ConfigDict(strict=True)


class ListEntities(_Arguments):
    """List the entities of this workspace."""

    filter: str | None = Field(default=None, description="part of a name or description")


class DescribeEntity(_Arguments):
    """Describe one entity, or several, with their columns."""

    name: str | None = Field(default=None, description="an entity's name")
    names: list[str] | None = Field(default=None, description="several entities' names")

    @model_validator(mode="after")
    def _one_of(self) -> "DescribeEntity":
        if (self.name is None) == (not self.names):
            raise ValueError("give either name or names")
        return self


class RunMetric(_Arguments):
    """Run a named metric."""

    id: str = Field(description="a metric's id, such as total_gmv")


class ExecuteSQL(_Arguments):
    """Run one read-only SQL statement over the workspace's entities."""

    sql: str = Field(description="one SELECT statement")
    explanation: str = Field(description="what the query is for")


@dataclass(frozen=True)
class Tool:
    """A tool: its arguments, its weight in the quota, and the function that runs it."""

    arguments: type[_Arguments]
    weight: int
    structured: bool
    run: Callable[[Principal, Any], Awaitable[Result]]

    def input_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments, without titles."""
        schema = self.arguments.model_json_schema()
        schema.pop("title")
        schema.pop("description")
        for described in schema["properties"].values():
            described.pop("title", None)
        return schema


class Toolbox:
    """Run tool calls; every failure is a result, never an exception."""

    def __init__(self, deployment: Deployment, engine: SqlEngine) -> None:
        self._deployment = deployment
        self._engine = engine
        self._dimensions = engine.dimensions
        self._latency = parse_latency(deployment.knobs.tool_latency)
        self._crowd = parse_crowd(deployment.knobs.crowd_latency)
        # The open sessions; the edge has them.
        self.sessions: Collection[str] = ()
        workers = deployment.knobs.tool_workers
        self._workers = asyncio.Semaphore(workers) if workers else nullcontext()
        self._spent = Minute(deployment.clock)
        self._limits: dict[tuple[str | None, str], int] = {}
        self._results: dict[tuple[str | None, str], tuple[float, Rows]] = {}
        self.tools = {
            "listEntities": Tool(ListEntities, 1, False, self._list_entities),
            "describeEntity": Tool(DescribeEntity, 1, False, self._describe_entity),
            "runMetric": Tool(RunMetric, 3, True, self._run_metric),
            "executeSQL": Tool(ExecuteSQL, 5, True, self._execute_sql),
        }

    async def call(self, principal: Principal, name: str, arguments: Any) -> Result:
        """Run one call; return its `CallToolResult` as a dict, with `isError` if it failed."""
        self._deployment.tool_calls += 1
        tool = self.tools.get(name)
        if tool is None:
            return _plain_error(f"Tool {name} not found")
        try:
            parsed = tool.arguments.model_validate(arguments or {})
        except ValidationError as failure:
            return _plain_error(f"Invalid arguments for tool {name}: {_describe(failure)}")
        try:
            self._charge(principal, tool.weight)
            async with self._workers:
                await self._misbehave()
                body = await tool.run(principal, parsed)
        except ToolError as failure:
            report = {"code": failure.code, "message": failure.message, **failure.details}
            return {**_text({**report, "request_id": new_id()}), "isError": True}
        result = {**_text(body), "structuredContent": body} if tool.structured else _text(body)
        if padding := self._deployment.knobs.reply_padding:
            result["content"].append({"type": "text", "text": "x" * padding})
        return result

    def _charge(self, principal: Principal, weight: int) -> None:
        """Charge the quota of the workspace and client, or refuse the call."""
        if not self._deployment.knobs.tool_quota:
            return
        key = (principal.workspace_id, principal.client_id)
        limit = self._limits.get(key)
        if limit is None:
            # Read at a client's first call and kept, so a later raise has no effect.
            with self._deployment.store.begin() as db:
                client = db.get(Client, principal.client_id)
            raised = client.requests_per_minute if client else None
            limit = self._limits[key] = raised or self._deployment.knobs.quota_units
        wait_seconds = self._spent.charge(key, weight, limit)
        if wait_seconds:
            self._deployment.quota_refusals += 1
            raise ToolError(
                "rate_limited",
                f"over {limit} units a minute for this client in this workspace",
                hint="slow down, or have an owner raise the client's rate limit",
                retry_after=int(wait_seconds) + 1,
            )

    async def _misbehave(self) -> None:
        """Add the latency and the failures of the knobs."""
        rng = self._deployment.rng
        if self._latency is not None:
            await asyncio.sleep(self._latency(rng))
        if self._crowd is not None:
            number, seconds = self._crowd
            await asyncio.sleep(max(0, len(self.sessions) - number) * seconds)
        share = self._deployment.knobs.error_share
        if share and rng.random() < share:
            raise ToolError("internal_error", "something went wrong")

    async def _list_entities(self, principal: Principal, arguments: ListEntities) -> Result:
        wanted = (arguments.filter or "").lower()
        entities = [
            {
                "name": name,
                "table": name,
                "description": novamart.ENTITIES[name].description,
                "source": "novamart",
            }
            for name in self._names(principal)
            if wanted in name or wanted in novamart.ENTITIES[name].description.lower()
        ]
        return {"count": len(entities), "entities": entities}

    async def _describe_entity(self, principal: Principal, arguments: DescribeEntity) -> Result:
        if arguments.name is not None:
            return {"found": True, "entity": self._find_entity(principal, arguments.name)}
        entities = [self._find_entity(principal, name) for name in arguments.names or []]
        return {"found": True, "count": len(entities), "entities": entities}

    def _find_entity(self, principal: Principal, name: str) -> Result:
        matches = self._names(principal).count(name)
        if not matches:
            raise ToolError(
                "unknown_entity",
                f'"{name}" is not an entity of this workspace',
                hint="listEntities names those that exist",
            )
        if matches > 1:
            raise ToolError("ambiguous_term", f'{matches} entities are called "{name}"')
        return {
            "table": name,
            "name": name,
            "type": novamart.ENTITIES[name].kind,
            "grain": novamart.ENTITIES[name].grain,
            "description": novamart.ENTITIES[name].description,
            "dimensions": self._dimensions[name],
        }

    async def _run_metric(self, principal: Principal, arguments: RunMetric) -> Result:
        metric = novamart.METRICS.get(arguments.id)
        tables = frozenset(self._names(principal))
        if metric is None or not tables:
            raise ToolError(
                "unknown_metric",
                f'"{arguments.id}" is not a metric of this workspace',
                hint="known: " + ", ".join(sorted(novamart.METRICS)) if tables else "no data yet",
            )
        result = await self._engine.run(metric.sql, tables)
        single = len(result.rows) == len(result.columns) == 1
        return {
            "id": arguments.id,
            "label": metric.label,
            "value": result.rows[0][result.columns[0]] if single else None,
            **_table(result),
            "sql": metric.sql,
            "executed_at": iso_time(self._deployment.clock()),
        }

    async def _execute_sql(self, principal: Principal, arguments: ExecuteSQL) -> Result:
        result = await self._find_rows(principal, arguments.sql)
        return {"explanation": arguments.explanation, **_table(result)}

    async def _find_rows(self, principal: Principal, sql: str) -> Rows:
        """Return the rows of a statement, from a cache if a knob allows it, else from a scan."""
        key, now = (principal.workspace_id, sql), self._deployment.clock()
        kept = self._results.get(key)
        if kept is not None and now - kept[0] < self._deployment.knobs.result_cache_seconds:
            return kept[1]
        rows = await self._engine.run(sql, frozenset(self._names(principal)))
        self._deployment.scans += 1
        if self._deployment.knobs.result_cache_seconds:
            if len(self._results) >= _KEPT_RESULTS:
                self._results.clear()
            self._results[key] = (now, rows)
        return rows

    def _names(self, principal: Principal) -> tuple[str, ...]:
        return self._deployment.entity_names(principal.workspace_id or "")


def _table(result: Rows) -> Result:
    return {
        "row_count": len(result.rows),
        "columns": result.columns,
        "rows": result.rows,
        "truncated": result.truncated,
    }


def _text(body: Result) -> Result:
    return {"content": [{"type": "text", "text": json.dumps(body, indent=2, ensure_ascii=False)}]}


def _plain_error(message: str) -> Result:
    text = f"MCP error -32602: {message}"
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _describe(failure: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in error['loc']) or 'arguments'}: {error['msg']}"
        for error in failure.errors(include_url=False, include_input=False)
    )
