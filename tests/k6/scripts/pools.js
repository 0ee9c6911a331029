// Arguments that vary: reproducible, different in each VU and slice, one value of a pool per call.
import { check } from 'k6';
import * as env from '../../../k6/lib/env.js';
import { buildMix } from '../../../k6/lib/mix.js';

export const options = { vus: 2, iterations: 2, thresholds: { checks: ['rate==1'] } };

const pools = env.toolPools();
const draw = (seed, stream, slice, count) => {
  const next = buildMix(pools, '2025-11-25', seed, stream, slice);
  return Array.from({ length: count }, () => JSON.parse(`{"id":1${next().tail}`).params);
};
const text = (...given) => JSON.stringify(draw(...given, 50));

export default function poolsOfValues() {
  const calls = draw(1, 0, 'all', 4000);
  const found = calls.filter((call) => call.name === 'find').map((call) => call.arguments);
  const ids = found.map((args) => args.id);
  check(new Set(ids), { 'every number of the range is drawn': (it) => it.size === 50 });
  check(ids, { 'no other number is drawn': (all) => all.every((n) => n % 2 === 0 && n >= 10 && n <= 108) });
  check(found, {
    'a pool has one value per call': (all) =>
      all.every(({ who, deep }) => who === deep.list[0].name && deep.sql === `name = '${who}' AND id = 7`),
    'what is not drawn stays': (all) => all.every(({ deep }) => deep.fixed === true && deep.list[1] === 2),
    'both rows are drawn': (all) => new Set(all.map(({ who }) => who)).size === 2,
  });
  const uris = calls.filter((call) => call.uri).map(({ uri }) => uri);
  check(uris, {
    'values are drawn into a URI': (all) => new Set(all).size > 100 && all.every((it) => /^doc:\/\/w%20\d+$/.test(it)),
  });
  const rest = calls.filter((call) => call.name === 'whole');
  check(rest, {
    'whole arguments are drawn': (all) => all.some(({ arguments: args }) => args.name === 'Ann "A"'),
    'literal arguments stay': (all) => all.some(({ arguments: args }) => args.literal === 1),
  });
  const first = text(1, 0, 'all');
  check(text(1, 0, 'all'), { 'the same seed gives the same calls': (it) => it === first });
  check(text(1, 1, 'all'), { 'another VU gets other calls': (it) => it !== first });
  check(text(1, 0, '10'), { 'another slice gets other calls': (it) => it !== first });
}
