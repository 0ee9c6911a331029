// Our own metrics: the latency of ok answers, and counts of all others by reason. One more sample per call
// would make calls 5 % slower, so whatever the summary can compute is not sampled, and of fast calls only
// some replies are measured.
import encoding from 'k6/encoding';
import { Counter, Trend } from 'k6/metrics';
import { histograms } from './histograms.js';
import { BEYOND, BEYOND_MS, OK } from './outcome.js';
import { readServerTime } from './server_time.js';
import { floors, noteSlow, printSlowest } from './slowest.js';

const duration = new Trend('mcp_duration', true); // as measured by the client
const response = new Trend('mcp_response', true); // from when the call was due
const opening = new Trend('mcp_opening', true); // initialize + notifications/initialized
const lateness = new Trend('mcp_generator_lateness', true); // of calls, caused by the load generator
const firstDispatch = new Trend('mcp_first_dispatch', true); // of a soak's sessions: until tools/list is answered
const firstDispatchFailures = new Counter('mcp_first_dispatch_failures');
const failures = new Counter('mcp_failures');
const openFailures = new Counter('mcp_open_failures');
const opened = new Counter('mcp_sessions_opened');
const closed = new Counter('mcp_sessions_closed');
// Of sessions that the server lost while they were in use:
const lostCalls = new Trend('mcp_lost_calls'); // calls that were answered before
const lostAge = new Trend('mcp_lost_age', true); // time from opening until the loss was seen
const lostAt = new Trend('mcp_lost_at', true); // when that was, from the start of the slice
const held = new Counter('mcp_held'); // calls that waited for the rate limit of the environment
const beyond = new Counter('mcp_beyond'); // calls that took longer than others wait
const round = new Trend('mcp_round', true); // of calls in parallel, all ok: until the last answer
const ended = new Trend('mcp_ended', true); // when a session ended, from the start of its slice
const flows = new Trend('mcp_flow', true); // of whole flows: the calls of their steps together
const flowFailures = new Counter('mcp_flow_failures');
// Of the streams that sessions held:
const streamHeld = new Trend('mcp_stream_held', true); // how long each was open
const streamOpen = new Trend('mcp_stream_open', true); // until its headers, if they came before its end
const streamDropped = new Trend('mcp_stream_dropped', true); // the life of those that ended too early
const streamSilence = new Trend('mcp_stream_silence', true); // the mean silence of each
const streamFailures = new Counter('mcp_stream_failures');
const streamNotes = new Counter('mcp_streams');
const replyBytes = new Trend('mcp_reply_bytes'); // of the body, without headers
const firstByte = new Trend('mcp_first_byte', true); // from when the request was sent
const receiving = new Trend('mcp_receiving', true); // from the first byte of a reply to its last
const serverTime = new Trend('mcp_server_time', true); // that the server says it worked
// Of the control, which is in no other figure:
const controlled = new Trend('mcp_control', true); // the document, without the connection
const connected = new Trend('mcp_control_connect', true); // TCP and TLS of its connection
const controlFailures = new Counter('mcp_control_failures');

const [LEAST_REPLY_MS, MOST_REPLY_MS] = [20, 500]; // between two replies that a session measures

// Adds a value to a trend of k6, and to the series of the same name.
function add(series, trend, value, tags = {}) {
  trend.add(value, tags);
  series.add(trend.name, value);
}

function count(series, counter, reason, more = 1, tags = {}) {
  counter.add(more, { reason, ...tags });
  series.count(counter.name, reason, more);
}

// Adds the duration of what was ok, else counts the reason.
function addOutcome(series, trend, counter, outcome, ms, tags = {}) {
  if (outcome === OK) add(series, trend, ms, tags);
  else count(series, counter, outcome, 1, tags);
}

// Records a part of a cold start, and the last reply of `session` if it is one. Its frame is a tag of the
// sample, not of the VU.
export function recordFrame(outcome, frame, durationMs, session = null) {
  addOutcome(histograms.select(`frame:${frame}`), duration, failures, outcome, durationMs, { frame });
  if (outcome !== OK || session === null) return;
  addReply(session.response, { frame });
  if (!(durationMs <= floors[frame])) noteSlow(frame, durationMs, session.response, session.traceId);
}

// Records a call, as cheaply as can be. Its tool is a tag of the VU.
export function recordOk(durationMs) {
  duration.add(durationMs);
  histograms.current.add('mcp_duration', durationMs);
}

// The same, for calls that may take longer than others wait.
export function recordLongOk(durationMs) {
  recordOk(durationMs);
  recordBeyond(durationMs);
}

export function recordBeyond(durationMs) {
  BEYOND_MS.forEach((ms, index) => {
    if (durationMs <= ms) return;
    count(histograms.current, beyond, BEYOND[index]);
  });
}

export function recordRound(ms) {
  round.add(ms);
}

export function recordResponse(responseMs) {
  add(histograms.current, response, responseMs);
}

// Measures the reply of an ok call that was sent at `sent`; returns when the next one is due: many at
// first, so that a short run has enough, then two a second. Which replies are measured depends on nothing
// but the time, so they are like all others.
export function recordReply(response, sent, begin) {
  addReply(response, {});
  return sent + Math.min(Math.max((sent - begin) / 10, LEAST_REPLY_MS), MOST_REPLY_MS);
}

function addReply({ body, headers, timings }, tags) {
  const bytes = countBytes(body);
  const serverMs = readServerTime(headers, timings.duration);
  const { current } = histograms;
  add(current, replyBytes, bytes, tags);
  add(current, firstByte, timings.waiting, tags);
  add(current, receiving, timings.receiving, tags);
  if (serverMs !== null) add(current, serverTime, serverMs, tags);
}

// A string of JavaScript counts UTF-16 units. Base64 without padding has four characters for three bytes.
function countBytes(text) {
  return Math.floor((encoding.b64encode(text, 'rawstd').length * 3) / 4);
}

export function recordFailure(outcome) {
  count(histograms.current, failures, outcome);
}

// Records a flow that has ended. A flow that the end of its slice cuts off is not recorded.
export function recordFlow(flow, outcome, durationMs) {
  const { current } = histograms;
  addOutcome(histograms.select(`flow:${flow}`), flows, flowFailures, outcome, durationMs, { flow });
  histograms.current = current;
}

// Records a stream that was open and has ended.
export function recordStream(selector, { openMs, livedMs, silenceMs, keepAlives, isEarly, stays }) {
  const series = histograms.select(selector);
  add(series, streamHeld, livedMs);
  add(series, streamSilence, silenceMs);
  if (openMs !== null) add(series, streamOpen, openMs);
  if (isEarly) add(series, streamDropped, livedMs);
  if (stays) count(series, streamNotes, 'stays');
  if (keepAlives > 0) count(series, streamNotes, 'keep_alive', keepAlives);
  histograms.print();
}

// Records a stream that the server refused; it has no streams if there is no reason.
export function recordStreamFailure(selector, reason) {
  const series = histograms.select(selector);
  if (reason === null) count(series, streamNotes, 'none');
  else count(series, streamFailures, reason);
  histograms.print();
}

export function recordOpening(outcome, durationMs) {
  addOutcome(histograms.current, opening, openFailures, outcome, durationMs);
}

// Records the first dispatch of a session of a soak, which has frames beside its calls.
export function recordFirstDispatch(outcome, durationMs) {
  addOutcome(histograms.whole, firstDispatch, firstDispatchFailures, outcome, durationMs);
}

export function recordOpened(session) {
  if (session.sessionId !== null) opened.add(1);
}

export function recordClosed(session, done) {
  if (session.sessionId !== null && done) closed.add(1);
}

export function recordLost(calls, ageMs, atMs) {
  const { current } = histograms;
  add(current, lostCalls, calls);
  add(current, lostAge, ageMs);
  add(current, lostAt, atMs);
}

export function recordLateness(ms) {
  add(histograms.whole, lateness, ms);
}

export function recordHeld(count) {
  if (count > 0) held.add(count);
}

// Records a request of the control. `connectMs` is 0 if it opened no connection.
export function recordControl(outcome, durationMs, connectMs) {
  addOutcome(histograms.whole, controlled, controlFailures, outcome, durationMs);
  if (connectMs > 0) connected.add(connectMs);
}

export function recordEnd(ms) {
  ended.add(ms);
  histograms.print();
  printSlowest();
}
