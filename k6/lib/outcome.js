// The outcome of a request: one word, used by rows, counters and thresholds.
import { findRefusal } from './refusals.js';
import { findError, listRequests, loneData, readAnswer, readFailure } from './reply.js';

export const OK = 'ok';
const CAPACITY = 'capacity';
const RATE_LIMITED = 'rate_limited';
export const REFUSALS = [CAPACITY, RATE_LIMITED]; // they show where a limit is, not that something failed
export const SESSION_LOST = 'session_lost'; // the server does not know the id of the session any more
export const UNAUTHORIZED = 'unauthorized';
export const TIMEOUT = 'timeout';
export const CUT_OFF = 'cut_off'; // unanswered when its slice ended, before its own time limit
// What ends a session that k6 stops. Whatever it would do afterwards fails at once and measures nothing.
export const STOPPED = 'k6 stops';
const CANCELLED = /context canceled|operation was canceled/;

export const NO_ARGUMENT = 'no_argument'; // a step of a flow that lacks one: it was not sent
export const INPUT_REQUIRED = 'input_required'; // the server asks for something that the table does not have
const INCOMPLETE = 'incomplete'; // a result whose type is not `complete`: the tool was not run

const CODES = ['validation_failed', 'unknown_entity', 'unknown_metric', 'ambiguous_term'].concat(
  ['internal_error', 'forbidden', '-32600', '-32601', '-32602', '-32603', 'other'],
);
const STATUSES = [301, 302, 307, 308, 400, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 421]
  .concat([422, 500, 501, 502, 503, 504, 520, 522, 524], 'other');

// All reasons of failures. k6 sums up a tagged series only if a threshold names it.
export const REASONS = [CAPACITY, RATE_LIMITED, SESSION_LOST, UNAUTHORIZED, TIMEOUT, CUT_OFF]
  .concat(['connection', 'rpc_error', INCOMPLETE, 'unparseable', NO_ARGUMENT, INPUT_REQUIRED])
  .concat(CODES.map((code) => `tool_error:${code}`))
  .concat(STATUSES.map((status) => `http_${status}`));

// How long a call may take before others give up on it: many clients after 60 s, many proxies after 120 s.
export const BEYOND_MS = [60000, 120000];
export const BEYOND = BEYOND_MS.map((ms) => `${ms / 1000}_s`);

// Error codes of k6.
const [REQUEST_TIMEOUT, DIAL_TIMEOUT] = [1050, 1211];
const TIMEOUT_CODES = [REQUEST_TIMEOUT, DIAL_TIMEOUT];

export const NO_STREAMS = 'no_streams';
const METHOD_NOT_FOUND = -32601;
const EVENT_STREAM = /^text\/event-stream\b/i;
const REFUSED_WITHIN_MS = 1000; // a connection that ends later than this, without an answer, was a stream

const CONCLUSIVE = [OK, INCOMPLETE, INPUT_REQUIRED]; // no refusal looks like these
// Error of a server that needs what the client does not declare (MCP 2026-07-28, Overview, Error Codes).
const LACKS_CAPABILITY = -32021;

// Classifies the HTTP response to a JSON-RPC request by its `answer`, which is null if there is none.
// In the stateless era, a JSON-RPC error also sets the HTTP status, and a result has a type, which is
// `complete` by default (MCP 2026-07-28, Overview, ResultType). `hasSession`: the request had a session's id.
export function classify(response, answer, stateless = false, hasSession = false) {
  const outcome = classifyAnswer(response, answer, stateless);
  if (CONCLUSIVE.includes(outcome) || response.status === 0) return outcome;
  return findRefusal(response, answer, hasSession) || outcome;
}

function classifyAnswer(response, answer, stateless) {
  const { status } = response;
  if (status !== 200) {
    const refused = stateless && (status === 400 || status === 404) && answer !== null;
    if (refused) return answer.error.code === LACKS_CAPABILITY ? INPUT_REQUIRED : 'rpc_error';
    const outcome = classifyStatus(response);
    return outcome === TIMEOUT && listRequests(response.body).length ? INPUT_REQUIRED : outcome;
  }
  if (answer === null) return listRequests(response.body).length ? INPUT_REQUIRED : 'unparseable';
  if (answer.error) return 'rpc_error';
  const { isError, resultType = 'complete' } = answer.result;
  if (stateless && resultType === 'input_required') return INPUT_REQUIRED;
  if (stateless && resultType !== 'complete') return INCOMPLETE;
  if (isError !== true) return OK;
  const code = readFailure(answer).toolError;
  return `tool_error:${CODES.includes(code) ? code : 'other'}`;
}

// A query that returns as text: the keys of a message, the keys of its result, and these two values if any.
const SHAPE = '[@keys,result.@keys,result.isError,result.resultType]|@tostr';
const KNOWN_SHAPES = new Set(); // ok in every era
const MAX_SHAPES = 1000;
const MAX_KEPT_LENGTH = 4096;

// Does the same for the answer to a tool call, where speed matters. k6's native JSON accepts only valid
// JSON and returns the shape in a tenth of the time of JSON.parse. An answer that is not clearly ok is
// parsed. (The client compares an answer with the last ok one first.)
export function classifyCall(response, id, call, stateless, hasSession = false) {
  if (response.status !== 200) return classify(response, readAnswer(response, id), stateless, hasSession);
  const { body } = response;
  const data = loneData(body);
  if (data !== null) {
    response.body = data;
    const ok = isShapeOk(response.json(SHAPE)) && (keepAnswer(body, data, id, call) || hasId(response, id));
    response.body = body;
    if (ok) return OK;
  }
  return classify(response, readAnswer(response, id), stateless, hasSession);
}

function hasId(response, id) {
  return response.json('id') === id && response.json('jsonrpc') === '2.0';
}

function isShapeOk(shape) {
  if (KNOWN_SHAPES.has(shape)) return true;
  if (!shape || !isClearlyOk(JSON.parse(shape))) return false;
  if (KNOWN_SHAPES.size < MAX_SHAPES) KNOWN_SHAPES.add(shape);
  return true;
}

// Keeps the text before and after the id of an answer, if the id is its first or last member.
function keepAnswer(body, data, id, call) {
  const first = `{"jsonrpc":"2.0","id":${id},"result":`;
  const last = `,"jsonrpc":"2.0","id":${id}}`;
  const [own, tail] = data.startsWith(first) ? [first, ',"result":'] : [last, '}'];
  if (own === last && !data.endsWith(last)) return false;
  if (body.length > MAX_KEPT_LENGTH) return true;
  const at = (own === first ? body.indexOf(own) : body.lastIndexOf(own)) + own.length - tail.length;
  call.before = body.substring(0, at - String(id).length);
  call.after = body.substring(at);
  return true;
}

// Refuses duplicate keys: the query reads the first one, JSON.parse the last one. The keys of a value that
// is not an object are null or an empty list.
function isClearlyOk([keys, inner, ...values]) {
  if (keys.length !== 3 || !['jsonrpc', 'id', 'result'].every((key) => keys.includes(key))) return false;
  if (!inner || !inner.every((key) => typeof key === 'string')) return false;
  if (inner.length === 0 || new Set(inner).size !== inner.length) return false;
  const expected = [];
  if (inner.includes('isError')) expected.push(false);
  if (inner.includes('resultType')) expected.push('complete');
  return values.length === expected.length && expected.every((it, index) => values[index] === it);
}

// Classifies a response without a JSON-RPC answer: to a notification or a DELETE.
export function classifyPlain(response, hasSession = false) {
  const { status } = response;
  if (status >= 200 && status < 300) return OK;
  const outcome = classifyStatus(response);
  return (status !== 0 && findRefusal(response, null, hasSession)) || outcome;
}

// Returns whether the time limit of a request has ended it.
export function hasTimedOut(response) {
  return response.error_code === REQUEST_TIMEOUT;
}

// Returns whether k6 has ended a request, because it stops.
export function isCancelled({ status, error }) {
  return status === 0 && CANCELLED.test(error);
}

// Classifies a stream that has ended: it was open (ok), the server has no streams, or refused it. k6 forgets
// the status of a stream that did not end by itself; its body is then null if it sent no headers.
export function classifyStream(response, hasSession) {
  const { status, body, headers, timings } = response;
  if (status === 0) {
    const outcome = classifyStatus(response);
    if (outcome === TIMEOUT) return hasTimedOut(response) ? OK : outcome;
    return body === null && timings.duration < REFUSED_WITHIN_MS ? outcome : OK;
  }
  const answer = findError(body);
  if (status === 405 || (answer !== null && answer.error.code === METHOD_NOT_FOUND)) return NO_STREAMS;
  const isStream = EVENT_STREAM.test(headers['Content-Type']);
  if (status === 200 && answer === null) return isStream ? OK : 'unparseable';
  // A bare 404 is that of a server which knows no GET, not of one which has lost the session.
  const mayBeLost = hasSession && (status !== 404 || /session/i.test(body));
  return findRefusal(response, answer, mayBeLost) || (status === 200 ? 'rpc_error' : classifyStatus(response));
}

function classifyStatus(response) {
  const { status } = response;
  if (isCancelled(response)) throw new Error(STOPPED);
  if (status === 0) return TIMEOUT_CODES.includes(response.error_code) ? TIMEOUT : 'connection';
  if (status === 401) return UNAUTHORIZED;
  if (status >= 200 && status < 300) return 'unparseable';
  return STATUSES.includes(status) ? `http_${status}` : 'http_other';
}
