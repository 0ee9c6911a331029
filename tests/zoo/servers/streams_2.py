"""A server of version 2 of the MCP Python SDK with a tool, and with room for three streams."""

import socket
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool

MOST_STREAMS = 3
TOOL = Tool(
    name="add",
    input_schema={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
)


async def list_tools(_context: Any, _params: Any) -> ListToolsResult:
    return ListToolsResult(tools=[TOOL])


async def call_tool(_context: Any, params: Any) -> CallToolResult:
    total = params.arguments["a"] + params.arguments["b"]
    return CallToolResult(content=[TextContent(type="text", text=str(total))])


server: Server[Any] = Server(
    "Streams",
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_subscriptions_listen=ListenHandler(
        InMemorySubscriptionBus(), max_subscriptions=MOST_STREAMS
    ),
)

with socket.create_server(("127.0.0.1", 0)) as listener:
    config = uvicorn.Config(server.streamable_http_app(), log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])
