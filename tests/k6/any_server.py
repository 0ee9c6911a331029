"""An MCP server of the official SDK, with the tools that a test chooses."""

import asyncio
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager


@dataclass(frozen=True)
class AnyTool:
    """A tool with its input schema and its answer: a text, or a failure with a text."""

    schema: Mapping[str, Any]
    answer: str = "fine"
    fails: bool = False
    description: str | None = None
    read_only: bool = False
    destructive: bool | None = None


@dataclass
class AnyServer:
    """Serves tools on a loopback port inside a block.

    `called` keeps their arguments, `openers` the `Authorization` of each session's first request,
    `traces` the trace context of each call, in its header and in its `_meta`.
    With `key`, a request without this header and value is refused.
    """

    tools: Mapping[str, AnyTool]
    json_response: bool = True
    name: str = "any"
    version: str = "7"
    key: tuple[str, str] | None = None
    called: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    openers: list[str] = field(default_factory=list)
    traces: list[tuple[str | None, str | None]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.mcp_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/mcp"
        server: Server[Any] = Server(
            self.name, version=self.version, on_list_tools=self._list, on_call_tool=self._call
        )
        self._manager = StreamableHTTPSessionManager(server, json_response=self.json_response)
        config = uvicorn.Config(
            self._answer, interface="asgi3", lifespan="off", log_config=None, access_log=False
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._uvicorn.should_exit = True
        self._thread.join(10)
        self._socket.close()

    @property
    def open_sessions(self) -> int:
        """The number of open sessions."""
        return len(self._manager._server_instances)

    async def _serve(self) -> None:
        async with self._manager.run():
            await self._uvicorn.serve(sockets=[self._socket])

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        if b"mcp-session-id" not in headers:
            self.openers.append(headers.get(b"authorization", b"").decode())
        if self.key and headers.get(self.key[0].lower().encode()) != self.key[1].encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._manager.handle_request(scope, receive, send)

    async def _list(self, _ctx: Any, params: Any) -> types.ListToolsResult:
        """List one tool per page."""
        names = list(self.tools)
        index = int(params.cursor) if params is not None and params.cursor else 0
        page = [self._describe(name) for name in names[index : index + 1]]
        more = str(index + 1) if index + 1 < len(names) else None
        return types.ListToolsResult(tools=page, next_cursor=more)

    def _describe(self, name: str) -> types.Tool:
        tool = self.tools[name]
        return types.Tool(
            name=name,
            description=tool.description,
            input_schema=dict(tool.schema),
            annotations=self._annotate(tool),
        )

    def _annotate(self, tool: AnyTool) -> types.ToolAnnotations | None:
        if not tool.read_only:
            return None
        return types.ToolAnnotations(read_only_hint=True, destructive_hint=tool.destructive)

    async def _call(self, ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        meta: dict[str, Any] = dict(params.meta or {})
        self.traces.append((ctx.request.headers.get("traceparent"), meta.get("traceparent")))
        self.called.append((params.name, params.arguments or {}))
        tool = self.tools[params.name]
        content = [types.TextContent(type="text", text=tool.answer)]
        return types.CallToolResult(content=list(content), is_error=tool.fails)
