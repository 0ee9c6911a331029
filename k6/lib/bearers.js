// The bearers of the OAuth clients, renewed while a scenario runs: a VU cannot reopen a file.
import encoding from 'k6/encoding';
import http from 'k6/http';
import exec from 'k6/execution';
import * as env from './env.js';
import { buildRandom } from './random.js';

const RENEWAL_URL = env.renewalUrl();
// Where our own process answers, or a cluster's API server, which must not be asked by all at one time.
const CLUSTER_TOKEN = env.clusterToken();
// Before its end a bearer is asked for anew: so long, and a quarter of its life at most.
const LEAD_MS = CLUSTER_TOKEN === null ? 60000 : Infinity;
const AGAIN_MS = CLUSTER_TOKEN === null ? 2000 : 15000; // after an answer that brought no newer one
const TAGS = { name: 'renewal', rpc: 'renewal', tool: '' }; // no call of the tool that its VU names
const HEADERS = CLUSTER_TOKEN === null ? {} : { Authorization: `Bearer ${CLUSTER_TOKEN}` };
const PARAMS = { tags: TAGS, headers: HEADERS, timeout: 30000, responseType: 'text' };

const clients = env.bearers().map(({ serial, token, expiresAt }, client) => ({
  client,
  serial,
  header: `Bearer ${token}`,
  expiresAt,
  renewAt: null, // known once a VU asks
}));

export const CLIENTS = clients.length;

// Clients take turns, so that each has as many sessions as the next.
export function bearerOf(turn) {
  return clients[turn % clients.length];
}

// The header of a bearer that is good for now.
export function freshHeader(bearer) {
  if (bearer.renewAt === null) bearer.renewAt = RENEWAL_URL === null ? Infinity : findMoment(bearer);
  if (Date.now() >= bearer.renewAt) renew(bearer, '');
  return bearer.header;
}

// After a 401; one that a renewal does not cure ends the test: the target is never hammered with it.
export function cure(bearer) {
  const before = bearer.serial;
  if (RENEWAL_URL !== null) renew(bearer, '/refused');
  if (bearer.serial === before) exec.test.abort('the target refuses the bearer, and there is no other');
}

function renew(bearer, word) {
  bearer.renewAt = Date.now() + AGAIN_MS;
  const found = CLUSTER_TOKEN === null ? askRunner(bearer, word) : readSecret(bearer);
  if (found === null || found.serial === bearer.serial) return;
  bearer.serial = found.serial;
  bearer.header = `Bearer ${found.token}`;
  bearer.expiresAt = found.expiresAt;
  bearer.renewAt = findMoment(bearer);
}

function askRunner({ client, serial }, word) {
  const response = http.get(`${RENEWAL_URL}/${client}/${serial}${word}`, PARAMS);
  if (response.status !== 200) return null;
  const found = response.json();
  return { serial: found.serial, token: found.access_token, expiresAt: found.expires_at * 1000 };
}

// The bearer file as it lies in the Kubernetes Secret by now.
function readSecret({ client }) {
  const response = http.get(RENEWAL_URL, PARAMS);
  if (response.status !== 200) return null;
  const file = encoding.b64decode(response.json().data['bearer.json'], 'std', 's');
  return env.parseBearers(JSON.parse(file))[client];
}

// Spread over VUs, so that not all ask at one time.
function findMoment({ expiresAt, client, serial }) {
  const lead = Math.min(LEAD_MS, (expiresAt - Date.now()) / 4);
  return expiresAt - lead * (1 + buildRandom(__VU, client + serial)() / 2);
}
