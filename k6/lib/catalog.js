// What a target lists, and what each of our tools answers to one call.
import { buildCall } from './mcp.js';
import { OK } from './outcome.js';
import { readAnswer } from './reply.js';

const MOST_PAGES = 50;
const MOST_TOOLS = 2000;
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/; // a header's name (RFC 9110, section 5.6.2)
const DEEPEST_PATH = 8;

// Every tool that is listed, page by page, with `mirrored`: the arguments that headers must repeat.
export function listTools(client, timeoutMs) {
  let tools = [];
  let cursor = null;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const outcome = client.list(timeoutMs, cursor);
    if (outcome !== OK) throw new Error(`the target answers tools/list with ${outcome}`);
    const { result } = client.answer;
    tools = tools.concat(Array.isArray(result.tools) ? result.tools : []);
    cursor = result.nextCursor;
    if (typeof cursor !== 'string' || tools.length > MOST_TOOLS) break;
  }
  if (typeof cursor === 'string' || tools.length > MOST_TOOLS) {
    throw new Error(`the target lists more than ${MOST_TOOLS} tools, or ${MOST_PAGES} pages of them`);
  }
  const named = tools.filter((tool) => tool && typeof tool.name === 'string');
  return named.map((tool) => ({ ...tool, mirrored: listMirrored(tool.inputSchema) }));
}

// The arguments that a tool wants repeated in headers, by the path to each (MCP 2026-07-28,
// Streamable HTTP, Custom Headers from Tool Parameters).
function listMirrored(schema, path = []) {
  const properties = (schema && schema.properties) || {};
  return Object.entries(properties).flatMap(([key, inner]) => {
    const here = path.concat(key);
    const header = inner && inner['x-mcp-header'];
    const own = typeof header === 'string' && TOKEN.test(header) ? [{ path: here, header }] : [];
    return own.concat(here.length < DEEPEST_PATH ? listMirrored(inner, here) : []);
  });
}

// One call of each tool, and one more where it fails: a server's bad luck is no wrong argument. Where
// one of ours is missing nothing is called: the table is another server's.
export function callEach(client, pools, listed, timeoutMs) {
  const found = new Map(listed.map((tool) => [tool.name, tool]));
  if (!pools.every(({ tool }) => found.has(tool))) return [];
  client.beginCalls();
  return pools.map(({ tool, arguments: [args] }) => {
    const call = buildCall(client.protocol, tool, args, found.get(tool).mirrored);
    let outcome = client.call(call, timeoutMs);
    if (outcome !== OK && outcome !== 'rate_limited') outcome = client.call(call, timeoutMs);
    const { duration } = client.response.timings;
    return { tool, outcome, said: outcome === OK ? '' : quote(client), duration_ms: duration };
  });
}

// What came back in place of a result, in the target's words.
function quote({ response, id }) {
  const { error, result } = readAnswer(response, id) || {};
  if (error) return `${error.code} ${error.message}`;
  const [first] = (result && result.content) || [];
  if (first && typeof first.text === 'string') return first.text;
  return response.error || `HTTP ${response.status} ${response.body || ''}`;
}
