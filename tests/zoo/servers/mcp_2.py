"""A server of version 2 of the MCP Python SDK whose tool takes 1.2 s."""

import asyncio
import socket

import uvicorn
from mcp.server import MCPServer

SECONDS = 1.2

server = MCPServer("Slow")


@server.tool()
async def report(year: int) -> str:
    """Write a report about a year."""
    await asyncio.sleep(SECONDS)
    return f"the report of {year}"


with socket.create_server(("127.0.0.1", 0)) as listener:
    config = uvicorn.Config(server.streamable_http_app(), log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])
