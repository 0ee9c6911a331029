// Writes summary.json: the shape of k6's --summary-export, plus what the rows need under `loadtest`.
import { summaryFile } from './env.js';

const FILE = summaryFile();

// `slices` name the rows; what setup() returned says who answered and when the run began.
export function buildSummary(scenario, slices, tools = []) {
  return (data) => {
    const setup = data.setup_data || null;
    const own = { version: 1, scenario, slices, tools, server: setup && setup.server };
    own.elapsed_ms = setup && Date.now() - setup.began;
    const body = { loadtest: own, root_group: data.root_group, metrics: flatten(data.metrics) };
    return { [FILE]: JSON.stringify(body, null, 1) };
  };
}

// --summary-export writes a threshold as true when it was crossed.
function flatten(metrics) {
  const flat = {};
  for (const [name, metric] of Object.entries(metrics)) {
    flat[name] = Object.assign({}, metric.values);
    if (!metric.thresholds) continue;
    flat[name].thresholds = {};
    for (const [rule, verdict] of Object.entries(metric.thresholds)) {
      flat[name].thresholds[rule] = !verdict.ok;
    }
  }
  return flat;
}
