"""A server of FastMCP with the OAuth for demonstrations that it contains."""

import os
import socket

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth.auth import ClientRegistrationOptions
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider

NOTES = {number: f"note {number} about invoices" for number in range(1, 101)}

registration = ClientRegistrationOptions(enabled=True)
provider = InMemoryOAuthProvider(
    base_url=os.environ["PUBLIC_ORIGIN"], client_registration_options=registration
)
server = FastMCP("Notes", auth=provider)


@server.tool(annotations={"readOnlyHint": True})
def search(query: str, limit: int = 5) -> list[int]:
    """Return the numbers of the notes that contain a word."""
    return [number for number, text in NOTES.items() if query in text][:limit]


@server.tool(annotations={"readOnlyHint": True})
def get_note(number: int) -> str:
    """Return a note."""
    return NOTES[number]


with socket.create_server(("127.0.0.1", 0)) as listener:
    config = uvicorn.Config(server.http_app(), log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])
