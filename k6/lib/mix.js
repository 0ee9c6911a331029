// Which tool is called next with which arguments: a weighted, seeded draw from a fixture's pools.
import { buildCall } from './mcp.js';
import { buildRandom } from './random.js';

// Init context only: `{tools: {name: {weight, arguments: [...]}}}`.
export function loadPools(text) {
  return Object.entries(JSON.parse(text).tools).map(([tool, pool]) => ({
    tool,
    weight: pool.weight,
    calls: pool.arguments.map((args) => buildCall(tool, args)),
  }));
}

// Weights are whole numbers: a table with a place for each unit makes a draw one look-up.
export function buildMix(pools, seed, stream) {
  const random = buildRandom(seed, stream);
  const table = pools.flatMap((pool) => Array(pool.weight).fill(pool.calls));
  const places = table.length;
  return () => {
    const calls = table[(random() * places) | 0];
    return calls[(random() * calls.length) | 0];
  };
}
