"""An MCP session over a plain socket: what a call takes where no k6 is."""

import http.client
import json
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from loadtest.state.bearers import read_bearers
from tests.bench.k6_runs import Place


class PlainClient:
    """A client of the reference target; a context manager that opens and deletes the session."""

    def __init__(self, place: Place) -> None:
        (bearer,) = read_bearers(place.bearer_file)
        parts = urlsplit(place.mcp_url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        self._headers = {
            "Authorization": f"Bearer {bearer.access_token.get_secret_value()}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }

    def __enter__(self) -> Self:
        info = {"name": "bench", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        self.ask("initialize", params)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.request("DELETE", self._path, headers=self._headers)
        self._connection.close()

    def call(self, tool: str) -> Any:
        """Call a tool without arguments and return its result."""
        return self.ask("tools/call", {"name": tool, "arguments": {}})

    def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request and return the result of its answer."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._connection.request("POST", self._path, body.encode(), self._headers)
        response = self._connection.getresponse()
        text = response.read().decode()
        if method == "initialize":
            self._headers["Mcp-Session-Id"] = response.headers["mcp-session-id"]
        return json.loads(text.partition("data: ")[2])["result"]
