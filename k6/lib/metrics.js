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

// Records a part of a cold start, and the last reply of `session` if it is one. Its frame is a tag of the
// sample, not of the VU.
export function recordFrame(outcome, frame, durationMs, session = null) {
  if (outcome === OK) duration.add(durationMs, { frame });
  else failures.add(1, { reason: outcome, frame });
  const series = histograms.select(`frame:${frame}`);
  if (outcome === OK) series.add('mcp_duration', durationMs);
  else series.count('mcp_failures', outcome);
  if (outcome !== OK || session === null) return;
  addReply(session.response, { frame });
  if (!(durationMs <= floors[frame])) noteSlow(frame, durationMs, session.response, session.traceId);
}

// Records a call. Its tool is a tag of the VU.
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
    beyond.add(1, { reason: BEYOND[index] });
    histograms.current.count('mcp_beyond', BEYOND[index]);
  });
}

export function recordRound(ms) {
  round.add(ms);
}

export function recordResponse(responseMs) {
  response.add(responseMs);
  histograms.current.add('mcp_response', responseMs);
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
  const { waiting, receiving: rest } = timings;
  replyBytes.add(bytes, tags);
  firstByte.add(waiting, tags);
  receiving.add(rest, tags);
  if (serverMs !== null) serverTime.add(serverMs, tags);
  const { current } = histograms;
  current.add('mcp_reply_bytes', bytes);
  current.add('mcp_first_byte', waiting);
  current.add('mcp_receiving', rest);
  if (serverMs !== null) current.add('mcp_server_time', serverMs);
}

// A string of JavaScript counts UTF-16 units. Base64 without padding has four characters for three bytes.
function countBytes(text) {
  return Math.floor((encoding.b64encode(text, 'rawstd').length * 3) / 4);
}

export function recordFailure(outcome) {
  failures.add(1, { reason: outcome });
  histograms.current.count('mcp_failures', outcome);
}

// Records a flow that has ended. A flow that the end of its slice cuts off is not recorded.
export function recordFlow(flow, outcome, durationMs) {
  if (outcome === OK) flows.add(durationMs, { flow });
  else flowFailures.add(1, { flow, reason: outcome });
  const { current } = histograms;
  const series = histograms.select(`flow:${flow}`);
  if (outcome === OK) series.add('mcp_flow', durationMs);
  else series.count('mcp_flow_failures', outcome);
  histograms.current = current;
}

// Records a stream that was open and has ended.
export function recordStream(selector, { openMs, livedMs, silenceMs, keepAlives, isEarly, stays }) {
  const add = (trend, name, ms) => {
    trend.add(ms);
    histograms.select(selector).add(name, ms);
  };
  add(streamHeld, 'mcp_stream_held', livedMs);
  add(streamSilence, 'mcp_stream_silence', silenceMs);
  if (openMs !== null) add(streamOpen, 'mcp_stream_open', openMs);
  if (isEarly) add(streamDropped, 'mcp_stream_dropped', livedMs);
  if (stays) noteStreams(selector, 'stays', 1);
  if (keepAlives > 0) noteStreams(selector, 'keep_alive', keepAlives);
  histograms.print();
}

// Records a stream that the server refused; it has no streams if there is no reason.
export function recordStreamFailure(selector, reason) {
  if (reason === null) {
    noteStreams(selector, 'none', 1);
  } else {
    streamFailures.add(1, { reason });
    histograms.select(selector).count('mcp_stream_failures', reason);
  }
  histograms.print();
}

function noteStreams(selector, reason, count) {
  streamNotes.add(count, { reason });
  histograms.select(selector).count('mcp_streams', reason, count);
}

export function recordOpening(outcome, durationMs) {
  if (outcome === OK) opening.add(durationMs);
  else openFailures.add(1, { reason: outcome });
  if (outcome === OK) histograms.current.add('mcp_opening', durationMs);
  else histograms.current.count('mcp_open_failures', outcome);
}

// Records the first dispatch of a session of a soak, which has frames beside its calls.
export function recordFirstDispatch(outcome, durationMs) {
  if (outcome === OK) firstDispatch.add(durationMs);
  else firstDispatchFailures.add(1, { reason: outcome });
  if (outcome === OK) histograms.whole.add('mcp_first_dispatch', durationMs);
  else histograms.whole.count('mcp_first_dispatch_failures', outcome);
}

export function recordOpened(session) {
  if (session.sessionId !== null) opened.add(1);
}

export function recordClosed(session, done) {
  if (session.sessionId !== null && done) closed.add(1);
}

export function recordLost(calls, ageMs, atMs) {
  lostCalls.add(calls);
  lostAge.add(ageMs);
  lostAt.add(atMs);
  histograms.current.add('mcp_lost_calls', calls);
  histograms.current.add('mcp_lost_age', ageMs);
  histograms.current.add('mcp_lost_at', atMs);
}

export function recordLateness(ms) {
  lateness.add(ms);
  histograms.whole.add('mcp_generator_lateness', ms);
}

export function recordHeld(count) {
  if (count > 0) held.add(count);
}

// Records a request of the control. `connectMs` is 0 if it opened no connection.
export function recordControl(outcome, durationMs, connectMs) {
  if (outcome === OK) controlled.add(durationMs);
  else controlFailures.add(1, { reason: outcome });
  if (outcome === OK) histograms.whole.add('mcp_control', durationMs);
  else histograms.whole.count('mcp_control_failures', outcome);
  if (connectMs > 0) connected.add(connectMs);
}

export function recordEnd(ms) {
  ended.add(ms);
  histograms.print();
  printSlowest();
}
