// A server of version 2 of the MCP TypeScript SDK that speaks 2026-07-28 alone.

import { createServer } from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod/v4';

function buildServer() {
  const server = new McpServer({ name: 'modern', version: '1.0.0' });
  const description = 'Return the text in capitals.';
  const annotations = { readOnlyHint: true };
  const inputSchema = z.object({ text: z.string() });
  server.registerTool('shout', { description, annotations, inputSchema }, ({ text }) => ({
    content: [{ type: 'text', text: text.toUpperCase() }],
  }));
  return server;
}

createServer(toNodeHandler(createMcpHandler(buildServer, { legacy: 'reject' }))).listen(
  0,
  '127.0.0.1',
);
