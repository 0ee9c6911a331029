"""The reference target: an embedded, real MCP server to run load tests against."""
