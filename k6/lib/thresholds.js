// k6 sums a tagged series only if a threshold names it, so every column of a row gets one.
import { REASONS } from './outcome.js';

const ALWAYS = { trend: ['max>=0'], counter: ['count>=0'] };
const TRENDS = ['http_req_duration', 'mcp_duration', 'mcp_response', 'mcp_ended'];
const RPCS = ['initialize', 'notifications/initialized', 'server/discover']
  .concat(['tools/list', 'tools/call', 'close']);

export const TREND_STATS = ['avg', 'min', 'med', 'max', 'p(50)', 'p(90)', 'p(95)', 'p(99)', 'count'];

// `selectors` are tag filters such as `stage:10`, one per row; '' is the whole scenario.
export function buildThresholds(selectors, maxFailureShare) {
  const thresholds = {};
  for (const rpc of RPCS) thresholds[`http_req_duration{rpc:${rpc}}`] = ALWAYS.trend;
  for (const selector of selectors) {
    const braced = selector && `{${selector}}`;
    for (const trend of TRENDS.concat('mcp_opening')) thresholds[trend + braced] = ALWAYS.trend;
    thresholds[`mcp_failed${braced}`] = [`rate<=${maxFailureShare}`];
    for (const counter of ['mcp_sessions_opened', 'mcp_sessions_closed']) {
      thresholds[counter + braced] = ALWAYS.counter;
    }
    for (const reason of REASONS) {
      const tags = selector ? `${selector},reason:${reason}` : `reason:${reason}`;
      thresholds[`mcp_failures{${tags}}`] = ALWAYS.counter;
      thresholds[`mcp_open_failures{${tags}}`] = ALWAYS.counter;
    }
  }
  return thresholds;
}
