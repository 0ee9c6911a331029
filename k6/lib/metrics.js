// Our own metrics: latency of ok answers only, everything else counted by reason.
import { Counter, Rate, Trend } from 'k6/metrics';
import { CAPACITY, OK } from './outcome.js';

const duration = new Trend('mcp_duration', true); // as the client saw it
const response = new Trend('mcp_response', true); // from when the call was due by its schedule
const opening = new Trend('mcp_opening', true); // initialize + notifications/initialized
const lateness = new Trend('mcp_generator_lateness', true); // of wake-ups: our own fault
const failures = new Counter('mcp_failures');
const openFailures = new Counter('mcp_open_failures');
const failed = new Rate('mcp_failed');
const opened = new Counter('mcp_sessions_opened');
const closed = new Counter('mcp_sessions_closed');
const ended = new Trend('mcp_ended', true); // when the last of a slice was done, from its start

export function recordCall(outcome, tags, durationMs, responseMs = null) {
  if (outcome === OK) {
    duration.add(durationMs, tags);
    if (responseMs !== null) response.add(responseMs, tags);
    failed.add(false, tags);
    return;
  }
  failures.add(1, Object.assign({ reason: outcome }, tags));
  recordShare(outcome, tags);
}

export function recordOpening(outcome, durationMs) {
  if (outcome === OK) {
    opening.add(durationMs);
    failed.add(false);
    return;
  }
  openFailures.add(1, { reason: outcome });
  recordShare(outcome);
}

// A full house is the server's ceiling, not a failure. A call cut off by the end of its slice is one:
// it waited for the whole drain time, and a server that stalls to the end must not look well.
function recordShare(outcome, tags) {
  if (outcome !== CAPACITY) failed.add(true, tags);
}

export function recordOpened(session) {
  if (session.sessionId !== null) opened.add(1);
}

export function recordClosed(session, done) {
  if (session.sessionId !== null && done) closed.add(1);
}

export function recordLateness(ms) {
  lateness.add(ms);
}

export function recordEnd(ms) {
  ended.add(ms);
}
