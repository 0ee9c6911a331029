// The only reader of __ENV: every knob by name, one clear line for a missing or malformed one.

const HEADER_SAFE = /^[\x21-\x7e]+$/;

function fail(name, expected) {
  throw new Error(`${name} must be ${expected}`);
}

function text(name, expected, fallback) {
  const value = (__ENV[name] || '').trim() || fallback;
  if (value === undefined) fail(name, `set: ${expected}`);
  return value;
}

function number(name, expected, check, fallback) {
  const raw = text(name, expected, fallback === undefined ? undefined : String(fallback));
  const value = /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : NaN;
  if (!check(value)) fail(name, expected);
  return value;
}

export function wholeNumber(name, fallback) {
  return number(name, 'a whole number above 0', (n) => Number.isInteger(n) && n > 0, fallback);
}

export function optionalRate(name) {
  return __ENV[name] ? number(name, 'a number of calls per second above 0', (n) => n > 0) : null;
}

export function seconds(name, fallback) {
  return number(name, 'a number of seconds above 0', (n) => n > 0, fallback);
}

export function share(name, fallback) {
  return number(name, 'a share between 0 and 1', (n) => n >= 0 && n <= 1, fallback);
}

export function wholeNumbers(name) {
  const expected = 'different whole numbers above 0, separated by commas';
  const values = text(name, expected).split(',').map((part) => Number(part.trim() || NaN));
  const fine = values.every((n) => Number.isInteger(n) && n > 0);
  if (!fine || new Set(values).size !== values.length) fail(name, expected);
  return values;
}

export function oneOf(name, choices, fallback) {
  const value = text(name, `one of ${choices.join(', ')}`, fallback);
  if (!choices.includes(value)) fail(name, `one of ${choices.join(', ')}`);
  return value;
}

export function mcpUrl() {
  const value = text('MCP_URL', 'the http(s) address of the MCP endpoint');
  if (!/^https?:\/\/[^\s/?#@]+\/[^\s#]*$/.test(value)) {
    fail('MCP_URL', 'an http(s) address with a path, without user or fragment');
  }
  const host = __ENV.LIMIT_HOST;
  if (host && value.split('/')[2] !== host) fail('MCP_URL', `on ${host}, as the environment says`);
  return value;
}

// What the environment bears at most, looked at once more before the first request.
export function checkLimits(asked) {
  for (const [name, value] of Object.entries(asked)) {
    const most = Number(__ENV[name] || Infinity);
    if (value > most) throw new Error(`${name} is ${most}, asked for ${value}`);
  }
}

// Calls per second that the environment bears at most, by all VUs of all runners.
export function mostRate() {
  return Number(__ENV.LIMIT_RPS || Infinity);
}

// A path, or stdout.
export function summaryFile() {
  return text('SUMMARY_FILE', 'the path that the summary is written to');
}

// Whether this k6 is one of a fleet: its VUs tell what they have seen.
export function tells() {
  return __ENV.TALLY === 'true';
}

// Where a fresh bearer is asked for, its secret path included; null where none can be had.
export function renewalUrl() {
  return __ENV.RENEWAL_URL || null;
}

// What opens a Kubernetes Secret, where fresh bearers lie in one; else null.
export function clusterToken() {
  const parse = (body) => body.trim();
  return __ENV.RENEWAL_TOKEN_FILE ? readFile('RENEWAL_TOKEN_FILE', 'readable file', parse) : null;
}

// Init context only. Messages name the variable, never what the file holds.
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

// Each tool of the table by name, weight and arguments.
export function toolPools() {
  const { tools } = jsonFile('TOOLS_FILE') || {};
  const pools = Object.entries(tools || {}).map(([tool, pool]) => ({ tool, ...pool }));
  const fine = pools.every(
    ({ weight, arguments: all }) => Number.isInteger(weight) && weight > 0 && all && all.length > 0,
  );
  if (!pools.length || !fine) fail('TOOLS_FILE', 'a table of tools with a weight and arguments each');
  return pools;
}

// Per OAuth client a token and when it expires, in ms since the epoch; `serial` counts renewals.
export function bearers() {
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
