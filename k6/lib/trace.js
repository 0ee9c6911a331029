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

// Adds the context to the parameters, in `_meta` (MCP 2026-07-28, Trace Context Propagation).
export function withTrace(params, traceparent) {
  return { ...params, _meta: { ...params._meta, traceparent } };
}

// The same for the text of a call after its id. In the stateless era, `_meta` is the last parameter.
export function addTrace(tail, stateless, traceparent) {
  const member = `"traceparent":"${traceparent}"`;
  return stateless ? `${tail.slice(0, -3)},${member}}}}` : `${tail.slice(0, -2)},"_meta":{${member}}}}`;
}
