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

export function buildMix(pools, seed, stream) {
  const random = buildRandom(seed, stream);
  const total = pools.reduce((sum, pool) => sum + pool.weight, 0);
  return () => {
    let left = random() * total;
    const pool = pools.find((candidate) => (left -= candidate.weight) < 0) || pools[0];
    return pool.calls[Math.floor(random() * pool.calls.length)];
  };
}
