// Our own metrics: latency of ok answers only, everything else counted by reason. A sample more per
// call would cost a twentieth of the call: what the summary can work out is not sampled.
import { Counter, Trend } from 'k6/metrics';
import { OK } from './outcome.js';
import { tally } from './tally.js';

const duration = new Trend('mcp_duration', true); // as the client saw it
const response = new Trend('mcp_response', true); // from when the call was due by its schedule
const opening = new Trend('mcp_opening', true); // initialize + notifications/initialized
const lateness = new Trend('mcp_generator_lateness', true); // of wake-ups: our own fault
const failures = new Counter('mcp_failures');
const openFailures = new Counter('mcp_open_failures');
const opened = new Counter('mcp_sessions_opened');
const closed = new Counter('mcp_sessions_closed');
const held = new Counter('mcp_held'); // calls that waited for the environment's limit on their rate
const ended = new Trend('mcp_ended', true); // when the last of a slice was done, from its start

// A part of an opening: its frame is no tag of the VU.
export function recordFrame(outcome, frame, durationMs) {
  if (outcome === OK) duration.add(durationMs, { frame });
  else failures.add(1, { reason: outcome, frame });
  if (tally === null) return;
  const series = tally.select(`frame:${frame}`);
  if (outcome === OK) series.add('mcp_duration', durationMs);
  else series.count('mcp_failures', outcome);
}

// Of a call, whose tool is a tag of the VU.
export function recordOk(durationMs) {
  duration.add(durationMs);
  if (tally !== null) tally.current.add('mcp_duration', durationMs);
}

export function recordResponse(responseMs) {
  response.add(responseMs);
  if (tally !== null) tally.current.add('mcp_response', responseMs);
}

export function recordFailure(outcome) {
  failures.add(1, { reason: outcome });
  if (tally !== null) tally.current.count('mcp_failures', outcome);
}

export function recordOpening(outcome, durationMs) {
  if (outcome === OK) opening.add(durationMs);
  else openFailures.add(1, { reason: outcome });
  if (tally === null) return;
  if (outcome === OK) tally.current.add('mcp_opening', durationMs);
  else tally.current.count('mcp_open_failures', outcome);
}

export function recordOpened(session) {
  if (session.sessionId !== null) opened.add(1);
}

export function recordClosed(session, done) {
  if (session.sessionId !== null && done) closed.add(1);
}

export function recordLateness(ms) {
  lateness.add(ms);
  if (tally !== null) tally.whole.add('mcp_generator_lateness', ms);
}

export function recordHeld(count) {
  if (count > 0) held.add(count);
}

export function recordEnd(ms) {
  ended.add(ms);
  if (tally !== null) tally.tell();
}
