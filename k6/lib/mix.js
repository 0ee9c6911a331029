// Which tool is called next with which arguments: a weighted, seeded draw from the tools' pools.
import { buildCall } from './mcp.js';
import { buildRandom } from './random.js';

// Weights are whole numbers: a table with a place for each unit makes a draw one look-up. What is left
// of the random number behind its point draws the arguments.
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
