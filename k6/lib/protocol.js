// Protocol revisions, their two eras, and how to find out which one a target speaks.
import { OK, SESSION_LOST } from './outcome.js';

const AUTO = 'auto';
export const STATELESS = 'stateless'; // every request contains what a handshake would negotiate
const HANDSHAKE = 'handshake'; // initialize, usually a session, DELETE

// Oldest first.
const REVISIONS = {
  [HANDSHAKE]: ['2025-03-26', '2025-06-18', '2025-11-25'],
  [STATELESS]: ['2026-07-28'],
};
const [NEWEST_HANDSHAKE] = REVISIONS[HANDSHAKE].slice(-1);
const [NEWEST_STATELESS] = REVISIONS[STATELESS].slice(-1);

export const PROTOCOLS = [AUTO, ...REVISIONS[HANDSHAKE], ...REVISIONS[STATELESS]];

// Errors that only servers of the stateless era answer (MCP 2026-07-28, Overview, Error Codes).
const STATELESS_ERRORS = [-32020, -32021, -32022];

const INCONCLUSIVE = ['unauthorized', 'rate_limited', 'capacity', 'timeout', 'connection'];

export function findEra(version) {
  return REVISIONS[STATELESS].includes(version) ? STATELESS : HANDSHAKE;
}

// Returns an open client of the requested revision, or throws an error of one line. `auto` tries a
// stateless request first and falls back to the handshake unless the answer belongs to the stateless era
// (MCP 2026-07-28, Streamable HTTP, Backward Compatibility).
export function negotiate(revision, build, timeoutMs) {
  if (revision !== AUTO) return connect(revision, build, timeoutMs);
  const client = build(NEWEST_STATELESS);
  const outcome = client.open(timeoutMs);
  const named = listNamed(client);
  if (outcome === OK && named.includes(NEWEST_STATELESS)) return client;
  if (isInconclusive(outcome)) fail(client, outcome);
  const legacy = named.some((it) => REVISIONS[HANDSHAKE].includes(it));
  if (isOfStatelessEra(client) && !legacy) fail(client, describe(client, outcome));
  return connect(NEWEST_HANDSHAKE, build, timeoutMs, true);
}

function connect(version, build, timeoutMs, orOlder = false) {
  const client = build(version);
  const opened = client.open(timeoutMs);
  // A session that is lost while it opens has shown the revision. Whoever calls in it opens another.
  const outcome = opened === SESSION_LOST ? OK : opened;
  if (outcome === OK && (orOlder || listNamed(client).includes(version))) return client;
  client.close(timeoutMs);
  const isConclusive = outcome === OK || isOfStatelessEra(client) || findEra(version) === STATELESS;
  if (isInconclusive(outcome) || !isConclusive) fail(client, outcome);
  throw new Error(`the target does not speak ${version}: ${describe(client, outcome)}`);
}

function fail(client, reason) {
  throw new Error(`the probe of the target failed at ${client.opening}: ${reason}`);
}

// An outage or a refused bearer does not show the era of a target.
function isInconclusive(outcome) {
  return INCONCLUSIVE.includes(outcome) || outcome.startsWith('http_5');
}

function isOfStatelessEra({ answer }) {
  return answer !== null && Boolean(answer.error) && STATELESS_ERRORS.includes(answer.error.code);
}

// Returns the revisions that the target names in its answer, whether result or error.
function listNamed({ answer }) {
  const { result = {}, error = {} } = answer || {};
  const { supported } = error.data || {};
  const named = [].concat(result.protocolVersion, result.supportedVersions, supported);
  return named.filter((it) => typeof it === 'string');
}

function describe(client, outcome) {
  const named = listNamed(client);
  if (named.length) return `it speaks ${named.slice(0, 9).map(clean).join(', ')}`;
  const { error } = client.answer || {};
  return `it answers ${client.opening} with ${error ? `JSON-RPC error ${error.code}` : outcome}`;
}

// Makes text of a server safe for a message of one line.
function clean(text) {
  return text.slice(0, 20).replace(/[^\w.-]/g, '?');
}
