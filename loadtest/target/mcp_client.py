"""Call the MCP endpoint of a workspace through the client of the official SDK."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from loadtest.common.access import build_authorization
from loadtest.common.interruption import run_coroutine
from loadtest.common.network import find_proxy
from loadtest.common.parsing import parse_json
from loadtest.common.redaction import SecretStr, learn
from loadtest.errors import ProvisionError
from loadtest.target.rate_limits import RateLimits, read_rate_limits

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import httpx2
    from mcp.client import Client

CALL_SECONDS = 30.0
# Limit of a whole session, from connecting to the last answer; a wait for the quota restarts it.
VISIT_SECONDS = 120.0
# A quota counts a sliding minute: after two waits, others use it up, and more waiting is useless.
QUOTA_WAITS = 2
MOST_TOOL_PAGES = 50
MOST_TOOLS = 2000
# Limit of one answer, and of the stream that stays open beside the calls.
MOST_BYTES = 16 * 2**20
QUOTA_WINDOW_SECONDS = 61

_T = TypeVar("_T")


@dataclass(frozen=True)
class Greeting:
    """What an endpoint reports about itself without a tool call.

    `name` is the server's own, `server` that with its version. `limits` is what its RateLimit
    headers announce, if it sends them.
    """

    name: str
    server: str
    protocol: str
    tools: frozenset[str]
    limits: RateLimits | None


class WorkspaceClient:
    """A workspace as an MCP client sees it; each method call is one MCP session.

    `refusal_status` is the HTTP status of the last answer if that was a refusal.
    """

    def __init__(
        self,
        mcp_url: str,
        bearer: SecretStr,
        say: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._mcp_url = mcp_url
        self._bearer = bearer
        self._say = say
        self._pause = pause
        self._refusal = ""
        self._limits: RateLimits | None = None
        self.refusal_status: int | None = None

    def greet(self) -> Greeting:
        """Open a session, list the tools, close it; call no tool and use no quota."""
        return self._visit(self._greet)

    def call_tool(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Call a tool once; raise ProvisionError if it answers an error."""
        self._visit(lambda client: self._call(client, name, dict(arguments)))

    def fetch_entity_names(self) -> list[str]:
        """Return the entities' names from `listEntities`; none if there is no data."""
        return self._visit(self._list_entities)

    def check_tools(self, names: Sequence[str]) -> None:
        """Call each of the other three tools once, cheaply; raise ProvisionError if one fails.

        Together they cost 9 of a client's 60 units per minute (wire contract, "quota").
        """
        name = "orders" if "orders" in names else names[0]
        self._visit(lambda client: self._check_tools(client, name))

    async def _greet(self, client: "Client") -> Greeting:
        names: set[str] = set()
        cursor: str | None = None
        for _ in range(MOST_TOOL_PAGES):
            page = await client.list_tools(cursor=cursor)
            names |= {tool.name for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None or len(names) > MOST_TOOLS:
                break
        if cursor is not None or len(names) > MOST_TOOLS:
            raise ProvisionError(
                f"{self._mcp_url} lists more than {MOST_TOOLS} tools or {MOST_TOOL_PAGES} pages of "
                "tools"
            )
        info = client.server_info
        name = info.name if info else ""
        server = f"{name} {info.version}" if info else "an unnamed server"
        return Greeting(name, server, client.protocol_version, frozenset(names), self._limits)

    async def _list_entities(self, client: "Client") -> list[str]:
        body = await self._call(client, "listEntities", {})
        try:
            return [str(entity["name"]) for entity in body["entities"]]
        except (KeyError, TypeError):
            raise ProvisionError("listEntities did not answer with entities") from None

    async def _check_tools(self, client: "Client", name: str) -> None:
        sql = {"sql": f"SELECT COUNT(*) AS n FROM {name}", "explanation": "is the data there"}  # noqa: S608
        await self._call(client, "describeEntity", {"name": name})
        await self._call(client, "runMetric", {"id": "total_gmv"})
        body = await self._call(client, "executeSQL", sql)
        if body.get("row_count") != 1:
            rows = body.get("row_count")
            raise ProvisionError(f"executeSQL answered a count of {name} with {rows} rows, not 1")

    async def _call(self, client: "Client", tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        for waits_left in range(QUOTA_WAITS, -1, -1):
            result = await client.call_tool(tool, arguments)
            text = getattr(result.content[0], "text", "") if result.content else ""
            body = _parse(text)
            if not result.is_error:
                return body
            if body.get("code") != "rate_limited":
                raise ProvisionError(f"{tool} answered an error: {_quote(body) or text[:200]}")
            wait_seconds = _parse_wait(body.get("retry_after"))
            if not waits_left:
                break
            self._say(f"{tool} is over the quota: waiting {wait_seconds:.0f} s")
            now = asyncio.get_running_loop().time()
            self._deadline.reschedule(now + wait_seconds + VISIT_SECONDS)
            await asyncio.to_thread(self._pause, wait_seconds)
        raise ProvisionError(
            f"{tool} is rate limited ({_quote(body)}): others use up the quota of this client in "
            "this workspace, or it is smaller than one call; wait, or have an owner raise it"
        )

    def _visit(self, act: "Callable[[Client], Awaitable[_T]]") -> _T:
        # The SDK logs what it also raises, with a traceback that holds the server's reply.
        logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
        try:
            return run_coroutine(self._bound(act))
        except BaseExceptionGroup as failures:
            failure = _first(failures)
        except Exception as alone:  # noqa: BLE001 (only network and protocol errors are handled)
            failure = alone
        if isinstance(failure, ProvisionError) or not _is_of_the_wire(failure):
            raise failure
        reason = self._refusal or _describe(failure)
        raise ProvisionError(
            f"{self._mcp_url} does not answer as an MCP server ({reason})"
        ) from None

    async def _note_refusal(self, response: "httpx2.Response") -> None:
        """Keep the edge's own error; the SDK raises the same message for all of them."""
        learn(response.headers.get("mcp-session-id"))
        self._refusal = ""
        self.refusal_status = None
        self._limits = read_rate_limits(response.headers) or self._limits
        if response.status_code >= 400:
            self.refusal_status = response.status_code
            await response.aread()
            quoted = _quote(_parse(response.text))
            self._refusal = f"HTTP {response.status_code}" + (f": {quoted}" if quoted else "")

    async def _bound(self, act: "Callable[[Client], Awaitable[_T]]") -> _T:
        try:
            async with asyncio.timeout(VISIT_SECONDS) as self._deadline:
                return await self._open(act)
        except TimeoutError:
            raise ProvisionError(
                f"{self._mcp_url} is too slow: it has not answered all requests after "
                f"{VISIT_SECONDS:.0f} s; check the server, then run this again"
            ) from None

    async def _open(self, act: "Callable[[Client], Awaitable[_T]]") -> _T:
        from mcp.client import Client
        from mcp.client.streamable_http import streamable_http_client

        from loadtest.common.http import AsyncTransport, open_async_client

        find_proxy(self._mcp_url)  # raises our error, which the SDK's client would wrap
        hooks = {"response": [self._note_refusal]}
        async with (
            open_async_client(
                CALL_SECONDS,
                transport=AsyncTransport(MOST_BYTES),
                headers=build_authorization(self._bearer),
                event_hooks=hooks,
            ) as http,
            Client(
                streamable_http_client(self._mcp_url, http_client=http),
                read_timeout_seconds=CALL_SECONDS,
            ) as client,
        ):
            return await act(client)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the most useful failure: a ProvisionError if there is one."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [failures]
    while pending:
        failure = pending.pop(0)
        if isinstance(failure, BaseExceptionGroup):
            pending += failure.exceptions
        else:
            leaves.append(failure)
    return next((leaf for leaf in leaves if isinstance(leaf, ProvisionError)), leaves[0])


def _is_of_the_wire(failure: BaseException) -> bool:
    import httpx2
    from mcp.shared.exceptions import MCPError

    return isinstance(failure, OSError | httpx2.HTTPError | MCPError | ValidationError)


def _describe(failure: BaseException) -> str:
    """Return one line; never quote a reply that does not follow the protocol."""
    lines = str(failure).splitlines()
    if isinstance(failure, ValidationError) or not lines:
        return f"{type(failure).__name__} in its answer"
    return lines[0][:200]


def _parse(text: str) -> dict[str, Any]:
    try:
        body = parse_json(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _quote(body: dict[str, Any]) -> str:
    """Quote an error of a tool, of the edge or of JSON-RPC."""
    inner = body.get("error")
    error = inner if isinstance(inner, dict) else body
    parts = [error[key] for key in ("code", "error", "message") if error.get(key)]
    return ": ".join(map(str, parts))[:200]


def _parse_wait(given: object) -> float:
    if isinstance(given, int | float) and 1 <= given <= QUOTA_WINDOW_SECONDS:
        return float(given)
    return QUOTA_WINDOW_SECONDS
