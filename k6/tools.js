// Tool-call mix: VUs call without a pause, at a pace, or at TARGET_RPS calls per second.
import * as env from './lib/env.js';
import { listRows } from './lib/flows.js';
import { buildOptions, probe } from './lib/run.js';
import { buildSlice, buildSliceControl, buildSliceScenario, runSession } from './lib/slices.js';
import { buildSummary } from './lib/summary.js';

const pools = env.toolPools();
const schedule = { rate: env.optionalRate('TARGET_RPS'), pace: env.optionalPace('PACE') };
const slice = buildSlice('all', env.wholeNumber('VUS'), env.seconds('DURATION'), schedule);

const rows = listRows(pools).map(({ kind, tool }) => `${kind === 'flow' ? kind : 'tool'}:${tool}`);
const selectors = ['', ...rows];

const scenarios = { tools: buildSliceScenario(slice), ...buildSliceControl([slice]) };

export const options = buildOptions(scenarios, selectors);
export { control } from './lib/control.js';
export const setup = probe;
export const handleSummary = buildSummary('tools', selectors, [slice], pools);

export default function oneSession(probed) {
  runSession(slice, probed, pools);
}
