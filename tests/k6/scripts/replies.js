// Replies of every shape and what the client makes of them; the fast way and the full parse agree.
import http from 'k6/http';
import { check } from 'k6';
import { classify, classifyCall } from '../../../k6/lib/outcome.js';
import { parseEvents, parseReply } from '../../../k6/lib/reply.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const HEAD = '{"jsonrpc":"2.0","id":7';
const OK = { content: [{ type: 'text', text: 'fine' }] };
const failure = (text, more) => ({ isError: true, content: [{ type: 'text', text }], ...more });
const answer = (result, id = 7) => JSON.stringify({ jsonrpc: '2.0', id, result });
const event = (data) => `event: message\ndata: ${data}\n\n`;
const looksFailed = { content: [{ type: 'text', text: '{"isError":true,"error":{}}' }] };
const nested = { content: OK.content, structuredContent: { isError: true, error: 'no' } };
const notification = '{"jsonrpc":"2.0","method":"notifications/message","params":{}}';
const error = '{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"x"}}';
const big = { content: [{ type: 'text', text: '\u00e4"\\\n'.repeat(5000) }] };
const tail = '{"result":{"content":[{"type":"text","text":"x"}]},"jsonrpc":"2.0","id":7}';

// name, status, body, expected outcome
const CASES = [
  ['plain JSON', 200, answer(OK), 'ok'],
  ['one event', 200, event(answer(OK)), 'ok'],
  ['id last', 200, event(tail), 'ok'],
  ['CRLF', 200, `event: message\r\ndata: ${answer(OK)}\r\n\r\n`, 'ok'],
  ['CR alone', 200, `data: ${answer(OK)}\r\r`, 'ok'],
  ['no event field', 200, `data: ${answer(OK)}\n\n`, 'ok'],
  ['no space after the colon', 200, `data:${answer(OK)}\n\n`, 'ok'],
  ['an event id', 200, `id: 1\nevent: message\ndata: ${answer(OK)}\n\n`, 'ok'],
  ['a comment before', 200, `: ping\n\n${event(answer(OK))}`, 'ok'],
  ['a byte order mark', 200, `\ufeff${event(answer(OK))}`, 'ok'],
  ['a notification before', 200, event(notification) + event(answer(OK)), 'ok'],
  ['data over two lines', 200, 'data: {"jsonrpc":"2.0","id":7,\ndata: "result":{}}\n\n', 'ok'],
  ['pretty-printed JSON', 200, JSON.stringify(JSON.parse(answer(OK)), null, 2), 'ok'],
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
  ['a tool error of no known code', 200, event(answer(failure('{"code":"made_up"}'))),
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
  ['a result that is no object', 200, '{"jsonrpc":"2.0","id":7,"result":"ok"}', 'unparseable'],
  ['garbage in good clothes', 200,
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
  ['a full house', 503, '{"error": "too_many_sessions"}', 'capacity'],
  ['an outage', 503, '{"error":"region_unavailable"}', 'http_503'],
  ['a redirect', 307, '', 'http_307'],
  ['a status of no name', 418, '', 'http_other'],
];

export default function replies() {
  for (const [name, status, body, expected] of CASES) {
    const headers = { 'X-Status': String(status) };
    for (const judge of [classify, classifyCall]) {
      const outcome = judge(http.post(__ENV.ECHO_URL, body, { headers }), 7, HEAD);
      const says = `${name}: ${judge.name} says ${expected}`;
      if (!check(outcome, { [says]: (it) => it === expected })) console.error(says, outcome);
    }
  }
  check(parseEvents('data: a\ndata: b\n\n: c\n\ndata\n\n'), {
    'lines of data are joined': (events) => events.length === 2 && events[0] === 'a\nb',
  });
  check(parseReply('[{"jsonrpc":"2.0","id":7,"result":{}}]', 7), {
    'an answer is found in a batch': (message) => message !== null,
  });
}
