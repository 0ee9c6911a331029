// Concurrent sessions: a ladder of stages, each holding N sessions that call once per second.
import * as env from './lib/env.js';
import { buildOptions, buildSlice, buildSliceScenario, live, probe } from './lib/run.js';
import { buildSummary } from './lib/summary.js';
import exec from 'k6/execution';

const pools = env.toolPools();
const tool = env.oneOf('TOOL', pools.map((pool) => pool.tool), pools[0].tool);
const only = pools.filter((pool) => pool.tool === tool);
const seconds = env.seconds('STAGE_SECONDS');
const slices = env.wholeNumbers('STAGES').map((n, index) =>
  buildSlice(String(n), n, seconds, n, index),
);

const scenarios = {};
for (const slice of slices) {
  const tags = { stage: slice.name };
  scenarios[`stage_${slice.name}`] = { ...buildSliceScenario(slice), tags };
}

const selectors = slices.map((slice) => `stage:${slice.name}`);
export const options = buildOptions(scenarios, selectors);
export const setup = probe;
export const handleSummary = buildSummary('sessions', selectors, slices);

export default function oneClient({ server }) {
  const slice = slices.find(({ name }) => exec.scenario.name === `stage_${name}`);
  live(slice, server.protocol, only, `stage:${slice.name}`);
}
