// The pace of a session: a fixed interval, or rounds of calls with think time after the last answer.
import { buildRandom } from './random.js';

const SEED = 2; // of think times: every run draws the same
const MEANS = {
  interval: ([seconds]) => seconds,
  exponential: ([mean]) => mean,
  'log-normal': ([median, sigma]) => median * Math.exp((sigma * sigma) / 2),
  uniform: ([least, most]) => (least + most) / 2,
  burst: ([, pause]) => pause,
};

// Returns the pace that a text such as `20` or `exponential:20` means; null if it means none.
export function parsePace(text) {
  const [kind, list] = text.includes(':') ? text.split(':') : ['interval', text];
  const numbers = list.split(',').map((part) => (/^[\d.]+$/.test(part.trim()) ? Number(part) : NaN));
  const mean = Object.keys(MEANS).includes(kind) ? MEANS[kind](numbers) : NaN;
  if (!(mean > 0) || !numbers.every((number) => number >= 0)) return null;
  return { kind, numbers, mean, calls: kind === 'burst' ? numbers[0] : 1 };
}

// Returns whether a session waits for the answers of a round before it pauses.
export function hasRounds(pace) {
  return pace.kind !== 'interval';
}

// Returns a function that draws the milliseconds between two rounds of one session.
export function buildThinkTime({ kind, numbers: [first, second], mean }, turn) {
  const random = buildRandom(SEED, turn);
  const draws = {
    exponential: () => -first * Math.log(1 - random()),
    'log-normal': () => first * Math.exp(second * drawNormal(random)),
    uniform: () => first + (second - first) * random(),
    burst: () => mean,
  };
  const draw = draws[kind];
  return () => draw() * 1000;
}

// Sessions begin one after the other, within the mean of the think time.
export function findFirstRound({ mean }, turn, sessions) {
  return (turn * mean * 1000) / sessions;
}

// Returns the calls per second of a stage whose rounds all take `roundMs`, with the think times that its
// sessions draw. A round that does not end within the stage counts in part.
export function findRate(pace, sessions, seconds, roundMs) {
  const end = seconds * 1000;
  let rounds = 0;
  for (let turn = 0; turn < sessions; turn += 1) {
    const think = buildThinkTime(pace, turn);
    for (let now = findFirstRound(pace, turn, sessions); now < end; ) {
      const next = now + roundMs + think();
      rounds += Math.min(1, (end - now) / (next - now));
      now = next;
    }
  }
  return (rounds * pace.calls) / seconds;
}

// Box-Muller: a number with the standard normal distribution.
function drawNormal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
