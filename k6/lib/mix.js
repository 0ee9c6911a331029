// Which tool is called next with which arguments: a weighted, seeded draw from the tools' pools.
import { buildCall } from './mcp.js';
import { buildRandom } from './random.js';

// Weights are whole numbers: a table with a place for each unit makes a draw one look-up.
export function buildMix(pools, protocol, seed, stream) {
  const random = buildRandom(seed, stream);
  const table = pools.flatMap(({ tool, weight, arguments: all, mirrored }) => {
    const calls = all.map((args) => buildCall(protocol, tool, args, mirrored));
    return Array(weight).fill(calls);
  });
  const places = table.length;
  return () => {
    const calls = table[(random() * places) | 0];
    return calls[(random() * calls.length) | 0];
  };
}
