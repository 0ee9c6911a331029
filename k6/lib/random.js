// A random number generator for [0, 1): the same seed and stream give the same numbers in every run.

const MODULUS = 4294967296;

// A linear congruential generator whose product stays exact in a double; cheap enough for each call.
export function buildRandom(seed, stream) {
  let state = scatter(scatter(seed) + stream);
  return () => {
    state = (state * 1664525 + 1013904223) % MODULUS;
    return state / MODULUS;
  };
}

// Gives similar seeds different sequences (the finalizer of MurmurHash3).
function scatter(number) {
  let mixed = number >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

// Returns a whole number for a text: another one for another text, most of the time.
export function hashText(text) {
  return Array.from(text).reduce((hash, char) => scatter(hash + char.codePointAt(0)), 0);
}
