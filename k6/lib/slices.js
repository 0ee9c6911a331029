// Slices: N sessions that call tools for a fixed time. The ladder has one per stage, the tool mix one.
import exec from 'k6/execution';
import { freshHeader, renewRefused } from './bearers.js';
import { buildControl } from './control.js';
import * as env from './env.js';
import { followSteps } from './flows.js';
import { histograms } from './histograms.js';
import { answerInputs } from './inputs.js';
import { recordBeyond, recordClosed, recordEnd, recordFailure, recordFirstDispatch } from './metrics.js';
import { recordHeld, recordLateness, recordLongOk, recordLost, recordOk, recordOpened } from './metrics.js';
import { recordOpening, recordReply, recordResponse, recordRound } from './metrics.js';
import { buildMix } from './mix.js';
import { BEYOND_MS, CUT_OFF, INPUT_REQUIRED, NO_ARGUMENT, OK } from './outcome.js';
import { SESSION_LOST, TIMEOUT, UNAUTHORIZED } from './outcome.js';
import { buildThinkTime, findFirstRound, findRate, hasRounds } from './pace.js';
import { CALL_LIMIT_MS, clock, findPace, newClient, waitUntil } from './run.js';
import { floors, noteSlow, printSlowest } from './slowest.js';
import { holdStream, releaseStream } from './streams.js';

// A slot, and its parts around the calls: sessions open, calls in flight end, sessions close.
const SLOT_SECONDS = env.seconds('SLOT_SECONDS');
const OPEN_SECONDS = env.seconds('OPEN_SECONDS');
const DRAIN_SECONDS = env.seconds('DRAIN_SECONDS');
const CLOSE_SECONDS = env.seconds('CLOSE_SECONDS');
const HOLDS_STREAMS = env.holdsStreams();
// initialize, notifications/initialized, and the stream
const OPEN_REQUESTS = HOLDS_STREAMS ? 3 : 2;
const FRESH_MS = 1000; // between two checks whether a bearer must be renewed
const TRACE_MS = 1000; // between two calls of a session that carry a trace context
const PAUSE_MS = 1000; // after an answer that the target is down, so that it is not hammered
// Outcomes of a target that answers.
const NOT_DOWN = ['rpc_error', SESSION_LOST, NO_ARGUMENT, INPUT_REQUIRED];
const SEED = 1; // of the tool mix: every run draws the same calls

// k6 looks an imported or global name up at every use, which costs too much in a loop of calls.
const [FINE, wallClock, slowFloors] = [OK, Date.now, floors];

// `vus` sessions for `seconds`. With a `rate`, or a pace that is an interval, calls are due at even distances
// and sessions take turns. The rate of a pace with rounds follows from how long they take. Without both, each
// session calls without a pause, within its share of the rate limit. Slices follow each other in slots that
// never overlap; `begins` counts seconds from the end of setup().
export function buildSlice(name, vus, seconds, { rate = null, pace = null }, index = 0) {
  const isPaced = pace !== null && rate === null;
  const most = isPaced ? (vus * pace.calls) / pace.mean : rate;
  env.checkLimits({ LIMIT_RPS: most, LIMIT_SECONDS: (index + 1) * seconds });
  const slice = { name, vus, seconds, rate: most, begins: index * SLOT_SECONDS + OPEN_SECONDS };
  return isPaced && hasRounds(pace) ? { ...slice, rate: null, pace } : slice;
}

// The trend that rateStages() needs.
export const ROUNDS = ['mcp_round'];

// Returns stages with their offered rates: of rounds, the rate if all took as long as in the smallest stage.
export function rateStages(stages, metrics) {
  const smallest = stages.reduce((least, stage) => (stage.vus < least.vus ? stage : least));
  const rounds = metrics[`mcp_round{stage:${smallest.name}}`];
  if (!rounds || !rounds.values.count) return stages;
  return stages.map((stage) => {
    const { pace, vus, seconds } = stage;
    return pace ? { ...stage, rate: findRate(pace, vus, seconds, rounds.values.avg) } : stage;
  });
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

// Returns the control of slices: it ends with their last call.
export function buildSliceControl(slices) {
  const end = Math.max(...slices.map(({ begins, seconds }) => begins + seconds));
  return buildControl(end + DRAIN_SECONDS, end);
}

// One session of a slice: opens, calls until the slice ends, closes. `selector` names the series of its
// calls; without one, each tool has a series.
export function runSession(slice, probed, pools, selector = '', { turn = null, holds = HOLDS_STREAMS } = {}) {
  const place = turn === null ? exec.scenario.iterationInTest : turn;
  const times = { ...planTimes(slice, probed, pools, place, selector), holds };
  const next = selectSeries(buildMix(pools, times.protocol, SEED, place, slice.name), selector);
  waitForTurn(times);
  let session = openSession(times, slice.rate === null ? times.end : 0);
  if (session !== null) {
    session.beginCalls();
    const call = slice.pace ? callInRounds : slice.rate === null ? callAtOnce : callBySchedule;
    try {
      session = call(session, next, times);
    } finally {
      histograms.print();
      printSlowest();
    }
  }
  if (session !== null) session.endCalls();
  endSession(session, times);
}

// One session of a slice that only holds its stream.
export function holdSession(slice, probed, selector) {
  const plan = planTimes(slice, probed, [], exec.scenario.iterationInTest, selector);
  const times = { ...plan, holds: true };
  waitForTurn(times);
  endSession(openSession(times, times.end), times);
}

function waitForTurn({ start, turn, slice }) {
  waitUntil(start + (OPEN_SECONDS * 1000 * turn) / slice.vus);
}

function endSession(session, { begin, end, last }) {
  if (session !== null) {
    waitUntil(end); // a stage holds its sessions until it ends
    recordClosed(session, closeBy(session, last));
  }
  recordEnd(clock() - begin);
}

// Returns when the sessions of a slice begin and end, on the clock of the run, with what else they need.
function planTimes(slice, { began, server: { protocol } }, pools, turn, selector) {
  const now = clock();
  const start = now - (Date.now() - exec.scenario.startTime);
  const begin = start + OPEN_SECONDS * 1000;
  const end = begin + slice.seconds * 1000;
  const longestMs = Math.max(...pools.map((pool) => pool.limitMs));
  histograms.begin(began, now);
  histograms.select(selector);
  const last = end + DRAIN_SECONDS * 1000;
  return { start, begin, end, last, turn, slice, protocol, selector, longestMs, holds: HOLDS_STREAMS };
}

// Returns the scenario of a slice whose sessions are replaced: each iteration is a session.
export function buildChurnScenario({ vus, seconds }) {
  const [duration, rest] = [OPEN_SECONDS + seconds, DRAIN_SECONDS + CLOSE_SECONDS];
  return { executor: 'constant-vus', vus, duration: `${duration}s`, gracefulStop: `${rest}s` };
}

// One session of a soak: opens, lists the tools, calls at its own pace until its life is over, closes. The
// first session of a VU has a part of a life, so that sessions do not all end together.
export function runOneOfMany(slice, probed, pools, pace, lifeMs) {
  const turn = exec.scenario.iterationInTest;
  const plan = planTimes(slice, probed, pools, turn, '');
  const isFirst = exec.vu.iterationInScenario === 0;
  const place = isFirst ? ((exec.vu.idInTest - 1) % slice.vus) / slice.vus : 0;
  if (isFirst) waitUntil(plan.start + OPEN_SECONDS * 1000 * place);
  const end = Math.min(Math.max(clock(), plan.begin) + lifeMs * (1 - place), plan.end);
  const times = { ...plan, end, last: end + DRAIN_SECONDS * 1000 };
  const session = openSession(times, end);
  if (session !== null) callForLife(session, selectSeries(buildMix(pools, plan.protocol, SEED, turn), ''), times, pace);
  if (end === plan.end) recordEnd(clock() - plan.begin);
}

function callForLife(opened, next, times, pace) {
  dispatchFirst(opened, times);
  opened.beginCalls();
  const call = hasRounds(pace) ? callInRounds : callBySchedule;
  const own = { ...times.slice, vus: 1, rate: 1 / pace.mean, pace };
  const session = call(opened, next, { ...times, begin: clock(), slice: own });
  if (session === null) return;
  session.endCalls();
  waitUntil(times.end);
  recordClosed(session, closeBy(session, times.last));
}

// Until the answer of tools/list, a client cannot call.
function dispatchFirst(session, { last }) {
  const limit = timeLeft(CALL_LIMIT_MS, clock(), last);
  const outcome = markCutOff(session.list(limit), CALL_LIMIT_MS, limit);
  recordFirstDispatch(outcome, clock() - session.startedAt);
  if (outcome === UNAUTHORIZED) renewRefused(session.bearer);
}

// Selects the series of each call before the call is made.
function selectSeries(next, selector) {
  if (selector !== '') return next;
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
function openSession(times, retryUntil) {
  const { turn, protocol, end, last, holds } = times;
  for (;;) {
    const session = followSteps(answerInputs(newClient(turn, protocol)));
    const began = clock();
    histograms.turn(began);
    const limit = timeLeft(CALL_LIMIT_MS, began, last);
    const outcome = markCutOff(session.open(limit), CALL_LIMIT_MS, limit);
    recordOpened(session);
    recordOpening(outcome, clock() - began);
    session.startedAt = began;
    session.openedAt = clock();
    if (outcome === OK) {
      if (holds) holdStream(session, { ...times, last: last + CLOSE_SECONDS * 500 });
      return session;
    }
    if (outcome === UNAUTHORIZED) renewRefused(session.bearer);
    recordClosed(session, closeBy(session, last));
    if (clock() + PAUSE_MS >= (outcome === SESSION_LOST ? end : retryUntil)) return null;
    waitUntil(clock() + PAUSE_MS);
  }
}

// Opens a session in place of one that the server has lost (MCP 2025-11-25, Streamable HTTP, Session
// Management); returns null if none opens before the slice ends. Both are counted for the whole slice.
function replaceSession(lost, times, refused = 1) {
  const calls = lost.id - lost.idBefore - refused; // without those that found out
  lost.endCalls();
  releaseStream(lost, clock());
  lost.noteLost();
  const series = histograms.current;
  histograms.select(times.selector);
  recordLost(calls, clock() - lost.openedAt, clock() - times.begin);
  const session = openSession(times, times.end);
  histograms.current = series;
  if (session !== null) session.beginCalls();
  return session;
}

// Sends DELETE within the rest of the slot.
function closeBy(session, last) {
  keepFresh(session);
  const begin = clock();
  const limit = Math.min(CALL_LIMIT_MS, last + CLOSE_SECONDS * 950 - begin);
  const isClosed = session.close(Math.max(1, limit));
  releaseStream(session, begin, session.sessionId !== null && isClosed && session.response.status < 300);
  return isClosed;
}

// Returns the session that is open at the end, or null.
function callBySchedule(opened, next, times) {
  const { begin, end, last, turn, slice } = times;
  let session = opened;
  let nextReply = 0; // when a reply is measured again
  let nextTrace = 0; // when a call carries a trace again
  for (let index = turn % slice.vus; ; index += slice.vus) {
    const due = begin + (index * 1000) / slice.rate;
    if (due >= end) return session;
    if (waitUntil(due)) recordLateness(clock() - due);
    keepFresh(session);
    const sent = clock();
    if (sent >= end) return session; // due but never sent: the gap between offered and achieved rate
    histograms.turn(sent);
    const call = next();
    const limit = timeLeft(call.limitMs, sent, last);
    if (sent >= nextTrace) nextTrace = beginTrace(session, sent);
    const outcome = markCutOff(session.call(call, limit), call.limitMs, limit);
    const { response, traceId } = session;
    recordCall(session, { tool: call.tool, outcome, response, traceId }, sent - due);
    session.endTrace();
    if (outcome === OK && sent >= nextReply) nextReply = recordReply(response, sent, begin);
    if (outcome === SESSION_LOST) session = replaceSession(session, times);
    if (session === null) return null;
  }
}

// Has the next call carry a trace; returns when the one after is due, in the next second.
function beginTrace(session, sent) {
  session.beginTrace();
  return (Math.floor(sent / TRACE_MS) + 1) * TRACE_MS;
}

// Records a call that was sent this late.
function recordCall(session, { tool, outcome, response, traceId }, lateMs) {
  const { duration, blocked } = response.timings;
  if (outcome === OK) {
    recordOk(duration);
    recordResponse(lateMs + blocked + duration);
    if (traceId !== null || !(duration <= floors[tool])) noteSlow(tool, duration, response, traceId);
  } else {
    recordFailure(outcome);
  }
  recordBeyond(duration);
  if (outcome === UNAUTHORIZED) renewRefused(session.bearer);
}

// Rounds of one call, or of several in parallel; the session thinks after the last answer of each. Returns
// the session that is open at the end, or null.
function callInRounds(opened, next, times) {
  const { begin, end, last, turn, slice, longestMs } = times;
  const { pace, vus } = slice;
  const think = buildThinkTime(pace, turn);
  let session = opened;
  let nextReply = 0; // when a reply is measured again
  let nextTrace = 0; // when a call carries a trace again
  for (let due = begin + findFirstRound(pace, turn % vus, vus); due < end; due = clock() + think()) {
    if (waitUntil(due)) recordLateness(clock() - due);
    keepFresh(session);
    const sent = clock();
    if (sent >= end) break;
    histograms.turn(sent);
    const limit = timeLeft(longestMs, sent, last);
    if (sent >= nextTrace) nextTrace = beginTrace(session, sent);
    const answers = callRound(session, next, pace.calls, limit);
    session.endTrace();
    if (answers.every(({ outcome }) => outcome === OK)) recordRound(clock() - sent);
    for (const answer of answers) {
      const { outcome, response } = answer;
      recordCall(session, { ...answer, outcome: markCutOff(outcome, longestMs, limit) }, sent - due);
      if (outcome === OK && sent >= nextReply) nextReply = recordReply(response, sent, begin);
    }
    const lost = answers.filter(({ outcome }) => outcome === SESSION_LOST).length;
    if (lost > 0) session = replaceSession(session, times, lost);
    if (session === null) return null;
  }
  return session;
}

function callRound(session, next, count, limit) {
  if (count > 1) return session.callTogether(next, count, limit);
  const call = next();
  const outcome = session.call(call, limit);
  return [{ tool: call.tool, outcome, response: session.response, traceId: session.traceId }];
}

// Returns the session that is open at the end, or null.
function callAtOnce(opened, next, times) {
  const { begin, end, last, turn, slice, longestMs } = times;
  const addOk = longestMs > BEYOND_MS[0] ? recordLongOk : recordOk;
  let session = opened;
  const every = findPace(slice.vus);
  waitUntil(begin + (turn * every) / slice.vus);
  const shift = clock() - wallClock();
  const shortFrom = last - longestMs; // later calls get less than the full time limit
  let sent = clock();
  let due = sent; // the earliest time of the next call, by the rate limit
  let held = 0;
  let nextCheck = sent; // of the bearer and the interval
  let nextReply = sent; // when a reply is measured again
  let nextTrace = sent; // when a call carries a trace again
  while (sent < end) {
    if (sent >= nextCheck) {
      keepFresh(session);
      recordHeld(held);
      held = 0;
      nextCheck = Math.min(sent + FRESH_MS, histograms.turn(sent));
    }
    const call = next();
    const limit = sent < shortFrom ? call.limitMs : timeLeft(call.limitMs, sent, last);
    const traced = sent >= nextTrace;
    if (traced) nextTrace = beginTrace(session, sent);
    const outcome = session.call(call, limit);
    if (outcome === FINE) {
      const { duration } = session.response.timings;
      addOk(duration);
      if (traced || !(duration <= slowFloors[call.tool])) {
        noteSlow(call.tool, duration, session.response, session.traceId);
      }
      if (sent >= nextReply) nextReply = recordReply(session.response, sent, begin);
    } else {
      recordFailure(markCutOff(outcome, call.limitMs, limit));
      recordBeyond(session.response.timings.duration);
      if (outcome === UNAUTHORIZED) renewRefused(session.bearer);
      if (isDown(outcome)) waitUntil(clock() + PAUSE_MS);
      if (outcome === SESSION_LOST) {
        session = replaceSession(session, times);
        if (session === null) break;
        due += every * OPEN_REQUESTS;
      }
    }
    if (traced) session.endTrace();
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
  return !outcome.startsWith('tool_error') && !NOT_DOWN.includes(outcome);
}

// Returns the time limit of a request, which ends before its slice does.
function timeLeft(limitMs, now, last) {
  const left = last - now;
  if (left >= limitMs) return limitMs;
  return left > 1 ? left : 1;
}

// Renames a timeout if the end of the slice had shortened the time limit.
function markCutOff(outcome, limitMs, givenMs) {
  return outcome === TIMEOUT && givenMs < limitMs ? CUT_OFF : outcome;
}
