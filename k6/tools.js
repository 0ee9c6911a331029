// Tool-call mix: VUs call without a pause, or at TARGET_RPS calls per second if that is set.
import * as env from './lib/env.js';
import { listRows } from './lib/flows.js';
import { buildOptions, probe } from './lib/run.js';
import { buildSlice, buildSliceScenario, runSession } from './lib/slices.js';
import { buildSummary } from './lib/summary.js';

const pools = env.toolPools();
const rate = env.optionalRate('TARGET_RPS');
const slice = buildSlice('all', env.wholeNumber('VUS'), env.seconds('DURATION'), rate);

const rows = listRows(pools).map(({ kind, tool }) => `${kind === 'flow' ? kind : 'tool'}:${tool}`);
const selectors = ['', ...rows];

export const options = buildOptions({ tools: buildSliceScenario(slice) }, selectors);
export const setup = probe;
export const handleSummary = buildSummary('tools', selectors, [slice], pools);

export default function oneSession({ server }) {
  runSession(slice, server.protocol, pools);
}
