// What became of a request: one word that rows, counters and thresholds share.
import { loneData, parseReply } from './reply.js';

export const OK = 'ok';
export const CAPACITY = 'capacity';
export const TIMEOUT = 'timeout';
export const CUT_OFF = 'cut_off'; // unanswered when its slice ended, before its own time limit

const CODES = ['validation_failed', 'unknown_entity', 'unknown_metric', 'ambiguous_term'].concat(
  ['internal_error', 'forbidden', '-32600', '-32601', '-32602', '-32603', 'other'],
);
const STATUSES = [301, 302, 307, 308, 400, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 421]
  .concat([422, 500, 501, 502, 503, 504, 520, 522, 524], 'other');

// Every reason there is: k6 sums a tagged series only when it was named beforehand.
export const REASONS = [CAPACITY, 'rate_limited', 'unauthorized', TIMEOUT, CUT_OFF, 'connection']
  .concat(['rpc_error', 'unparseable'])
  .concat(CODES.map((code) => `tool_error:${code}`))
  .concat(STATUSES.map((status) => `http_${status}`));

// Time limits of k6: 1050 request, 1211 dial.
const TIMEOUT_CODES = [1050, 1211];

// Classify the HTTP response to JSON-RPC request `id`.
export function classify(response, id) {
  if (response.status !== 200) return classifyStatus(response);
  const answer = parseReply(response.body, id);
  if (answer === null) return 'unparseable';
  if (answer.error) return 'rpc_error';
  return answer.result.isError === true ? classifyToolError(answer.result) : OK;
}

// The same for a tool call, where cost counts: k6's native JSON validates the whole text and counts
// the content blocks of the result at a fraction of what JSON.parse costs. The rest is then sure by
// position: the first or last members of the valid text are its own, and a quote inside a string is
// escaped, so the keys looked for are absent or the text is parsed. `head` is `{"jsonrpc":"2.0","id":`
// and the id.
export function classifyCall(response, id, head) {
  if (response.status !== 200) return classifyStatus(response);
  const data = loneData(response.body);
  if (
    data !== null &&
    (data.startsWith('{"result":{')
      ? data.endsWith(`},"jsonrpc":"2.0","id":${id}}`)
      : data.startsWith(`${head},"result":{`)) &&
    data.indexOf('"error"') < 0 &&
    data.indexOf('\\u00') < 0
  ) {
    response.body = data;
    if (
      response.json('result.content.#') > 0 &&
      (data.indexOf('"isError"') < 0 || response.json('result.isError') === false)
    ) {
      return OK;
    }
  }
  return classify(response, id);
}

// Classify a response that carries no JSON-RPC answer: a notification's or a DELETE's.
export function classifyPlain(response) {
  return response.status >= 200 && response.status < 300 ? OK : classifyStatus(response);
}

function classifyStatus(response) {
  const { status } = response;
  if (status === 0) return TIMEOUT_CODES.includes(response.error_code) ? TIMEOUT : 'connection';
  if (status === 401) return 'unauthorized';
  if (status === 429) return 'rate_limited';
  if (status === 503 && String(response.body).includes('"too_many_sessions"')) return CAPACITY;
  if (status >= 200 && status < 300) return 'unparseable';
  return STATUSES.includes(status) ? `http_${status}` : 'http_other';
}

function classifyToolError(result) {
  const first = Array.isArray(result.content) ? result.content[0] : null;
  const text = first && typeof first.text === 'string' ? first.text : '';
  const code = toolErrorCode(text);
  if (code === 'rate_limited') return 'rate_limited';
  return `tool_error:${CODES.includes(code) ? code : 'other'}`;
}

function toolErrorCode(text) {
  const plain = /^MCP error (-\d+)/.exec(text);
  if (plain) return plain[1];
  try {
    return String(JSON.parse(text).code);
  } catch (_) {
    return 'other';
  }
}
