// The tool mix is reproducible and follows its weights.
import { check } from 'k6';
import * as env from '../../../k6/lib/env.js';
import { buildMix } from '../../../k6/lib/mix.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const pools = env.toolPools();
const draw = (seed, stream, count) => {
  const next = buildMix(pools, '2025-11-25', seed, stream);
  return Array.from({ length: count }, () => next());
};

export default function mix() {
  const calls = draw(1, 0, 10000);
  for (const { tool, weight } of pools) {
    const share = calls.filter((call) => call.tool === tool).length / calls.length;
    check(share, { [`${tool} has its weight`]: (it) => Math.abs(it - weight / 100) < 0.02 });
  }
  const used = new Set(calls.map((call) => call.tail));
  const all = pools.flatMap((pool) => pool.arguments);
  check(used, { 'every argument is used': (it) => it.size === all.length });
  const text = (list) => list.map((call) => call.tail).join();
  const first = text(draw(1, 0, 50));
  check(text(draw(1, 0, 50)), { 'the same seed gives the same calls': (it) => it === first });
  check(text(draw(1, 1, 50)), { 'another VU gets other calls': (it) => it !== first });
  check(text(draw(2, 0, 50)), { 'another seed gives other calls': (it) => it !== first });
}
