// Chooses the next tool and its arguments: a weighted random choice with a seed.
import { buildCall } from './mcp.js';
import { buildRandom } from './random.js';

// Weights are whole numbers, so a table with one place per unit of weight needs one look-up per choice. The
// fractional part of the random number chooses the arguments.
export function buildMix(pools, protocol, seed, stream) {
  const random = buildRandom(seed, stream);
  const table = pools.flatMap(({ tool, weight, arguments: all, mirrored }) => {
    const calls = all.map((args) => buildCall(protocol, tool, args, mirrored));
    return Array(weight).fill(calls);
  });
  const places = table.length;
  return () => {
    const place = random() * places;
    const calls = table[place | 0];
    return calls[((place % 1) * calls.length) | 0];
  };
}
