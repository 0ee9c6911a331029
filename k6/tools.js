// Tool-call mix: closed loop by VUs, or open loop at TARGET_RPS calls per second.
import * as env from './lib/env.js';
import { buildOptions, buildSlice, buildSliceScenario, live, probe } from './lib/run.js';
import { buildSummary } from './lib/summary.js';

const pools = env.toolPools();
const tools = pools.map((pool) => pool.tool);
const rate = env.optionalRate('TARGET_RPS');
const slice = buildSlice('all', env.wholeNumber('VUS'), env.seconds('DURATION'), rate);

const selectors = ['', ...tools.map((tool) => `tool:${tool}`)];

export const options = buildOptions({ tools: buildSliceScenario(slice) }, selectors);
export const setup = probe;
export const handleSummary = buildSummary('tools', selectors, [slice], tools);

export default function oneClient({ server }) {
  live(slice, server.protocol, pools);
}
