// Values of pools in the calls of a table. In arguments, {"$pool": "name.field"} stands for a value.

const MARK = /"\\u0001(\d+)\\u0001"/; // as JSON.stringify writes a mark
const MOST_KEPT = 1000; // values of a pool that each VU keeps as text

// Returns the arguments with a mark for each reference to a pool, and the references in their order.
export function markReferences(args) {
  const references = [];
  const mark = (value) => {
    if (value === null || typeof value !== 'object') return value;
    if (Array.isArray(value)) return value.map(mark);
    const entries = Object.entries(value);
    if (entries.length !== 1 || typeof value.$pool !== 'string') {
      return Object.fromEntries(entries.map(([key, inner]) => [key, mark(inner)]));
    }
    references.push(value.$pool);
    return `\u0001${references.length - 1}\u0001`;
  };
  return { marked: mark(args), references };
}

// Returns a function that returns the JSON text with new values in place of its marks. A call draws one
// value of each pool, so that two fields of a pool belong together.
export function buildWriter(text, references, pools, random) {
  const sources = {}; // the pools that are drawn from, each with the place of its value
  const parts = text.split(MARK); // texts, and between them the numbers of references
  const pieces = parts.flatMap((part, at) =>
    at % 2 ? buildPieces(references[part], pools, sources, JSON.stringify) : part,
  );
  // Each writer of a value, and the constant text after it.
  const [head, ...rest] = joinTexts(pieces);
  const writers = rest.filter((_, at) => at % 2 === 0);
  const tails = rest.filter((_, at) => at % 2 === 1);
  const drawn = Object.values(sources);
  return () => {
    for (let at = 0; at < drawn.length; at += 1) {
      const source = drawn[at];
      const place = random() * source.size;
      source.at = place - (place % 1);
    }
    let written = head;
    for (let at = 0; at < writers.length; at += 1) written += writers[at]() + tails[at];
    return written;
  };
}

// Joins neighbouring texts, so that texts and functions alternate, beginning and ending with a text.
function joinTexts(pieces) {
  const joined = [''];
  for (const piece of pieces) {
    if (typeof piece === 'function') joined.push(piece, '');
    else joined[joined.length - 1] += piece;
  }
  return joined;
}

// Returns texts, and functions that return the text of a value, for a reference.
function buildPieces(reference, pools, sources, write) {
  const [name, ...path] = reference.split('.');
  const { parts, step, first, size, values } = pools[name];
  if (parts) {
    const inner = parts.map((part) =>
      part.$pool ? buildPieces(part.$pool, pools, sources, writeWithin) : writeWithin(part),
    );
    return ['"', ...inner.flat(), '"'];
  }
  const source = (sources[name] = sources[name] || { size, at: 0 });
  if (step) return [() => `${first + step * source.at}`];
  const follow = (value) => write(path.reduce((inner, key) => inner[key], value));
  if (size > MOST_KEPT) return [() => follow(values[source.at])];
  const texts = Array.from({ length: size }, (_, at) => follow(values[at]));
  return [() => texts[source.at]];
}

// Returns the text of a value within a JSON string.
function writeWithin(value) {
  const text = JSON.stringify(value);
  return typeof value === 'string' ? text.slice(1, -1) : text;
}
