// The bearers of the OAuth clients, renewed while a scenario runs: a VU cannot reopen a file.
import http from 'k6/http';
import exec from 'k6/execution';
import * as env from './env.js';
import { buildRandom } from './random.js';

const RENEWAL_URL = env.renewalUrl();
const LEAD_MS = 60000; // before its end a bearer is asked for anew, or at a quarter of its life
const AGAIN_MS = 2000; // after an answer that brought no newer one
const TAGS = { name: 'renewal', rpc: 'renewal', tool: '' }; // no call of the tool that its VU names
const PARAMS = { tags: TAGS, timeout: 30000, responseType: 'text' };

const clients = env.bearers().map(({ token, expiresAt }, client) => ({
  client,
  serial: 0,
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
  const response = http.get(`${RENEWAL_URL}/${bearer.client}/${bearer.serial}${word}`, PARAMS);
  if (response.status !== 200) return;
  const found = response.json();
  if (found.serial === bearer.serial) return;
  bearer.serial = found.serial;
  bearer.header = `Bearer ${found.access_token}`;
  bearer.expiresAt = found.expires_at * 1000;
  bearer.renewAt = findMoment(bearer);
}

// Spread over VUs, so that not all ask at one time.
function findMoment({ expiresAt, client, serial }) {
  const lead = Math.min(LEAD_MS, (expiresAt - Date.now()) / 4);
  return expiresAt - lead * (1 + buildRandom(__VU, client + serial)() / 2);
}
