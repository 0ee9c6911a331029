// k6 sums up a tagged series only if a threshold names it, so every column of a row gets a threshold.
import { controlRate, holdsStreams, isOneOfSeveral } from './env.js';
import { BEYOND, REASONS } from './outcome.js';

const ALWAYS = { trend: ['max>=0'], counter: ['count>=0'] };
const TRENDS = ['http_req_duration', 'mcp_duration', 'mcp_response', 'mcp_ended']
  .concat(['mcp_reply_bytes', 'mcp_first_byte', 'mcp_receiving', 'mcp_server_time']);
const OPENING_TRENDS = ['mcp_opening', 'mcp_lost_calls', 'mcp_lost_age', 'mcp_lost_at'];
const STREAM_TRENDS = ['mcp_stream_held', 'mcp_stream_open', 'mcp_stream_dropped', 'mcp_stream_silence'];
const STREAM_NOTES = ['none', 'stays', 'keep_alive'];
const RPCS = ['initialize', 'notifications/initialized', 'server/discover', 'stream']
  .concat(['tools/list', 'tools/call', 'resources/read', 'prompts/get', 'completion/complete', 'close']);

const STATS = ['avg', 'min', 'med', 'max', 'p(50)', 'p(90)', 'p(95)', 'p(99)', 'count'];

// Percentiles that describe the distribution, in steps of 1 and finer at the tail. An interrupted k6 stops
// its VUs before they print their last histograms, so with several runners the summary has these as well.
const CENTS = Array.from({ length: 99 }, (_, index) => index + 1);
export const SCALE = isOneOfSeveral() ? CENTS.concat([99.2, 99.4, 99.6, 99.8, 99.9, 99.95, 99.99]) : [];
export const TREND_STATS = Array.from(new Set(STATS.concat(SCALE.map((cent) => `p(${cent})`))));

// Returns the values of a trend, with the percentiles of the scale as one list.
export function packTrend(values) {
  const packed = {};
  for (const stat of STATS) packed[stat] = values[stat];
  packed.scale = SCALE.map((cent) => Number(values[`p(${cent})`].toPrecision(5)));
  return packed;
}

// `selectors` are tag filters such as `stage:10`, one per row; '' is the whole scenario. `trends` are those
// that only this scenario has, and so are `counters`, which count by reason.
export function buildThresholds(selectors, trends, counters) {
  const thresholds = {};
  for (const rpc of RPCS) thresholds[`http_req_duration{rpc:${rpc}}`] = ALWAYS.trend;
  // For the whole scenario, whatever its rows are: the progress display shows refusals and failures.
  for (const counter of ['mcp_failures', 'mcp_open_failures', ...counters]) {
    for (const series of listReasons(counter, '')) thresholds[series] = ALWAYS.counter;
  }
  if (controlRate() !== null) {
    thresholds['http_reqs{rpc:control}'] = ALWAYS.counter;
    for (const series of listReasons('mcp_control_failures', '')) thresholds[series] = ALWAYS.counter;
  }
  for (const selector of selectors) {
    const braced = selector && `{${selector}}`;
    if (isFlow(selector)) {
      thresholds[`mcp_flow${braced}`] = ALWAYS.trend;
      for (const series of listReasons('mcp_flow_failures', selector)) thresholds[series] = ALWAYS.counter;
      continue;
    }
    for (const trend of TRENDS.concat(trends)) thresholds[trend + braced] = ALWAYS.trend;
    for (const series of listReasons('mcp_failures', selector)) thresholds[series] = ALWAYS.counter;
    for (const series of listReasons('mcp_beyond', selector, BEYOND)) thresholds[series] = ALWAYS.counter;
    if (!hasOpenings(selector)) continue;
    for (const trend of OPENING_TRENDS) thresholds[trend + braced] = ALWAYS.trend;
    thresholds[`mcp_sessions_opened${braced}`] = ALWAYS.counter;
    thresholds[`mcp_sessions_closed${braced}`] = ALWAYS.counter;
    for (const series of listReasons('mcp_open_failures', selector)) {
      thresholds[series] = ALWAYS.counter;
    }
    if (!holdsStreams()) continue;
    for (const trend of STREAM_TRENDS) thresholds[trend + braced] = ALWAYS.trend;
    const counted = listReasons('mcp_streams', selector, STREAM_NOTES);
    for (const series of counted.concat(listReasons('mcp_stream_failures', selector))) {
      thresholds[series] = ALWAYS.counter;
    }
  }
  return thresholds;
}

// Returns the series of a counter for each reason, within one selector.
export function listReasons(counter, selector, reasons = REASONS) {
  const start = selector ? `${counter}{${selector},reason:` : `${counter}{reason:`;
  return reasons.map((reason) => `${start}${reason}}`);
}

// Returns whether a selector is of whole flows, whose calls are in the rows of their steps.
export function isFlow(selector) {
  return selector.startsWith('flow:');
}

// Returns whether rows of a selector have openings: stages and whole scenarios do, tools and frames do not.
export function hasOpenings(selector) {
  return selector === '' || selector.startsWith('stage:');
}
