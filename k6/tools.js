// Tool-call mix: closed loop by VUs, or open loop at TARGET_RPS calls per second.
import * as env from './lib/env.js';
import { buildMix, loadPools } from './lib/mix.js';
import { SEED, buildOptions, buildSlice, buildSliceScenario, live, probe } from './lib/run.js';
import { buildSummary } from './lib/summary.js';
import exec from 'k6/execution';

const pools = loadPools(open('./fixtures/novamart.json'));
const tools = pools.map((pool) => pool.tool);
const rate = env.optionalWholeNumber('TARGET_RPS');
const slice = buildSlice('all', env.wholeNumber('VUS'), env.seconds('DURATION'), rate);

export const options = buildOptions(
  { tools: buildSliceScenario(slice) },
  ['', ...tools.map((tool) => `tool:${tool}`)],
);
export const setup = probe;
export const handleSummary = buildSummary('tools', [slice], tools);

export default function oneSession() {
  live(slice, buildMix(pools, SEED, exec.scenario.iterationInTest));
}
