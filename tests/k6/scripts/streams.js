// How a stream that has ended is read: it was open, was refused, or the server has none.
import { check } from 'k6';
import { classifyStream, hasTimedOut, isCancelled } from '../../../k6/lib/outcome.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const STREAM = { 'Content-Type': 'text/event-stream; charset=utf-8' };
const JSON_TYPE = { 'Content-Type': 'application/json' };
const HTML = { 'Content-Type': 'text/html' };
const full = '{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Maximum number of streams reached"}}';
const limited = '{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Subscription limit reached"}}';
const failed = '{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}';
const unknown = '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}';
const lost = '{"error":"Session not found"}';

const ended = (status, body, headers = {}) => ({ status, body, headers, timings: { duration: 5000 } });
const broken = (body, error, code, duration = 5000) => {
  return { status: 0, body, headers: {}, error, error_code: code, timings: { duration } };
};

const CASES = [
  ['it ended by itself', ended(200, ': ping\n\n', STREAM), 'ok'],
  ['it ended without a message', ended(200, '', STREAM), 'ok'],
  ['the time limit ended it', broken(': ping\n\n', 'request timeout', 1050), 'ok'],
  ['the time limit ended it before its headers', broken(null, 'request timeout', 1050), 'ok'],
  ['it was cut', broken(': ping\n\n', 'unexpected EOF', 1000), 'ok'],
  ['it was cut before its headers', broken(null, 'EOF', 1000), 'ok'],
  ['it was cut at once', broken(': ping\n\n', 'unexpected EOF', 1000, 5), 'ok'],
  ['its connection ended at once', broken(null, 'EOF', 1000, 5), 'connection'],
  ['nobody listens', broken(null, 'connection refused', 1212, 1), 'connection'],
  ['nobody answers', broken(null, 'dial: i/o timeout', 1211, 30000), 'timeout'],
  ['there are no streams', ended(405, ''), 'no_streams'],
  ['the method is unknown', ended(404, unknown, JSON_TYPE), 'no_streams'],
  ['the method is unknown inside 200', ended(200, unknown, JSON_TYPE), 'no_streams'],
  ['full inside 200', ended(200, full, JSON_TYPE), 'capacity'],
  ['full in an event', ended(200, `event: message\ndata: ${full}\n\n`, STREAM), 'capacity'],
  ['full in words of the Python SDK', ended(200, limited, JSON_TYPE), 'capacity'],
  ['full as Atlas says it', ended(503, '{"error":"too_many_streams"}', JSON_TYPE), 'capacity'],
  ['busy', ended(503, 'busy'), 'http_503'],
  ['an error inside 200', ended(200, failed, JSON_TYPE), 'rpc_error'],
  ['a limit', ended(429, ''), 'rate_limited'],
  ['no bearer', ended(401, ''), 'unauthorized'],
  ['a page', ended(200, '<html>', HTML), 'unparseable'],
  ['no such route', ended(404, 'Cannot GET /mcp', HTML), 'http_404'],
  ['the session is lost', ended(404, lost, JSON_TYPE), 'session_lost'],
];

export default function streams() {
  for (const [name, response, expected] of CASES) {
    const found = classifyStream(response, true);
    check(found, { [`${name}: ${found}`]: (outcome) => outcome === expected });
  }
  const withoutSession = classifyStream(ended(404, lost, JSON_TYPE), false);
  check(withoutSession, { 'no session can be lost': (outcome) => outcome === 'http_404' });
  const stopped = broken(null, 'context canceled', 1000);
  check(stopped, { 'k6 stops': (response) => isCancelled(response) && !hasTimedOut(response) });
}
