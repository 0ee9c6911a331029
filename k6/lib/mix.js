// Which tool is called next with which arguments: a weighted, seeded draw from a fixture's pools.
import { buildCall } from './mcp.js';
import { buildRandom } from './random.js';

// `{tools: {name: {weight, arguments: [...]}}}` as a list.
export function loadPools(text) {
  return Object.entries(JSON.parse(text).tools).map(([tool, pool]) => ({ tool, ...pool }));
}

// Weights are whole numbers: a table with a place for each unit makes a draw one look-up.
export function buildMix(pools, protocol, seed, stream) {
  const random = buildRandom(seed, stream);
  const table = pools.flatMap(({ tool, weight, arguments: all }) => {
    const calls = all.map((args) => buildCall(protocol, tool, args));
    return Array(weight).fill(calls);
  });
  const places = table.length;
  return () => {
    const calls = table[(random() * places) | 0];
    return calls[(random() * calls.length) | 0];
  };
}
