"""A server of version 1 of the MCP Python SDK with room for three sessions."""

import socket

import uvicorn
from mcp.server.fastmcp import FastMCP

MAX_SESSIONS = 3

server = FastMCP("Small")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


app = server.streamable_http_app()
server.session_manager.max_sessions = MAX_SESSIONS

with socket.create_server(("127.0.0.1", 0)) as listener:
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
