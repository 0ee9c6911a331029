// k6 sums a tagged series only if a threshold names it, so every column of a row gets one.
import { tells } from './env.js';
import { REASONS } from './outcome.js';

const ALWAYS = { trend: ['max>=0'], counter: ['count>=0'] };
const TRENDS = ['http_req_duration', 'mcp_duration', 'mcp_response', 'mcp_ended'];
const RPCS = ['initialize', 'notifications/initialized', 'server/discover']
  .concat(['tools/list', 'tools/call', 'close']);

const STATS = ['avg', 'min', 'med', 'max', 'p(50)', 'p(90)', 'p(95)', 'p(99)', 'count'];

// Per cents of samples, evenly and finer at the tail. A k6 that is interrupted stops its VUs before they
// print their last histograms: in a fleet its summary has the distribution too, as these percentiles.
const CENTS = Array.from({ length: 99 }, (_, index) => index + 1);
export const SCALE = tells() ? CENTS.concat([99.2, 99.4, 99.6, 99.8, 99.9, 99.95, 99.99]) : [];
export const TREND_STATS = Array.from(new Set(STATS.concat(SCALE.map((cent) => `p(${cent})`))));

// The values of a trend with its percentiles of the scale as one list.
export function packTrend(values) {
  const packed = {};
  for (const stat of STATS) packed[stat] = values[stat];
  packed.scale = SCALE.map((cent) => Number(values[`p(${cent})`].toPrecision(5)));
  return packed;
}

// `selectors` are tag filters such as `stage:10`, one per row; '' is the whole scenario.
export function buildThresholds(selectors) {
  const thresholds = {};
  for (const rpc of RPCS) thresholds[`http_req_duration{rpc:${rpc}}`] = ALWAYS.trend;
  // Of the whole scenario, whatever its rows are: who watches a run tells refusals from failures.
  for (const counter of ['mcp_failures', 'mcp_open_failures']) {
    for (const series of listReasons(counter, '')) thresholds[series] = ALWAYS.counter;
  }
  for (const selector of selectors) {
    const braced = selector && `{${selector}}`;
    for (const trend of TRENDS) thresholds[trend + braced] = ALWAYS.trend;
    for (const series of listReasons('mcp_failures', selector)) thresholds[series] = ALWAYS.counter;
    if (!hasOpenings(selector)) continue;
    thresholds[`mcp_opening${braced}`] = ALWAYS.trend;
    thresholds[`mcp_sessions_opened${braced}`] = ALWAYS.counter;
    thresholds[`mcp_sessions_closed${braced}`] = ALWAYS.counter;
    for (const series of listReasons('mcp_open_failures', selector)) {
      thresholds[series] = ALWAYS.counter;
    }
  }
  return thresholds;
}

// The series of a counter by reason, within one selector.
export function listReasons(counter, selector, reasons = REASONS) {
  const start = selector ? `${counter}{${selector},reason:` : `${counter}{reason:`;
  return reasons.map((reason) => `${start}${reason}}`);
}

// Clients open for a whole stage or mix, neither for a tool nor for a frame.
export function hasOpenings(selector) {
  return selector === '' || selector.startsWith('stage:');
}
