// How long a server says that it worked on a request: the header Server-Timing (W3C Server Timing).

const MAX_LENGTH = 1000;
const QUOTED = /"(?:[^"\\]|\\.)*(?:"|$)/g;

// Returns milliseconds: the duration of the entry `total`, else the longest one, because entries may be parts
// of each other. Null without a duration, and for one that is longer than the call of `callMs`.
export function readServerTime(headers, callMs) {
  const text = headers['Server-Timing'];
  if (typeof text !== 'string') return null;
  const entries = text.slice(0, MAX_LENGTH).replace(QUOTED, '').split(',').map(parseEntry);
  const total = entries.find(({ name }) => name === 'total');
  const longest = Math.max(...entries.map(({ ms }) => ms));
  const ms = total !== undefined && total.ms >= 0 ? total.ms : longest;
  return ms >= 0 && ms <= callMs ? ms : null;
}

// Returns the name and duration of an entry such as `db;desc=sql;dur=53.2`; without a duration, it is -1.
function parseEntry(entry) {
  const [name, ...parts] = entry.split(';').map((part) => part.trim());
  const found = parts.map((part) => /^dur\s*=\s*(\d+(?:\.\d+)?)$/i.exec(part)).find((match) => match !== null);
  return { name: name.toLowerCase(), ms: found === undefined ? -1 : Number(found[1]) };
}
