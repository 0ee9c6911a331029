// Chooses the next tool and its arguments: a weighted random choice with a seed.
import * as env from './env.js';
import { buildCall } from './mcp.js';
import { buildDraw } from './pools.js';
import { buildRandom, hashText } from './random.js';

const VALUES = env.valuePools();
const VARIES = Object.keys(VALUES).length > 0;

// Weights are whole numbers, so a table with one place per unit of weight needs one look-up per choice. The
// fractional part of the random number chooses the arguments. Values of pools are drawn by another
// generator: the same tools are chosen with and without pools. `slice` gives each slice values of its own,
// because a cache may still have those of the slice before.
export function buildMix(pools, protocol, seed, stream, slice = '') {
  const random = buildRandom(seed, stream);
  const randomValue = buildRandom(seed + hashText(`values ${slice}`), stream);
  const table = pools.flatMap((pool) => {
    const calls = pool.arguments.map((args) => {
      const draw = VARIES ? buildDraw(args, VALUES, randomValue) : null;
      return draw === null ? buildCall(protocol, pool, args) : buildVaried(protocol, pool, draw);
    });
    return Array(pool.weight).fill(calls);
  });
  const places = table.length;
  const next = () => {
    const place = random() * places;
    const calls = table[place | 0];
    return calls[((place % 1) * calls.length) | 0];
  };
  return VARIES ? () => renew(next()) : next;
}

// A call that is built again before each use. Its object stays, with the last ok answer in it.
function buildVaried(protocol, pool, draw) {
  const build = () => buildCall(protocol, pool, draw());
  const mirrors = pool.kind === 'resource' || (pool.mirrored || []).length > 0;
  return Object.assign(build(), { build, mirrors });
}

function renew(call) {
  if (call.build === undefined) return call;
  const { tail, headers } = call.build();
  call.tail = tail;
  if (call.mirrors) call.headers = headers;
  return call;
}
