// What the three scenarios share: options, the probe in setup(), and one client's life by schedule.
import { sleep } from 'k6';
import exec from 'k6/execution';
import { bearerOf, cure, freshHeader } from './bearers.js';
import * as env from './env.js';
import { buildClient } from './mcp.js';
import { recordClosed, recordEnd, recordFailure, recordHeld, recordLateness } from './metrics.js';
import { recordOk, recordOpened, recordOpening, recordResponse } from './metrics.js';
import { buildMix } from './mix.js';
import { CUT_OFF, OK, TIMEOUT, UNAUTHORIZED } from './outcome.js';
import { AUTO, PROTOCOLS, findEra, negotiate } from './protocol.js';
import { tally } from './tally.js';
import { TREND_STATS, buildThresholds } from './thresholds.js';

const URL = env.mcpUrl();
const PROTOCOL = env.oneOf('MCP_PROTOCOL', PROTOCOLS, AUTO);
const CALL_MS = env.seconds('CALL_TIMEOUT_SECONDS', 30) * 1000;
const OPEN_SECONDS = env.seconds('OPEN_SECONDS', 1);
const DRAIN_SECONDS = env.seconds('DRAIN_SECONDS', 2);
const CLOSE_SECONDS = env.seconds('CLOSE_SECONDS', 1);
const FRESH_MS = 1000; // between two looks whether a bearer is still good
const START_REQUESTS = 4; // of a cold start, at most: those that open, the list, DELETE
const PAUSE_SECONDS = 1; // after an answer that says the target is down: never hammer it

const MOST_RATE = env.mostRate();
const LONGEST_NAME = 200; // of a server: k6 copies what setup() returns to every VU

const SEED = env.wholeNumber('SEED', 1);

// An imported or global name is looked up anew at every use, which a call is too short for.
const [FINE, noteOk, wallClock] = [OK, recordOk, Date.now];

export function buildOptions(scenarios, selectors) {
  env.checkLimits({ LIMIT_VUS: Math.max(...Object.values(scenarios).map(({ vus }) => vus)) });
  return {
    scenarios,
    thresholds: buildThresholds(selectors),
    summaryTrendStats: TREND_STATS,
    systemTags: ['method', 'name', 'status', 'error_code', 'scenario', 'expected_response'],
    noVUConnectionReuse: true, // each session starts on a connection of its own
    maxRedirects: 0, // a bearer never follows a redirect
    setupTimeout: '60s',
    userAgent: 'mcp-loadtest',
  };
}

// A slice: `vus` sessions for `seconds`, with room before to open them and after to close them.
// With a `rate` its calls are due at even distances, in turn; without, each session calls at once, but no
// faster than its share of the environment's limit.
// Slices follow each other in slots that never overlap; `begins` counts from the end of setup().
export function buildSlice(name, vus, seconds, rate, index = 0) {
  const slot = OPEN_SECONDS + seconds + DRAIN_SECONDS + CLOSE_SECONDS;
  env.checkLimits({ LIMIT_RPS: rate, LIMIT_SECONDS: (index + 1) * seconds });
  return { name, vus, seconds, rate, begins: index * slot + OPEN_SECONDS };
}

export function buildSliceScenario(slice) {
  const slot = OPEN_SECONDS + slice.seconds + DRAIN_SECONDS + CLOSE_SECONDS;
  return {
    executor: 'per-vu-iterations',
    vus: slice.vus,
    iterations: 1,
    startTime: `${Math.round((slice.begins - OPEN_SECONDS) * 1000)}ms`,
    maxDuration: `${Math.round(slot * 1000)}ms`,
    gracefulStop: '0s',
  };
}

// A client that found out which protocol is spoken, still open and kept out of the figures; a refusal
// ends the run here.
export function openProbe() {
  return negotiate(PROTOCOL, (protocol) => newClient(0, protocol, 'probe'), CALL_MS);
}

// setup(): what it returns names the target to the VUs and the summary.
export function probe() {
  const client = openProbe();
  client.close(CALL_MS);
  return describeTarget(client);
}

export function describeTarget(client) {
  const { protocol } = client;
  const [name, version] = [client.server.name, client.server.version].map(textOrNull);
  return { began: Date.now(), server: { name, version, protocol, era: findEra(protocol) } };
}

function textOrNull(value) {
  return typeof value === 'string' ? value.slice(0, LONGEST_NAME) : null;
}

export function newClient(turn, protocol, rpc = null) {
  const bearer = bearerOf(turn);
  const client = buildClient({ url: URL, protocol, authorization: freshHeader(bearer) }, rpc);
  client.bearer = bearer;
  return client;
}

// A session outlives its bearer: it goes on with the next one.
function keepFresh(session) {
  const header = freshHeader(session.bearer);
  if (header !== session.headers.Authorization) session.headers.Authorization = header;
}

export const CALL_LIMIT_MS = CALL_MS;
let nextStart = 0; // of this VU, on the clock below

// Milliseconds since the run began, finer than Date.now().
let instance = null; // exec builds it anew at every access
export function clock() {
  instance = instance || exec.instance;
  return instance.currentTestRunDuration;
}

// One client's life in a slice: open, calls until the slice ends, close. `selector` picks its series;
// with none they are apart by tool.
export function live(slice, protocol, pools, selector = '') {
  const turn = exec.scenario.iterationInTest;
  const next = announce(buildMix(pools, protocol, SEED, turn), selector);
  const start = clock() - (Date.now() - exec.scenario.startTime);
  const begin = start + OPEN_SECONDS * 1000;
  const end = begin + slice.seconds * 1000;
  const last = end + DRAIN_SECONDS * 1000;
  if (tally !== null) tally.begin(selector, begin, (turn + 1) / slice.vus);
  waitUntil(start + (OPEN_SECONDS * 1000 * turn) / slice.vus);
  const session = openSession(turn, protocol, last, slice.rate === null ? end : 0);
  if (session !== null) {
    session.beginCalls();
    if (slice.rate === null) callAtOnce(session, next, { begin, end, last, turn, slice });
    else callBySchedule(session, next, { begin, end, last, turn, slice });
    session.endCalls();
    if (tally !== null) tally.tell();
    waitUntil(end); // a stage holds its sessions to its end
    recordClosed(session, closeBy(session, last));
  }
  recordEnd(clock() - begin);
}

// Calls whose series the tally selects before they are made.
function announce(next, selector) {
  if (tally === null || selector !== '') return next;
  let tool = null;
  return () => {
    const call = next();
    if (call.tool !== tool) tally.select(`tool:${(tool = call.tool)}`);
    return call;
  };
}

// Opens once; until `retryUntil` it tries again, at most once a second.
function openSession(turn, protocol, last, retryUntil) {
  for (;;) {
    const session = newClient(turn, protocol);
    const began = clock();
    const outcome = limited(session.open(limit(began, last)), began, last);
    recordOpened(session);
    recordOpening(outcome, clock() - began);
    if (outcome === OK) return session;
    if (outcome === UNAUTHORIZED) cure(session.bearer);
    recordClosed(session, closeBy(session, last));
    if (clock() + PAUSE_SECONDS * 1000 >= retryUntil) return null;
    sleep(PAUSE_SECONDS);
  }
}

// DELETE, within what is left of the slot.
function closeBy(session, last) {
  keepFresh(session);
  return session.close(Math.max(1, last + CLOSE_SECONDS * 950 - clock()));
}

function callBySchedule(session, next, { begin, end, last, turn, slice }) {
  for (let index = turn; ; index += slice.vus) {
    const due = begin + (index * 1000) / slice.rate;
    if (due >= end) return;
    if (waitUntil(due)) recordLateness(clock() - due);
    keepFresh(session);
    const sent = clock();
    if (sent >= end) return; // due, never sent: the gap between offered and achieved
    const outcome = limited(session.call(next(), limit(sent, last)), sent, last);
    const { duration, blocked } = session.response.timings;
    if (outcome === OK) {
      recordOk(duration);
      recordResponse(sent - due + blocked + duration);
    } else {
      recordFailure(outcome);
    }
    if (outcome === UNAUTHORIZED) cure(session.bearer);
    if (tally !== null) tally.tellIfDue(sent);
  }
}

function callAtOnce(session, next, { begin, end, last, turn, slice }) {
  const every = findPace(slice.vus);
  waitUntil(begin + (turn * every) / slice.vus);
  const shift = clock() - wallClock();
  const calm = last - CALL_MS;
  let sent = clock();
  let due = sent; // the earliest time for the call, by the limit
  let held = 0;
  let stale = sent; // when the bearer is looked at again
  while (sent < end) {
    if (sent >= stale) {
      keepFresh(session);
      recordHeld(held);
      held = 0;
      stale = sent + FRESH_MS;
      if (tally !== null) tally.tellIfDue(sent);
    }
    const outcome = session.call(next(), sent < calm ? CALL_MS : limit(sent, last));
    if (outcome === FINE) {
      noteOk(session.response.timings.duration);
    } else {
      recordFailure(limited(outcome, sent, last));
      if (outcome === UNAUTHORIZED) cure(session.bearer);
      if (isDown(outcome)) sleep(PAUSE_SECONDS);
    }
    sent = wallClock() + shift;
    due += every;
    if (due <= sent) {
      due = sent;
    } else if (due < end) {
      held += 1;
      waitUntil(due);
      sent = wallClock() + shift;
    } else {
      break;
    }
  }
  recordHeld(held);
}

// Milliseconds between two calls of a VU with which all VUs together keep the environment's limit.
function findPace(vus) {
  return (vus * 1000) / MOST_RATE;
}

// Waits until this VU's next cold start is due by the environment's limit; returns the time.
export function startInTurn(vus) {
  const waited = waitUntil(nextStart);
  recordHeld(Number(waited));
  const now = clock();
  nextStart = (waited ? nextStart : now) + findPace(vus) * START_REQUESTS;
  return now;
}

function isDown(outcome) {
  return !outcome.startsWith('tool_error') && outcome !== 'rpc_error';
}

function limit(now, last) {
  const left = last - now;
  if (left >= CALL_MS) return CALL_MS;
  return left > 1 ? left : 1;
}

// A time limit that the slice's end made shorter says nothing about the target.
function limited(outcome, sent, last) {
  return outcome === TIMEOUT && last - sent < CALL_MS ? CUT_OFF : outcome;
}

function waitUntil(moment) {
  const left = moment - clock();
  if (left <= 0) return false;
  sleep(left / 1000);
  return true;
}
