// The only module that reads __ENV. A missing or malformed variable is an error of one line with its name.
import { SharedArray } from 'k6/data';
import { parsePace } from './pace.js';

const HEADER_SAFE = /^[\x21-\x7e]+$/;

function fail(name, expected) {
  throw new Error(`${name} must be ${expected}`);
}

function text(name, expected) {
  const value = (__ENV[name] || '').trim();
  if (value === '') fail(name, `set: ${expected}`);
  return value;
}

function number(name, expected, check) {
  const raw = text(name, expected);
  const value = /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : NaN;
  if (!check(value)) fail(name, expected);
  return value;
}

export function wholeNumber(name) {
  return number(name, 'a whole number above 0', (n) => Number.isInteger(n) && n > 0);
}

export function optionalRate(name) {
  return __ENV[name] ? number(name, 'a number per second above 0', (n) => n > 0) : null;
}

export function pace(name) {
  return parsePace(text(name, 'a pace')) || fail(name, 'a pace such as 20 or exponential:20');
}

export function optionalPace(name) {
  return __ENV[name] ? pace(name) : null;
}

export function seconds(name) {
  return number(name, 'a number of seconds above 0', (n) => n > 0);
}

export function share(name) {
  return number(name, 'a share between 0 and 1', (n) => n >= 0 && n <= 1);
}

export function wholeNumbers(name) {
  const expected = 'different whole numbers above 0, separated by commas';
  const values = text(name, expected).split(',').map((part) => Number(part.trim() || NaN));
  const fine = values.every((n) => Number.isInteger(n) && n > 0);
  if (!fine || new Set(values).size !== values.length) fail(name, expected);
  return values;
}

export function oneOf(name, choices) {
  const value = text(name, `one of ${choices.join(', ')}`);
  if (!choices.includes(value)) fail(name, `one of ${choices.join(', ')}`);
  return value;
}

export function mcpUrl() {
  const value = text('MCP_URL', 'the http(s) address of the MCP endpoint');
  if (!/^https?:\/\/[^\s/?#@]+\/[^\s#]*$/.test(value)) {
    fail('MCP_URL', 'an http(s) address with a path, without user or fragment');
  }
  const host = __ENV.LIMIT_HOST;
  if (host && value.split('/')[2] !== host) fail('MCP_URL', `on ${host}, the host of the environment`);
  return value;
}

// Checks the limits of the environment once more before the first request.
export function checkLimits(requested) {
  for (const [name, value] of Object.entries(requested)) {
    const limit = Number(__ENV[name] || Infinity);
    const asked = name === 'LIMIT_RPS' ? value + controlRate() : value;
    if (asked > limit) throw new Error(`${name} is ${limit}, asked for ${asked}`);
  }
}

// Returns the rate limit of the environment: requests per second of all VUs of all runners.
export function limitRate() {
  return Number(__ENV.LIMIT_RPS || Infinity);
}

// Returns what the control leaves of it for calls.
export function maxRate() {
  return limitRate() - controlRate();
}

// Returns how often the control asks for its document, per second; null if there is no control.
export function controlRate() {
  return optionalRate('CONTROL_RPS');
}

// Returns the URL of the control's document, on the origin of the target; null if there is no control.
export function controlUrl() {
  if (controlRate() === null) return null;
  const path = text('CONTROL_PATH', 'the path of a document');
  if (!/^\/(?![/\\])[^\s#\\]*$/.test(path)) fail('CONTROL_PATH', 'the path of a document, without fragment');
  return mcpUrl().split('/').slice(0, 3).join('/') + path;
}

// Returns the headers that the target demands with every request; they may be secret.
export function extraHeaders() {
  return __ENV.MCP_HEADERS ? JSON.parse(__ENV.MCP_HEADERS) : {};
}

// Returns the client certificate that the host of the target demands, as k6's option `tlsAuth`.
export function tlsAuth() {
  const { TLS_CERTIFICATE: cert, TLS_KEY: key } = __ENV;
  return cert ? [{ domains: [mcpUrl().split('/')[2].replace(/:\d+$/, '')], cert, key }] : [];
}

// Returns a path or `stdout`.
export function summaryFile() {
  return text('SUMMARY_FILE', 'the path of the summary');
}

// Returns how long an interval of the histograms lasts; the preflight has none.
export function intervalMs() {
  return __ENV.INTERVAL_SECONDS ? seconds('INTERVAL_SECONDS') * 1000 : Infinity;
}

// Returns whether this k6 is one of several, whose figures are merged from the histograms of their VUs.
export function isOneOfSeveral() {
  return __ENV.HISTOGRAMS === 'true';
}

// Returns whether each session holds a stream open beside its calls.
export function holdsStreams() {
  return __ENV.STREAMS === 'true';
}

// Returns the URL for fresh bearers, which contains a secret path; null if bearers cannot be renewed.
export function renewalUrl() {
  return __ENV.RENEWAL_URL || null;
}

// Returns the token that reads the Kubernetes Secret with fresh bearers; null outside of a cluster.
export function clusterToken() {
  const parse = (body) => body.trim();
  return __ENV.RENEWAL_TOKEN_FILE ? readFile('RENEWAL_TOKEN_FILE', 'readable file', parse) : null;
}

// For the init context only. Messages name the variable and never quote the file.
function readFile(name, kind, parse) {
  const path = text(name, `the path of a ${kind}`);
  try {
    return parse(open(path));
  } catch (_) {
    return fail(name, `the path of a ${kind}`);
  }
}

function jsonFile(name) {
  return readFile(name, 'readable JSON file', JSON.parse);
}

// Returns the environment's own patterns of refusals, with expressions as RegExp.
export function refusals() {
  try {
    return JSON.parse(__ENV.REFUSALS || '[]').map(({ reason, status, headers, code, tool_error, text }) => ({
      reason,
      status,
      code,
      headers: mapValues(headers || {}, (value) => new RegExp(value, 'i')),
      toolError: tool_error && new RegExp(`^(?:${tool_error.map(escapeLiteral).join('|')})$`),
      text: text && new RegExp(text, 'i'),
    }));
  } catch (_) {
    return fail('REFUSALS', 'a JSON list of patterns, with expressions that JavaScript knows');
  }
}

function mapValues(object, change) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

function escapeLiteral(literal) {
  return literal.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

// Returns a part of the table of tools, which must be a list. Pools may have many values, so k6 keeps one
// copy for all VUs, and only one VU parses the file.
function shareTable(part, pick) {
  const kind = 'path of a readable JSON file';
  const path = text('TOOLS_FILE', kind);
  try {
    return new SharedArray(part, () => pick(JSON.parse(open(path))));
  } catch (_) {
    return fail('TOOLS_FILE', `the ${kind}`);
  }
}

function toolTable() {
  return shareTable('tools', ({ values: _, ...table }) => [table])[0];
}

// Returns the pools of values by name: a range, the parts of a template, or `values`.
export function valuePools() {
  const { pools = {} } = toolTable();
  const found = {};
  for (const [name, pool] of Object.entries(pools)) {
    const listed = !pool.step && !pool.parts;
    const values = listed && shareTable(`pool ${name}`, (table) => table.values[name]);
    found[name] = listed ? { size: pool.size, values } : pool;
  }
  return found;
}

// Returns what the table answers a server that asks for input: `elicitation`, `sampling` and `roots`.
export function inputAnswers() {
  return toolTable().answers || {};
}

// The sections of the table, and the kind of their entries.
const KINDS = {
  tools: 'tool',
  resources: 'resource',
  prompts: 'prompt',
  completions: 'completion',
  flows: 'flow',
};

// Returns each entry of the table with its name (`tool`), kind, weight, arguments and time limit.
export function toolPools() {
  const table = toolTable();
  const limit = seconds('CALL_TIMEOUT_SECONDS');
  const pools = Object.entries(KINDS).flatMap(([section, kind]) =>
    Object.entries(table[section] || {}).map(([tool, entry]) => {
      return { tool, kind, ...entry, limitMs: ((entry && entry.timeout_seconds) || limit) * 1000 };
    }),
  );
  const fine = pools.every(({ weight, arguments: all, steps = all }) => {
    return Number.isInteger(weight) && weight > 0 && steps && steps.length > 0;
  });
  if (!pools.length || !fine) fail('TOOLS_FILE', 'a table of tools with a weight and arguments each');
  return pools;
}

// Returns the token of each OAuth client and when it expires, in ms since the epoch; `serial` counts
// renewals. Null if the target takes no bearer.
export function bearers() {
  if (__ENV.MCP_BEARER_FILE === 'none') return null;
  return parseBearers(jsonFile('MCP_BEARER_FILE'));
}

export function parseBearers(body) {
  const serial = (body && body.serial) || 0;
  const entries = body && body.version === 2 && Array.isArray(body.bearers) ? body.bearers : [];
  const found = entries.map((entry) => ({
    serial,
    token: entry && entry.access_token,
    expiresAt: entry && entry.expires_at > 0 ? entry.expires_at * 1000 : Infinity,
  }));
  if (!found.length || !found.every(({ token }) => typeof token === 'string' && HEADER_SAFE.test(token))) {
    fail('MCP_BEARER_FILE', 'a bearer file of version 2 with an access_token per client');
  }
  return found;
}
