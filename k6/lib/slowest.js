// The slowest successful calls of each tool in this VU, with what finds them in the traces of the server.
import { logSlow } from './log.js';
import { readServerTime } from './server_time.js';

const MOST = 3;
const REQUEST_ID = /^[\w.:/+-]{1,128}={0,2}$/;

// By tool: a call without a trace is kept only if it takes longer than this. Look here before noteSlow(), at
// the cost of a comparison per call.
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
  const before = kept[tool] || [];
  const calls = (kept[tool] = pickSlowest([...before, call]));
  fresh = [...fresh, call].filter((each) => each.tool !== tool || calls.includes(each));
  const last = calls.length < MOST ? null : calls[MOST - 1];
  floors[tool] = last === null ? -1 : Math.max(last.ms, last.trace_id === null ? 0 : calls[MOST - 2].ms);
}

// The last one has a trace id if any call has: without it, nobody finds a call.
function pickSlowest(calls) {
  calls.sort((one, other) => other.ms - one.ms);
  const picked = calls.slice(0, MOST);
  const traced = calls.find((call) => call.trace_id !== null);
  if (traced !== undefined && !picked.includes(traced)) picked[MOST - 1] = traced;
  return picked;
}

// Prints the calls that were kept since the last time.
export function printSlowest() {
  if (fresh.length > 0) logSlow(fresh);
  fresh = [];
}
