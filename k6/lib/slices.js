// Slices: N sessions that call tools for a fixed time. The ladder has one per stage, the tool mix one.
import exec from 'k6/execution';
import { freshHeader, renewRefused } from './bearers.js';
import * as env from './env.js';
import { histograms } from './histograms.js';
import { recordClosed, recordEnd, recordFailure, recordHeld, recordLateness } from './metrics.js';
import { recordLost, recordOk, recordOpened, recordOpening, recordReply } from './metrics.js';
import { recordResponse } from './metrics.js';
import { buildMix } from './mix.js';
import { CUT_OFF, OK, SESSION_LOST, TIMEOUT, UNAUTHORIZED } from './outcome.js';
import { CALL_LIMIT_MS, clock, findPace, newClient, waitUntil } from './run.js';

// A slot, and its parts around the calls: sessions open, calls in flight end, sessions close.
const SLOT_SECONDS = env.seconds('SLOT_SECONDS');
const OPEN_SECONDS = env.seconds('OPEN_SECONDS');
const DRAIN_SECONDS = env.seconds('DRAIN_SECONDS');
const CLOSE_SECONDS = env.seconds('CLOSE_SECONDS');
const OPEN_REQUESTS = 2; // initialize and notifications/initialized
const FRESH_MS = 1000; // between two checks whether a bearer must be renewed
const PAUSE_MS = 1000; // after an answer that the target is down, so that it is not hammered
const SEED = 1; // of the tool mix: every run draws the same calls

// k6 looks an imported or global name up at every use, which costs too much in a loop of calls.
const [CALL_MS, FINE, addOk, wallClock] = [CALL_LIMIT_MS, OK, recordOk, Date.now];

// `vus` sessions for `seconds`. With a `rate`, calls are due at even distances and sessions take turns.
// Without one, each session calls without a pause, within its share of the rate limit. Slices follow
// each other in slots that never overlap; `begins` counts seconds from the end of setup().
export function buildSlice(name, vus, seconds, rate, index = 0) {
  env.checkLimits({ LIMIT_RPS: rate, LIMIT_SECONDS: (index + 1) * seconds });
  return { name, vus, seconds, rate, begins: index * SLOT_SECONDS + OPEN_SECONDS };
}

export function buildSliceScenario(slice) {
  return {
    executor: 'per-vu-iterations',
    vus: slice.vus,
    iterations: 1,
    startTime: `${Math.round((slice.begins - OPEN_SECONDS) * 1000)}ms`,
    maxDuration: `${Math.round(SLOT_SECONDS * 1000)}ms`,
    gracefulStop: '0s',
  };
}

// One session of a slice: opens, calls until the slice ends, closes. `selector` names the series of its
// calls; without one, each tool has a series.
export function runSession(slice, protocol, pools, selector = '') {
  const turn = exec.scenario.iterationInTest;
  const next = selectSeries(buildMix(pools, protocol, SEED, turn, slice.name), selector);
  const start = clock() - (Date.now() - exec.scenario.startTime);
  const begin = start + OPEN_SECONDS * 1000;
  const end = begin + slice.seconds * 1000;
  const last = end + DRAIN_SECONDS * 1000;
  if (histograms !== null) histograms.begin(selector, begin, (turn + 1) / slice.vus);
  waitUntil(start + (OPEN_SECONDS * 1000 * turn) / slice.vus);
  const times = { begin, end, last, turn, slice, protocol, selector };
  let session = openSession(times, slice.rate === null ? end : 0);
  if (session !== null) {
    session.beginCalls();
    try {
      session = (slice.rate === null ? callAtOnce : callBySchedule)(session, next, times);
    } finally {
      if (histograms !== null) histograms.print();
    }
  }
  if (session !== null) {
    session.endCalls();
    waitUntil(end); // a stage holds its sessions until it ends
    recordClosed(session, closeBy(session, last));
  }
  recordEnd(clock() - begin);
}

// Selects the series of each call before the call is made.
function selectSeries(next, selector) {
  if (histograms === null || selector !== '') return next;
  let tool = null;
  return () => {
    const call = next();
    if (call.tool !== tool) histograms.select(`tool:${(tool = call.tool)}`);
    return call;
  };
}

// A session outlives its bearer and goes on with the next one.
function keepFresh(session) {
  const header = freshHeader(session.bearer);
  if (header !== session.headers.Authorization && header !== undefined) session.headers.Authorization = header;
}

// Tries to open a session; until `retryUntil` it tries again, at most once a second. A session that is lost
// while it opens is always replaced.
function openSession({ turn, protocol, end, last }, retryUntil) {
  for (;;) {
    const session = newClient(turn, protocol);
    const began = clock();
    const outcome = markCutOff(session.open(timeLeft(began, last)), began, last);
    recordOpened(session);
    recordOpening(outcome, clock() - began);
    session.openedAt = clock();
    if (outcome === OK) return session;
    if (outcome === UNAUTHORIZED) renewRefused(session.bearer);
    recordClosed(session, closeBy(session, last));
    if (clock() + PAUSE_MS >= (outcome === SESSION_LOST ? end : retryUntil)) return null;
    waitUntil(clock() + PAUSE_MS);
  }
}

// Opens a session in place of one that the server has lost (MCP 2025-11-25, Streamable HTTP, Session
// Management); returns null if none opens before the slice ends. Both are counted for the whole slice.
function replaceSession(lost, times) {
  const calls = lost.id - lost.idBefore - 1; // without the one that found out
  lost.endCalls();
  lost.noteLost();
  const series = histograms === null ? null : histograms.current;
  if (series !== null) histograms.select(times.selector);
  recordLost(calls, clock() - lost.openedAt, clock() - times.begin);
  const session = openSession(times, times.end);
  if (series !== null) histograms.current = series;
  if (session !== null) session.beginCalls();
  return session;
}

// Sends DELETE within the rest of the slot.
function closeBy(session, last) {
  keepFresh(session);
  return session.close(Math.max(1, last + CLOSE_SECONDS * 950 - clock()));
}

// Returns the session that is open at the end, or null.
function callBySchedule(opened, next, times) {
  const { begin, end, last, turn, slice } = times;
  let session = opened;
  let nextReply = 0; // when a reply is measured again
  for (let index = turn; ; index += slice.vus) {
    const due = begin + (index * 1000) / slice.rate;
    if (due >= end) return session;
    if (waitUntil(due)) recordLateness(clock() - due);
    keepFresh(session);
    const sent = clock();
    if (sent >= end) return session; // due but never sent: the gap between offered and achieved rate
    const outcome = markCutOff(session.call(next(), timeLeft(sent, last)), sent, last);
    const { duration, blocked } = session.response.timings;
    if (outcome === OK) {
      recordOk(duration);
      recordResponse(sent - due + blocked + duration);
      if (sent >= nextReply) nextReply = recordReply(session.response, sent);
    } else {
      recordFailure(outcome);
    }
    if (outcome === UNAUTHORIZED) renewRefused(session.bearer);
    if (outcome === SESSION_LOST) session = replaceSession(session, times);
    if (session === null) return null;
    if (histograms !== null) histograms.printIfDue(sent);
  }
}

// Returns the session that is open at the end, or null.
function callAtOnce(opened, next, times) {
  const { begin, end, last, turn, slice } = times;
  let session = opened;
  const every = findPace(slice.vus);
  waitUntil(begin + (turn * every) / slice.vus);
  const shift = clock() - wallClock();
  const shortFrom = last - CALL_MS; // later calls get less than the full time limit
  let sent = clock();
  let due = sent; // the earliest time of the next call, by the rate limit
  let held = 0;
  let nextCheck = sent; // of the bearer
  let nextReply = sent; // when a reply is measured again
  while (sent < end) {
    if (sent >= nextCheck) {
      keepFresh(session);
      recordHeld(held);
      held = 0;
      nextCheck = sent + FRESH_MS;
      if (histograms !== null) histograms.printIfDue(sent);
    }
    const outcome = session.call(next(), sent < shortFrom ? CALL_MS : timeLeft(sent, last));
    if (outcome === FINE) {
      addOk(session.response.timings.duration);
      if (sent >= nextReply) nextReply = recordReply(session.response, sent);
    } else {
      recordFailure(markCutOff(outcome, sent, last));
      if (outcome === UNAUTHORIZED) renewRefused(session.bearer);
      if (isDown(outcome)) waitUntil(clock() + PAUSE_MS);
      if (outcome === SESSION_LOST) {
        session = replaceSession(session, times);
        if (session === null) break;
        due += every * OPEN_REQUESTS;
      }
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
  return session;
}

function isDown(outcome) {
  return !outcome.startsWith('tool_error') && outcome !== 'rpc_error' && outcome !== SESSION_LOST;
}

function timeLeft(now, last) {
  const left = last - now;
  if (left >= CALL_MS) return CALL_MS;
  return left > 1 ? left : 1;
}

// Renames a timeout if the end of the slice had shortened the time limit.
function markCutOff(outcome, sent, last) {
  return outcome === TIMEOUT && last - sent < CALL_MS ? CUT_OFF : outcome;
}
