// Chooses the next tool and its arguments: a weighted random choice with a seed.
import * as env from './env.js';
import { Flow } from './flows.js';
import { buildCall } from './mcp.js';
import { buildWriter, markReferences } from './pools.js';
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
  const randomPlace = buildRandom(seed + hashText('flows'), stream);
  const pick = (list) => list[Math.floor(randomPlace() * list.length)];
  const drawAll = (args) => (VARIES ? buildDraw(args, randomValue) : null);
  const table = pools.flatMap((pool) => {
    if (pool.kind === 'flow') return Array(pool.weight).fill([new Flow(pool, protocol, pick, drawAll)]);
    const calls = pool.arguments.map((args) =>
      VARIES ? buildVaried(protocol, pool, args, randomValue) : buildCall(protocol, pool, args),
    );
    return Array(pool.weight).fill(calls);
  });
  const places = table.length;
  const next = () => {
    const place = random() * places;
    const calls = table[place | 0];
    return calls[((place % 1) * calls.length) | 0];
  };
  const renewed = VARIES ? () => renew(next()) : next;
  return pools.some(({ kind }) => kind === 'flow') ? continueFlows(renewed) : renewed;
}

// Takes the next step of a flow that has begun, before anything else is chosen.
function continueFlows(next) {
  let running = null;
  return () => {
    if (running !== null && !running.hasEnded()) return running.next();
    const chosen = next();
    running = chosen instanceof Flow ? chosen.begin() : null;
    return running === null ? chosen : running.next();
  };
}

// Returns a function that draws the values of pools in arguments; null if there are none.
function buildDraw(args, random) {
  const { marked, references } = markReferences(args);
  if (!references.length) return null;
  const write = buildWriter(JSON.stringify(marked), references, VALUES, random);
  return () => JSON.parse(write());
}

// Returns a call that is written again before each use. Its object stays, with the last ok answer in it.
function buildVaried(protocol, pool, args, random) {
  const { marked, references } = markReferences(args);
  if (!references.length) return buildCall(protocol, pool, args);
  const build = (text) => buildCall(protocol, pool, JSON.parse(text));
  const isText = pool.kind === 'tool' || pool.kind === 'prompt'; // its arguments are sent as they are
  if (isText && !(pool.mirrored || []).length) {
    const call = buildCall(protocol, pool, marked);
    const write = buildWriter(call.tail, references, VALUES, random);
    return Object.assign(call, { write, tail: write() });
  }
  const write = buildWriter(JSON.stringify(marked), references, VALUES, random);
  return Object.assign(build(write()), { write, build });
}

function renew(call) {
  if (call.write === undefined) return call;
  if (call.build === undefined) {
    call.tail = call.write();
  } else {
    const { tail, headers } = call.build(call.write());
    call.tail = tail;
    call.headers = headers;
  }
  return call;
}
