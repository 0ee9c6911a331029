// Arguments whose values are drawn from pools. In them, {"$pool": "name.field"} stands for a value.

// Returns a function that draws the arguments of the next call; null if nothing in them is drawn. A call
// draws one value of each pool, so that two fields of a pool belong together.
export function buildDraw(args, pools, random) {
  const drawn = {};
  const fill = compile(args, pools, drawn);
  if (fill === null) return null;
  const sources = Object.keys(drawn).map((name) => [name, buildPick(pools[name])]);
  return () => {
    for (const [name, pick] of sources) drawn[name] = pick(random());
    return fill();
  };
}

function buildPick({ first, step, size, values }) {
  if (step) return (share) => first + step * Math.floor(share * size);
  return (share) => values[Math.floor(share * size)];
}

// Returns a function that returns the value with what was drawn; null if it is always the same. Adds the
// pools that it needs to `drawn`.
function compile(value, pools, drawn) {
  if (value === null || typeof value !== 'object') return null;
  const keys = Object.keys(value);
  if (keys.length === 1 && typeof value.$pool === 'string') return compileReference(value.$pool, pools, drawn);
  const fills = keys.map((key) => [key, compile(value[key], pools, drawn)]).filter(([, fill]) => fill);
  if (!fills.length) return null;
  return () => {
    const filled = Array.isArray(value) ? value.slice() : Object.assign({}, value);
    for (const [key, fill] of fills) filled[key] = fill();
    return filled;
  };
}

function compileReference(text, pools, drawn) {
  const [name, ...path] = text.split('.');
  const { parts } = pools[name];
  if (parts) {
    const texts = parts.map((part) => {
      const fill = compile(part, pools, drawn);
      return fill === null ? () => part : () => String(fill());
    });
    return () => texts.map((each) => each()).join('');
  }
  drawn[name] = null;
  if (!path.length) return () => drawn[name];
  return () => path.reduce((inner, key) => inner[key], drawn[name]);
}
