// Before a run: describes the target, lists its tools, and calls each entry of the table once.
import { callEach, callsTools, listTools } from './lib/catalog.js';
import * as env from './lib/env.js';
import { pickHeaders } from './lib/mcp.js';
import { CALL_LIMIT_MS, buildOptions, describeTarget, openProbe } from './lib/run.js';

const FILE = env.summaryFile();
const pools = env.toolPools();
const calledMs = pools.reduce((sum, pool) => sum + (pool.steps || pool.arguments).length * pool.limitMs, 0);

export const options = {
  ...buildOptions({ preflight: { executor: 'shared-iterations', vus: 1, iterations: 1 } }, []),
  setupTimeout: `${5 * CALL_LIMIT_MS + 2 * calledMs}ms`,
};

export function setup() {
  const client = openProbe();
  try {
    const tools = pools.some(callsTools) ? listTools(client, CALL_LIMIT_MS) : [];
    const answers = callEach(client, pools, tools);
    const limits = pickHeaders(client.response.headers, /^(x-)?rate-?limit/i);
    return { ...describeTarget(client), tools, answers, limits };
  } finally {
    client.close(CALL_LIMIT_MS);
  }
}

export default function nothing() {}

export function handleSummary(data) {
  return { [FILE]: JSON.stringify({ version: 1, ...data.setup_data }) };
}
