// The tools of a target, and its answer to one call of each entry of the table.
import { Flow, followSteps } from './flows.js';
import { answerInputs, describeInputs } from './inputs.js';
import { buildCall } from './mcp.js';
import { INPUT_REQUIRED, NO_ARGUMENT, OK, SESSION_LOST } from './outcome.js';
import { readAnswer } from './reply.js';

const MAX_PAGES = 50;
const MAX_TOOLS = 2000;
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/; // name of a header: RFC 9110, section 5.6.2
const MAX_DEPTH = 8;
const MAX_LOST = 10; // sessions in which one request is tried

// Lists all tools, page by page. `mirrored` are the arguments that headers must repeat.
export function listTools(client, timeoutMs) {
  let tools = [];
  let cursor = null;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const outcome = inSession(client, timeoutMs, () => client.list(timeoutMs, cursor));
    if (outcome !== OK) throw new Error(`the target answers tools/list with ${outcome}`);
    const { result } = client.answer;
    tools = tools.concat(Array.isArray(result.tools) ? result.tools : []);
    cursor = result.nextCursor;
    if (typeof cursor !== 'string' || tools.length > MAX_TOOLS) break;
  }
  if (typeof cursor === 'string' || tools.length > MAX_TOOLS) {
    throw new Error(`the target lists more than ${MAX_TOOLS} tools, or ${MAX_PAGES} pages of them`);
  }
  const named = tools.filter((tool) => tool && typeof tool.name === 'string');
  return named.map((tool) => ({ ...tool, mirrored: listMirrored(tool.inputSchema) }));
}

// Returns the path and header of each argument that a header must repeat (MCP 2026-07-28,
// Streamable HTTP, Custom Headers from Tool Parameters).
function listMirrored(schema, path = []) {
  const properties = (schema && schema.properties) || {};
  return Object.entries(properties).flatMap(([key, inner]) => {
    const here = path.concat(key);
    const header = inner && inner['x-mcp-header'];
    const own = typeof header === 'string' && TOKEN.test(header) ? [{ path: here, header }] : [];
    return own.concat(here.length < MAX_DEPTH ? listMirrored(inner, here) : []);
  });
}

// Returns whether an entry of the table calls a tool that must be listed.
export function callsTools({ kind }) {
  return kind === 'tool' || kind === 'flow';
}

// Makes each call once, and again if that fails, because a failure may be an accident. If the target lacks
// a tool of the table, nothing is called: the table is for another server.
export function callEach(client, pools, listed) {
  const found = new Map(listed.map((tool) => [tool.name, tool]));
  const tools = pools.flatMap(({ steps, ...pool }) => steps || { ...pool, target: pool.tool });
  if (tools.some(({ kind, target }) => kind === 'tool' && !found.has(target))) return [];
  const mirror = (each, name) => ({ ...each, mirrored: (found.get(name) || {}).mirrored });
  followSteps(answerInputs(client)).beginCalls();
  return pools.flatMap((pool) => {
    if (pool.kind !== 'flow') return tryCalls(client, mirror(pool, pool.tool));
    const steps = pool.steps.map((step) => mirror(step, step.target));
    return tryFlow(client, { ...pool, steps });
  });
}

function tryCalls(client, pool) {
  return pool.arguments.map((args, index) => {
    const call = buildCall(client.protocol, pool, args);
    const callOnce = () => inSession(client, pool.limitMs, () => client.call(call, pool.limitMs));
    let outcome = callOnce();
    if (isFailed(outcome)) outcome = callOnce();
    return { ...describeAnswer(client, pool.tool, outcome, explain(client, outcome)), index };
  });
}

// Makes the steps of a flow until one fails.
function tryFlow(client, pool) {
  const flow = new Flow(pool, client.protocol, (list) => list[0], () => null);
  let answers = [];
  const follow = () => {
    let outcome = OK;
    answers = [];
    for (flow.begin(); !flow.hasEnded(); ) {
      const step = flow.next();
      outcome = client.call(step, step.limitMs);
      const message = outcome === NO_ARGUMENT ? flow.describeMissing() : explain(client, outcome);
      answers.push(describeAnswer(client, step.tool, outcome, message));
    }
    return outcome;
  };
  if (isFailed(inSession(client, pool.limitMs, follow))) inSession(client, pool.limitMs, follow);
  return answers;
}

function isFailed(outcome) {
  return outcome !== OK && outcome !== 'rate_limited';
}

function describeAnswer(client, tool, outcome, message) {
  const { duration } = client.response.timings;
  return { tool, index: 0, outcome, message, duration_ms: duration };
}

function explain(client, outcome) {
  if (outcome === OK) return '';
  return outcome === INPUT_REQUIRED ? describeInputs(client) : quote(client);
}

// Makes a request, and again in a new session while the server does not know its session.
function inSession(client, timeoutMs, request) {
  let outcome = request();
  for (let lost = 0; outcome === SESSION_LOST && lost < MAX_LOST; lost += 1) {
    client.noteLost();
    outcome = client.open(timeoutMs);
    if (outcome === OK) outcome = request();
  }
  return outcome;
}

// Returns the target's own text of a failure.
function quote({ response, id }) {
  const { error, result } = readAnswer(response, id) || {};
  if (error) return `${error.code} ${error.message}`;
  const [first] = (result && result.content) || [];
  if (first && typeof first.text === 'string') return first.text;
  return response.error || `HTTP ${response.status} ${response.body || ''}`;
}
