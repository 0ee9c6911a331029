"""The server under test: started or reached, its REST endpoints, its MCP endpoint."""
