"""Keep the performance of a hosted, OAuth-protected MCP server measured."""

__version__ = "0.1.0"
