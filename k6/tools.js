// Tool-call mix: VUs call without a pause, at a pace, or at TARGET_RPS calls per second.
import * as env from './lib/env.js';
import { listRows } from './lib/flows.js';
import { buildOptions, probe } from './lib/run.js';
import { buildSlice, buildSliceScenario, runSession } from './lib/slices.js';
import { buildSummary } from './lib/summary.js';

const pools = env.toolPools();
const schedule = { rate: env.optionalRate('TARGET_RPS'), pace: env.optionalPace('PACE') };
const slice = buildSlice('all', env.wholeNumber('VUS'), env.seconds('DURATION'), schedule);

const rows = listRows(pools).map(({ kind, tool }) => `${kind === 'flow' ? kind : 'tool'}:${tool}`);
const selectors = ['', ...rows];

export const options = buildOptions({ tools: buildSliceScenario(slice) }, selectors);
export const setup = probe;
export const handleSummary = buildSummary('tools', selectors, [slice], pools);

export default function oneSession({ server }) {
  runSession(slice, server.protocol, pools);
}
