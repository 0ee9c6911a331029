// Writes summary.json: k6's --summary-export format, and under `loadtest` what the rows need.
import { CLIENTS } from './bearers.js';
import { limitRate, share, summaryFile } from './env.js';
import { listRows } from './flows.js';
import { REASONS, REFUSALS } from './outcome.js';
import { SCALE, hasOpenings, isFlow, listReasons, packTrend } from './thresholds.js';

const FILE = summaryFile();
const MAX_FAILURE_SHARE = share('MAX_FAILURE_SHARE');

// `slices` are the rows, and `pools` those of the mix; `rate` adds to slices the rates that are known only
// now. setup() returned the target's name and version and when the run began.
export function buildSummary(scenario, selectors, planned, pools = [], rate = (slices) => slices) {
  const rows = listRows(pools);
  const tools = rows.map(({ tool }) => tool);
  const kinds = rows.map(({ kind }) => kind);
  return (data) => {
    const setup = data.setup_data || null;
    const slices = rate(planned, data.metrics);
    const own = { version: 1, scenario, slices, tools, kinds, clients: CLIENTS, server: setup && setup.server };
    own.most_rate = limitRate();
    own.scale = SCALE;
    own.began = setup && setup.began;
    own.elapsed_ms = setup && Date.now() - setup.began;
    const metrics = flatten(data.metrics);
    for (const selector of selectors.filter((each) => !isFlow(each))) addFailureShare(metrics, selector);
    const body = { loadtest: own, root_group: data.root_group, metrics };
    if (FILE === 'stdout') return { stdout: `${JSON.stringify(body)}\n` };
    return { [FILE]: JSON.stringify(body, null, 1) };
  };
}

// In the format of --summary-export, a threshold is true if it was crossed.
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

// Adds the share of calls and openings that failed, as a k6 rate with a threshold. A refusal is not a
// failure: the server or the client has reached a limit. `cut_off` is one: the call waited for the whole
// drain time, and a server that stalls until the end must not look good.
function addFailureShare(metrics, selector) {
  const count = (series) => (metrics[series] && metrics[series].count) || 0;
  const sum = (all) => all.reduce((total, series) => total + count(series), 0);
  const braced = selector && `{${selector}}`;
  const failures = REASONS.filter((reason) => !REFUSALS.includes(reason));
  let fails = count(`mcp_duration${braced}`);
  let passes = sum(listReasons('mcp_failures', selector, failures));
  if (hasOpenings(selector)) {
    fails += count(`mcp_opening${braced}`);
    passes += sum(listReasons('mcp_open_failures', selector, failures));
  }
  const rate = passes + fails > 0 ? passes / (passes + fails) : 0;
  const thresholds = { [`rate<=${MAX_FAILURE_SHARE}`]: rate > MAX_FAILURE_SHARE };
  metrics[`mcp_failed${braced}`] = { rate, passes, fails, thresholds };
}
