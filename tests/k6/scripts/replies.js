// Replies of every shape and their outcomes; the fast check and the full parse agree.
import http from 'k6/http';
import { check } from 'k6';
import { buildCall } from '../../../k6/lib/mcp.js';
import { classify, classifyCall } from '../../../k6/lib/outcome.js';
import { buildRandom } from '../../../k6/lib/random.js';
import { parseEvents, parseReply, readAnswer } from '../../../k6/lib/reply.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const HEAD = '{"jsonrpc":"2.0","id":7';
const newCall = () => buildCall('2025-11-25', { tool: 'look' }, {});
const OK = { content: [{ type: 'text', text: 'fine' }] };
const failure = (text, more) => ({ isError: true, content: [{ type: 'text', text }], ...more });
const answer = (result, id = 7) => JSON.stringify({ jsonrpc: '2.0', id, result });
const event = (data) => `event: message\ndata: ${data}\n\n`;
const looksFailed = { content: [{ type: 'text', text: '{"isError":true,"error":{}}' }] };
const nested = { content: OK.content, structuredContent: { isError: true, error: 'no' } };
const notification = '{"jsonrpc":"2.0","method":"notifications/message","params":{}}';
const progress = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"id":7}}';
const request = '{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}';
const pretty = JSON.stringify(JSON.parse(answer(OK)), null, 2);
const crlf = (text) => text.replace(/\n/g, '\r\n');
const error = '{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"x"}}';
const big = { content: [{ type: 'text', text: '\u00e4"\\\n'.repeat(5000) }] };
const tail = '{"result":{"content":[{"type":"text","text":"x"}]},"jsonrpc":"2.0","id":7}';

// name, status, body, expected outcome
const CASES = [
  ['plain JSON', 200, answer(OK), 'ok'],
  ['one event', 200, event(answer(OK)), 'ok'],
  ['id last', 200, event(tail), 'ok'],
  ['CRLF', 200, `event: message\r\ndata: ${answer(OK)}\r\n\r\n`, 'ok'],
  ['only CR', 200, `data: ${answer(OK)}\r\r`, 'ok'],
  ['no event field', 200, `data: ${answer(OK)}\n\n`, 'ok'],
  ['no space after the colon', 200, `data:${answer(OK)}\n\n`, 'ok'],
  ['an event id', 200, `id: 1\nevent: message\ndata: ${answer(OK)}\n\n`, 'ok'],
  ['a comment before', 200, `: ping\n\n${event(answer(OK))}`, 'ok'],
  ['a byte order mark', 200, `\ufeff${event(answer(OK))}`, 'ok'],
  ['a notification before', 200, event(notification) + event(answer(OK)), 'ok'],
  ['a notification before, CRLF', 200, crlf(event(notification) + event(answer(OK))), 'ok'],
  ['a notification before, as a lone event', 200, `data: ${notification}\n\ndata: ${answer(OK)}\n\n`, 'ok'],
  ['progress before, with our id in it', 200, event(progress) + event(answer(OK)), 'ok'],
  ['a comment between', 200, `${event(notification)}: ping\n\n${event(answer(OK))}`, 'ok'],
  ['a comment inside an event', 200, `event: message\n: ping\ndata: ${answer(OK)}\n\n`, 'ok'],
  ['a comment after', 200, `${event(answer(OK))}: ping\n\n`, 'ok'],
  ['an empty event before', 200, `id: 0\nretry: 10\ndata:\n\n${event(answer(OK))}`, 'ok'],
  ['garbage in an event before', 200, `${event('{"jsonrpc":')}${event(answer(OK))}`, 'ok'],
  ["an answer to another request before", 200, event(answer(OK, 8)) + event(answer(OK)), 'ok'],
  ["the server's own request of the same id before", 200, event(request) + event(answer(OK)), 'ok'],
  ["the server's own request of the same id only", 200, event(request), 'input_required'],
  ['a notification only', 200, event(notification), 'unparseable'],
  ['comments only', 200, ': ping\n\n: ping\n\n', 'unparseable'],
  ['a tool error after a notification', 200,
    event(notification) + event(answer(failure('{"code":"forbidden"}'))), 'tool_error:forbidden'],
  ['an error after a notification', 200, event(notification) + event(error), 'rpc_error'],
  ['an answer in a comment', 200, `: ${answer(OK)}\n\n`, 'unparseable'],
  ['an answer in another field', 200, `id: ${answer(OK)}\n\n`, 'unparseable'],
  ['an answer in a batch', 200, `[${notification},${answer(OK)}]`, 'ok'],
  ['an answer in a batch, as an event', 200, event(`[${notification},${answer(OK)}]`), 'ok'],
  ['an answer as a text', 200, JSON.stringify(answer(OK)), 'unparseable'],
  ['an answer inside an answer', 200, `{"jsonrpc":"2.0","id":8,"result":${answer(OK)}}`, 'unparseable'],
  ['two answers in one line', 200, answer(OK) + answer(OK), 'unparseable'],
  ['words after the answer', 200, `${answer(OK)} ok`, 'unparseable'],
  ['a line end after the answer', 200, `${answer(OK)}\n`, 'ok'],
  ['other order of members', 200, '{"id":7,"result":{"content":[]},"jsonrpc":"2.0"}', 'ok'],
  ['spaces between', 200, '{"jsonrpc": "2.0", "id": 7, "result": {"content": []}}', 'ok'],
  ['one more member', 200, '{"jsonrpc":"2.0","id":7,"result":{"content":[]},"x":1}', 'ok'],
  ['an id again, of another request', 200, '{"jsonrpc":"2.0","id":7,"result":{"content":[]},"id":8}',
    'unparseable'],
  ['a result again, which failed', 200,
    '{"jsonrpc":"2.0","id":7,"result":{"content":[]},"result":{"isError":true}}', 'tool_error:other'],
  ['isError again, and true', 200,
    '{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":false,"isError":true}}',
    'tool_error:other'],
  ['a method beside the result', 200, '{"jsonrpc":"2.0","id":7,"result":{"content":[]},"method":"x"}',
    'unparseable'],
  ['an error of null beside a result', 200,
    '{"jsonrpc":"2.0","id":7,"result":{"content":[]},"error":null}', 'ok'],
  ['a result of null', 200, '{"jsonrpc":"2.0","id":7,"result":null}', 'unparseable'],
  ['a result that is a list', 200, '{"jsonrpc":"2.0","id":7,"result":[{"content":[]}]}', 'unparseable'],
  ['an error that is a text', 200, '{"jsonrpc":"2.0","id":7,"error":"no"}', 'unparseable'],
  ['data over two lines', 200, 'data: {"jsonrpc":"2.0","id":7,\ndata: "result":{}}\n\n', 'ok'],
  ['data over many lines, CRLF', 200, crlf(event(pretty.split('\n').join('\ndata: '))), 'ok'],
  ['a failure over many lines', 200,
    event(JSON.stringify(JSON.parse(answer(failure('{}'))), null, 2).split('\n').join('\ndata: ')),
    'tool_error:other'],
  ['pretty-printed JSON', 200, pretty, 'ok'],
  ['isError false', 200, event(answer({ ...OK, isError: false })), 'ok'],
  ['words of failure inside a text', 200, event(answer(looksFailed)), 'ok'],
  ['keys of failure deeper down', 200, event(answer(nested)), 'ok'],
  ['other letters, large', 200, event(answer(big)), 'ok'],
  ['no content at all', 200, event(answer({})), 'ok'],
  ['a tool error', 200, event(answer(failure('{"code":"unknown_entity"}'))),
    'tool_error:unknown_entity'],
  ['a tool error with spaces', 200,
    '{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"{}"}], "isError" : true}}',
    'tool_error:other'],
  ['a tool error in an escaped key', 200,
    '{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"x"}],"is\\u0045rror":true}}',
    'tool_error:other'],
  ['a tool error in plain text', 200, event(answer(failure('MCP error -32602: no such tool'))),
    'tool_error:-32602'],
  ['a tool error with an unknown code', 200, event(answer(failure('{"code":"made_up"}'))),
    'tool_error:other'],
  ['a quota', 200, event(answer(failure('{"code":"rate_limited","retry_after":9}'))),
    'rate_limited'],
  ['a JSON-RPC error', 200, event(error), 'rpc_error'],
  ['an error beside a result', 200,
    '{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"x"}]},"error":{"code":1}}',
    'unparseable'],
  ['another request\'s answer', 200, event(answer(OK, 8)), 'unparseable'],
  ['an id that only starts alike', 200, event(answer(OK, 77)), 'unparseable'],
  ['an id of another type', 200, event(answer(OK, '7')), 'unparseable'],
  ['an id inside the result', 200,
    '{"jsonrpc":"2.0","result":{"content":[{"text":"x"}],"jsonrpc":"2.0","id":7}}', 'unparseable'],
  ['no version', 200, '{"id":7,"result":{"content":[]}}', 'unparseable'],
  ['a result that is not an object', 200, '{"jsonrpc":"2.0","id":7,"result":"ok"}', 'unparseable'],
  ['invalid JSON that looks valid', 200,
    '{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text" "text":"x"}]}}', 'unparseable'],
  ['a cut-off answer', 200, event(answer(OK).slice(0, -6)), 'unparseable'],
  ['an unfinished event', 200, `data: ${answer(OK)}\n`, 'unparseable'],
  ['an event of another type', 200, `event: endpoint\ndata: ${answer(OK)}\n\n`, 'unparseable'],
  ['a page', 200, '<html>sign in</html>', 'unparseable'],
  ['nothing', 200, '', 'unparseable'],
  ['accepted without an answer', 202, '', 'unparseable'],
  ['no bearer', 401, '{"error":"invalid_bearer"}', 'unauthorized'],
  ['a lost session', 404, '{"jsonrpc":"2.0","id":null,"error":{}}', 'http_404'],
  ['too many requests', 429, '', 'rate_limited'],
  ['all sessions taken', 503, '{"error": "too_many_sessions"}', 'capacity'],
  ['an outage', 503, '{"error":"region_unavailable"}', 'http_503'],
  ['a redirect', 307, '', 'http_307'],
  ['an unlisted status', 418, '', 'http_other'],
];

// Refusals in the words of other servers: see refusals.js for the sources.
const rpc = (code, message, id = null) => JSON.stringify({ jsonrpc: '2.0', id, error: { code, message } });
const REFUSAL_CASES = [
  ['MCP Python SDK', 503, rpc(-32603, 'Too many open sessions'), 'capacity'],
  ['TypeScript SDK', 503, rpc(-32000, 'Too many open sessions'), 'capacity'],
  ['n8n-mcp', 429, rpc(-32000, 'Session limit reached (100). Please wait.'), 'capacity'],
  ['MongoDB', 503, rpc(-32006, 'no'), 'capacity'],
  ['a full server inside 200', 200, rpc(-32000, 'Maximum sessions reached', 7), 'capacity'],
  ['a full server as a tool error', 200, event(answer(failure('Too many active sessions'))), 'capacity'],
  ['FastMCP', 200, event(rpc(-32000, 'Rate limit exceeded for client: global', 7)), 'rate_limited'],
  ['a code of tRPC', 200, rpc(-32029, 'no', 7), 'rate_limited'],
  ['a code of EIP-1474', 200, rpc(-32005, 'Limit exceeded', 7), 'rate_limited'],
  ['that code with another message', 200, rpc(-32005, 'no', 7), 'rpc_error'],
  ['Linear', 200, answer(failure('{"error":{"code":"RATELIMITED"}}')), 'rate_limited'],
  ['Google', 200, answer(failure('{"code":"RESOURCE_EXHAUSTED"}')), 'rate_limited'],
  ['GitHub', 403, '{"message":"You have exceeded a secondary rate limit."}', 'rate_limited'],
  ['express-rate-limit', 200, answer(failure('Too many requests, please try again later.')), 'rate_limited'],
  ['a quota of the day', 200, answer(failure('Quota exceeded for quota metric reads')), 'rate_limited'],
  ['an argument named limit', 200, answer(failure('rate limit must be a number')), 'tool_error:other'],
  ['an ok answer about limits', 200, answer({ content: [{ text: 'rate limit exceeded' }] }), 'ok'],
  ['an unknown session of a tool', 200, answer(failure('Session not found')), 'tool_error:other'],
];
const LOST_CASES = [
  ['404', 404, '', 'session_lost'],
  ['MCP Python SDK before 1.25', 400, 'Bad Request: No valid session ID provided', 'session_lost'],
  ['TypeScript SDK after a restart', 400, rpc(-32000, 'Bad Request: Server not initialized'), 'session_lost'],
  ['Rust SDK', 401, 'Unauthorized: Session not found', 'session_lost'],
  ['Keryx', 200, event('{"error":"Session not found"}'), 'session_lost'],
  ['Zilla', 200, rpc(-32600, 'Session not found', 7), 'session_lost'],
  ['Java SDK', 404, rpc(-32603, 'Session not found: 1'), 'session_lost'],
  ['a bearer that has expired', 401, '{"error":"invalid_token"}', 'unauthorized'],
  ['another fault', 400, rpc(-32602, 'Invalid params'), 'http_400'],
  ['a tool with sessions of its own', 200, answer(failure('Session not found')), 'tool_error:other'],
  ['a full server', 503, rpc(-32603, 'Too many open sessions'), 'capacity'],
];

// The same in the stateless era, where a result has a type.
const typed = (resultType) => answer({ ...OK, resultType });
const refusal = (code, id = 7) => JSON.stringify({ jsonrpc: '2.0', id, error: { code, message: '' } });
const STATELESS_CASES = [
  ['complete', 200, typed('complete'), 'ok'],
  ['complete, as an event', 200, event(typed('complete')), 'ok'],
  ['no type', 200, answer(OK), 'ok'],
  ['input required', 200, typed('input_required'), 'input_required'],
  ['input required, as an event', 200, event(typed('input_required')), 'input_required'],
  ['input required, without content', 200, answer({ resultType: 'input_required' }), 'input_required'],
  ['an unknown type', 200, typed('task'), 'incomplete'],
  ['a type that is not a string', 200, typed(null), 'incomplete'],
  ['an empty type', 200, typed(''), 'incomplete'],
  ['a type in an escaped key', 200,
    answer(OK).replace('}]}', '}],"result\\u0054ype":"input_required"}'), 'input_required'],
  ['two types', 200,
    answer(OK).replace('}]}', '}],"resultType":"complete","resultType":"input_required"}'),
    'input_required'],
  ['a type deeper down', 200,
    answer({ ...OK, structuredContent: { resultType: 'input_required' } }), 'ok'],
  ['a tool error', 200, answer(failure('{"code":"forbidden"}', { resultType: 'complete' })),
    'tool_error:forbidden'],
  ['bad arguments', 400, refusal(-32602), 'rpc_error'],
  ['an unknown method', 404, refusal(-32601), 'rpc_error'],
  ['a refusal before the id was read', 400, refusal(-32020, null), 'rpc_error'],
  ['a refusal without an id', 400, refusal(-32020, undefined), 'rpc_error'],
  ["another request's refusal", 400, refusal(-32020, 8), 'http_400'],
  ['a wrong path', 404, 'not found', 'http_404'],
  ['no bearer', 401, refusal(-32600), 'unauthorized'],
  ['an outage', 503, refusal(-32603), 'http_503'],
];

function checkCases(cases, stateless, hasSession = false) {
  const classifiers = {
    parsed: (response) => classify(response, readAnswer(response, 7), stateless, hasSession),
    fast: (response) => classifyCall(response, 7, newCall(), stateless, hasSession),
  };
  for (const [name, status, body, expected] of cases) {
    const headers = { 'X-Status': String(status) };
    for (const [kind, classifier] of Object.entries(classifiers)) {
      const outcome = classifier(http.post(__ENV.ECHO_URL, body, { headers }));
      const title = `${name}: ${kind} returns ${expected}`;
      if (!check(outcome, { [title]: (it) => it === expected })) console.error(title, outcome);
    }
  }
}

// Replies that are partly right: whatever the change, the fast check and the full parse agree.
const PIECES = ['"id":8', '"id":7', '"id":"7"', '"jsonrpc":"1.0"', '"error":{}', '"error":null']
  .concat(['"method":"x"', '"result":{}', '"result":{"isError":true}', '"result":[]', '"isError":true'])
  .concat(['"isError":false', '"isError":"true"', '"is\\u0045rror":true', '"resultType":"task"'])
  .concat(['"resultType":"complete"', '"x":"\\"isError\\":true"', '"x":{"isError":true}', '"id,jsonrpc":1']);
const BASES = [OK, { ...OK, isError: false }, { ...OK, resultType: 'complete' }, nested, looksFailed]
  .map((result) => answer(result))
  .concat(tail, tail.replace('"jsonrpc":"2.0","id":7', '"id":7,"jsonrpc":"2.0"'), error)
  .concat(HEAD + ',"result":["x"]}', HEAD + ',"result":{}}', '[' + answer(OK) + ']');
const VARIATIONS = 2000;

function vary() {
  const random = buildRandom(1, 1);
  const pick = (list) => list[Math.floor(random() * list.length)];
  let oks = 0;
  const call = newCall(); // one for all: what it keeps of an answer must not affect the next
  for (let index = 0; index < VARIATIONS; index += 1) {
    let body = pick(BASES);
    for (let times = Math.floor(random() * 3); times > 0; times -= 1) body = change(body, random, pick);
    if (random() < 0.5) body = event(body);
    const response = http.post(__ENV.ECHO_URL, body);
    const stateless = random() < 0.5;
    const id = pick([7, 7, 7, 8, 77]);
    const parsed = classify(response, readAnswer(response, id), stateless);
    const fast = classifyCall(response, id, call, stateless);
    oks += parsed === 'ok';
    const agree = { 'the fast check and the full parse agree': (it) => it === parsed };
    if (!check(fast, agree)) console.error(parsed, fast, body);
  }
  check(call, { 'an answer was kept': ({ after }) => after !== null });
  check(oks, { 'there are ok answers and others': (it) => it > 100 && it < VARIATIONS - 100 });
}

// Inserts a piece before or after a member, or removes a character.
function change(body, random, pick) {
  const places = [...body].map((it, index) => (it === '{' || it === ',' ? index : -1));
  const place = pick(places.filter((index) => index >= 0)) + 1;
  if (random() < 0.2) return body.slice(0, place) + body.slice(place + 1);
  if (random() < 0.2) return body.replace(/\}+$/, (end) => `,${pick(PIECES)}${end}`);
  return `${body.slice(0, place)}${pick(PIECES)},${body.slice(place)}`;
}

export default function replies() {
  checkCases(CASES, false);
  checkCases(REFUSAL_CASES, false);
  checkCases(LOST_CASES, false, true);
  checkCases(STATELESS_CASES, true);
  vary();
  check(parseEvents('data: a\ndata: b\n\n: c\n\ndata\n\n'), {
    'lines of data are joined': (events) => events.length === 2 && events[0] === 'a\nb',
  });
  check(parseReply('[{"jsonrpc":"2.0","id":7,"result":{}}]', 7), {
    'an answer is found in a batch': (message) => message !== null,
  });
}
