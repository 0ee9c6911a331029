"""Load-test a hosted, OAuth-protected MCP server and compare its performance over time."""

__version__ = "0.1.0"
