export default { port: 3000, fetch: () => new Response("the MCP server of the shop") };
