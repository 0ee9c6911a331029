// Trace contexts (W3C Trace Context, level 1), so that the owner of a server finds our calls in its traces.
import crypto from 'k6/crypto';

const TRACE_DIGITS = 32;

// Returns a new context: version 00, trace id, parent id, and the flag `sampled`.
export function newTraceparent() {
  const digits = crypto.hexEncode(crypto.randomBytes(24));
  return `00-${digits.slice(0, TRACE_DIGITS)}-${digits.slice(TRACE_DIGITS)}-01`;
}

export function findTraceId(traceparent) {
  return traceparent === null ? null : traceparent.split('-')[1];
}

// Adds the context to the text of a call after its id (MCP 2026-07-28, Trace Context Propagation).
export function addTrace(tail, traceparent) {
  const message = JSON.parse(`{${tail.slice(1)}`);
  message.params = withTrace(message.params, traceparent);
  return `,${JSON.stringify(message).slice(1)}`;
}

export function withTrace(params, traceparent) {
  return { ...params, _meta: { ...params._meta, traceparent } };
}
