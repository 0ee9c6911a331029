// Soak: steady load with churn, for hours. Each iteration is one session.
import * as env from './lib/env.js';
import { listRows } from './lib/flows.js';
import { buildOptions, probe } from './lib/run.js';
import { buildChurnScenario, buildSlice, buildSliceControl, runOneOfMany } from './lib/slices.js';
import { buildSummary } from './lib/summary.js';

const pools = env.toolPools();
const pace = env.pace('PACE');
const lifeMs = env.seconds('SESSION_SECONDS') * 1000;
const planned = buildSlice('all', env.wholeNumber('VUS'), env.seconds('DURATION'), { pace });
// Sessions that open and close leave gaps in a schedule, so none is promised.
const slice = { ...planned, rate: null };

const rows = listRows(pools).map(({ kind, tool }) => `${kind === 'flow' ? kind : 'tool'}:${tool}`);
const selectors = ['', ...rows];

const scenarios = { soak: buildChurnScenario(slice), ...buildSliceControl([slice]) };

export const options = buildOptions(scenarios, selectors, { counters: ['mcp_first_dispatch_failures'] });
export { control } from './lib/control.js';
export const setup = probe;
export const handleSummary = buildSummary('soak', selectors, [slice], pools);

export default function oneSession(probed) {
  runOneOfMany(slice, probed, pools, pace, lifeMs);
}
