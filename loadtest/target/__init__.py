"""The server under test: start or reach it, call its REST endpoints and its MCP endpoint."""
