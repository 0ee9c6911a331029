// Writes summary.json: the shape of k6's --summary-export, plus what the rows need under `loadtest`.
import { CLIENTS } from './bearers.js';
import { mostRate, share, summaryFile } from './env.js';
import { CAPACITY, REASONS } from './outcome.js';
import { SCALE, hasOpenings, listReasons, packTrend } from './thresholds.js';

const FILE = summaryFile();
const MAX_FAILURE_SHARE = share('MAX_FAILURE_SHARE', 0.01);

// `slices` name the rows; what setup() returned says who answered and when the run began.
export function buildSummary(scenario, selectors, slices, tools = []) {
  return (data) => {
    const setup = data.setup_data || null;
    const own = { version: 1, scenario, slices, tools, clients: CLIENTS, server: setup && setup.server };
    own.most_rate = mostRate();
    own.scale = SCALE;
    own.began = setup && setup.began;
    own.elapsed_ms = setup && Date.now() - setup.began;
    const metrics = flatten(data.metrics);
    for (const selector of selectors) addFailureShare(metrics, selector);
    const body = { loadtest: own, root_group: data.root_group, metrics };
    if (FILE === 'stdout') return { stdout: `${JSON.stringify(body)}\n` };
    return { [FILE]: JSON.stringify(body, null, 1) };
  };
}

// --summary-export writes a threshold as true when it was crossed.
function flatten(metrics) {
  const flat = {};
  for (const [name, metric] of Object.entries(metrics)) {
    const packs = SCALE.length > 0 && metric.type === 'trend';
    flat[name] = packs ? packTrend(metric.values) : Object.assign({}, metric.values);
    if (!metric.thresholds) continue;
    flat[name].thresholds = {};
    for (const [rule, verdict] of Object.entries(metric.thresholds)) {
      flat[name].thresholds[rule] = !verdict.ok;
    }
  }
  return flat;
}

// The share of calls and openings that failed, in the shape of a k6 rate with a threshold. A full
// house is the server's ceiling, not a failure. A call cut off by the end of its slice is one: it
// waited for the whole drain time, and a server that stalls to the end must not look well.
function addFailureShare(metrics, selector) {
  const count = (series) => (metrics[series] && metrics[series].count) || 0;
  const sum = (all) => all.reduce((total, series) => total + count(series), 0);
  const braced = selector && `{${selector}}`;
  const bad = REASONS.filter((reason) => reason !== CAPACITY);
  let fails = count(`mcp_duration${braced}`);
  let passes = sum(listReasons('mcp_failures', selector, bad));
  if (hasOpenings(selector)) {
    fails += count(`mcp_opening${braced}`);
    passes += sum(listReasons('mcp_open_failures', selector, bad));
  }
  const rate = passes + fails > 0 ? passes / (passes + fails) : 0;
  const thresholds = { [`rate<=${MAX_FAILURE_SHARE}`]: rate > MAX_FAILURE_SHARE };
  metrics[`mcp_failed${braced}`] = { rate, passes, fails, thresholds };
}
