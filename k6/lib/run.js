// What all scenarios share: options, the probe in setup(), clients, the clock and the rate limit.
import { sleep } from 'k6';
import exec from 'k6/execution';
import { bearerOf, freshHeader } from './bearers.js';
import * as env from './env.js';
import { histograms } from './histograms.js';
import { buildClient } from './mcp.js';
import { recordHeld } from './metrics.js';
import { STOPPED } from './outcome.js';
import { PROTOCOLS, findEra, negotiate } from './protocol.js';
import { TREND_STATS, buildThresholds } from './thresholds.js';

export const CALL_LIMIT_MS = env.seconds('CALL_TIMEOUT_SECONDS') * 1000;
const URL = env.mcpUrl();
const HEADERS = env.extraHeaders();
const PROTOCOL = env.oneOf('MCP_PROTOCOL', PROTOCOLS);
const MAX_RATE = env.maxRate();
const PROBE_REQUESTS = 5; // of setup(), at most: it tries the revisions of both eras
const START_REQUESTS = 4; // of a cold start, at most: two that open, tools/list, DELETE
const MAX_NAME_LENGTH = 200; // of a server: k6 copies what setup() returns to every VU

export function buildOptions(scenarios, selectors, { trends = [], counters = [], parallel = 1 } = {}) {
  const { control, ...loads } = scenarios;
  const vus = Math.max(...Object.values(loads).map((load) => load.vus));
  env.checkLimits({ LIMIT_VUS: vus + (control === undefined ? 0 : control.vus) });
  return {
    scenarios,
    thresholds: buildThresholds(selectors, trends, counters),
    summaryTrendStats: TREND_STATS,
    systemTags: ['method', 'name', 'status', 'error_code', 'scenario', 'expected_response'],
    noVUConnectionReuse: true, // each session starts on a new connection
    maxRedirects: 0, // a bearer never follows a redirect
    batch: parallel, // calls of a session in parallel
    batchPerHost: parallel,
    setupTimeout: `${Math.max(60000, PROBE_REQUESTS * CALL_LIMIT_MS)}ms`,
    userAgent: 'mcp-loadtest',
    tlsAuth: env.tlsAuth(),
  };
}

// Returns an open client that has found out the protocol of the target. Its requests are not part of
// the figures. Throws if the target refuses it, which ends the run.
export function openProbe() {
  return negotiate(PROTOCOL, (protocol) => newClient(0, protocol, 'probe'), CALL_LIMIT_MS);
}

// setup(): what it returns describes the target to the VUs and the summary.
export function probe() {
  const client = openProbe();
  client.close(CALL_LIMIT_MS);
  return describeTarget(client);
}

export function describeTarget(client) {
  const { protocol } = client;
  const [name, version] = [client.server.name, client.server.version].map(textOrNull);
  return { began: Date.now(), server: { name, version, protocol, era: findEra(protocol) } };
}

function textOrNull(value) {
  return typeof value === 'string' ? value.slice(0, MAX_NAME_LENGTH) : null;
}

export function newClient(turn, protocol, rpc = null) {
  const bearer = bearerOf(turn);
  const target = { url: URL, headers: HEADERS, protocol, authorization: freshHeader(bearer) };
  const client = buildClient(target, rpc);
  client.bearer = bearer;
  return client;
}

// Milliseconds since the run began, more precise than Date.now().
let instance = null; // exec builds this object again at every access
export function clock() {
  instance = instance || exec.instance;
  return instance.currentTestRunDuration;
}

// Returns whether it had to wait. Throws if k6 ends the wait early, because it stops.
export function waitUntil(moment) {
  const left = moment - clock();
  if (left <= 0) return false;
  sleep(left / 1000);
  if (clock() < moment - 1) throw new Error(STOPPED);
  return true;
}

// Milliseconds between two calls of a VU with which all VUs together stay within the rate limit.
export function findPace(vus) {
  return (vus * 1000) / MAX_RATE;
}

let nextStart = 0; // of this VU, on the clock above

// Waits until this cold start is due, by its place among `rate` starts per second if they have a rate, and
// until the rate limit allows it; returns the time, at which its figures begin.
export function startInTurn(began, vus, rate) {
  if (rate !== null) {
    env.checkLimits({ LIMIT_RPS: rate * START_REQUESTS });
    const { iterationInTest, startTime } = exec.scenario;
    waitUntil(clock() - (Date.now() - startTime) + (iterationInTest * 1000) / rate);
  }
  const waited = waitUntil(nextStart);
  recordHeld(Number(waited));
  const now = clock();
  nextStart = (waited ? nextStart : now) + findPace(vus) * START_REQUESTS;
  histograms.begin(began, now);
  return now;
}
