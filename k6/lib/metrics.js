// Our own metrics: the latency of ok answers, and counts of all others by reason. One more sample per call
// would make calls 5 % slower, so whatever the summary can compute is not sampled.
import { Counter, Trend } from 'k6/metrics';
import { histograms } from './histograms.js';
import { OK } from './outcome.js';

const duration = new Trend('mcp_duration', true); // as measured by the client
const response = new Trend('mcp_response', true); // from when the call was due
const opening = new Trend('mcp_opening', true); // initialize + notifications/initialized
const lateness = new Trend('mcp_generator_lateness', true); // of calls, caused by the load generator
const failures = new Counter('mcp_failures');
const openFailures = new Counter('mcp_open_failures');
const opened = new Counter('mcp_sessions_opened');
const closed = new Counter('mcp_sessions_closed');
const held = new Counter('mcp_held'); // calls that waited for the rate limit of the environment
const ended = new Trend('mcp_ended', true); // when a session ended, from the start of its slice

// Records a part of a cold start. Its frame is a tag of the sample, not of the VU.
export function recordFrame(outcome, frame, durationMs) {
  if (outcome === OK) duration.add(durationMs, { frame });
  else failures.add(1, { reason: outcome, frame });
  if (histograms === null) return;
  const series = histograms.select(`frame:${frame}`);
  if (outcome === OK) series.add('mcp_duration', durationMs);
  else series.count('mcp_failures', outcome);
}

// Records a call. Its tool is a tag of the VU.
export function recordOk(durationMs) {
  duration.add(durationMs);
  if (histograms !== null) histograms.current.add('mcp_duration', durationMs);
}

export function recordResponse(responseMs) {
  response.add(responseMs);
  if (histograms !== null) histograms.current.add('mcp_response', responseMs);
}

export function recordFailure(outcome) {
  failures.add(1, { reason: outcome });
  if (histograms !== null) histograms.current.count('mcp_failures', outcome);
}

export function recordOpening(outcome, durationMs) {
  if (outcome === OK) opening.add(durationMs);
  else openFailures.add(1, { reason: outcome });
  if (histograms === null) return;
  if (outcome === OK) histograms.current.add('mcp_opening', durationMs);
  else histograms.current.count('mcp_open_failures', outcome);
}

export function recordOpened(session) {
  if (session.sessionId !== null) opened.add(1);
}

export function recordClosed(session, done) {
  if (session.sessionId !== null && done) closed.add(1);
}

export function recordLateness(ms) {
  lateness.add(ms);
  if (histograms !== null) histograms.whole.add('mcp_generator_lateness', ms);
}

export function recordHeld(count) {
  if (count > 0) held.add(count);
}

export function recordEnd(ms) {
  ended.add(ms);
  if (histograms !== null) histograms.print();
}
