// Follows a JSONPath (RFC 9535) whose segments were parsed before the run.

// Returns the values that it finds in a document, in their order; none is an empty list.
export function findValues(document, segments) {
  return segments.reduce((found, segment) => {
    const from = segment.deep ? found.flatMap(listInner) : found;
    return from.flatMap((value) => select(value, segment));
  }, [document]);
}

function select(value, { name, index, slice, all }) {
  if (value === null || typeof value !== 'object') return [];
  if (all) return Object.values(value);
  if (!Array.isArray(value)) return has(value, name) ? [value[name]] : [];
  if (slice) return value.slice(slice[0] === null ? 0 : slice[0], slice[1] === null ? undefined : slice[1]);
  const place = index < 0 ? value.length + index : index;
  return place in value ? [value[place]] : [];
}

function has(value, name) {
  return name !== undefined && Object.prototype.hasOwnProperty.call(value, name);
}

// Returns a value and everything inside of it.
function listInner(value) {
  if (value === null || typeof value !== 'object') return [];
  return [value, ...Object.values(value).flatMap(listInner)];
}
