"""The reference target: a real, embedded hosted MCP server to run load tests against."""
