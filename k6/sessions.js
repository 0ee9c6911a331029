// Concurrent sessions: a ladder of stages, each with N sessions that call at a pace.
import * as env from './lib/env.js';
import { buildOptions, probe } from './lib/run.js';
import { ROUNDS, buildSlice, buildSliceControl, buildSliceScenario, rateStages, runSession } from './lib/slices.js';
import { buildSummary } from './lib/summary.js';
import exec from 'k6/execution';

const pools = env.toolPools();
const tool = env.oneOf('TOOL', pools.map((pool) => pool.tool));
const only = pools.filter((pool) => pool.tool === tool);
const seconds = env.seconds('STAGE_SECONDS');
const pace = env.pace('PACE');
const slices = env.wholeNumbers('STAGES').map((n, index) =>
  buildSlice(String(n), n, seconds, { pace }, index),
);

const scenarios = buildSliceControl(slices);
for (const slice of slices) {
  const tags = { stage: slice.name };
  scenarios[`stage_${slice.name}`] = { ...buildSliceScenario(slice), tags };
}

const selectors = slices.map((slice) => `stage:${slice.name}`);
export const options = buildOptions(scenarios, selectors, { trends: ROUNDS, parallel: pace.calls });
export { control } from './lib/control.js';
export const setup = probe;
export const handleSummary = buildSummary('sessions', selectors, slices, [], rateStages);

export default function oneSession(probed) {
  const slice = slices.find(({ name }) => exec.scenario.name === `stage_${name}`);
  runSession(slice, probed, only, `stage:${slice.name}`);
}
