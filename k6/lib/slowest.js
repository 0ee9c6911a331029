// The slowest successful calls of each tool in this VU, with what finds them in the traces of the server.
import { logSlow } from './log.js';
import { readServerTime } from './server_time.js';

const MOST = 3;
const REQUEST_ID = /^[\w.:/+-]{1,128}={0,2}$/;

// By tool: a call is kept only if it takes longer than this. Look here before noteSlow(), at the cost of a
// comparison per call.
export const floors = Object.create(null);
const kept = Object.create(null);
let fresh = []; // kept, but not yet in the log

export function noteSlow(tool, ms, { headers }, traceId) {
  const id = headers['X-Request-Id'];
  const call = {
    tool,
    ms,
    server_ms: readServerTime(headers, ms),
    at: new Date(Date.now() - ms).toISOString(),
    trace_id: traceId,
    request_id: typeof id === 'string' && REQUEST_ID.test(id) ? id : null,
  };
  const calls = kept[tool] || (kept[tool] = []);
  calls.push(call);
  calls.sort((one, other) => other.ms - one.ms);
  fresh.push(call);
  if (calls.length > MOST) fresh = fresh.filter((each) => each !== calls[MOST]);
  calls.length = Math.min(calls.length, MOST);
  floors[tool] = calls.length < MOST ? -1 : calls[MOST - 1].ms;
}

// Prints the calls that were kept since the last time.
export function printSlowest() {
  if (fresh.length > 0) logSlow(fresh);
  fresh = [];
}
