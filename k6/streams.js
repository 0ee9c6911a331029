// Streams: a ladder of stages, each with N clients that only hold a stream, and one more that calls at a pace.
import * as env from './lib/env.js';
import { buildOptions, probe } from './lib/run.js';
import { ROUNDS, buildSlice, buildSliceControl, buildSliceScenario, rateStages } from './lib/slices.js';
import { holdSession, runSession } from './lib/slices.js';
import { buildSummary } from './lib/summary.js';
import exec from 'k6/execution';

const pools = env.toolPools();
const tool = env.oneOf('TOOL', pools.map((pool) => pool.tool));
const only = pools.filter((pool) => pool.tool === tool);
const seconds = env.seconds('STAGE_SECONDS');
const pace = env.pace('PACE');
const counts = env.wholeNumbers('STAGES');
// Each slice is the one client that calls.
const slices = counts.map((count, index) => buildSlice(String(count), 1, seconds, { pace }, index));

const scenarios = buildSliceControl(slices);
for (const [index, slice] of slices.entries()) {
  const scenario = buildSliceScenario({ ...slice, vus: counts[index] + 1 });
  scenarios[`stage_${slice.name}`] = { ...scenario, tags: { stage: slice.name } };
}

const selectors = slices.map((slice) => `stage:${slice.name}`);
export const options = buildOptions(scenarios, selectors, { trends: ROUNDS, parallel: pace.calls });
export { control } from './lib/control.js';
export const setup = probe;
export const handleSummary = buildSummary('streams', selectors, slices, [], rateStages);

export default function oneClient(probed) {
  const index = slices.findIndex(({ name }) => exec.scenario.name === `stage_${name}`);
  const [slice, turn] = [slices[index], exec.scenario.iterationInTest];
  const selector = `stage:${slice.name}`;
  if (turn === counts[index]) runSession(slice, probed, only, selector, { turn: 0, holds: false });
  else holdSession({ ...slice, vus: counts[index] + 1 }, probed, selector);
}
